//! Pools of streams: the law (a stream's bits are the same alone, among others, in pieces, forked, rolled back, saved and loaded), whose turn
//! it is and when, bounds, and what is refused. Needs a GPU adapter (Mesa's lavapipe will do).

mod alone;
mod bounds;
mod faults;
mod laws;
mod models;
mod policy;
mod refusals;
mod saved;

use std::time::Duration;
use wgpu_rnn::*;

/// Uniform in ±1, by a seed.
fn values(seed: u64, count: usize) -> Vec<f32> {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A GRU of 3 features and 5 units, and a pool over it.
fn gru_pool(options: &PoolOptions) -> StreamPool {
    let config = RnnConfig::gru(3, 5);
    let weights = Weights::<f32>::random(&config, 1).expect("weights");
    StreamPool::of_rnn(&Device::cpu(), &config, &weights, options).expect("a pool")
}

/// What is wrong with a stream.
#[track_caller]
fn refused<R>(result: Result<R>) -> StreamError {
    match result.map(drop) {
        Err(Error::Stream(error)) => error,
        other => panic!("{other:?}"),
    }
}
