//! What a server allows.

use std::time::Duration;
use wgpu_rnn::{History, Keep, Policy, PoolOptions};

/// Memory of a client is bounded by these: a message, [`Limits::frames`] in the pool, and what the system's sockets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients at the same time; others get 503.
    pub clients: usize,
    /// Bytes of a message.
    pub message: usize,
    /// A connection without sound for so long is closed.
    pub idle: Duration,
    /// A client that takes none of its results for so long is dropped.
    pub write: Duration,
    /// Frames of a client that wait, or have results that it has not taken yet; while there are so many, nothing is read from it.
    pub frames: usize,
    /// Sessions of clients that are gone: how many, and for how long.
    pub kept: usize,
    pub keep: Duration,
    /// Bytes that the system's socket holds for a client that does not read, where it should not choose itself.
    pub send_buffer: Option<usize>,
    /// When the pool runs.
    pub policy: Policy,
    /// Bytes of all streams in the pool.
    pub pool: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 256,
            message: 64 << 10,
            idle: Duration::from_secs(30),
            write: Duration::from_secs(5),
            frames: 64,
            kept: 1024,
            keep: Duration::from_secs(600),
            send_buffer: None,
            policy: Policy { max_delay: Duration::from_millis(5), max_batch: 1024, max_steps: 8 },
            pool: 256 << 20,
        }
    }
}

impl Limits {
    /// How the pool is made.
    pub fn pool(&self) -> PoolOptions {
        // A GPU that is lost costs nobody a frame.
        let keep = Some(Keep { on_cpu: true, ..Keep::default() });
        PoolOptions { policy: self.policy, frames: self.frames, history: History::default(), bytes: self.pool, keep }
    }
}
