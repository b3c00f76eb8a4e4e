//! Dropout in training plans: the random numbers and where each mask acts ([`masks`]), the laws that hold bit for bit
//! ([`laws`]), and the numbers: naive loops, differences, f32 against f64 ([`numbers`]).

#[path = "../harness/mod.rs"]
mod harness;

mod laws;
mod masks;
mod numbers;

use harness::*;
use wgpu_rnn::*;

/// All three kinds at once.
const ALL: Dropout = Dropout { layers: 0.3, input: 0.25, recurrent: 0.4 };

/// Two layers, both directions, odd sizes, ragged.
fn ragged(cell: &'static Cell, proj_size: usize, dropout: Dropout) -> Case {
    let direction = Direction::Bidirectional;
    let config = RnnConfig {
        cell,
        input_size: 6,
        hidden_size: 9,
        num_layers: 2,
        direction,
        proj_size,
        dropout,
        ..Default::default()
    };
    Case::new(config, 5, 4, 21).with_lengths(&[2, 5, 1, 4])
}

/// Forward and back in run 0 of a seed, over NaN-filled memory.
fn seeded(case: &Case, session: &mut Session, seed: u64) -> (Output<f32>, Gradients<f32>) {
    session.set_seed(seed);
    case.poisoned(session)
}
