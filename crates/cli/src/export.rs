//! `wgpu-rnn export`: a trained layer or stack as an ONNX model.

use super::layer::LayerArgs;
use std::path::PathBuf;
use std::process::ExitCode;
use wgpu_rnn::Error;
use wgpu_rnn_formats::onnx::{Export, Source};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    layer: LayerArgs,
    /// x and y have the batch in front. A single node says so by layout = 1, which ONNX Runtime's CPU provider does not run; with
    /// --stack the model has a Transpose at its ends, which every runtime runs.
    #[arg(long, conflicts_with = "onnx")]
    batch_first: bool,
    /// One layer is written as a stack of several is: inputs x, sequence_lens, h0 and c0, outputs y [T, B, D*H], hn and cn. Without it
    /// a single layer is one node alone, with the operator's own X, initial_h, initial_c, Y [T, D, B, H], Y_h and Y_c.
    #[arg(long)]
    stack: bool,
    /// The model takes initial states, h and, of an LSTM, c; zeros without it.
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
    // What a file says of a run is not part of a layer, and is not to be lost without a word.
    let begins = layer.h0 != Source::Absent || layer.c0 != Source::Absent;
    for (flag, given, has) in
        [("--states", args.states, begins), ("--lengths", args.lengths, layer.lengths != Source::Absent)]
    {
        if has && !given {
            let expected = "the flag, for the model has some of its own, which the exported one takes as inputs";
            return Err(Error::mismatch(flag, expected, "none").into());
        }
    }
    let export = Export { states: args.states, lengths: args.lengths };
    let is_node = layer.config.num_layers == 1 && layer.config.proj_size == 0;
    match is_node && !args.stack {
        true => export.write(&layer.config, &layer.weights, &args.output)?,
        false => export.stack(&layer.config, &layer.weights, &args.output)?,
    }
    Ok(ExitCode::SUCCESS)
}
