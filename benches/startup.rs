//! Start-up: from a configuration to a session that can run, on the CPU executor and, where there is an adapter, on the GPU: the plan
//! alone; a first session, whose kernels are compiled; a second one of the same configuration and another shape, whose are not.
//!
//! `cargo bench --bench startup`. Mesa keeps what it compiled on disk: `MESA_SHADER_CACHE_DISABLE=true` shows a first start.

mod timing;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::time::Duration;
use timing::devices;
use wgpu_rnn::{Device, Options, Plan, RnnConfig, Session, Shape, Weights, cells};

fn startup(c: &mut Criterion) {
    for (cell, size) in [(&cells::LSTM, 64), (&cells::LSTM, 256), (&cells::GRU, 256)] {
        let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
        let weights = Weights::<f32>::random(&config, 1).unwrap();
        for train in [false, true] {
            let pass = if train { "train" } else { "forward" };
            let mut group = c.benchmark_group(format!("startup/{} H{size} {pass}", cell.name));
            group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
            for device in devices() {
                let options = Options { train, ..Default::default() };
                let plan = |shape| Plan::new(&config, shape, &device.caps(), &options).unwrap();
                let shape = Shape { time: 100, batch: 16 };
                group.bench_function(format!("{}/plan", device.kind()), |b| b.iter(|| plan(shape)));
                // A device keeps its pipelines: a new one for every first session.
                let fresh = || if device.kind() == "cpu" { Device::cpu() } else { Device::gpu().unwrap() };
                group.bench_function(format!("{}/first session", device.kind()), |b| {
                    let session = |device| Session::from_plan(&device, plan(shape), &weights).unwrap();
                    b.iter_batched(fresh, session, BatchSize::PerIteration);
                });
                let mut first: Option<Session> = None;
                group.bench_function(format!("{}/session for another shape", device.kind()), |b| {
                    let first =
                        first.get_or_insert_with(|| Session::from_plan(&device, plan(shape), &weights).unwrap());
                    b.iter(|| first.for_shape(Shape { time: 50, batch: 4 }).unwrap());
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, startup);
criterion_main!(benches);
