//! The command line: `wgpu-rnn devices | verify | plan | bench | tune | inspect | run | export`. One file per subcommand, each with its
//! `Args` (clap) and `run(&Args) -> Result<ExitCode, Box<dyn Error>>`.

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
use std::process::ExitCode;

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

/// Runs the command line; an error goes to stderr and exits with 2 (1 is a failed comparison).
fn main() -> ExitCode {
    // Of streams each comes by itself: they have no steps and no batch of the caller's.
    let of_streams = |arg: clap::Arg| arg.required(false).required_unless_present("streams");
    let mut command =
        Cli::command().mut_subcommand("bench", |bench| bench.mut_arg("time", of_streams).mut_arg("batch", of_streams));
    let matches = command.get_matches_mut();
    let cli = linear::check(&matches, &mut command).and_then(|()| Cli::from_arg_matches(&matches));
    ended(match cli.unwrap_or_else(|e| e.exit()).command {
        Command::Devices(args) => devices::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Export(args) => export::run(&args),
    })
}

fn ended(result: Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    result.unwrap_or_else(|e| {
        // A reader that has seen enough (`wgpu-rnn plan .. | head`) is not an error.
        if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {e}");
        ExitCode::from(2)
    })
}
