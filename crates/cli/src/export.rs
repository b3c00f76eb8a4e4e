//! `wgpu-rnn export`: a trained layer as an ONNX model of one node.

use super::layer::LayerArgs;
use std::path::PathBuf;
use std::process::ExitCode;
use wgpu_rnn_formats::onnx::Export;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    layer: LayerArgs,
    /// X and Y have the batch in front (layout = 1).
    #[arg(long, conflicts_with = "onnx")]
    batch_first: bool,
    /// The model takes initial_h and, of an LSTM, initial_c; zeros without it.
    #[arg(long)]
    states: bool,
    /// The model takes sequence_lens; all of T without it.
    #[arg(long)]
    lengths: bool,
    /// Where the model goes.
    #[arg(long, value_name = "MODEL.onnx")]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let layer = args.layer.read(args.layer.open()?.as_ref(), args.batch_first)?;
    let export = Export { states: args.states, lengths: args.lengths };
    export.write(&layer.config, &layer.weights, &args.output)?;
    Ok(ExitCode::SUCCESS)
}
