//! A million steps in bounded memory: an LSTM (I = 8, H = 64, B = 1), full backpropagation through time of a loss on its last state.
//!
//! `cargo run --release --example long_sequence [STEPS] [--device cpu|gpu] [--forward]` runs dispatch by dispatch, each waited for,
//! and prints the plan's bytes, the time, the longest dispatch beside its budget, and (on Linux) the peak memory of the process.
//! Checkpoints every so many steps are kept, the stretches between them run again on the way back; the bits are those of keeping
//! everything. `--forward`: inference, where all that grows with T is x and the schedule.

use std::time::{Duration, Instant};
use wgpu_rnn::{
    Device, Gradients, Input, KernelTime, Memory, Options, Plan, RnnConfig, Session, Shape, Upstream, View, Weights,
    cells,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut time, mut device, mut train) = (1_000_000, Device::auto(), true);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), if arg == "--device" { args.next() } else { None }.as_deref()) {
            ("--device", Some("cpu")) => device = Device::cpu(),
            ("--device", Some("gpu")) => device = Device::gpu()?,
            ("--device", _) => return Err("--device takes cpu or gpu".into()),
            ("--forward", _) => train = false,
            _ => time = arg.parse()?,
        }
    }
    let config = RnnConfig { cell: &cells::LSTM, input_size: 8, hidden_size: 64, ..Default::default() };
    let weights = Weights::<f32>::random(&config, 1)?;
    let x_bytes = (time * config.input_size * 4) as u64;
    let memory = if train { Memory::Auto((256 << 20) + x_bytes) } else { Memory::Save };
    let options = Options { train, keep_y: false, memory, ..Default::default() };
    let plan = Plan::new(&config, Shape { time, batch: 1 }, &device.caps(), &options)?;
    println!("device    {device}");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (kept, schedule) = (if train { plan.memory.to_string() } else { "inference".into() }, plan.ids.schedule);
    let (beside, schedule) = (plan.bytes() - x_bytes, plan.slots[schedule].bytes());
    println!("memory    {kept}: {:.1} MiB beside x, {:.1} of them the schedule", mib(beside), mib(schedule));

    let mut session = Session::from_plan(&device, plan, &weights)?;
    println!("start-up  {}", session.startup());
    let x: Vec<f32> = (0..time * config.input_size).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0).collect();
    session.write(&Input::new(View::new(&x, &[time, 1, config.input_size])))?;
    let start = Instant::now();
    let mut kernels = session.profile()?;
    let forward = start.elapsed();
    let state = session.output()?.hn;
    if train {
        // loss = Σ hn²/2, so its gradient is hn.
        let start = Instant::now();
        session.write_upstream(&Upstream { y: None, hn: Some(state.view()), cn: None })?;
        kernels.extend(session.profile_backward()?);
        println!("time      forward {forward:.2?}, backward {:.2?}", start.elapsed());
        report(&session.gradients()?, config.input_size);
    } else {
        println!("time      forward {forward:.2?}");
    }
    longest(&kernels, session.plan());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("").trim();
        println!("peak      {peak} of this process, x and its copies included");
    }
    Ok(())
}

/// How far back the loss reaches.
fn report(gradients: &Gradients<f32>, inputs: usize) {
    let norm = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt();
    let x = &gradients.x.data;
    println!("|dL/dR|   {:.4}", norm(&gradients.weights.layers[0].r));
    println!("|dL/dx|   {:.2e} at the last step", norm(&x[x.len() - inputs..]));
    if let Some(steps) = x.chunks_exact(inputs).rev().position(|r| norm(r) == 0.0) {
        println!("          too small for f32 from {steps} steps before the end: why long memory is hard to train");
    }
}

/// The longest dispatch, and what it was estimated to take at most.
fn longest(kernels: &[KernelTime], plan: &Plan) {
    let Some(KernelTime { kernel, longest, .. }) = kernels.iter().max_by_key(|k| k.longest) else { return };
    let budget = match plan.longest_estimate() {
        // The CPU executor is no one's to interrupt.
        None | Some((_, Duration::ZERO)) => "no budget here".into(),
        Some((_, estimate)) => format!("budget {:.0?}, longest estimate {estimate:.0?}", plan.options.submit_budget),
    };
    println!("dispatch  {longest:.1?} the longest ({kernel}); {budget}");
}
