//! `wgpu-rnn plan`: how a configuration would run and what work that is, with `--train` forward and backward.

use super::floor::{self, RateArgs};
use super::linear;
use super::model::{ModelArgs, Recurrent};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use wgpu_rnn::{Device, Memory, Options, Plan};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    rates: RateArgs,
    #[command(flatten)]
    linear: linear::LinearArgs,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if let Recurrent::Rule(rule) = args.model.cell {
        return linear::plan(rule, &args.linear, &args.model);
    }
    let rates = args.rates.rates()?;
    let (device, plan) = args.model.plan()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "device: {device}")?;
    write!(out, "{plan}")?;
    floor::write(&mut out, &plan, &rates)?;
    if args.model.train {
        policies(&mut out, &device, &plan)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the same training takes under every memory policy.
fn policies(out: &mut impl Write, device: &Device, plan: &Plan) -> std::io::Result<()> {
    // Checkpoints and the stretches between them take about the same where their number is √T.
    let root = plan.shape.time.isqrt().next_multiple_of(64);
    writeln!(out, "bytes beside x by --memory:")?;
    for memory in [Memory::Save, Memory::Recompute, Memory::Checkpoint(root)] {
        let name = memory.to_string();
        let options = Options { memory, ..plan.options.clone() };
        match Plan::new(&plan.config, plan.shape, &device.caps(), &options) {
            Ok(p) => writeln!(out, "  {:>12} B  {name}", p.bytes() - p.slots[p.ids.x].bytes())?,
            Err(e) => writeln!(out, "  {:>12}    {name}: {e}", "-")?,
        }
    }
    Ok(())
}
