//! Activations in f16 ([`halves`], [`halves_laws`]). Weights in fewer bits: the shaders' roundings bit by bit ([`bits`]), every cell on every executor against f64 with the same
//! rounded weights ([`executors`]), training ([`training`]), what is refused ([`refusals`]), and what real networks lose
//! ([`models`]).

#[path = "../harness/mod.rs"]
mod harness;

mod bits;
mod executors;
mod halves;
mod halves_laws;
mod models;
mod refusals;
mod training;

use wgpu_rnn::WeightFormat;

/// The formats that round.
const ROUNDED: [WeightFormat; 3] = [WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Int8];
