//! A server that finds speech in the sound of many clients at once: Silero's LSTM, all streams through one [`wgpu_rnn::StreamPool`].
//!
//! ```text
//! client ─sound─> sound: samples, frames ─convolutions─> engine: push ─> pool (one thread, one batch a tick)
//! client <─probabilities, stretches of speech── client task <──────────── pull
//! ```
//!
//! `docs/serve.md` has the protocol, the limits and the metrics.

pub mod client;
pub mod engine;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod protocol;
pub mod saved;
pub mod server;
pub mod sound;
