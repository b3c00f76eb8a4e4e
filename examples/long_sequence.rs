//! Full backpropagation through a million steps in bounded memory: an LSTM (I = 8, H = 64, B = 1) and a loss on its last state.
//!
//! `cargo run --release --example long_sequence [STEPS] [--device cpu|gpu]` prints the plan's bytes, the time, and (on Linux)
//! the peak memory of the process. Checkpoints every so many steps are kept, the stretches between them run again on the way back; the bits are
//! those of keeping everything.

use std::time::Instant;
use wgpu_rnn::{Device, Input, Memory, Options, Plan, RnnConfig, Session, Shape, Upstream, View, Weights, cells};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut time, mut device) = (1_000_000, Device::auto());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), if arg == "--device" { args.next() } else { None }.as_deref()) {
            ("--device", Some("cpu")) => device = Device::cpu(),
            ("--device", Some("gpu")) => device = Device::gpu()?,
            ("--device", _) => return Err("--device takes cpu or gpu".into()),
            _ => time = arg.parse()?,
        }
    }
    let config = RnnConfig { cell: &cells::LSTM, input_size: 8, hidden_size: 64, ..Default::default() };
    let weights = Weights::<f32>::random(&config, 1)?;
    let x_bytes = (time * config.input_size * 4) as u64;
    let memory = Memory::Auto((256 << 20) + x_bytes);
    let options = Options { train: true, keep_y: false, memory, ..Default::default() };
    let plan = Plan::new(&config, Shape { time, batch: 1 }, &device.caps(), &options)?;
    println!("device    {device}");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("memory    {}: {:.1} MiB beside x", plan.memory, mib(plan.bytes() - x_bytes));

    let mut session = Session::from_plan(&device, plan, &weights)?;
    let x: Vec<f32> = (0..time * config.input_size).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0).collect();
    session.write(&Input::new(View::new(&x, &[time, 1, config.input_size])))?;
    let start = Instant::now();
    let state = session.run_for_state()?;
    let forward = start.elapsed();
    // loss = Σ hn²/2, so its gradient is hn.
    let shape = [1, 1, config.hidden_size];
    let gradients = session.backward(&Upstream { y: None, hn: Some(View::new(&state[0], &shape)), cn: None })?;
    println!("time      forward {forward:.2?}, backward {:.2?}", start.elapsed() - forward);

    let norm = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt();
    let rows = gradients.x.data.chunks_exact(config.input_size);
    let distant = rows.clone().rev().position(|r| norm(r) == 0.0);
    println!("|dL/dR|   {:.4}", norm(&gradients.weights.layers[0].r));
    println!("|dL/dx|   {:.2e} at the last step", norm(&gradients.x.data[(time - 1) * 8..]));
    if let Some(steps) = distant {
        println!("          too small for f32 from {steps} steps before the end: why long memory is hard to train");
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("").trim();
        println!("peak      {peak} of this process, x and its copies included");
    }
    Ok(())
}
