//! Streams opened and closed, frames in and results out.

use super::engine::id_out;
use super::stream::{Kept, Stream};
use super::{StreamId, StreamPool, nanoseconds, slots};
use crate::error::{Error, Result, StreamError};
use crate::exec::Element;
use crate::tensor::Tensor;
use std::time::Duration;

impl<T: Element> StreamPool<T> {
    /// Opens a stream at the empty state.
    ///
    /// # Errors
    /// [`Error::Limit`] where its states do not fit in [`PoolOptions::bytes`](crate::PoolOptions::bytes).
    pub fn open(&mut self) -> Result<StreamId> {
        self.opened += 1;
        let widths = (self.engine.columns.input(), self.engine.columns.output());
        self.admit(Stream::new(widths, self.opened, slots::EMPTY))
    }

    /// Gives a stream a place and a name, and what it holds another holder.
    pub(super) fn admit(&mut self, stream: Stream<T>) -> Result<StreamId> {
        self.slots.settle();
        let slots = 1 + self.options.history.states();
        self.check_bytes("opening a stream", self.bytes + stream.bytes() + self.slots.bytes_with(slots))?;
        self.slots.reserve(slots);
        self.slots.share(stream.slot);
        stream.history.iter().for_each(|kept| self.slots.share(kept.slot));
        let index = self.closed.pop().unwrap_or_else(|| {
            self.streams.push(Stream { is_open: false, ..Stream::new((0, 0), 0, slots::EMPTY) });
            self.streams.len() as u32 - 1
        });
        let place = &mut self.streams[index as usize];
        let generation = place.generation + 1;
        // It may be in the queue still, from what was here before.
        let (is_queued, is_rest) = (place.is_queued, place.is_rest);
        *place = Stream { generation, is_queued, is_rest, ..stream };
        if self.options.history.steps > 0 && self.streams[index as usize].history.is_empty() {
            self.remember(index as usize);
        }
        self.recount(index as usize);
        Ok(StreamId { pool: self.number, index, generation })
    }

    /// Lists and rings of a stream may have grown or shrunk.
    pub(super) fn recount(&mut self, index: usize) {
        let s = &mut self.streams[index];
        let bytes = s.bytes();
        self.bytes = self.bytes - s.counted + bytes;
        s.counted = bytes;
    }

    /// Keeps a stream's state for rollbacks.
    pub(super) fn remember(&mut self, index: usize) {
        let s = &mut self.streams[index];
        self.slots.share(s.slot);
        s.history.push_back(Kept { at: s.ran, slot: s.slot });
        self.recount(index);
    }

    /// Begins a stream's history anew where it is.
    pub(super) fn forget_history(&mut self, index: usize) {
        let s = &mut self.streams[index];
        s.history.drain(..).for_each(|kept| self.slots.leave(kept.slot));
        s.frames.pop((s.ran - s.first) as usize);
        s.first = s.ran;
        if self.options.history.steps > 0 {
            self.remember(index);
        }
    }

