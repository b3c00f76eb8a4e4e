//! `wgpu-rnn plan` and `bench` of a linear recurrence (`--cell mamba`, `gla`, …): its sizes are heads, K and V, not hidden units.

use super::bench::{SEEDS, median};
use super::model::DeviceArg;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use wgpu_rnn::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Operand, Parallel,
};
use wgpu_rnn::rule::{Extent, Rule};
use wgpu_rnn::verify::naive_linear::{self, Problem};
use wgpu_rnn::verify::tolerance;
use wgpu_rnn::{Device, Result, Shape, View, rules};

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
    /// Forces how it goes over time: step after step, or chunks of steps side by side.
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
            let mut out = std::io::stdout().lock();
            writeln!(out, "device    {device}")?;
            writeln!(out, "{}", args.plan(&device, args.shape())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(args) => bench(&args),
    }
}

impl Args {
    fn shape(&self) -> Shape {
        Shape { time: self.time, batch: self.batch }
    }

    /// Heads, K and V.
    fn sizes(&self) -> [usize; 3] {
        let rule = self.cell;
        if rule.elementwise {
            return [self.heads, 1, 1];
        }
        let channels =
            rule.name.starts_with("mamba") && !rule.name.starts_with("mamba2") || rule.name == "selective-scan";
        if channels {
            [self.heads, self.state.unwrap_or(16), 1]
        } else {
            [self.heads, self.state.unwrap_or(self.head_dim), self.head_dim]
        }
    }

    fn width(&self, extent: Extent) -> usize {
        let [heads, keys, values] = self.sizes();
        heads
            * match extent {
                Extent::Head => 1,
                Extent::Key => keys,
                Extent::Value => values,
            }
    }

    /// The rule over inputs of its own.
    fn network(&self) -> Result<Arc<Network>> {
        let mut b = Builder::new();
        let mut operands: Vec<Operand> = Vec::new();
        for port in self.cell.inputs {
            operands.push(b.input(port.name, self.width(port.extent))?.into());
        }
        for port in self.cell.params {
            let param = b.param(port.name, &[self.width(port.extent)])?;
            operands.push(b.whole(param));
        }
        let y = b.scan("scan", self.cell, self.sizes(), &operands, self.reverse)?;
        b.output("y", y)?;
        Ok(Arc::new(b.finish()?))
    }

    fn plan(&self, device: &Device, shape: Shape) -> Result<NetworkPlan> {
        let parallel = self.scan.map(|s| match s {
            ScanArg::Recurrent => Parallel::Recurrent,
            ScanArg::Chunked => Parallel::Chunked,
        });
        let options = NetworkOptions { parallel, chunk: self.chunk, train: self.train, ..Default::default() };
        NetworkPlan::new(&self.network()?, shape, &device.caps(), &options)
    }

    /// Inputs `[T, B, width]` and parameters, in ranges that trained models have: keys and queries of length about 1, decays that
    /// forget over some hundred steps.
    fn numbers(&self, shape: Shape) -> (Vec<Vec<f32>>, Vec<f32>) {
        let mut rng = StdRng::seed_from_u64(SEEDS.1);
        let [_, keys, _] = self.sizes();
        let mut values = |name: &str, count: usize| -> Vec<f32> {
            let (low, high) = match name {
                "q" | "k" | "r" | "B" | "C" | "a" | "b" => (-1.0, 1.0),
                "g" | "gamma" => (-0.1, -0.001),
                "w" | "time_decay" => (-6.0, -2.0),
                "dt" | "dt_bias" => (-3.0, -1.0),
                "beta" => (0.0, 1.0),
                _ => (-1.0, 1.0),
            };
            let by = if ["q", "k", "r", "a", "b"].contains(&name) { 1.0 / (keys as f32).sqrt() } else { 1.0 };
            (0..count).map(|_| by * rng.random_range(low..high)).collect()
        };
        let rows = shape.time * shape.batch;
        let inputs = self.cell.inputs.iter().map(|p| values(p.name, rows * self.width(p.extent))).collect();
        (inputs, self.cell.params.iter().flat_map(|p| values(p.name, self.width(p.extent))).collect())
    }
}

