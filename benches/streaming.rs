//! Streaming: one step at a time, the state carried, x uploaded and y read back at every step, as an application that hears a
//! microphone does. Prints per case the median, the 99th percentile and the longest time of a step in microseconds, which
//! `criterion` does not tell. Before that the stream is held against the whole sequence, bit for bit.
//!
//! `cargo bench --bench streaming`

mod timing;

use std::time::Instant;
use timing::{devices, median, quantile};
use wgpu_rnn::{Device, Input, Options, Plan, RnnConfig, Session, Shape, View, Weights, cells};

/// Steps that are timed.
const STEPS: usize = 2000;
/// Steps that are compared with a run over the whole sequence.
const COMPARED: usize = 20;

fn main() {
    println!("streaming, {STEPS} steps of B = 1, microseconds a step: x up, one step, y back\n");
    println!("| device | cell | I = H | layers | median | p99 | longest |\n|---|---|---|---|---|---|---|");
    for device in devices() {
        for cell in [&cells::LSTM, &cells::GRU] {
            for (size, num_layers) in [(64, 1), (128, 2), (256, 1), (512, 1)] {
                let config = RnnConfig { cell, input_size: size, hidden_size: size, num_layers, ..Default::default() };
                let times = stream(&device, &config);
                let [m, p, l] = [median(times.iter().copied()), quantile(&times, 0.99), quantile(&times, 1.0)];
                println!("| {} | {} | {size} | {num_layers} | {m:.1} | {p:.1} | {l:.1} |", device.kind(), cell.name);
            }
        }
    }
}

/// Microseconds of every step.
fn stream(device: &Device, config: &RnnConfig) -> Vec<f64> {
    let weights = Weights::<f32>::random(config, 1).unwrap();
    let input = config.input_size;
    let x: Vec<f32> = (0..STEPS * input).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let step_shape = Shape { time: 1, batch: 1 };
    let mut session = Session::new(device, config, step_shape, &weights).unwrap();
    // The same strategy, else the bits would be another order's.
    let strategy = Some(session.plan().strategy);
    let whole_shape = Shape { time: COMPARED, batch: 1 };
    let options = Options { strategy, ..Default::default() };
    let plan = Plan::new(config, whole_shape, &device.caps(), &options).unwrap();
    let mut whole = Session::from_plan(device, plan, &weights).unwrap();
    let y = whole.forward(&Input::new(View::new(&x[..COMPARED * input], &[COMPARED, 1, input]))).unwrap().y.data;
    for (t, truth) in y.chunks_exact(config.output_size()).enumerate() {
        let out = session.step(View::new(&x[t * input..][..input], &[1, 1, input])).unwrap();
        let same = out.y.data.iter().zip(truth).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{} on {device}: step {t} of the stream is not the sequence's", config.cell.name);
    }
    let step = |x: &[f32]| {
        let start = Instant::now();
        session.step(View::new(x, &[1, 1, input])).unwrap();
        start.elapsed().as_secs_f64() * 1e6
    };
    x.chunks_exact(input).map(step).collect()
}
