//! When somebody speaks in a recording: Silero's trained detector (models/silero_vad), convolutions and an LSTM, over a WAV file.
//!
//! ```text
//! $ cargo run --release --example voice_activity
//! device    CPU executor, 2 threads
//! lstm      T=128 B=1, sequence: CPU executor: threads own sequences, no synchronisation per step
//!
//!   0.00 s  ............=@@@@@@@@@@@@@@.:@@@
//!   1.02 s  @@@@@@@@@@@@@@@@@@@@@=....%@@@@@
//!   2.05 s  @@@@@@@@@@@@@@@@@@@@@@@@@@@@%@@+
//!   3.07 s  ++..............................
//!
//! speech    0.42 s to 1.73 s, mean probability 0.941
//! speech    1.86 s to 3.14 s, mean probability 0.943
//! 128 frames in 23.8 ms, 171 times real time
//! ```
//!
//! `-- FILE.wav` hears another recording (16 kHz, mono), `-- --svg speech.svg` draws it, `-- --stream` runs frame by frame as
//! from a microphone. Works without any GPU or driver. How the layers are run is in `voice_activity/silero.rs`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::{Error, Options, Result};
use wgpu_rnn_examples::device;
use wgpu_rnn_examples::voice_activity::picture;
use wgpu_rnn_examples::voice_activity::silero;
use wgpu_rnn_examples::voice_activity::speech;

use wgpu_rnn_examples::voice_activity::speech::{Rules, seconds};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/silero_vad");

/// Find the speech in a recording.
#[derive(Parser)]
struct Args {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: device::DeviceArg,
    /// Runs frame by frame, the state staying on the device; the same bits as in one run.
    #[arg(long)]
    stream: bool,
    /// The probability that speech begins at.
    #[arg(long, default_value_t = Rules::SILERO.threshold)]
    threshold: f32,
    /// Frames (of 32 ms) that speech lasts at least.
    #[arg(long, default_value_t = Rules::SILERO.min_speech)]
    min_speech: usize,
    /// Frames that a pause lasts at least.
    #[arg(long, default_value_t = Rules::SILERO.min_silence)]
    min_silence: usize,
    /// Draws sound and probability into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// A WAV file, 16 kHz mono; without, a synthetic voice that says "I grew up in France, so I speak French."
    file: Option<PathBuf>,
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
    let sample = PathBuf::from(FOLDER).join("speech_16k.wav");
    let samples = speech::read_wav(args.file.as_ref().unwrap_or(&sample))?;
    let frames = silero::frames(&samples);
    if frames.is_empty() {
        println!("no sound");
        return Ok(());
    }
    let device = args.device.open()?;
    let model = silero::Model::open(format!("{FOLDER}/weights.safetensors"))?;
    let time = if args.stream { 1 } else { frames.len() };
    let mut session = model.session(&device, time, &Options::default())?;

    let start = Instant::now();
    let run = if args.stream { silero::stream } else { silero::detect };
    let detected = run(&model, &mut session, &frames)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;

    let plan = session.plan();
    println!("device    {device}");
    println!("lstm      T={} B=1, {}: {}\n", plan.shape.time, plan.strategy, plan.reason);
    let rules = Rules { threshold: args.threshold, min_speech: args.min_speech, min_silence: args.min_silence };
    let stretches = rules.stretches(&detected.probability);
    for (n, row) in detected.probability.chunks(32).enumerate() {
        let row: String = row.iter().map(|&p| shade(p)).collect();
        println!("{:6.2} s  {row}", seconds(n * 32));
    }
    println!();
    for stretch in &stretches {
        let p = &detected.probability[stretch.clone()];
        let mean = p.iter().sum::<f32>() / p.len() as f32;
        println!(
            "speech    {:.2} s to {:.2} s, mean probability {mean:.3}",
            seconds(stretch.start),
            seconds(stretch.end)
        );
    }
    let length = samples.len() as f64 / f64::from(silero::RATE);
    println!("{} frames in {ms:.1} ms, {:.0} times real time", frames.len(), length * 1e3 / ms);
    if let Some(path) = &args.svg {
        let error = |reason: String| Error::File { path: path.clone(), reason };
        let svg = picture::speech(&samples, &detected.probability, &stretches).map_err(error)?;
        std::fs::write(path, svg).map_err(|e| error(e.to_string()))?;
        println!("picture   {}", path.display());
    }
    Ok(())
}

/// A character as dark as the probability is high.
fn shade(probability: f32) -> char {
    ['.', ':', '-', '=', '+', '*', '#', '%', '@', '@'][(probability * 9.0) as usize % 10]
}
