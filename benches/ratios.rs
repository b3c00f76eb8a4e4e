//! What ragged batches, second directions and stacks cost, as ratios: both sides in one process, in turn, medians over rounds of the
//! ratio. Each side is held against the f64 oracle before it is timed (with all lengths T; ragged batches are proven by the tests).
//!
//! `cargo bench --bench ratios`; `cargo bench --bench ratios -- gpu` for one device.

mod timing;

use timing::{devices, in_turn, median, run, verified};
use wgpu_rnn::{Cell, Device, Direction, Options, Plan, RnnConfig, Shape, cells};

const ROUNDS: usize = 7;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!("| device | pass | what | ms | against | ms | ratio |\n|---|---|---|---|---|---|---|");
    for device in devices().iter().filter(|d| asked.is_empty() || asked.iter().any(|a| a == d.kind())) {
        for train in [false, true] {
            for cell in [&cells::LSTM, &cells::GRU] {
                ragged(device, cell, train);
            }
            bidirectional(device, train);
        }
    }
}

fn plan(device: &Device, config: &RnnConfig, shape: Shape, train: bool) -> Plan {
    let options = Options { train, ..Default::default() };
    Plan::new(config, shape, &device.caps(), &options).unwrap()
}

fn row(device: &Device, train: bool, names: [&str; 2], times: [Vec<f64>; 2]) {
    let pass = if train { "forward+backward" } else { "forward" };
    let ratio = median(times[0].iter().zip(&times[1]).map(|(a, b)| a / b));
    let [a, b] = times.map(median);
    println!("| {} | {pass} | {} | {a:.2} | {} | {b:.2} | {ratio:.2} |", device.kind(), names[0], names[1]);
}

/// 63 lengths evenly spread over 1..=49 and one of 100, against all 100.
fn ragged(device: &Device, cell: &'static Cell, train: bool) {
    let config = RnnConfig { cell, input_size: 256, hidden_size: 256, ..Default::default() };
    let plan = plan(device, &config, Shape { time: 100, batch: 64 }, train);
    let mut lengths: Vec<usize> = (0..63).map(|n| 1 + n * 48 / 62).collect();
    // Not sorted: the long one in the middle.
    lengths.insert(20, 100);
    let [mut short, mut full] = [verified(device, &plan), verified(device, &plan)];
    short.set_lengths(Some(&lengths)).unwrap();
    let times = in_turn(ROUNDS, [&mut || run(&mut short), &mut || run(&mut full)]);
    let name = format!("{} (100,64,256,256), 63 lengths of 1..49 and one of 100", cell.name);
    row(device, train, [&name, "all lengths 100"], times);
}

/// Both directions of H units against one direction twice.
fn bidirectional(device: &Device, train: bool) {
    let config = |direction| RnnConfig { input_size: 64, hidden_size: 64, direction, ..Default::default() };
    let shape = Shape { time: 100, batch: 1 };
    let make = |direction| verified(device, &plan(device, &config(direction), shape, train));
    let [mut both, mut one] = [make(Direction::Bidirectional), make(Direction::Forward)];
    let times = in_turn(ROUNDS, [&mut || run(&mut both), &mut || run(&mut one)]);
    row(device, train, ["lstm (100,1,64,64), both directions", "one direction"], times);
}
