//! Kernels alone: what every kernel of a training run reaches, as a share of what the device can do at all: a plain matrix product and
//! a plain copy, both measured in the same run (`ceiling/`). Every case is held against the f64 oracle first.
//!
//! `cargo bench --bench kernels`; `cargo bench --bench kernels -- gpu` for one device; `-- gpu recurrent` for the forward recurrence
//! of LSTM and GRU at T=50 B=64 I=H=256 only.
//!
//! Times are medians over rounds of [`wgpu_rnn::Session::profile`], which waits for the device after every entry of the plan: a
//! kernel of a few microseconds is mostly waiting. Work is that of matrix products; a kernel without any shows only its time.

mod ceiling;
mod timing;

use ceiling::Ceilings;
use std::collections::BTreeMap;
use timing::{devices, median, verified};
use wgpu_rnn::{Cell, Device, KernelTime, Options, Plan, RnnConfig, Session, Shape, cells};

/// T, B, I = H
const SHAPES: [[usize; 3]; 4] = [[100, 16, 64], [100, 16, 256], [50, 64, 256], [50, 32, 512]];
const ROUNDS: usize = 5;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let recurrent = asked.iter().any(|a| a == "recurrent");
    let kinds: Vec<&String> = asked.iter().filter(|a| *a != "recurrent").collect();
    for device in devices() {
        if !kinds.is_empty() && !kinds.iter().any(|k| *k == device.kind()) {
            continue;
        }
        let ceilings = Ceilings::measure(&device);
        println!("\n{device}\nceilings: {ceilings}\n");
        println!("| cell | T, B, I, H | kernel | ms | GFLOP/s | of the best product |\n|---|---|---|---|---|---|");
        for cell in [&cells::LSTM, &cells::GRU] {
            for shape in SHAPES.iter().filter(|s| !recurrent || **s == [50, 64, 256]) {
                table(&device, &ceilings, cell, *shape, recurrent);
            }
        }
    }
}

fn table(device: &Device, ceilings: &Ceilings, cell: &'static Cell, [time, batch, size]: [usize; 3], recurrent: bool) {
    let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
    let options = Options { train: !recurrent, ..Default::default() };
    let plan = Plan::new(&config, Shape { time, batch }, &device.caps(), &options).unwrap();
    let mut session = verified(device, &plan);
    let mut kernels: BTreeMap<String, (Vec<f64>, u64)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for KernelTime { kernel, time, flops, .. } in profile(&mut session) {
            let entry = kernels.entry(kernel).or_insert((Vec::new(), flops));
            entry.0.push(time.as_secs_f64() * 1e3);
        }
    }
    let mut rows: Vec<(String, f64, u64)> =
        kernels.into_iter().map(|(kernel, (times, flops))| (kernel, median(times), flops)).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (kernel, ms, flops) in rows {
        if recurrent && !kernel.ends_with("_forward") {
            continue;
        }
        print!("| {} | {time}, {batch}, {size}, {size} | {kernel} | {ms:.2} |", cell.name);
        let rate = flops as f64 / ms / 1e6;
        if flops == 0 { println!(" | |") } else { println!(" {rate:.2} | {:.2} |", rate / ceilings.product) }
    }
}

/// What every kernel took, there and back.
fn profile(session: &mut Session) -> Vec<KernelTime> {
    let mut times = session.profile().unwrap();
    if session.plan().train {
        times.extend(session.profile_backward().unwrap());
    }
    times
}
