//! The flags that say where a trained layer comes from: a safetensors file with PyTorch's names, or a node of an ONNX model.

use super::model::cell_parser;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Cell, Error, Layout, Result, RnnConfig, Tensor, Weights};
use wgpu_rnn_formats::onnx::{OnnxFile, Source};

#[derive(clap::Args)]
pub struct LayerArgs {
    /// The safetensors file; sizes, layers, directions, projection and bias follow from its tensors.
    #[arg(long, value_name = "FILE", required_unless_present = "onnx", conflicts_with = "onnx")]
    weights: Option<PathBuf>,
    /// What stands before PyTorch's names in it, e.g. `encoder.` for `encoder.weight_ih_l0`.
    #[arg(long, value_name = "P", default_value = "", conflicts_with = "onnx")]
    prefix: String,
    /// The cell, with --weights.
    #[arg(long, value_name = "NAME", value_parser = cell_parser(), required_unless_present = "onnx", conflicts_with = "onnx")]
    cell: Option<&'static Cell>,
    /// An ONNX model instead; cell, sizes, direction, layout and constant states and lengths follow from its node.
    #[arg(long, value_name = "MODEL.onnx")]
    onnx: Option<PathBuf>,
    /// The name of the RNN, LSTM or GRU node, or of one of its outputs; not needed for a model with one.
    #[arg(long, value_name = "NAME", requires = "onnx", conflicts_with = "weights")]
    node: Option<String>,
}

/// A trained layer or stack, and what its file says about a run.
pub struct Layer {
    pub config: RnnConfig,
    pub weights: Weights<f32>,
    pub h0: Source<Tensor<f32>>,
    pub c0: Source<Tensor<f32>>,
    pub lengths: Source<Vec<usize>>,
}

impl LayerArgs {
    /// Reads it; `batch_first` is for files that do not say it themselves.
    pub fn read(&self, batch_first: bool) -> Result<Layer> {
        match (&self.onnx, &self.weights, self.cell) {
            (Some(model), _, _) => self.onnx_node(model),
            (None, Some(weights), Some(cell)) => self.tensors(weights, cell, batch_first),
            _ => {
                let expected = "--weights and --cell, or --onnx";
                Err(Error::Mismatch { what: "a layer".into(), expected: expected.into(), got: "neither".into() })
            }
        }
    }

    fn onnx_node(&self, model: &Path) -> Result<Layer> {
        let file = OnnxFile::open(model)?;
        let node = self.node.as_deref().map_or_else(|| file.only_node(), |name| file.node(name))?;
        Ok(Layer {
            config: node.config,
            weights: node.weights.cast(),
            h0: rounded(node.h0),
            c0: rounded(node.c0),
            lengths: node.lengths,
        })
    }

    fn tensors(&self, weights: &Path, cell: &'static Cell, batch_first: bool) -> Result<Layer> {
        let file = TensorFile::open(weights)?;
        let mut config = file.config(cell, &self.prefix)?;
        config.layout = if batch_first { Layout::BatchFirst } else { Layout::TimeMajor };
        let weights = file.weights::<f32>(&config, &self.prefix)?;
        Ok(Layer { config, weights, h0: Source::Absent, c0: Source::Absent, lengths: Source::Absent })
    }
}

fn rounded(state: Source<Tensor<f64>>) -> Source<Tensor<f32>> {
    match state {
        Source::Absent => Source::Absent,
        Source::Constant(t) => {
            Source::Constant(Tensor { data: t.data.iter().map(|&v| v as f32).collect(), shape: t.shape })
        }
        Source::Runtime(name) => Source::Runtime(name),
    }
}

/// What the flag gives, else what the file says; an error where the model expects it from its user.
pub fn given<T>(flag: &str, given: Option<T>, source: Source<T>) -> Result<Option<T>> {
    match (given, source) {
        (Some(given), _) => Ok(Some(given)),
        (None, Source::Absent) => Ok(None),
        (None, Source::Constant(value)) => Ok(Some(value)),
        (None, Source::Runtime(name)) => {
            let expected = format!("the value that the model takes from {name} at run time");
            Err(Error::Mismatch { what: flag.into(), expected, got: "none".into() })
        }
    }
}
