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

/// When what waits came, oldest first. Mostly it came at once.
pub(super) struct Arrivals {
    /// Of no frames where nothing waits.
    first: Arrival,
    later: VecDeque<Arrival>,
}

const NOTHING: Arrival = Arrival { frames: 0, at: 0 };

impl Arrivals {
    pub fn none() -> Self {
        Self { first: NOTHING, later: VecDeque::new() }
    }

    /// The oldest, where there is one.
    #[inline]
    pub fn oldest(&self) -> Option<u64> {
        (self.first.frames > 0).then_some(self.first.at)
    }

    /// Bytes behind the oldest.
    pub fn bytes(&self) -> usize {
        self.later.capacity() * size_of::<Arrival>()
    }

    /// Whether those that come then have a place without more memory.
    #[inline]
    pub fn has_room(&self, at: u64) -> bool {
        let last = self.later.back().unwrap_or(&self.first);
        self.first.frames == 0 || last.at == at || self.later.len() < self.later.capacity()
    }

    #[inline]
    pub fn push(&mut self, frames: usize, at: u64) {
        if self.first.frames == 0 {
            self.first = Arrival { frames, at };
            return;
        }
        match self.later.back_mut().unwrap_or(&mut self.first) {
            last if last.at == at => last.frames += frames,
            _ => self.later.push_back(Arrival { frames, at }),
        }
    }

    pub fn clear(&mut self) {
        *self = Self::none();
    }

    /// Takes `frames`, oldest first; calls `came` with the times of those from number `after` on.
    #[inline]
    pub fn pop(&mut self, frames: usize, after: usize, mut came: impl FnMut(Arrival)) {
        let (mut left, mut before) = (frames, 0);
        while left > 0 && self.first.frames > 0 {
            let now = self.first.frames.min(left);
            let told = (before + now).saturating_sub(before.max(after));
            if told > 0 {
                came(Arrival { frames: told, at: self.first.at });
            }
            self.first.frames -= now;
            if self.first.frames == 0 {
                self.first = self.later.pop_front().unwrap_or(NOTHING);
            }
            (left, before) = (left - now, before + now);
        }
    }

    /// Takes the youngest, until there are so many.
    pub fn truncate(&mut self, frames: usize) {
        let mut left = frames;
        for arrival in std::iter::once(&mut self.first).chain(&mut self.later) {
            arrival.frames = arrival.frames.min(left);
            left -= arrival.frames;
        }
        while self.later.back().is_some_and(|arrival| arrival.frames == 0) {
            self.later.pop_back();
        }
    }
}

/// A state that is kept for rollbacks.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// Steps before it.
    pub at: u64,
    pub slot: u32,
}

/// See the module. Positions are numbers of frames since the stream was opened. What every tick reads comes first, in two lines of a cache.
#[repr(C, align(64))]
pub(super) struct Stream<T> {
    pub generation: u32,
    /// Where its state is.
    pub slot: u32,
    pub is_open: bool,
    /// Whether it is in the queue of those that wait, and whether that is with what a tick has left.
    pub is_queued: bool,
    pub is_rest: bool,
    /// Results that are on their way.
    pub owed: u32,
    /// Frames that the state has seen.
    pub ran: u64,
    pub pushed: u64,
    /// From `first` to `pushed`: what is kept for rollbacks, then what waits.
    pub frames: Ring<T>,
    pub first: u64,
    /// Frames that results were given of (or are on their way): those before it give none, should they run again.
    pub emitted: u64,
    pub results: Ring<T>,
    pub arrivals: Arrivals,
    /// States at or before `ran`, the oldest first.
    pub history: VecDeque<Kept>,
    /// Of the results, those of before it was somewhere new: no rollback takes them.
    pub settled: usize,
    /// Another for every stream that was opened; a fork has that of what it was forked from.
    pub root: u64,
    /// Its bytes as the pool's sum has them.
    pub counted: u64,
}

impl<T: Copy + Default> Stream<T> {
    pub fn new((input, output): (usize, usize), root: u64, slot: u32) -> Self {
        Self {
            generation: 0,
            slot,
            is_open: true,
            is_queued: false,
            is_rest: false,
            owed: 0,
            ran: 0,
            pushed: 0,
            frames: Ring::new(input),
            first: 0,
            emitted: 0,
            results: Ring::new(output),
            arrivals: Arrivals::none(),
            history: VecDeque::new(),
            settled: 0,
            root,
            counted: 0,
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
        let lists = self.arrivals.bytes() + self.history.capacity() * size_of::<Kept>();
        self.frames.bytes_for(frames) + self.results.bytes_for(results) + lists as u64
    }

    pub fn bytes(&self) -> u64 {
        self.bytes_for(0, 0)
    }
}
