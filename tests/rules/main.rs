//! Linear recurrences: every rule of the registry on every executor, against naive loops that are checked themselves.
//!
//! ```text
//! direct sums, central differences  ->  naive loops (wgpu_rnn_verify::naive_linear)  ->  executors: values, gradients  ->  laws, extremes
//! ```

mod extremes;
mod harness;
mod laws;
mod naive;
mod refusals;
mod values;
