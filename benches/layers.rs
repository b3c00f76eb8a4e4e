//! Forward passes of whole layers over cell, H, B and T, on the CPU executor and, where there is an adapter, the GPU one with
//! each strategy. Every case is held against the f64 oracle, within the calibrated bound of [`verify::check`], before it is
//! timed; throughput is multiply-adds × 2.
//!
//! `cargo bench --bench layers`; `cargo bench --bench layers -- cpu` for one executor.
//!
//! The LSTM rows of a run of it, medians in ms, on 2 cores of an AVX-512 Xeon; lavapipe (Mesa 22.3, LLVM 15) runs the GPU kernels
//! on the same cores. No real GPU has been measured.
//!
//! | LSTM, I = H | CPU executor | lavapipe, step | lavapipe, sequence |
//! |---|---|---|---|
//! | T=100 B=1 H=64 | 0.132 | 8.37 | 3.73 |
//! | T=100 B=16 H=64 | 1.19 | 25.6 | 18.4 |
//! | T=100 B=16 H=256 | 9.77 | 223 | 271 |
//! | T=50 B=32 H=512 | 38.1 | 844 | 1086 |

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use wgpu_rnn::{Device, Options, Plan, RnnConfig, Session, Shape, Strategy, Weights, cells, verify};

/// (T, B, I = H)
const SHAPES: [(usize, usize, usize); 4] = [(100, 1, 64), (100, 16, 64), (100, 16, 256), (50, 32, 512)];

fn layers(c: &mut Criterion) {
    let mut devices = vec![Device::cpu()];
    match Device::gpu() {
        Ok(gpu) => devices.push(gpu),
        Err(e) => eprintln!("CPU executor only: {e}"),
    }
    for cell in [&cells::LSTM, &cells::GRU, &cells::GRU_RESET_BEFORE, &cells::RNN_TANH] {
        let mut group = c.benchmark_group(format!("forward/{}", cell.name));
        group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
        for (time, batch, size) in SHAPES {
            let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
            let shape = Shape { time, batch };
            for device in &devices {
                let strategies = match device.kind() {
                    "cpu" => vec![Strategy::Sequence],
                    _ => vec![Strategy::Step, Strategy::Sequence],
                };
                for strategy in strategies {
                    let options = Options { strategy: Some(strategy), ..Default::default() };
                    // H too large for one workgroup: nothing to time.
                    let Ok(plan) = Plan::new(&config, shape, &device.caps(), &options) else { continue };
                    group.throughput(Throughput::Elements(plan.flops()));
                    let mut session = verified(device, plan);
                    let id = format!("{}/{strategy}", device.kind());
                    group.bench_function(BenchmarkId::new(id, format!("T{time} B{batch} H{size}")), |b| {
                        b.iter(|| session.run_for_state().unwrap());
                    });
                }
            }
        }
        group.finish();
    }
}

/// A session with weights and input uploaded, held against the f64 oracle within the calibrated bound.
fn verified(device: &Device, plan: Plan) -> Session {
    let weights = Weights::random(&plan.config, 1).unwrap();
    let numbers = verify::Numbers::random(&plan, 2);
    let mut session = Session::from_plan(device, plan, &weights).unwrap();
    let check = verify::check(&mut session, &weights, &numbers).unwrap();
    assert!(check.passed(), "{}: {check:?}", session.plan());
    session.write(&numbers.input()).unwrap();
    session
}

criterion_group!(benches, layers);
criterion_main!(benches);
