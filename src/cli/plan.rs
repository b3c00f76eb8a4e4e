//! `wgpu-rnn plan`: how a configuration would run, with `--train` forward and backward.

use super::model::ModelArgs;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let (device, plan) = args.model.plan()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "device: {device}")?;
    write!(out, "{plan}")?;
    Ok(ExitCode::SUCCESS)
}