    /// Closes a stream: what waits of it is not run, and results that nobody has pulled are gone.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn close(&mut self, id: StreamId) -> Result<()> {
        let index = self.index(id)?;
        let s = &mut self.streams[index];
        self.waiting -= usize::from(s.waiting() > 0);
        self.bytes -= s.counted;
        self.slots.leave(s.slot);
        s.history.drain(..).for_each(|kept| self.slots.leave(kept.slot));
        let (generation, is_queued, is_rest) = (s.generation, s.is_queued, s.is_rest);
        let closed = Stream::new((0, 0), 0, slots::EMPTY);
        *s = Stream { is_open: false, generation, is_queued, is_rest, ..closed };
        self.closed.push(index as u32);
        self.slots.unreserve(1 + self.options.history.states());
        self.slots.settle();
        match self.slots.shrink() {
            // The next tick goes on with another.
            Err(error) if self.can_recover(&error) => Ok(()),
            shrunk => shrunk,
        }
    }

    /// Whether a stream is open.
    pub fn is_open(&self, id: StreamId) -> bool {
        self.index(id).is_ok()
    }

    /// Frames of a stream that wait.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn waiting(&self, id: StreamId) -> Result<usize> {
        Ok(self.streams[self.index(id)?].waiting())
    }

    /// Results of a stream that nobody has pulled.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn unpulled(&self, id: StreamId) -> Result<usize> {
        Ok(self.streams[self.index(id)?].results.len())
    }

    /// Frames that a stream has been given since it was opened, or since it was reset: those of [`StreamPool::rollback`] not counted, those of
    /// what it was forked or restored from with them.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn position(&self, id: StreamId) -> Result<u64> {
        Ok(self.streams[self.index(id)?].pushed)
    }

    /// Steps that [`StreamPool::rollback`] could take back now.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn kept(&self, id: StreamId) -> Result<usize> {
        Ok(self.streams[self.index(id)?].kept())
    }

    /// Hands a stream frames, one or several: values `[frames, width]`, row by row ([`StreamPool::inputs`] tells the columns). They wait for
    /// a tick.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`StreamError::Full`] where there is no room for them;
    /// [`StreamError::Poisoned`] for a value that is NaN; [`Error::Limit`] beyond [`PoolOptions::bytes`](crate::PoolOptions::bytes);
    /// [`Error::Mismatch`] for values that are no whole frames, a
    /// token id outside its table, or a stack with a vocabulary, which takes [`StreamPool::push_ids`]. Nothing was taken then.
    pub fn push(&mut self, id: StreamId, frames: &[T]) -> Result<()> {
        self.push_at(id, frames, self.now())
    }

    /// The same at a time of the caller's.
    ///
    /// # Errors
    /// As [`StreamPool::push`].
    pub fn push_at(&mut self, id: StreamId, frames: &[T], now: Duration) -> Result<()> {
        let columns = &self.engine.columns;
        let width = columns.input();
        if columns.of_ids {
            let expected = "token ids (the configuration has a vocabulary: push_ids)";
            return Err(Error::mismatch("frames", expected, format!("{} values", frames.len())));
        }
        if !frames.len().is_multiple_of(width) {
            let expected = format!("whole frames of {width} values");
            return Err(Error::mismatch("frames", expected, format!("{} values", frames.len())));
        }
        for &(column, count) in &columns.ids {
            for (n, frame) in frames.chunks_exact(width).enumerate() {
                let number = frame[column].to_f64();
                if !(number >= 0.0 && number.fract() == 0.0 && number < count as f64) {
                    let expected = format!("a whole number in 0..{count}");
                    return Err(Error::mismatch(format!("token id of frame {n}"), expected, number));
                }
            }
        }
        // A NaN alone is not itself. Nothing ends the sum early, so that it has no branches.
        let is_nan = |x: &T| x.partial_cmp(x).is_none();
        if frames.iter().map(|x| u32::from(is_nan(x))).sum::<u32>() > 0 {
            let at = frames.iter().position(is_nan).unwrap_or(0);
            self.index(id)?;
            let (frame, column) = (at / width, at % width);
            return Err(Error::Stream(StreamError::Poisoned { id: id.to_string(), frame, column }));
        }
        let index = self.room_for(id, frames.len() / width)?;
        self.streams[index].frames.extend(frames);
        self.arrived(index, frames.len() / width, now);
        Ok(())
    }

    /// Hands a stream token ids, a frame each: of a stack with a vocabulary, or of a network whose one input they are.
    ///
    /// # Errors
    /// As [`StreamPool::push`]; [`Error::Mismatch`] for a model that takes no token ids, or an id outside its table.
    pub fn push_ids(&mut self, id: StreamId, ids: &[u32]) -> Result<()> {
        self.push_ids_at(id, ids, self.now())
    }

    /// The same at a time of the caller's.
    ///
    /// # Errors
    /// As [`StreamPool::push_ids`].
    pub fn push_ids_at(&mut self, id: StreamId, ids: &[u32], now: Duration) -> Result<()> {
        let columns = &self.engine.columns;
        let of_ids = columns.of_ids;
        if columns.input() != 1 || columns.ids.is_empty() {
            let inputs: Vec<&str> = columns.inputs.iter().map(|(name, _)| name.as_str()).collect();
            let expected = format!("none (the model's inputs are {}: push)", inputs.join(", "));
            return Err(Error::mismatch("token ids", expected, format!("{} ids", ids.len())));
        }
        for &(_, count) in &columns.ids {
            if let Some(n) = ids.iter().position(|&id| id as usize >= count) {
                return Err(Error::mismatch(format!("token id of frame {n}"), format!("0..V = 0..{count}"), ids[n]));
            }
        }
        let index = self.room_for(id, ids.len())?;
        for &id in ids {
            self.streams[index].frames.push()[0] = if of_ids { id_out(id) } else { T::from_f64(f64::from(id)) };
        }
        self.arrived(index, ids.len(), now);
        Ok(())
    }

    /// Makes room for so many frames, and for their results.
    fn room_for(&mut self, id: StreamId, frames: usize) -> Result<usize> {
        let index = self.index(id)?;
        let s = &self.streams[index];
        let (waiting, unpulled) = (s.waiting(), s.results.len() + s.owed as usize);
        let places = self.options.frames;
        if frames > places.saturating_sub(waiting + unpulled) {
            return Err(Error::Stream(StreamError::Full { id: id.to_string(), frames, waiting, unpulled, places }));
        }
        let rows = ((s.pushed - s.first) as usize + frames, unpulled + waiting + frames);
        let (before, after) = (s.bytes(), s.bytes_for(rows.0, rows.1));
        if after > before {
            let needs = self.bytes - s.counted + after + self.slots.bytes_with(0);
            self.check_bytes("frames of a stream", needs)?;
            let s = &mut self.streams[index];
            s.frames.reserve(rows.0);
            s.results.reserve(rows.1);
            self.recount(index);
        }
        Ok(index)
    }

    /// Frames have come: they wait.
    fn arrived(&mut self, index: usize, frames: usize, now: Duration) {
        let at = nanoseconds(now);
        self.latest = self.latest.max(at);
        let s = &mut self.streams[index];
        if frames == 0 {
            return;
        }
        self.waiting += usize::from(s.waiting() == 0);
        s.pushed += frames as u64;
        if s.arrivals.has_room(at) {
            s.arrivals.push(frames, at);
        } else {
            s.arrivals.push(frames, at);
            self.recount(index);
        }
        self.enqueue(index);
    }

    /// Puts a stream at the end of those that wait for their turn.
    pub(super) fn enqueue(&mut self, index: usize) {
        let s = &mut self.streams[index];
        if !s.is_queued {
            s.is_queued = true;
            self.queue.push_back(index as u32);
        }
    }

    /// Takes all results that a stream has: `[frames, width]`, a row per frame in their order ([`StreamPool::outputs`] tells the columns).
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn pull(&mut self, id: StreamId) -> Result<Tensor<T>> {
        let mut data = Vec::new();
        let frames = self.pull_into(id, &mut data)?;
        Ok(Tensor { data, shape: vec![frames, self.engine.columns.output()] })
    }

    /// The same behind what is in `to`; how many rows there were.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open.
    pub fn pull_into(&mut self, id: StreamId, to: &mut Vec<T>) -> Result<usize> {
        let index = self.index(id)?;
        let s = &mut self.streams[index];
        let rows = s.results.len();
        s.results.all(|rows| to.extend_from_slice(rows));
        s.results.pop(rows);
        s.settled = 0;
        if s.waiting() == 0 {
            s.results.shrink();
            s.frames.shrink();
            self.recount(index);
        }
        Ok(rows)
    }

    /// Takes back the last `steps` frames of a stream: first those that wait, then steps that were run, as far as
    /// [`PoolOptions::history`](crate::PoolOptions::history) keeps them. The stream is then where it was before them, bit for bit; of their
    /// results, those that nobody has pulled are gone. Frames between a state that is kept and there run again, without results.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`StreamError::History`], which tells how many steps are kept. Nothing has
    /// changed then.
    pub fn rollback(&mut self, id: StreamId, steps: usize) -> Result<()> {
        let index = self.index(id)?;
        let s = &mut self.streams[index];
        if steps > s.kept() {
            return Err(Error::Stream(StreamError::History { id: id.to_string(), steps, kept: s.kept() }));
        }
        let (waited, target) = (s.waiting() > 0, s.pushed - steps as u64);
        s.frames.truncate((target - s.first) as usize);
        s.pushed = target;
        if target >= s.ran {
            s.arrivals.truncate((target - s.ran) as usize);
        } else {
            while s.history.len() > 1 && s.history.back().is_some_and(|kept| kept.at > target) {
                s.history.pop_back().into_iter().for_each(|kept| self.slots.leave(kept.slot));
            }
            if let Some(kept) = s.history.back() {
                self.slots.share(kept.slot);
                self.slots.leave(s.slot);
                (s.slot, s.ran) = (kept.slot, kept.at);
            }
            s.arrivals.clear();
            if s.waiting() > 0 {
                s.arrivals.push(s.waiting(), self.latest);
            }
            self.recount(index);
        }
        self.drop_results(index, target);
        let waits = self.streams[index].waiting() > 0;
        self.waiting = self.waiting - usize::from(waited) + usize::from(waits);
        if waits {
            self.enqueue(index);
        }
        Ok(())
    }

    /// Results of frames from `target` on are gone, also those on their way.
    pub(super) fn drop_results(&mut self, index: usize, target: u64) {
        let s = &mut self.streams[index];
        let mut over = s.emitted.saturating_sub(target) as usize;
        s.emitted = s.emitted.min(target);
        if self.pending.is_some() {
            for entry in self.batch.iter_mut().filter(|e| e.index as usize == index && e.generation == s.generation) {
                let now = over.min(entry.emit);
                (entry.emit, s.owed, over) = (entry.emit - now, s.owed - now as u32, over - now);
            }
        }
        s.results.truncate(s.results.len().saturating_sub(over).max(s.settled));
    }

    /// Where a stream is.
    #[inline]
    pub(super) fn index(&self, id: StreamId) -> Result<usize> {
        let there = self.streams.get(id.index as usize).filter(|s| s.is_open && s.generation == id.generation);
        match there {
            Some(_) if id.pool == self.number => Ok(id.index as usize),
            _ => Err(Error::Stream(StreamError::Unknown { id: id.to_string() })),
        }
    }

    pub(super) fn check_bytes(&self, what: &str, needs: u64) -> Result<()> {
        let limit = self.options.bytes;
        if needs <= limit {
            return Ok(());
        }
        let hint = "; close streams, drop snapshots, pull results, or give the pool more".into();
        let limit_name = "the pool's bytes (PoolOptions::bytes)";
        Err(Error::Limit { what: what.into(), needs, limit, unit: "bytes", limit_name, hint })
    }
}
