//! Prompts read, and steps of which the host chooses the tokens.

use super::choose::Row;
use super::{DecodeHook, DecodeRow, Decoder, Decoding, Prompt, Stream};
use crate::error::Result;
use crate::exec::Element;
use crate::kernels::RowStatus;
use crate::model::stack::Shape;
use crate::pool::engine::{Run, id_out};
use std::cmp::Reverse;

/// Steps of a prompt that are read at once at most.
const PIECE: usize = 64;

/// Lists that every run makes anew.
#[derive(Default)]
pub(super) struct Scratch<T> {
    work: Vec<Work>,
    /// The frames of all rows, one after the other.
    frames: Vec<T>,
    /// What the last runs gave, a row of all outputs each.
    outputs: Vec<T>,
    /// Slots that nobody reads any more once the run at hand is done.
    left: Vec<u32>,
}

/// A row of a batch.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub from: u32,
    pub to: u32,
    pub steps: usize,
    /// The first of its frames.
    pub frame: usize,
}

impl<T: Element> Decoder<T> {
    /// What a model reads for a token.
    fn frame(&mut self, token: u32) -> &mut [T] {
        let (columns, width) = (&self.engine.columns, self.engine.columns.input());
        let frames = &mut self.scratch.frames;
        let at = frames.len();
        frames.resize(at + width, T::default());
        let id = if columns.of_ids { id_out(token) } else { T::from_f64(f64::from(token)) };
        frames[at + self.ids.column] = id;
        &mut frames[at..]
    }

    /// Puts a row with one frame into the batch.
    fn add(&mut self, from: u32, to: u32, token: u32) -> &mut [T] {
        let frame = self.scratch.frames.len() / self.engine.columns.input();
        self.scratch.work.push(Work { from, to, steps: 1, frame });
        self.frame(token)
    }

    /// Begins a batch.
    pub(super) fn clear(&mut self) {
        self.scratch.work.clear();
        self.scratch.frames.clear();
    }

    /// The same for one step of a row that need not be read back; on a GPU it is the first of many.
    pub(super) fn add_row(&mut self, from: u32, to: u32, token: u32) {
        self.add(from, to, token);
    }

    /// Runs `work` on rows of the batch, from number `first` on, as many as fit; which session that is and how many there were.
    pub(super) async fn run_rows<R>(
        &mut self,
        first: usize,
        whole: usize,
        run: impl FnOnce(&mut Self, usize, &[Work]) -> Result<R>,
    ) -> Result<(usize, usize, R)> {
        let work = std::mem::take(&mut self.scratch.work);
        let rest = &work[first..];
        let time = rest.iter().map(|row| row.steps).max().unwrap_or(1);
        let ran = match self.engine.fit(Shape { time, batch: rest.len() }).await {
            Ok((session, fit)) => {
                // Streams whole, where their rows belong together.
                let count = fit.batch.min(rest.len());
                let count = if count < whole { count } else { count / whole * whole };
                run(self, session, &rest[..count]).map(|given| (session, count, given))
            }
            Err(error) => Err(error),
        };
        self.scratch.work = work;
        ran
    }

