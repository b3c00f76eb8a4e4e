//! `wgpu-rnn verify`: golden files and published test cases against an executor, one line a file, exit 1 if any failed.

use clap::ValueEnum;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use wgpu_rnn::{Device, Precision, Strategy};

/// Run golden files and test cases and compare every output and gradient with its recorded truth.
#[derive(clap::Args)]
pub struct Args {
    /// Where to run: the CPU executor, or any GPU adapter, software rasterisers included.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceArg,
    /// Element type; f64 only on the CPU executor.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    /// Forces the strategy; without it the planner chooses.
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// Golden files (*.safetensors), ONNX test cases (folders with model.onnx, or *.safetensors), WebNN test cases (*.json), or
    /// folders of these.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceArg {
    Cpu,
    Gpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    F32,
    F64,
}

#[derive(Clone, Copy, ValueEnum)]
enum StrategyArg {
    Step,
    Sequence,
}

/// Verifies every path and prints the tally.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let precision = match args.precision {
        PrecisionArg::F32 => Precision::F32,
        PrecisionArg::F64 => Precision::F64,
    };
    let strategy = args.strategy.map(|s| match s {
        StrategyArg::Step => Strategy::Step,
        StrategyArg::Sequence => Strategy::Sequence,
    });
    let device = match args.device {
        DeviceArg::Cpu => Device::cpu(),
        DeviceArg::Gpu if precision == Precision::F64 => {
            let reason = "WGSL has no f64; use --device cpu".into();
            return Err(wgpu_rnn::Error::Unsupported { what: "--precision f64 --device gpu".into(), reason }.into());
        }
        DeviceArg::Gpu => Device::gpu()?,
    };
    let (mut passed, mut failed) = (0, 0);
    let mut out = std::io::stdout().lock();
    for path in &args.paths {
        for case in wgpu_rnn_verify::verify_path(path, &device, strategy, precision) {
            let (ok, line) = verdict(&case);
            *(if ok { &mut passed } else { &mut failed }) += 1;
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// `PASS|FAIL NAME  worst-tensor error bound`, or the reason in place of the numbers; always one line.
fn verdict(case: &wgpu_rnn_verify::Verified) -> (bool, String) {
    let (passed, text) = match &case.report {
        Ok(report) => {
            let worst = report.worst().map(|w| format!("{} {:.3e} {:.3e}", w.tensor, w.error, w.bound));
            (report.passed(), worst.unwrap_or_else(|| "nothing compared".into()))
        }
        Err(reason) => (false, reason.to_string()),
    };
    let line = format!("{} {}  {text}", if passed { "PASS" } else { "FAIL" }, case.name);
    (passed, line.replace(char::is_control, " "))
}
