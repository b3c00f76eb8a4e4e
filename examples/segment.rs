//! Thai, Lao, Khmer and Burmese are written without spaces between words. ICU finds the words with one bidirectional LSTM per
//! script; these are its trained networks (models/icu_segmenter), and a whole file is one ragged batch per script:
//!
//! ```text
//! $ cargo run --release --example segment
//! device    CPU executor, 2 threads
//! thai      T=23 B=3, sequence: CPU executor: threads own sequences, no synchronisation per step
//!           46 characters, 11 words
//! lao       T=21 B=3, sequence: CPU executor: threads own sequences, no synchronisation per step
//!           57 characters, 16 words
//! khmer     T=36 B=1, sequence: CPU executor: threads own sequences, no synchronisation per step
//!           36 characters, 5 words
//! burmese   T=14 B=1, sequence: CPU executor: threads own sequences, no synchronisation per step
//!           14 characters, 4 words
//! 153 characters in 1.54 ms, sessions included
//!
//! Thai, with a year in it: กระทำ|การ|ใน|รูปแบบ|ขบวนการ 2024|ภาษา|ไทย|ภาษา|ไทย
//! Lao: ກ່ຽວ|ກັບ|ສິດ|ຂອງ|ມະນຸດ, ພາສາ|ລາວ|ພາສາ|ລາວ|ພາສາ|ລາວ
//! Khmer: សេចក្ដីប្រកាស|ជាស|កល|ស្ដីពី|សិទ្ធិមនុស្ស
//! Burmese: မြန်|မာ|ဘာသာ|စကား
//! Two scripts side by side: โรง|พยาบาล|ກ່ຽວ|ກັບ|ສິດ|ຂອງ|ມະນຸດ
//! ```
//!
//! `-- FILE` reads a file, `-- -` the standard input; the report goes to the standard error, the text alone to the standard
//! output. A text that is more than the device holds in one batch is a typed error (lavapipe: about 100,000 words). Works
//! without any GPU or driver. How the layers are run is in `segment/icu.rs`.

use clap::Parser;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::{Error, Result};
use wgpu_rnn_examples::device;
use wgpu_rnn_examples::segment::icu;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/icu_segmenter");

/// Split Thai, Lao, Khmer and Burmese text into words; leave everything else as it is.
#[derive(Parser)]
struct Args {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: device::DeviceArg,
    /// What to print between words.
    #[arg(long, default_value = "|")]
    separator: String,
    /// A text file in UTF-8, or `-` for the standard input; without, a few lines of ICU's tests.
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
    let sample = Path::new(MODELS).join("sample.txt");
    let text = read(args.file.as_deref().unwrap_or(&sample))?;
    let device = args.device.open()?;
    let models = icu::SCRIPTS.iter().map(|script| icu::Model::open(MODELS, script)).collect::<Result<Vec<_>>>()?;

    let start = Instant::now();
    let segmented = icu::segment(&device, &models, &text)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;

    eprintln!("device    {device}");
    for batch in &segmented.batches {
        let (plan, script) = (batch.session.plan(), models[batch.model].script);
        eprintln!("{script:9} T={} B={}, {}: {}", plan.shape.time, plan.shape.batch, plan.strategy, plan.reason);
        eprintln!("          {} characters, {} words", batch.characters, batch.words);
    }
    let characters: usize = segmented.batches.iter().map(|b| b.characters).sum();
    eprintln!("{characters} characters in {ms:.2} ms, sessions included\n");
    print!("{}", segmented.join(&args.separator));
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    let error = |e: std::io::Error| Error::File { path: file.into(), reason: e.to_string() };
    if file != Path::new("-") {
        return std::fs::read_to_string(file).map_err(error);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(error)?;
    Ok(text)
}
