//! `wgpu-rnn plan` and `bench` of a linear recurrence (`--cell mamba`, `gla`, …): its sizes are heads, K and V, not hidden units.

use super::bench::{SEEDS, median};
use super::model::{ModelArgs, Recurrent};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, ValueEnum};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::network::{NetworkOptions, Parallel};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Result, Shape, rules};
use wgpu_rnn_verify::{Bare, Comparison};

/// The flags that only a linear recurrence has.
#[derive(clap::Args)]
#[command(next_help_heading = "Linear recurrences")]
pub struct LinearArgs {
    /// Heads; of elementwise rules and Mamba, channels.
    #[arg(long, value_name = "N", required_if_eq_any = rules::ALL.map(|r| ("cell", r.name)))]
    heads: Option<usize>,
    /// V: columns of a head's state (1 of elementwise rules and Mamba).
    #[arg(long, value_name = "V", default_value_t = 64)]
    head_dim: usize,
    /// K: rows of a head's state; else as many as columns, of Mamba 16.
    #[arg(long, value_name = "K")]
    state: Option<usize>,
    /// Forces how it goes over time: step after step, or chunks of steps side by side, scanned twice or
    /// as matrix products where states are matrices.
    #[arg(long, value_enum)]
    scan: Option<ScanArg>,
    /// Steps of a chunk; with --streams, frames that a stream pushes at once (1 without it).
    #[arg(long, value_name = "STEPS")]
    chunk: Option<usize>,
}

impl LinearArgs {
    /// What `--chunk` says.
    pub fn chunk(&self) -> Result<Option<usize>> {
        match self.chunk {
            Some(0) => Err(wgpu_rnn::Error::mismatch("--chunk", "at least 1", 0)),
            chunk => Ok(chunk),
        }
    }
}

/// The flags of [`LinearArgs`], and those of `plan` and `bench` that a linear recurrence has too.
const OWN: [&str; 5] = ["heads", "head_dim", "state", "scan", "chunk"];
const SHARED: [&str; 7] = ["cell", "time", "batch", "reverse", "train", "device", "runs"];

#[derive(Clone, Copy, ValueEnum)]
enum ScanArg {
    Recurrent,
    Chunked,
    Products,
}

/// Refuses flags that what `--cell` names does not have.
pub fn check(matches: &ArgMatches, command: &mut Command) -> std::result::Result<(), clap::Error> {
    let Some((name @ ("plan" | "bench"), given)) = matches.subcommand() else { return Ok(()) };
    let typed = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    // A chunk of a stream is another.
    let streams = name == "bench" && typed("streams");
    let (cell, has): (&str, &dyn Fn(&str) -> bool) = match given.get_one::<Recurrent>("cell") {
        Some(Recurrent::Rule(rule)) => (rule.name, &|id| OWN.contains(&id) || SHARED.contains(&id)),
        Some(Recurrent::Cell(cell)) => (cell.name, &|id| !OWN.contains(&id) || streams && id == "chunk"),
        None => return Ok(()),
    };
    let Some(command) = command.find_subcommand_mut(name) else { return Ok(()) };
    let flags = command.get_arguments().map(|flag| flag.get_id().as_str());
    let foreign = flags.filter(|id| typed(id)).find(|id| !has(id)).map(|id| id.replace('_', "-"));
    match foreign {
        Some(flag) => {
            let message = format!("the argument '--{flag}' cannot be used with '--cell {cell}'");
            Err(command.error(ErrorKind::ArgumentConflict, message))
        }
        None => Ok(()),
    }
}

/// A linear recurrence over T steps of B sequences.
struct Linear<'a> {
    rule: &'static Rule,
    heads: usize,
    args: &'a LinearArgs,
    model: &'a ModelArgs,
}

/// Prints how it would run.
pub fn plan(rule: &'static Rule, args: &LinearArgs, model: &ModelArgs) -> Result<ExitCode, Box<dyn Error>> {
    let linear = Linear::new(rule, args, model)?;
    let device = model.place.device()?;
    let plan = linear.bare()?.plan(&device, &linear.options())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "device    {device}")?;
    writeln!(out, "{plan}")?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Linear<'a> {
    fn new(rule: &'static Rule, args: &'a LinearArgs, model: &'a ModelArgs) -> Result<Self> {
        let heads = args.heads.ok_or_else(|| wgpu_rnn::Error::mismatch("--heads", "a number", "none"))?;
        Ok(Self { rule, heads, args, model })
    }

    /// Heads, K and V.
    fn sizes(&self) -> [usize; 3] {
        let LinearArgs { head_dim, state, .. } = *self.args;
        let keys = match self.rule.state {
            HeadState::Vector => 16,
            _ => head_dim,
        };
        self.rule.state.sizes([self.heads, state.unwrap_or(keys), head_dim])
    }

    fn options(&self) -> NetworkOptions {
        let parallel = self.args.scan.map(|s| match s {
            ScanArg::Recurrent => Parallel::Recurrent,
            ScanArg::Chunked => Parallel::Chunked,
            ScanArg::Products => Parallel::Products,
        });
        NetworkOptions { parallel, chunk: self.args.chunk, train: self.model.train, ..Default::default() }
    }

    fn bare(&self) -> Result<Bare> {
        Bare::new(self.rule, self.sizes(), self.model.shape(), self.model.reverse, SEEDS.1)
    }
}

/// Checks it against a naive f64 loop, then times whole runs.
pub fn bench(rule: &'static Rule, args: &LinearArgs, model: &ModelArgs, runs: u32) -> Result<ExitCode, Box<dyn Error>> {
    let linear = Linear::new(rule, args, model)?;
    let (device, options) = (model.place.device()?, linear.options());
    let bare = linear.bare()?;
    let plan = bare.plan(&device, &options)?;
    let checked = bare.check(&device, &options)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "device    {device}\n{plan}")?;
    let Shape { time, batch } = checked.shape;
    let verdict = if checked.passed() { "verified" } else { "NOT VERIFIED" };
    let heads = match checked.heads {
        heads if heads == linear.heads => String::new(),
        heads => format!(", {heads} of {} heads,", linear.heads),
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
    for _ in 0..runs {
        let start = Instant::now();
        bare.run(&mut session)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let minimum = times.iter().copied().fold(f64::INFINITY, f64::min);
    let median = median(times);
    writeln!(
        out,
        "time: median {median:.3} ms, minimum {minimum:.3} ms of {} runs, {:.3} us a step of all sequences, {}",
        runs,
        median * 1e3 / model.shape().time as f64,
        if model.train { "forward and backward, gradients read back" } else { "forward, y read back" }
    )?;
    Ok(ExitCode::SUCCESS)
}
