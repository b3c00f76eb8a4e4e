//! What a pool may do, and when.

use super::ring::MOST;
use crate::error::{Error, Result};
use std::time::Duration;

/// When a tick starts, and how much it takes. Nothing of it changes the bits of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a frame may wait for others before [`StreamPool::is_ready`](crate::StreamPool::is_ready) says that a tick should start.
    /// Default: 5 ms.
    pub max_delay: Duration,
    /// Streams of a tick at most, at least 1; where so many wait, a tick should start at once. Default: 1024.
    pub max_batch: usize,
    /// Steps of a stream in a tick at most, at least 1: what a stream has beyond them waits for its next turn, behind the streams that wait
    /// by then, so that a long push holds up nobody for longer than this. Default: 16.
    pub max_steps: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_delay: Duration::from_millis(5), max_batch: 1024, max_steps: 16 }
    }
}

/// How far back [`StreamPool::rollback`](crate::StreamPool::rollback) goes. Frames that still wait can always be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Steps of a stream that can be taken back at least, once it has had so many. Default: 0, which keeps nothing and costs nothing.
    pub steps: usize,
    /// A stream's state is kept once in so many steps, at least 1; a rollback to between two of them runs the frames since the first again.
    /// Every kept state takes a slot, and frames are kept from the oldest of them on. Default: 16.
    pub every: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { steps: 0, every: 16 }
    }
}

impl History {
    /// States that a stream keeps at most, besides its own.
    pub(super) fn states(&self) -> usize {
        if self.steps == 0 { 0 } else { self.steps.div_ceil(self.every).saturating_add(2) }
    }
}

/// What a pool does so that a lost GPU loses nothing: it keeps all states on the host as they were some ticks ago, and all frames since.
/// When the device is lost (a driver that resets, a card that is taken away), it takes another of the same adapter, writes the states back and
/// runs the frames again: the same bits, as if nothing had been. [`Tick::recovered`](crate::Tick::recovered) tells. On the CPU executor, which
/// cannot be lost, it does nothing.
///
/// It costs a download of all slots once in `every` ticks, and memory of the host beside [`PoolOptions::bytes`]: all slots, the frames of so many
/// ticks, and the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Ticks between two times that states are kept, at least 1. Default: 64.
    pub every: usize,
    /// Whether the pool goes on with the CPU executor where there is no other such device; its results are within the executors' bound, not the
    /// same bits. Default: false, which makes it an error.
    pub on_cpu: bool,
}

impl Default for Keep {
    fn default() -> Self {
        Self { every: 64, on_cpu: false }
    }
}

/// How a [`StreamPool`](crate::StreamPool) keeps streams. (How it runs them, and what sessions take, is in the
/// [`RnnOptions`](crate::RnnOptions) or [`ModelOptions`](crate::ModelOptions) beside it.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// When a tick starts.
    pub policy: Policy,
    /// Frames that a stream may have at most, at least 1: each has a place from its push until its result is pulled. Beyond them a push is
    /// refused ([`StreamError::Full`](crate::StreamError::Full)) and nothing is lost: the program's turn to tick, to pull, or to slow its
    /// source down. Default: 1024.
    pub frames: usize,
    /// What rollbacks need.
    pub history: History,
    /// Bytes that all streams together may take: slots of states (on the device), frames and results. Memory is made when it is needed,
    /// and given back. Beyond it [`Error::Limit`]. Sessions have bytes of their own ([`RnnOptions::bytes`](crate::RnnOptions::bytes)), which here
    /// are a bound, too: a batch that does not fit becomes several. While a GPU's slots grow, the old ones are there beside the new. Default:
    /// 1 GiB.
    pub bytes: u64,
    /// What a pool does so that a lost GPU loses nothing. Default: none; calls then say [`Error::DeviceLost`], and the pool's states are gone.
    pub keep: Option<Keep>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { policy: Policy::default(), frames: 1024, history: History::default(), bytes: 1 << 30, keep: None }
    }
}

impl PoolOptions {
    pub(super) fn validate(&self) -> Result<()> {
        let Self { policy, frames, history, keep, .. } = self;
        let sizes = [
            ("max_batch of a Policy", policy.max_batch),
            ("max_steps of a Policy", policy.max_steps),
            ("frames of a StreamPool", *frames),
            ("every of a History", history.every),
            ("every of a Keep", keep.map_or(1, |keep| keep.every)),
        ];
        let rows = frames.saturating_add(history.steps).saturating_add(history.every);
        if rows > MOST {
            let what = "frames of a StreamPool, with those of its history";
            return Err(Error::mismatch(what, format!("at most {MOST}"), rows));
        }
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((what, size)) => Err(Error::mismatch(what, "at least 1", size)),
            None => Ok(()),
        }
    }
}
