//! Steps whose tokens a GPU chooses: many in one submit.

use super::choose::Row;
use super::{Decoder, Decoding, Stream, kernel_of};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::exec::gpu::{Choose, ChoosePorts};
use crate::kernels::{FIELDS, NONE, RowState, RowStatus, Words};

impl<T: Element> Decoder<T> {
    /// Up to [`super::DecoderOptions::steps_per_submit`] steps of the first streams that fit, which are then the last ones.
    pub(super) async fn go_on_device(&mut self, active: &mut [Stream]) -> Result<()> {
        let width = self.options.width();
        self.clear();
        let mut states: Vec<RowState> = Vec::new();
        for stream in active.iter() {
            for n in 0..width {
                let row = stream.rows.get(n);
                let slots = match width {
                    1 => [stream.rows[0].slot; 2],
                    _ => [self.slots.take()?, self.slots.take()?],
                };
                // One that is not there runs along, and its result is nobody's.
                let (from, last) = row.map_or((stream.rows[0].slot, 0), |row| (row.slot, row.last));
                self.add_row(from, slots[0], last);
                states.push(RowState {
                    score: row.map_or(0.0, |row| row.score as f32),
                    rule: row.map_or(0, |row| row.rule),
                    status: row.map_or(RowStatus::Absent, |row| row.status),
                    count: row.map_or(0, |row| row.tokens.len() as u32),
                    most: u32::try_from(stream.most).unwrap_or(u32::MAX),
                    number: stream.number,
                    slots,
                });
            }
        }
        let longest = active.iter().flat_map(|s| s.rows.iter().map(|row| s.most.saturating_sub(row.tokens.len())));
        let rounds = longest.max().unwrap_or(1).clamp(1, self.options.steps_per_submit);
        let (_, count, steps) = self
            .run_rows(0, width, |decoder, session, work| {
                let rows = &states[..work.len()];
                if rows.len() < width {
                    return Err(Error::Limit {
                        what: "a stream of a Decoder".into(),
                        needs: width as u64,
                        limit: rows.len() as u64,
                        unit: "rows of a batch",
                        limit_name: "what fits of one",
                        hint: "; fewer hypotheses need less (Beam::width)".into(),
                    });
                }
                decoder.submit_rounds(session, work, rows, rounds)
            })
            .await?;
        self.submits += 1;
        self.steps += (count * steps) as u64;
        let words = match &self.on_gpu {
            Some(choose) => choose.read().await?,
            None => Vec::new(),
        };
        let (given, log) = words.split_at(count * FIELDS);
        let given: Vec<RowState> = given.chunks_exact(FIELDS).map(RowState::unpacked).collect();
        let ran = count / width;
        for (s, stream) in active[..ran].iter_mut().enumerate() {
            let rows = s * width..(s + 1) * width;
            match width {
                1 => self.follow_row(stream, &given[s], |step| log[step * count + s], rounds),
                _ => {
                    let slots: Vec<[u32; 2]> = states[rows.clone()].iter().map(|row| row.slots).collect();
                    let tokens = |step: usize| &log[step * count..][rows.clone()];
                    let parents = |step: usize| &log[(rounds + step) * count..][rows.clone()];
                    self.follow_beam(stream, &given[rows.clone()], &slots, (tokens, parents, rounds));
                }
            }
        }
        // Of those that did not fit, slots that were meant for them.
        if width > 1 {
            states[count..].iter().flat_map(|row| row.slots).for_each(|slot| self.slots.leave(slot));
        }
        active.rotate_left(ran);
        Ok(())
    }

    /// Submits the rounds of a batch; how many there are.
    fn submit_rounds(
        &mut self,
        session: usize,
        work: &[super::steps::Work],
        rows: &[RowState],
        rounds: usize,
    ) -> Result<usize> {
        let ids = self.engine.input_port(session, self.ids.input).filter(|(port, _)| port.stride == 1);
        let (Some((ids, float_ids)), Some(logits)) = (ids, self.engine.output_port(session, self.output)) else {
            let reason = "its token ids are a column among others of an input; give them an input of their own".into();
            return Err(Error::Unsupported { what: "a Decoder of this network on a GPU".into(), reason });
        };
        let ports = ChoosePorts { ids, float_ids, logits };
        let gpu = self.engine.device().require_gpu("choosing tokens")?.clone();
        if self.on_gpu.is_none() {
            self.on_gpu = Some(Choose::new(&gpu, kernel_of(self.options.decoding), &self.rules)?);
        }
        let Some(mut choose) = self.on_gpu.take() else { return Ok(0) };
        let sampling = match self.options.decoding {
            Decoding::Sample(sampling) => Some(sampling),
            _ => None,
        };
        let words = Words {
            rows: rows.len(),
            size: self.logits.len(),
            stride: ports.logits.stride,
            first: ports.logits.first,
            width: self.options.width(),
            float_ids: ports.float_ids,
            has_rules: !self.rules.is_empty(),
            ends: &self.options.ends,
            top_k: sampling.and_then(|s| s.top_k),
            top_p: sampling.map(|s| s.top_p.max(f32::MIN_POSITIVE)).filter(|&p| p < 1.0),
            temperature: sampling.map(|s| s.temperature),
            seed: sampling.map_or(0, |s| s.seed),
            length_power: match self.options.decoding {
                Decoding::Beam(beam) => beam.length_power,
                _ => 0.0,
            },
            steps: rounds,
        };
        let ran = choose.begin(&words, rows).and_then(|()| {
            self.with_run(work, |engine, run| {
                engine.with_encoder(session, run, |runs| choose.run(runs, &ports, rounds))
            })
        });
        self.on_gpu = Some(choose);
        ran.map(|()| rounds)
    }

    /// What the log says of a stream of one row.
    fn follow_row(&self, stream: &mut Stream, given: &RowState, token: impl Fn(usize) -> u32, rounds: usize) {
        let row = &mut stream.rows[0];
        for token in (0..rounds).map(token).take_while(|&token| token != NONE) {
            if !self.options.ends.contains(&token) {
                row.tokens.push(token);
            }
            row.last = token;
        }
        (row.score, row.rule, row.status) = (f64::from(given.score), given.rule, given.status);
    }

    /// What the log says of a stream's hypotheses.
    fn follow_beam<'l>(
        &mut self,
        stream: &mut Stream,
        given: &[RowState],
        slots: &[[u32; 2]],
        (tokens, parents, rounds): (impl Fn(usize) -> &'l [u32], impl Fn(usize) -> &'l [u32], usize),
    ) {
        let before: Vec<u32> = stream.rows.iter().map(|row| row.slot).collect();
        let mut rows: Vec<Option<Row>> = std::mem::take(&mut stream.rows).into_iter().map(Some).collect();
        rows.resize(slots.len(), None);
        for step in 0..rounds {
            let next = tokens(step).iter().zip(parents(step)).map(|(&token, &parent)| {
                let mut row = rows.get(parent as usize)?.clone()?;
                row.slot = slots[parent as usize][step % 2];
                if token != NONE {
                    if !self.options.ends.contains(&token) {
                        row.tokens.push(token);
                    }
                    row.last = token;
                }
                Some(row)
            });
            rows = next.collect();
        }
        for (row, given) in rows.iter_mut().zip(given) {
            if let Some(row) = row {
                (row.score, row.rule, row.status) = (f64::from(given.score), given.rule, given.status);
                self.slots.share(row.slot);
            }
        }
        slots.iter().flatten().chain(&before).for_each(|&slot| self.slots.leave(slot));
        stream.rows = rows.into_iter().flatten().collect();
    }
}