/// Steps and sequences that are held against the naive loop.
const CHECKED: Shape = Shape { time: 100, batch: 2 };

/// How far y is off a naive f64 loop, and how far it may be.
fn check(args: &Args, device: &Device) -> Result<(f64, f64, Shape)> {
    let shape = Shape { time: args.time.min(CHECKED.time), batch: args.batch.min(CHECKED.batch) };
    let (inputs, params) = args.numbers(shape);
    let mut session = NetworkSession::new(device, args.plan(device, shape)?, &params)?;
    let y = run_forward(args, &mut session, shape, &inputs)?;
    let mut ports = inputs;
    let mut rest = &params[..];
    for port in args.cell.params {
        let (own, others) = rest.split_at(args.width(port.extent));
        ports.push(own.to_vec());
        rest = others;
    }
    let (rule, sizes, reverse) = (args.cell, args.sizes(), args.reverse);
    let problem =
        Problem { rule, sizes, shape, ports, initial: Vec::new(), lengths: Vec::new(), resets: Vec::new(), reverse };
    let truth = naive_linear::forward(&problem.map(f64::from))?.y;
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    let naive = tolerance::error(&wide(naive_linear::forward(&problem)?.y), &truth);
    Ok((tolerance::error(&wide(y), &truth), tolerance::bound_f32(tolerance::scale(&truth), naive), shape))
}

fn run_forward(args: &Args, session: &mut NetworkSession<f32>, shape: Shape, inputs: &[Vec<f32>]) -> Result<Vec<f32>> {
    let shapes = shapes(args, shape);
    let views: Vec<_> = inputs.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
    Ok(session.forward(&NetworkInput::new(&views))?.values.remove(0).data)
}

fn shapes(args: &Args, shape: Shape) -> Vec<[usize; 3]> {
    args.cell.inputs.iter().map(|p| [shape.time, shape.batch, args.width(p.extent)]).collect()
}

fn bench(bench: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let args = &bench.args;
    let device = args.device.open()?;
    let (error, bound, checked) = check(args, &device)?;
    let passed = error <= bound;
    let shape = args.shape();
    let (inputs, params) = args.numbers(shape);
    let plan = args.plan(&device, shape)?;
    let mut session = NetworkSession::new(&device, plan.clone(), &params)?;
    let y = run_forward(args, &mut session, shape, &inputs)?;
    let y_shape = [shape.time, shape.batch, args.width(Extent::Value)];
    let shapes = shapes(args, shape);
    let views: Vec<_> = inputs.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
    session.write(&NetworkInput::new(&views))?;
    let mut times = Vec::new();
    for _ in 0..bench.runs {
        let start = Instant::now();
        session.run()?;
        if args.train {
            session.write_upstream(&NetworkUpstream { values: &[View::new(&y, &y_shape)], states: None })?;
            session.run_back()?;
            session.gradients()?;
        } else {
            session.output()?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let minimum = times.iter().copied().fold(f64::INFINITY, f64::min);
    let median = median(times);
    let mut out = std::io::stdout().lock();
    writeln!(out, "device    {device}")?;
    writeln!(out, "{plan}")?;
    let verdict = if passed { "verified" } else { "NOT VERIFIED" };
    let Shape { time, batch } = checked;
    writeln!(
        out,
        "{verdict}: {batch} sequence(s) of {time} step(s) against the naive f64 loop: y {error:.1e} (bound {bound:.1e})"
    )?;
    let steps = shape.time as f64;
    writeln!(
        out,
        "time: median {median:.3} ms, minimum {minimum:.3} ms of {} runs, {:.3} us a step of all sequences, {}",
        bench.runs,
        median * 1e3 / steps,
        if args.train { "forward and backward, gradients read back" } else { "forward, y read back" }
    )?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
