//! R as blocks on its diagonal ([`Recurrence`]), for every cell: the laws that tie it to a full matrix and to itself ([`laws`]), the
//! numbers against differences, naive loops and each other ([`numbers`]), and what a plan, a file and a refusal say ([`plan`]).

#[path = "../harness/mod.rs"]
mod harness;

mod laws;
mod numbers;
mod plan;

use harness::*;
use wgpu_rnn::*;

/// Heads of 2, 4 and 3 units that begin at whole vec4s and elsewhere, and of one; for the LSTMs of one cell state also with as many
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
    if cell.cell_states() == 1 {
        list.extend([kind(heads(3), 12, 6), kind(heads(2), 10, 4), kind(diagonal, 6, 3)]);
    }
    list
}

/// All cells' kinds, with two layers and both directions.
fn stacks() -> Vec<RnnConfig> {
    let stack = |config| RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..config };
    cells::ALL.into_iter().flat_map(kinds).map(stack).collect()
}

/// Both strategies on the CPU executor, and on the GPU where it is this cell's turn: two of the four kinds for every cell, and of its
/// projected ones, so that the cells together take all of them (a software rasteriser's compiler is slow).
fn runs(config: &RnnConfig) -> Vec<(Device, Strategy)> {
    let same = |c: &RnnConfig| {
        (c.recurrence, c.hidden_size, c.proj_size) == (config.recurrence, config.hidden_size, config.proj_size)
    };
    let cell = cells::ALL.iter().position(|c| *c == config.cell).unwrap();
    let kind = kinds(config.cell).iter().position(same).unwrap();
    let turn = if kind < 4 { [cell % 4, (cell + 2) % 4] } else { [4 + cell % 3, 4 + (cell + 2) % 3] };
    let devices = [Some(Device::cpu()), turn.contains(&kind).then(gpu)];
    let both = |d: Device| [(d.clone(), Strategy::Step), (d, Strategy::Sequence)];
    devices.into_iter().flatten().flat_map(both).collect()
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
