//! R as blocks on its diagonal ([`Recurrence`]), for every cell: the laws that tie it to a full matrix and to itself ([`laws`]), the
//! numbers against differences, naive loops and each other ([`numbers`]), and what a plan, a file and a refusal say ([`plan`]).

#[path = "../harness/mod.rs"]
mod harness;

mod laws;
mod numbers;
mod plan;

use harness::*;
use wgpu_rnn::*;

/// Heads of 2, 4 and 3 units that begin at whole vec4s and elsewhere, and of one; for cells that can be projected also with as many
/// features as units and with fewer.
fn kinds(cell: &'static Cell) -> Vec<RnnConfig> {
    let kind = |recurrence, hidden_size, proj_size| RnnConfig {
        cell,
        recurrence,
        input_size: 5,
        hidden_size,
        proj_size,
        ..Default::default()
    };
    let (heads, diagonal) = (Recurrence::Heads, Recurrence::Diagonal);
    let mut list = vec![kind(heads(3), 6, 0), kind(heads(3), 12, 0), kind(heads(5), 15, 0), kind(diagonal, 7, 0)];
    if cell.has_cell_state() {
        list.extend([kind(heads(3), 12, 6), kind(heads(2), 10, 4), kind(diagonal, 6, 3)]);
    }
    list
}

/// All cells' kinds, with two layers and both directions.
fn stacks() -> Vec<RnnConfig> {
    let stack = |config| RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..config };
    cells::ALL.into_iter().flat_map(kinds).map(stack).collect()
}

/// Ragged sequences.
fn ragged(config: RnnConfig) -> Case {
    Case::new(config, 5, 4, 21).with_lengths(&[2, 5, 1, 4])
}

fn label(config: &RnnConfig) -> String {
    format!("{} {} H={} P={}", config.cell.name, config.recurrence, config.hidden_size, config.proj_size)
}

/// Where in a full R `[rows, width]` each value of the blocks is.
fn places(config: &RnnConfig) -> Vec<usize> {
    let (hidden, width) = (config.hidden_size, config.state_size());
    let heads = match config.recurrence {
        Recurrence::Dense => 1,
        Recurrence::Diagonal => width,
        Recurrence::Heads(n) => n,
    };
    let rows = 0..config.cell.recurrent_gates() * hidden;
    let sees = |row: usize, k: usize| (row % hidden) * heads / hidden == k * heads / width;
    rows.flat_map(|row| (0..width).filter(move |&k| sees(row, k)).map(move |k| row * width + k)).collect()
}

/// The same numbers with a full R.
fn dense(case: &Case) -> Case {
    let mut full = case.clone();
    full.config.recurrence = Recurrence::Dense;
    let (places, rows) = (places(&case.config), case.config.cell.recurrent_gates() * case.config.hidden_size);
    for layer in &mut full.weights.layers {
        let mut r = vec![0.0; rows * case.config.state_size()];
        places.iter().zip(&layer.r).for_each(|(&at, &v)| r[at] = v);
        layer.r = r;
    }
    full
}
