//! One stream: its frames and results, and where its state is.

use super::ring::Ring;
use std::collections::VecDeque;
use std::fmt;

/// Names a stream of a pool, for as long as it is open: its slot may become another's, its name does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub(super) pool: u32,
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.pool, self.index, self.generation)
    }
}

/// Frames that came at once.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub frames: usize,
    /// When, in nanoseconds of the pool's clock.
    pub at: u64,
}

/// A state that is kept for rollbacks.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// Steps before it.
    pub at: u64,
    pub slot: u32,
}

/// See the module. Positions are numbers of frames since the stream was opened.
pub(super) struct Stream<T> {
    pub generation: u32,
    pub is_open: bool,
    /// Another for every stream that was opened; a fork has that of what it was forked from.
    pub root: u64,
    /// Where its state is.
    pub slot: u32,
    /// From `first` to `pushed`: what is kept for rollbacks, then what waits.
    pub frames: Ring<T>,
    pub first: u64,
    /// Frames that the state has seen.
    pub ran: u64,
    pub pushed: u64,
    /// Frames that results were given of (or are on their way): those before it give none, should they run again.
    pub emitted: u64,
    /// Results that are on their way.
    pub owed: usize,
    /// Of what waits, when it came.
    pub arrivals: VecDeque<Arrival>,
    pub results: Ring<T>,
    /// Of the results, those of before it was somewhere new: no rollback takes them.
    pub settled: usize,
    /// Whether it is in the queue of those that wait, and whether that is with what a tick has left.
    pub is_queued: bool,
    pub is_rest: bool,
    /// States at or before `ran`, the oldest first.
    pub history: VecDeque<Kept>,
}

impl<T: Copy + Default> Stream<T> {
    pub fn new((input, output): (usize, usize), root: u64, slot: u32) -> Self {
        Self {
            generation: 0,
            is_open: true,
            root,
            slot,
            frames: Ring::new(input),
            first: 0,
            ran: 0,
            pushed: 0,
            emitted: 0,
            owed: 0,
            arrivals: VecDeque::new(),
            results: Ring::new(output),
            settled: 0,
            is_queued: false,
            is_rest: false,
            history: VecDeque::new(),
        }
    }

    #[inline]
    pub fn waiting(&self) -> usize {
        (self.pushed - self.ran) as usize
    }

    /// Steps that may be taken back.
    pub fn kept(&self) -> usize {
        (self.pushed - self.history.front().map_or(self.ran, |kept| kept.at)) as usize
    }

    /// Bytes of frames and results, with room for so many.
    pub fn bytes_for(&self, frames: usize, results: usize) -> u64 {
        let arrivals = self.arrivals.capacity() * size_of::<Arrival>() + self.history.capacity() * size_of::<Kept>();
        self.frames.bytes_for(frames) + self.results.bytes_for(results) + arrivals as u64
    }

    pub fn bytes(&self) -> u64 {
        self.bytes_for(0, 0)
    }

    /// Takes `frames` of what waits, oldest first; calls `came` with the times of those from number `after` on.
    pub fn leave(&mut self, frames: usize, after: usize, mut came: impl FnMut(Arrival)) {
        let (mut left, mut before) = (frames, 0);
        while left > 0 {
            let Some(first) = self.arrivals.front_mut() else { return };
            let now = first.frames.min(left);
            let told = (before + now).saturating_sub(before.max(after));
            if told > 0 {
                came(Arrival { frames: told, at: first.at });
            }
            first.frames -= now;
            if first.frames == 0 {
                self.arrivals.pop_front();
            }
            (left, before) = (left - now, before + now);
        }
    }

    /// Takes the youngest of what waits, until so many wait.
    pub fn forget(&mut self, frames: usize) {
        let mut left = frames;
        for arrival in &mut self.arrivals {
            arrival.frames = arrival.frames.min(left);
            left -= arrival.frames;
        }
        while self.arrivals.back().is_some_and(|arrival| arrival.frames == 0) {
            self.arrivals.pop_back();
        }
    }
}
