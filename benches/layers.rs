//! Whole layers over cell, H, B and T, forward and forward with backward; ragged batches, stacks and bidirectional layers; on the CPU
//! executor and, where there is an adapter, the GPU one with each strategy. Every case is held against the f64 oracle, within
//! the calibrated bound of [`wgpu_rnn_verify::check`], before it is timed; throughput is multiply-adds × 2, as if no sequence were
//! shorter than T.
//!
//! `cargo bench --bench layers`; `cargo bench --bench layers -- cpu` for one executor, `-- forward/lstm` for one group.
//!
//! What such a run gave is in the README.

mod timing;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use timing::{devices, run, verified};
use wgpu_rnn::{Device, Direction, Options, Plan, RnnConfig, Session, Shape, Strategy, cells};

/// (T, B, I = H)
const SHAPES: [(usize, usize, usize); 4] = [(100, 1, 64), (100, 16, 64), (100, 16, 256), (50, 32, 512)];

/// A group's cases: what they are called, configuration, shape, lengths.
type Named = (String, RnnConfig, Shape, Option<Vec<usize>>);

fn group(c: &mut Criterion, name: &str, train: bool, cases: &[Named]) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    for (what, config, shape, lengths) in cases {
        for device in devices() {
            for strategy in strategies(&device) {
                let options = Options { strategy: Some(strategy), train, ..Default::default() };
                // H too large for one workgroup: nothing to time.
                let Ok(plan) = Plan::new(config, *shape, &device.caps(), &options) else { continue };
                group.throughput(Throughput::Elements(plan.flops() * if train { 3 } else { 1 }));
                // Made and verified only if the case is not filtered out.
                let mut session: Option<Session> = None;
                let id = BenchmarkId::new(format!("{}/{strategy}", device.kind()), what);
                group.bench_function(id, |b| {
                    let session = session.get_or_insert_with(|| {
                        let mut session = verified(&device, &plan);
                        session.set_lengths(lengths.as_deref()).unwrap();
                        session
                    });
                    b.iter(|| run(session));
                });
            }
        }
    }
    group.finish();
}

fn strategies(device: &Device) -> Vec<Strategy> {
    if device.kind() == "cpu" { vec![Strategy::Sequence] } else { vec![Strategy::Step, Strategy::Sequence] }
}

fn layers(c: &mut Criterion) {
    for (pass, train) in [("forward", false), ("forward+backward", true)] {
        for cell in [&cells::LSTM, &cells::GRU, &cells::GRU_RESET_BEFORE, &cells::RNN_TANH] {
            let case = |&(time, batch, size): &(usize, usize, usize)| {
                let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
                (format!("T{time} B{batch} H{size}"), config, Shape { time, batch }, None)
            };
            let cases: Vec<Named> = SHAPES.iter().map(case).collect();
            group(c, &format!("{pass}/{}", cell.name), train, &cases);
        }
    }
}

fn shapes(c: &mut Criterion) {
    let lstm = |size, num_layers, direction| RnnConfig {
        cell: &cells::LSTM,
        input_size: size,
        hidden_size: size,
        num_layers,
        direction,
        ..Default::default()
    };
    let (one, both) = (Direction::Forward, Direction::Bidirectional);
    let shape = Shape { time: 100, batch: 16 };
    let lengths = (0..16).map(|b| 1 + b * 99 / 15).collect();
    let cases: Vec<Named> = vec![
        ("ragged 1..100 H256".into(), lstm(256, 1, one), shape, Some(lengths)),
        ("bidirectional H256".into(), lstm(256, 1, both), shape, None),
        ("4 layers H64".into(), lstm(64, 4, one), shape, None),
        ("4 layers H256".into(), lstm(256, 4, one), shape, None),
        ("2 bidirectional layers H64".into(), lstm(64, 2, both), shape, None),
    ];
    for (pass, train) in [("forward", false), ("forward+backward", true)] {
        group(c, &format!("{pass}/lstm shapes"), train, &cases);
    }
}

criterion_group!(benches, layers, shapes);
criterion_main!(benches);
