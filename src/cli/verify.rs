//! `wgpu-rnn verify`: golden files against an executor, one line a file, exit 1 if any failed.

use clap::ValueEnum;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wgpu_rnn::{Device, Precision, Strategy, verify};

/// Run golden files and compare every output and gradient with its recorded truth.
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
    /// Golden files, or folders, which stand for their *.safetensors.
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
        let (files, refused) = match goldens(path) {
            Ok(files) => (files, None),
            Err(reason) => (Vec::new(), Some(verdict(path, Err(reason)))),
        };
        let reports = files.iter().map(|file| {
            let report = verify::verify_file(file, &device, strategy, precision);
            verdict(file, report.map_err(|e| e.to_string()))
        });
        for (ok, line) in reports.chain(refused) {
            *(if ok { &mut passed } else { &mut failed }) += 1;
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// A file is itself; a folder is its *.safetensors, sorted. A folder without any has proven nothing: that is a failure.
fn goldens(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut files: Vec<PathBuf> = entries.map_err(|e| e.to_string())?.into_iter().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err("a folder without *.safetensors".into());
    }
    Ok(files)
}

/// `PASS|FAIL NAME  worst-tensor error bound`, or the reason in place of the numbers; always one line.
fn verdict(path: &Path, result: Result<verify::Report, String>) -> (bool, String) {
    let (passed, text) = match result {
        Ok(report) => {
            let worst = report.worst().map(|w| format!("{} {:.3e} {:.3e}", w.tensor, w.error, w.bound));
            (report.passed(), worst.unwrap_or_else(|| "nothing compared".into()))
        }
        Err(reason) => (false, reason),
    };
    let golden = path.extension().is_some_and(|e| e == "safetensors");
    let name = path.file_stem().filter(|_| golden).unwrap_or(path.as_os_str()).to_string_lossy();
    let line = format!("{} {name}  {text}", if passed { "PASS" } else { "FAIL" });
    (passed, line.replace(char::is_control, " "))
}
