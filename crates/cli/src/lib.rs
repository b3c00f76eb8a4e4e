//! The command line: `wgpu-rnn devices | verify | plan | bench | tune | inspect | run | export`. One file per subcommand, each with its
//! `Args` (clap) and `run(&Args) -> Result<ExitCode, Box<dyn Error>>`. [`run`] is what the command's `main` calls, and Python's
//! `python -m wgpu_rnn`.

mod bench;
mod devices;
mod export;
mod floor;
mod inspect;
mod layer;
mod linear;
mod model;
mod plan;
mod run;
mod streams;
mod tune;
mod verify;
mod whole;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

pub use inspect::object as inspection;

/// What the whole project is, as the library's manifest has it.
const ABOUT: &str =
    "GPU-accelerated recurrent kernels: the cuDNN RNN API for every GPU, in WGSL through wgpu, with a CPU executor";

/// GPU-accelerated recurrent kernels: devices, proofs, plans, timings, runs.
#[derive(Parser)]
#[command(name = "wgpu-rnn", version, about = ABOUT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the GPU adapters and the CPU executor.
    Devices(devices::Args),
    /// Run golden files and test cases and compare every output and gradient with its recorded truth.
    Verify(verify::Args),
    /// Print how a configuration would run: strategy and reason, slots with bytes, dispatches, work and the floor
    /// of its time.
    Plan(plan::Args),
    /// Check a configuration against the f64 oracle, then time whole runs.
    Bench(bench::Args),
    /// Measure tiles and blocks of steps for a configuration and shape on this device, and store the fastest.
    Tune(tune::Args),
    /// List the recurrent layers and blocks of a model's file, and the commands that run them.
    Inspect(inspect::Args),
    /// Run a model's file: the whole model (ONNX, Keras), or a trained layer or stack (these, safetensors, .pt, .pth, .npz).
    Run(run::Args),
    /// Write a trained layer or stack as an ONNX model.
    Export(export::Args),
}

/// Runs the command line, whose first argument is the command's name, and gives what the process ends with: 0; 1, a failed comparison; 2,
/// an error, which went to stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    // Of streams each comes by itself: they have no steps and no batch of the caller's.
    let of_streams = |arg: clap::Arg| arg.required(false).required_unless_present("streams");
    let mut command =
        Cli::command().mut_subcommand("bench", |bench| bench.mut_arg("time", of_streams).mut_arg("batch", of_streams));
    let matches = command.try_get_matches_from_mut(args);
    let cli = matches.and_then(|matches| {
        linear::check(&matches, &mut command)?;
        Cli::from_arg_matches(&matches)
    });
    match cli {
        Ok(cli) => ended(cli.command.run()),
        Err(e) => {
            // Where nobody reads it (`wgpu-rnn --help | head`) there is nothing to say.
            drop(e.print());
            u8::try_from(e.exit_code()).unwrap_or(2)
        }
    }
}

impl Command {
    fn run(&self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        match self {
            Self::Devices(args) => devices::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Plan(args) => plan::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Tune(args) => tune::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Run(args) => run::run(args),
            Self::Export(args) => export::run(args),
        }
    }
}

fn ended(result: Result<ExitCode, Box<dyn std::error::Error>>) -> u8 {
    match result {
        Ok(code) => u8::from(code != ExitCode::SUCCESS),
        // A reader that has seen enough (`wgpu-rnn plan .. | head`) is not an error.
        Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => 0,
        Err(e) => {
            eprintln!("error: {e}");
            2
        }
    }
}
