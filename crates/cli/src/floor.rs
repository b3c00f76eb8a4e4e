//! The table of work that `plan` prints, with the floors that a machine's rates give it.

use std::io::{Result, Write};
use wgpu_rnn::{Amount, Floor, Plan, Rates};

/// What the machine does, if it is to be held against the work.
#[derive(clap::Args)]
pub struct RateArgs {
    /// The machine's rate in matrix products, for the floor: GFLOP/s.
    #[arg(long, value_name = "RATE")]
    gflops: Option<f64>,
    /// The bandwidth of its memory, for the floor: GB/s.
    #[arg(long, value_name = "RATE")]
    gbytes: Option<f64>,
    /// What a dispatch costs beside its work, for the floor: microseconds of an empty one that waits for the one before.
    #[arg(long, value_name = "TIME")]
    dispatch_us: Option<f64>,
}

impl RateArgs {
    /// In seconds.
    pub fn rates(&self) -> wgpu_rnn::Result<Rates> {
        let rates = Rates {
            flops: self.gflops.map(|r| r * 1e9),
            bytes: self.gbytes.map(|r| r * 1e9),
            dispatch: self.dispatch_us.map(|t| t * 1e-6),
        };
        rates.validate()?;
        Ok(rates)
    }
}

/// Per kernel and in all, pass by pass.
pub fn write(out: &mut impl Write, plan: &Plan, rates: &Rates) -> Result<()> {
    let work = plan.work();
    let known = *rates != Rates::default();
    writeln!(out, "work, a value once per dispatch that reads or writes it:")?;
    let mut all = Floor::default();
    for (name, pass) in [("forward", &work.forward), ("backward", &work.backward), ("update", &work.update)] {
        if pass.dispatches.is_empty() {
            continue;
        }
        let floor = if known { "    floor ms  bound by" } else { "" };
        writeln!(out, "  {name:<24} dispatches        GFLOP      MB read   MB written{floor}")?;
        for k in pass.kernels() {
            let of_kernel = pass.dispatches.iter().filter(|d| d.kernel.name() == k.kernel);
            let floor = of_kernel.map(|d| rates.floor(d.each, d.runs)).sum();
            write_line(out, k.kernel, (k.dispatches, k.amount), known.then_some(floor))?;
        }
        let floor = pass.floor(rates);
        write_line(out, "in all", pass.total(), known.then_some(floor))?;
        writeln!(out, "    every slot it touches, once: {:.3} MB", megabytes(pass.slot_bytes))?;
        all = [all, floor].into_iter().sum();
    }
    if known {
        let Floor { compute, memory, dispatch, total } = all;
        let [total, compute, memory, dispatch] = [total, compute, memory, dispatch].map(|s| s * 1e3);
        write!(out, "floor: {total:.3} ms of a run (products alone {compute:.3}, bytes alone {memory:.3}, ")?;
        writeln!(out, "dispatches alone {dispatch:.3})")?;
    }
    Ok(())
}

fn write_line(out: &mut impl Write, name: &str, (runs, a): (u64, Amount), floor: Option<Floor>) -> Result<()> {
    let (gflop, read, written) = (a.flops as f64 / 1e9, megabytes(a.read), megabytes(a.written));
    write!(out, "    {name:<22} {runs:>10} {gflop:>12.6} {read:>12.3} {written:>12.3}")?;
    if let Some(floor) = floor {
        let parts = [("products", floor.compute), ("bytes", floor.memory), ("dispatches", floor.dispatch)];
        let (bound, _) = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("", 0.0));
        write!(out, " {:>11.6}  {bound}", floor.total * 1e3)?;
    }
    writeln!(out)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_kernel_says_what_bounds_it() {
        let rates = Rates { flops: Some(1e9), bytes: Some(1e9), dispatch: Some(1e-6) };
        let amount = Amount { flops: 2_000_000, read: 500_000, written: 500_000 };
        let mut out = Vec::new();
        write_line(&mut out, "project", (3, Amount { flops: 6_000_000, ..amount }), Some(rates.floor(amount, 3)))
            .expect("a vector");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("  6.003000  products"), "{text}");
    }
}
