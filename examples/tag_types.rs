//! What kind of content every byte of a text is, by a real trained network: six bidirectional Mamba layers (models/typeseg_mamba).
//! It says how far it is from what its authors' own code computed for the same texts:
//!
//! ```text
//! cargo run --release --example tag_types
//! cargo run --release --example tag_types -- --device cpu 'SELECT 1; # heading'
//! ```
//!
//! Works without any GPU or driver. How the network is put together is in `tag_types/typeseg.rs`.

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::{Error, Result, Shape};
use wgpu_rnn_examples::device;
use wgpu_rnn_examples::tag_types::recorded;
use wgpu_rnn_examples::tag_types::typeseg;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/typeseg_mamba");

/// Tag every byte of texts with its content type.
#[derive(Parser)]
struct Args {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: device::DeviceArg,
    /// Texts; without, the three recorded ones.
    texts: Vec<String>,
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
    let cases = recorded::cases(MODEL)?;
    let all: Vec<&str> = cases.iter().map(|c| c.text.as_str()).chain(args.texts.iter().map(String::as_str)).collect();
    let texts = if args.texts.is_empty() { &all[..] } else { &all[cases.len()..] };
    if texts.iter().any(|t| t.is_empty()) {
        return Err(Error::Mismatch { what: "text".into(), expected: "at least one byte".into(), got: "none".into() });
    }
    let device = args.device.open()?;
    let model = typeseg::Model::open(format!("{MODEL}/weights.safetensors"))?;
    let mut session = model.session(&device, texts)?;

    let start = Instant::now();
    let tagged = model.tag(&mut session, texts)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;

    println!("device    {device}");
    let plan = session.plan();
    let Shape { time, batch } = plan.shape;
    println!("network   {} operations, {} parameters", plan.network.nodes.len(), plan.network.parameter_count());
    println!("scans     T={time} B={batch}, {:?}: {}", plan.parallel, plan.reason);
    println!("{} bytes in {ms:.1} ms", texts.iter().map(|t| t.len()).sum::<usize>());
    for (text, tagged) in texts.iter().zip(&tagged) {
        println!();
        for s in tagged.segments() {
            let shown: String = String::from_utf8_lossy(&text.as_bytes()[s.first..s.end]).escape_debug().collect();
            println!("{:>5}..{:<5}{:24}{:.2}  {shown}", s.first, s.end, model.labels[s.label], s.confidence);
        }
    }
    if args.texts.is_empty() {
        println!();
        compare(&cases, &tagged, &model);
    }
    Ok(())
}

/// How far it is from the recording.
fn compare(cases: &[recorded::Case], tagged: &[typeseg::Tagged], model: &typeseg::Model) {
    let pairs = || cases.iter().zip(tagged);
    let ids = cases.iter().flat_map(|c| model.ids(&c.text).into_iter().zip(&c.ids));
    let (read, bytes) = ids.fold((0, 0), |(read, all), (a, b)| (read + usize::from(a == *b), all + 1));
    println!("{read} of {bytes} bytes are read as the package reads them");
    let labels = model.labels.len();
    let same = pairs().flat_map(|(c, t)| c.logits.chunks_exact(labels).map(typeseg::best).zip(&t.labels));
    let same = same.filter(|(a, b)| a == *b).count();
    let all: usize = cases.iter().map(|c| c.ids.len()).sum();
    println!("{same} of {all} labels are those of the package's own code");
    let off = |got: &[f32], truth: &[f32]| {
        // NaN is above all numbers.
        let largest =
            |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v.abs())).max_by(f64::total_cmp).unwrap_or(0.0);
        (largest(&mut got.iter().zip(truth).map(|(g, t)| g - t)), largest(&mut truth.iter().copied()))
    };
    let logits = pairs().map(|(c, t)| off(&t.logits, &c.logits));
    let (error, scale) = logits.fold((0.0, 0.0), |(e, s): (f64, f64), (error, scale)| (e.max(error), s.max(scale)));
    println!("{:12}off by {error:.1e} at most, largest {scale:.1}", "logits");
    for (case, tagged) in pairs() {
        for (name, (got, truth)) in recorded::SCANS.iter().zip(tagged.scans.iter().zip(&case.scans)) {
            let (error, scale) = off(got, truth);
            println!("{name:12}off by {error:.1e} at most, largest {scale:.1}");
        }
    }
}