    /// Calls `with` with a run of these rows.
    pub(super) fn with_run<R>(
        &mut self,
        work: &[Work],
        with: impl FnOnce(&mut crate::pool::engine::Engine<T>, &mut Run<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let Self { engine, slots, scratch, .. } = self;
        let width = engine.columns.input();
        let from: Vec<u32> = work.iter().map(|row| row.from).collect();
        let to: Vec<u32> = work.iter().map(|row| row.to).collect();
        let frames = &scratch.frames;
        let each = |b: usize, t: usize| &frames[(work[b].frame + t) * width..][..width];
        let mut steps = work.iter().map(|row| row.steps);
        let states = &mut slots.states;
        with(engine, &mut Run { states, from: &from, to: &to, steps: &mut steps, frames: &each })
    }

    /// Runs all rows of the batch, and gives what is behind the only step of each where `read` says so.
    async fn run_batch(&mut self, read: bool) -> Result<()> {
        self.scratch.outputs.clear();
        let mut done = 0;
        while done < self.scratch.work.len() {
            let (session, count, ()) = self
                .run_rows(done, 1, |decoder, session, rows| {
                    decoder.with_run(rows, |engine, run| engine.run(session, run))
                })
                .await?;
            self.submits += 1;
            if read {
                let given = self.engine.rows(session).await?;
                let (width, outputs) = (self.engine.columns.output(), &mut self.scratch.outputs);
                let at = outputs.len();
                outputs.resize(at + count * width, T::default());
                for (b, row) in outputs[at..].chunks_exact_mut(width).enumerate() {
                    given.copy(given.row_of(0) + b, row);
                }
            }
            done += count;
        }
        // Slots that rows of this batch were read from are free now, and no sooner.
        let left = std::mem::take(&mut self.scratch.left);
        left.iter().for_each(|&slot| self.slots.leave(slot));
        Ok(())
    }

    /// Reads the tokens of prompts up to the last ones, with which decoding begins.
    pub(super) async fn read_prompts(
        &mut self,
        streams: &[Stream],
        prompts: &[Prompt<'_, T>],
        mut hook: Option<&mut (dyn DecodeHook<T> + '_)>,
    ) -> Result<()> {
        let mut at = 0;
        loop {
            self.clear();
            for stream in streams {
                let tokens = prompts[stream.index].tokens;
                let piece = at..(tokens.len() - 1).min(at + PIECE);
                if piece.is_empty() {
                    continue;
                }
                let slot = stream.rows[0].slot;
                let frame = self.scratch.frames.len() / self.engine.columns.input();
                self.scratch.work.push(Work { from: slot, to: slot, steps: piece.len(), frame });
                for n in piece {
                    let frame = self.frame(tokens[n]);
                    if let Some(hook) = &mut hook {
                        let row = DecodeRow { stream: stream.index, prompt: &tokens[..=n], tokens: &[] };
                        hook.inputs(row, frame)?;
                    }
                }
            }
            if self.scratch.work.is_empty() {
                return Ok(());
            }
            // The longest first, as kernels want them.
            self.scratch.work.sort_by_key(|row| Reverse(row.steps));
            self.steps += self.scratch.work.iter().map(|row| row.steps as u64).sum::<u64>();
            self.run_batch(false).await?;
            at += PIECE;
        }
    }

    /// One step of every row that has not ended, and what is chosen of it.
    pub(super) async fn go_one_step(
        &mut self,
        active: &mut [Stream],
        prompts: &[Prompt<'_, T>],
        mut hook: Option<&mut (dyn DecodeHook<T> + '_)>,
    ) -> Result<()> {
        self.clear();
        for stream in active.iter_mut() {
            let prompt = prompts[stream.index].tokens;
            for row in stream.rows.iter_mut().filter(|row| row.status == RowStatus::Live) {
                let from = row.slot;
                // Who shares a state goes on elsewhere.
                if !self.slots.is_own(from) {
                    row.slot = self.slots.take()?;
                    self.scratch.left.push(from);
                }
                let frame = self.add(from, row.slot, row.last);
                if let Some(hook) = &mut hook {
                    hook.inputs(DecodeRow { stream: stream.index, prompt, tokens: &row.tokens }, frame)?;
                }
            }
        }
        self.steps += self.scratch.work.len() as u64;
        self.run_batch(true).await?;

        let (width, columns) = (self.engine.columns.output(), self.logits.clone());
        let mut outputs = std::mem::take(&mut self.scratch.outputs);
        let mut rest = outputs.chunks_exact_mut(width).map(|row| &mut row[columns.clone()]);
        for stream in active.iter_mut() {
            let prompt = prompts[stream.index].tokens;
            let mut logits: Vec<&mut [T]> = Vec::new();
            for row in stream.rows.iter().filter(|row| row.status == RowStatus::Live) {
                let Some(own) = rest.next() else { break };
                if let Some(hook) = &mut hook {
                    hook.logits(DecodeRow { stream: stream.index, prompt, tokens: &row.tokens }, own)?;
                }
                logits.push(own);
            }
            let logits: Vec<&[T]> = logits.into_iter().map(|own| &*own).collect();
            self.choose(stream, &logits);
        }
        self.scratch.outputs = outputs;
        Ok(())
    }

    /// A stream's rows, one token on.
    fn choose(&mut self, stream: &mut Stream, logits: &[&[T]]) {
        let chooser = self.chooser();
        let Decoding::Beam(beam) = self.options.decoding else {
            if let (Some(row), Some(logits)) = (stream.rows.first_mut(), logits.first()) {
                chooser.choose(row, logits, stream.most, stream.number);
            }
            return;
        };
        let next = chooser.beam(&stream.rows, logits, beam, stream.most);
        let before = std::mem::take(&mut stream.rows);
        stream.rows = next.into_iter().map(|(row, _)| row).collect::<Vec<Row>>();
        stream.rows.iter().for_each(|row| self.slots.share(row.slot));
        before.iter().for_each(|row| self.slots.leave(row.slot));
    }
}
