//! Times this crate beside its peers, in one run, in turn: burn-wgpu's `nn::Lstm` and `nn::Gru` on the same GPU adapter, burn-flex
//! and candle on the CPU. From the repository's root, on a machine that does nothing else:
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! Everybody computes the same numbers with the same weights, is held against the f64 oracle before anything is timed, and ends
//! a run with the result in host memory: y of a forward pass, the gradients of x and of all parameters of a forward and backward
//! pass. Of every round's runs the ratio peer / wgpu-rnn is taken; the tables (`benches/peers/results/*.md`) show the median over
//! the rounds, and each side's median and minimum; the pictures (`*.svg`) show the ratios.

mod case;
mod contenders;
mod report;

use anyhow::Result;
use case::{Case, Data};
use clap::{Parser, ValueEnum};
use contenders::Contender;
use report::{Row, Table};
use std::path::PathBuf;
use std::time::Instant;
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
    let device = if on == Group::Gpu { Device::gpu()? } else { Device::cpu() };
    let mut table = Table::new(&device, args.rounds);
    for case in case::all().into_iter().filter(|c| c.to_string().contains(&args.only)) {
        let data = Data::new(&case)?;
        let mut contenders = vec![contenders::ours("wgpu-rnn", &device, &case, &data)?];
        match on {
            Group::Gpu => contenders.push(contenders::burn("burn-wgpu 0.22.1", true, &case, &data)?),
            _ => {
                contenders.push(contenders::burn("burn-flex 0.22.1", false, &case, &data)?);
                contenders.push(contenders::candle("candle 0.9", &case, &data)?);
            }
        }
        for row in time(&case, &data, &mut contenders, args.rounds)? {
            println!("{row}");
            table.rows.push(row);
        }
    }
    Ok(table)
}

/// Warms everybody up (burn tunes its kernels per shape at first), checks the results, then times them in turn.
fn time(case: &Case, data: &Data, contenders: &mut [Contender], rounds: usize) -> Result<Vec<Row>> {
    for c in contenders.iter_mut() {
        let mut outcome = c.run()?;
        for _ in 0..2 {
            outcome = c.run()?;
        }
        let error = data.error(case, &outcome, c.batch_first);
        anyhow::ensure!(error <= SAME, "{case}: {} is off by {error:.1e} of the largest value", c.name);
    }
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        // Whoever comes first in a round comes last in the next.
        for n in 0..contenders.len() {
            let n = (n + round) % contenders.len();
            let start = Instant::now();
            contenders[n].run()?;
            times[n].push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok((1..contenders.len()).map(|n| Row::new(case, contenders[n].name, &times[0], &times[n])).collect())
}
