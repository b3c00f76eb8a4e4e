//! `wgpu-rnn plan` and `bench` of a linear recurrence (`--cell mamba`, `gla`, …): its sizes are heads, K and V, not hidden units.

use super::bench::{SEEDS, median};
use super::model::DeviceArg;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::network::{NetworkOptions, Parallel};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Result, Shape, rules};
use wgpu_rnn_verify::{Bare, Comparison};

/// The command line of a linear recurrence.
#[derive(Parser)]
#[command(name = "wgpu-rnn", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print how a linear recurrence would run: sizes, strategy and reason, memory.
    Plan(Args),
    /// Check a linear recurrence against a naive f64 loop, then time whole runs.
    Bench(BenchArgs),
}

/// A linear recurrence over T steps of B sequences.
#[derive(clap::Args)]
struct Args {
    /// The rule.
    #[arg(long, value_name = "NAME", value_parser = rule_parser())]
    cell: &'static Rule,
    /// T: time steps.
    #[arg(long, value_name = "T")]
    time: usize,
    /// B: sequences.
    #[arg(long, value_name = "B")]
    batch: usize,
    /// Heads; of elementwise rules and Mamba, channels.
    #[arg(long, value_name = "N")]
    heads: usize,
    /// V: columns of a head's state (1 of elementwise rules and Mamba).
    #[arg(long, value_name = "V", default_value_t = 64)]
    head_dim: usize,
    /// K: rows of a head's state; else as many as columns, of Mamba 16.
    #[arg(long, value_name = "K")]
    state: Option<usize>,
    /// From the last step to the first.
    #[arg(long)]
    reverse: bool,
    /// Forward and backward.
    #[arg(long)]
    train: bool,
    /// Where it runs; `auto`: a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value_t = DeviceArg::Auto)]
    device: DeviceArg,
    /// Forces how it goes over time: step after step, or chunks of steps side by side, scanned twice or
    /// as matrix products where states are matrices.
    #[arg(long, value_enum)]
    scan: Option<ScanArg>,
    /// Steps of a chunk.
    #[arg(long, value_name = "STEPS")]
    chunk: Option<usize>,
}

#[derive(clap::Args)]
struct BenchArgs {
    #[command(flatten)]
    args: Args,
    /// Timed runs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScanArg {
    Recurrent,
    Chunked,
    Products,
}

fn rule_parser() -> impl TypedValueParser<Value = &'static Rule> {
    PossibleValuesParser::new(rules::ALL.iter().map(|r| r.name))
        .try_map(|name| rules::by_name(&name).ok_or("not a rule of the registry"))
}

/// Whether a command line asks to plan or time a linear recurrence.
pub fn asked(args: &[OsString]) -> bool {
    let texts: Vec<_> = args.iter().filter_map(|a| a.to_str()).collect();
    let names = texts.windows(2).filter(|pair| pair[0] == "--cell").map(|pair| pair[1]);
    let joined = texts.iter().filter_map(|text| text.strip_prefix("--cell="));
    let commands = ["plan", "bench"];
    texts.get(1).is_some_and(|c| commands.contains(c)) && names.chain(joined).any(|name| rules::by_name(name).is_some())
}

/// Runs the command line.
pub fn main() -> Result<ExitCode, Box<dyn Error>> {
    match Cli::parse().command {
        Command::Plan(args) => {
            let device = args.device.open()?;
            let plan = args.bare()?.plan(&device, &args.options())?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "device    {device}")?;
            writeln!(out, "{plan}")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(args) => bench(&args),
    }
}

impl Args {
    /// Heads, K and V.
    fn sizes(&self) -> [usize; 3] {
        let keys = match self.cell.state {
            HeadState::Vector => 16,
            _ => self.head_dim,
        };
        self.cell.state.sizes([self.heads, self.state.unwrap_or(keys), self.head_dim])
    }

    fn options(&self) -> NetworkOptions {
        let parallel = self.scan.map(|s| match s {
            ScanArg::Recurrent => Parallel::Recurrent,
            ScanArg::Chunked => Parallel::Chunked,
            ScanArg::Products => Parallel::Products,
        });
        NetworkOptions { parallel, chunk: self.chunk, train: self.train, ..Default::default() }
    }

    fn bare(&self) -> Result<Bare> {
        let shape = Shape { time: self.time, batch: self.batch };
        Bare::new(self.cell, self.sizes(), shape, self.reverse, SEEDS.1)
    }
}

fn bench(bench: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let args = &bench.args;
    let (device, options) = (args.device.open()?, args.options());
    let bare = args.bare()?;
    let plan = bare.plan(&device, &options)?;
    let checked = bare.check(&device, &options)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "device    {device}\n{plan}")?;
    let Shape { time, batch } = checked.shape;
    let verdict = if checked.passed() { "verified" } else { "NOT VERIFIED" };
    let heads = match checked.heads {
        heads if heads == args.heads => String::new(),
        heads => format!(", {heads} of {} heads,", args.heads),
    };
    writeln!(out, "{verdict}: {batch} sequence(s) of {time} step(s){heads} against the naive f64 loop:")?;
    for Comparison { tensor, error, bound } in &checked.tensors {
        writeln!(out, "          {tensor} {error:.1e} (bound {bound:.1e})")?;
    }
    if !checked.passed() {
        return Ok(ExitCode::from(1));
    }
    let mut session = bare.session(&device, &options)?;
    bare.run(&mut session)?;
    let mut times = Vec::new();
    for _ in 0..bench.runs {
        let start = Instant::now();
        bare.run(&mut session)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let minimum = times.iter().copied().fold(f64::INFINITY, f64::min);
    let median = median(times);
    writeln!(
        out,
        "time: median {median:.3} ms, minimum {minimum:.3} ms of {} runs, {:.3} us a step of all sequences, {}",
        bench.runs,
        median * 1e3 / args.time as f64,
        if args.train { "forward and backward, gradients read back" } else { "forward, y read back" }
    )?;
    Ok(ExitCode::SUCCESS)
}
