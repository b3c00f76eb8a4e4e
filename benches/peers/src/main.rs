//! Times this crate beside its peers, in one run, in turn: burn-wgpu's `nn::Lstm` and `nn::Gru` on the same GPU adapter, burn-flex
//! and candle on the CPU. From the repository's root, on a machine that does nothing else:
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! Everybody computes the same numbers with the same weights, is held against the f64 oracle before anything is timed, and ends
//! a run with the result in host memory: y of a forward pass, the gradients of x and of all parameters of a forward and backward
//! pass. Everybody has a process of their own, which is stopped while others run (`child.rs`): what a peer's threads do after its
//! run is over disturbs nobody. In one process they did: beside burn-wgpu's server this crate's LSTM took 562 ms instead of 454 (forward,
//! T=50 B=32 I=H=512, two cores). Of every round's runs the ratio peer / wgpu-rnn is taken; the tables (`benches/peers/results/*.md`) show the median over
//! the rounds, and each side's median and minimum; the pictures (`*.svg`) show the ratios.

mod case;
mod child;
mod contenders;
mod report;

use anyhow::Result;
use child::{ChildCommand, Contestant, Who};
use clap::{Parser, ValueEnum};
use report::{Row, Table};
use std::path::PathBuf;
use wgpu_rnn::Device;

/// Times wgpu-rnn beside its peers, in turn, on the same weights and numbers
#[derive(Parser)]
struct Args {
    /// Where: the GPU adapter, the CPU, or both
    #[arg(long, value_enum, default_value_t = Group::All)]
    on: Group,
    /// Rounds, in each of which everybody runs once
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only cases whose name contains this, e.g. "lstm forward," or "H=256"
    #[arg(long, default_value = "")]
    only: String,
    /// Folder of the tables and pictures; nothing is written for a part of the cases (--only)
    #[arg(long, default_value = "benches/peers/results")]
    out: PathBuf,
    #[command(subcommand)]
    child: Option<ChildCommand>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Gpu,
    Cpu,
    All,
}

/// What a result may be off by, relative to the largest value: enough to tell another function from another rounding. This crate is
/// held to its calibrated bound beside this.
const SAME: f64 = 1e-3;

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(child) = &args.child {
        return child.serve();
    }
    for on in [Group::Gpu, Group::Cpu] {
        if args.on != Group::All && args.on != on {
            continue;
        }
        let table = measure(on, &args)?;
        println!("\n{table}");
        if args.only.is_empty() {
            let name = if on == Group::Gpu { "gpu" } else { "cpu" };
            table.write(&args.out, name)?;
        }
    }
    Ok(())
}

fn measure(on: Group, args: &Args) -> Result<Table> {
    let (device, everybody): (_, &[Who]) = match on {
        Group::Gpu => (Device::gpu()?, &[Who::OursGpu, Who::BurnWgpu]),
        _ => (Device::cpu(), &[Who::OursCpu, Who::BurnFlex, Who::Candle]),
    };
    let mut table = Table::new(&device, args.rounds);
    drop(device);
    for (n, case) in case::all().into_iter().enumerate().filter(|(_, c)| c.to_string().contains(&args.only)) {
        let mut contestants: Vec<Contestant> =
            everybody.iter().map(|who| Contestant::start(*who, n)).collect::<Result<_>>()?;
        let times = time(&mut contestants, args.rounds)?;
        for n in 1..everybody.len() {
            let row = Row::new(&case, everybody[n].name(), &times[0], &times[n]);
            println!("{row}");
            table.rows.push(row);
        }
    }
    Ok(table)
}

/// Milliseconds of every round, of everybody in turn.
fn time(contestants: &mut [Contestant], rounds: usize) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..rounds {
        // Whoever comes first in a round comes last in the next.
        for n in 0..contestants.len() {
            let n = (n + round) % contestants.len();
            times[n].push(contestants[n].run()? * 1e3);
        }
    }
    Ok(times)
}
