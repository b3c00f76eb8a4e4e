//! The flags that say where a trained layer comes from: a file of any kind that has one, known by its bytes; or, by flags for each
//! kind, a safetensors file with PyTorch's names or a node of an ONNX model.

use super::model::cell_parser;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Cell, Error, Layout, Result, RnnConfig, Tensor, Weights};
use wgpu_rnn_formats::keras::KerasFile;
use wgpu_rnn_formats::layers::Summary;
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, Source};
use wgpu_rnn_formats::{Kind, Tensors, WholeModel};

#[derive(clap::Args)]
pub struct LayerArgs {
    /// The model's file: safetensors (or the index of several), .pt, .pth, .npz, ONNX, .keras or Keras's .h5. Its bytes tell which.
    #[arg(value_name = "FILE", conflicts_with_all = ["weights", "onnx"])]
    pub file: Option<PathBuf>,
    /// The layer or stack in FILE, as `wgpu-rnn inspect FILE` lists them; not needed for a file with one.
    #[arg(long, value_name = "NAME", requires = "file")]
    layer: Option<String>,
    /// A safetensors file with PyTorch's names; sizes, layers, directions, projection and bias follow from its tensors.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["onnx", "file"], conflicts_with = "onnx")]
    weights: Option<PathBuf>,
    /// What stands before PyTorch's names in it, e.g. `encoder.` for `encoder.weight_ih_l0`.
    #[arg(long, value_name = "P", default_value = "", conflicts_with_all = ["onnx", "file"])]
    prefix: String,
    /// The cell, with --weights; with FILE where its tensors fit several and it is not the likeliest.
    #[arg(long, value_name = "NAME", value_parser = cell_parser(), required_unless_present_any = ["onnx", "file"],
          conflicts_with = "onnx")]
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
    /// Reads it; `batch_first` is for files that do not say it themselves. Says on stderr what was taken out of a FILE.
    pub fn read(&self, batch_first: bool) -> Result<Layer> {
        match (&self.file, &self.onnx, &self.weights, self.cell) {
            (Some(file), ..) => self.any(file, batch_first),
            (None, Some(model), _, _) => {
                let file = OnnxFile::open(model)?;
                Ok(self.node.as_deref().map_or_else(|| file.only_node(), |name| file.node(name))?.into())
            }
            (None, None, Some(weights), Some(cell)) => {
                let file = TensorFile::open(weights)?;
                let config = RnnConfig { layout: layout(batch_first), ..file.config(cell, &self.prefix)? };
                let weights = file.weights::<f32>(&config, &self.prefix)?;
                Ok(Layer::new(config, weights))
            }
            _ => Err(Error::mismatch("a layer", "FILE, --weights and --cell, or --onnx", "none")),
        }
    }

    /// The layer of a file that is known by its bytes.
    fn any(&self, path: &Path, batch_first: bool) -> Result<Layer> {
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        match Kind::of(&bytes) {
            Some(Kind::Onnx) => return self.any_node(&OnnxFile::within_folder(path, bytes)?, batch_first),
            Some(Kind::Keras | Kind::Hdf5) => return self.of_keras(&KerasFile::from_bytes(path, bytes)?, batch_first),
            _ => {}
        }
        let file = Tensors::from_bytes(path, bytes)?;
        let layer = file.layer(self.layer.as_deref())?;
        let (config, weights) = layer.read::<f32>(self.cell)?;
        let fits = layer.cells().into_iter().filter(|cell| **cell != *config.cell).map(|cell| cell.name);
        let fits = fits.collect::<Vec<_>>().join(", ");
        let others = if fits.is_empty() { fits } else { format!("; the shapes fit {fits} too (--cell)") };
        let name = if layer.name().is_empty() { String::new() } else { format!(" {}", layer.name()) };
        eprintln!("layer{name}: {}{others}; names of {}", Summary(&config), layer.convention().tool);
        Ok(Layer::new(RnnConfig { layout: layout(batch_first), ..config }, weights))
    }

    fn of_keras(&self, file: &KerasFile, batch_first: bool) -> Result<Layer> {
        if let Some(cell) = self.cell {
            return Err(Error::mismatch("--cell", "none, for Keras's files say it themselves", cell.name));
        }
        let rnn = self.layer.as_deref().map_or_else(|| file.only_layer(), |name| file.layer(name))?;
        let (label, version) = (&rnn.label, file.version().unwrap_or("of an unknown version"));
        eprintln!("layer {}: {}; Keras {version} {label}", label.name, Summary(&rnn.config));
        // What is behind a layer belongs to the whole model.
        eprintln!("y has every step, as x has them, of both directions side by side");
        Ok(Layer::new(RnnConfig { layout: layout(batch_first), ..rnn.config }, rnn.weights.cast()))
    }

    /// Whether a layer is asked for by flags.
    pub fn names_a_layer(&self) -> bool {
        self.layer.is_some() || self.cell.is_some()
    }

    fn any_node(&self, file: &OnnxFile, batch_first: bool) -> Result<Layer> {
        if let Some(cell) = self.cell {
            return Err(Error::mismatch("--cell", "none, for a node of an ONNX model says it itself", cell.name));
        }
        if batch_first {
            let expected = "none, for a node of an ONNX model says it itself";
            return Err(Error::mismatch("--batch-first", expected, "the flag"));
        }
        let node = self.layer.as_deref().map_or_else(|| file.only_node(), |name| file.node(name))?;
        eprintln!("layer {}: {}; ONNX {}", node.label.name, Summary(&node.config), node.label.op);
        Ok(node.into())
    }
}

/// Whether a file has a model that says what follows on what, and not tensors alone.
pub fn holds_a_whole_model(path: &Path) -> Result<bool> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    match Kind::of(&bytes) {
        Some(Kind::Hdf5) => Ok(!KerasFile::from_bytes(path, bytes)?.is_weights_only()),
        kind => Ok(kind.is_some_and(WholeModel::reads)),
    }
}

impl Layer {
    /// States are zeros and sequences whole where a file does not say otherwise.
    fn new(config: RnnConfig, weights: Weights<f32>) -> Self {
        Self { config, weights, h0: Source::Absent, c0: Source::Absent, lengths: Source::Absent }
    }
}

impl From<OnnxNode> for Layer {
    fn from(node: OnnxNode) -> Self {
        Self {
            config: node.config,
            weights: node.weights.cast(),
            h0: rounded(node.h0),
            c0: rounded(node.c0),
            lengths: node.lengths,
        }
    }
}

fn layout(batch_first: bool) -> Layout {
    if batch_first { Layout::BatchFirst } else { Layout::TimeMajor }
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
