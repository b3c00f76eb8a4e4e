//! How an English word is pronounced, by a real trained network (a GRU encoder and a GRU decoder, see models/g2p_en):
//!
//! ```text
//! cargo run --release --example pronounce
//! cargo run --release --example pronounce -- --device cpu recurrent kernel
//! ```
//!
//! Works without any GPU or driver. How the layers are run is in `pronounce/g2p.rs`.

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::{Device, Options, Result, WeightFormat};
use wgpu_rnn_examples::pronounce::g2p;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/g2p_en/weights.safetensors");

/// Spell English words into phonemes (ARPAbet; the digits mark the stress of a vowel).
#[derive(Parser)]
struct Args {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArg,
    /// How the GRUs' matrices are stored: f32, f16, bf16 or int8. Other than f32, it says which words change.
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    weights: WeightFormat,
    /// Spell so many times, and print the median time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Words, or sentences in quotes.
    #[arg(value_name = "WORD", default_values = ["I grew up in France, so I speak French"])]
    text: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceArg {
    Cpu,
    Gpu,
    Auto,
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
    let between_words = |c: char| c.is_whitespace() || ".,;:!?\"()".contains(c);
    let words: Vec<&str> = args.text.iter().flat_map(|t| t.split(between_words)).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        println!("no words");
        return Ok(());
    }
    let device = match args.device {
        DeviceArg::Cpu => Device::cpu(),
        DeviceArg::Gpu => Device::gpu()?,
        DeviceArg::Auto => Device::auto(),
    };
    let model = g2p::Model::open(MODEL)?;
    let options = Options { weights: args.weights, ..Default::default() };
    let mut speller = g2p::Speller::with_options(&device, &model, &words, &options)?;

    let (mut times, mut spellings) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let start = Instant::now();
        spellings = speller.run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let ms = times[times.len() / 2];

    println!("device    {device}");
    let plan = speller.encoder.plan();
    println!("encoder   T={} B={}, {}: {}", plan.shape.time, plan.shape.batch, plan.strategy, plan.reason);
    let (bytes, full) = plan.weight_bytes();
    println!("          weights {}, {bytes} B on the device ({full} B in f32)", plan.options.weights);
    let of_one = |all: u64| all / u64::from(args.repeat);
    let (runs, steps) = (of_one(speller.decoder.submits()), of_one(speller.decoder.steps()));
    println!("decoder   {steps} phonemes and ends of words in {runs} runs, the likeliest each\n");
    let width = words.iter().map(|w| w.chars().count()).max().unwrap_or(0);
    for (word, spelling) in words.iter().zip(&spellings) {
        println!("{word:width$}  {}", spelling.phonemes.join(" "));
    }
    if args.weights != WeightFormat::F32 {
        print_changes(&device, &model, &words, &spellings)?;
    }
    println!("\n{} words in {ms:.2} ms, {:.2} ms a word", words.len(), ms / words.len() as f64);
    Ok(())
}

/// Which words the network spells otherwise with its weights in 32 bits.
fn print_changes(device: &Device, model: &g2p::Model, words: &[&str], spellings: &[g2p::Spelling]) -> Result<()> {
    let exact = g2p::Speller::new(device, model, words)?.run()?;
    let changed = words.iter().zip(spellings).zip(&exact).filter(|((_, s), e)| s.phonemes != e.phonemes);
    let changed: Vec<_> = changed.collect();
    println!("\n{} of {} words are other than in f32", changed.len(), words.len());
    for ((word, _), exact) in changed {
        println!("{word}  in f32: {}", exact.phonemes.join(" "));
    }
    Ok(())
}
