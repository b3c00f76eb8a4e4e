//! RNNoise's trained network (models/rnnoise) over a noisy recording: how much of each band to keep, and whether somebody
//! speaks. Three GRUs with the reset before the recurrent product and a relu in them:
//!
//! ```text
//! $ cargo run --release --example noise_gate
//! device    CPU executor, 2 threads
//! voice     T=400 B=1 H=24, sequence: CPU executor: threads own sequences, no synchronisation per step
//! noise     T=400 B=1 H=48, sequence: CPU executor: threads own sequences, no synchronisation per step
//! gains     T=400 B=1 H=96, sequence: CPU executor: threads own sequences, no synchronisation per step
//!
//! seconds  voice                     gain
//!     0.0  0.11 ##                   0.03 #
//!     0.1  0.00                      0.01
//!     0.2  0.00                      0.01
//!     0.3  0.00                      0.01
//!     0.4  0.65 #############        0.60 ############
//!     0.5  0.85 #################    0.47 #########
//!     0.6  0.98 #################### 0.66 #############
//! ...
//!     3.9  0.00                      0.02
//!
//! 179 of 400 frames are speech: mean gain 0.559, else 0.140
//! 400 frames in 7.46 ms, 536 times real time
//! ```
//!
//! `-- --svg gains.svg` draws the gains of all bands. Works without any GPU or driver. How the layers are run is in
//! `noise_gate/rnnoise.rs`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::{Error, Options, Result};
use wgpu_rnn_examples::device;
use wgpu_rnn_examples::noise_gate::picture;
use wgpu_rnn_examples::noise_gate::rnnoise;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/rnnoise");
/// Frames in a line of the chart.
const FRAMES_PER_LINE: usize = 10;

/// Where in a noisy recording somebody speaks, and how much of it to keep.
#[derive(Parser)]
struct Args {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: device::DeviceArg,
    /// Draws the gains of every band and frame into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let device = args.device.open()?;
    let model = rnnoise::Model::open(format!("{FOLDER}/weights.safetensors"))?;
    let features = rnnoise::read_features(format!("{FOLDER}/features.safetensors"), model.features())?;
    let frames = features.len() / model.features();
    let mut listener = rnnoise::Listener::new(&device, &model, frames, &Options::default())?;

    let start = Instant::now();
    let heard = listener.run(&features)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;

    println!("device    {device}");
    for (name, session) in ["voice", "noise", "gains"].iter().zip(&listener.sessions) {
        let (plan, h) = (session.plan(), session.plan().config.hidden_size);
        println!("{name}     T={} B=1 H={h}, {}: {}", plan.shape.time, plan.strategy, plan.reason);
    }
    println!("\nseconds  voice                     gain");
    let bands = rnnoise::BANDS.len();
    let lines = heard.voice.chunks(FRAMES_PER_LINE).zip(heard.gains.chunks(FRAMES_PER_LINE * bands));
    for (n, (voice, gains)) in lines.enumerate() {
        let seconds = (n * FRAMES_PER_LINE) as f64 / picture::FRAMES_PER_SECOND as f64;
        println!("{seconds:7.1}  {:25} {}", bar(mean(voice)), bar(mean(gains)).trim_end());
    }
    let spoken = heard.voice.iter().filter(|v| **v >= 0.5).count();
    let (voice, silence): (Vec<f32>, Vec<f32>) = (gain(&heard, |v| v >= 0.5), gain(&heard, |v| v < 0.5));
    println!("\n{spoken} of {frames} frames are speech: mean gain {:.3}, else {:.3}", mean(&voice), mean(&silence));
    println!("{frames} frames in {ms:.2} ms, {:.0} times real time", frames as f64 * 10.0 / ms);
    if let Some(path) = &args.svg {
        let svg = picture::gains(&heard).map_err(|reason| Error::File { path: path.clone(), reason })?;
        std::fs::write(path, svg).map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
        println!("picture   {}", path.display());
    }
    Ok(())
}

/// The gains of the frames whose voice probability is wanted.
fn gain(heard: &rnnoise::Heard, wanted: impl Fn(f32) -> bool) -> Vec<f32> {
    let frames = heard.voice.iter().zip(heard.gains.chunks_exact(rnnoise::BANDS.len()));
    frames.filter(|(voice, _)| wanted(**voice)).flat_map(|(_, gains)| gains).copied().collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// A number from 0 to 1, and as long a bar.
fn bar(value: f32) -> String {
    let length = (value * 20.0).round() as usize;
    format!("{value:.2} {}", "#".repeat(length))
}
