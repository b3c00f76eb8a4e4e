//! The flags that say where a trained layer comes from: a file of any kind that has one, known by its bytes; or, by flags for each
//! kind, a safetensors file with PyTorch's names or a node of an ONNX model.

use super::inspect::activations;
use super::model::cell_parser;
use std::path::PathBuf;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Cell, Direction, Error, Layout, Result, RnnConfig, Tensor, Weights};
use wgpu_rnn_formats::ModelFile;
use wgpu_rnn_formats::keras::{KerasCell, KerasFile, KerasRnn, Unsaid};
use wgpu_rnn_formats::layers::Summary;
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, Source};

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
    #[command(flatten)]
    keras: KerasArgs,
}

/// What a Keras file of weights alone does not say of its layers.
#[derive(clap::Args)]
struct KerasArgs {
    /// `activation` of a layer in a Keras file of weights alone, by Keras's name; tanh without it.
    #[arg(long, value_name = "NAME", requires = "file")]
    activation: Option<String>,
    /// `recurrent_activation` of such a layer; without it the default of the Keras that wrote the file.
    #[arg(long, value_name = "NAME", requires = "file")]
    recurrent_activation: Option<String>,
    /// `reset_after` of a GRU in such a file; its biases tell it, where it has any.
    #[arg(long, value_name = "BOOL", requires = "file")]
    reset_after: Option<bool>,
    /// The layer of such a file reads from the last step to the first; y stays at the steps of x.
    #[arg(long, requires = "file")]
    go_backwards: bool,
}

impl KerasArgs {
    /// The flags that are given.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("--activation", self.activation.is_some()),
            ("--recurrent-activation", self.recurrent_activation.is_some()),
            ("--reset-after", self.reset_after.is_some()),
            ("--go-backwards", self.go_backwards),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// Refuses flags where they say nothing that is not known.
    fn refuse(&self, flags: &[&str], reason: &str) -> Result<()> {
        match flags.first() {
            None => Ok(()),
            Some(flag) => Err(Error::mismatch(*flag, format!("none, for {reason}"), "the flag")),
        }
    }

    /// A layer of a file, by its name or the only one.
    fn layer(&self, file: &KerasFile, name: Option<&str>) -> Result<KerasRnn> {
        if !file.is_weights_only() {
            self.refuse(&self.given(), "the file says it itself")?;
        }
        let of = |flag: &str, name: &Option<String>| {
            let read = name.as_deref().map(|name| file.activation(name)).transpose();
            read.map_err(|e| match e {
                Error::Unsupported { what, reason } => Error::Unsupported { what: format!("{flag}: {what}"), reason },
                other => other,
            })
        };
        let unsaid = Unsaid {
            activation: of("--activation", &self.activation)?,
            recurrent_activation: of("--recurrent-activation", &self.recurrent_activation)?,
            reset_after: self.reset_after,
        };
        let rnn = name.map_or_else(|| file.only_layer_with(&unsaid), |name| file.layer_with(name, &unsaid))?;
        // What the layer does not have.
        let (cell, both) = (rnn.label.cell, rnn.label.bidirectional.is_some());
        let not_its_own = [
            ("--recurrent-activation", self.recurrent_activation.is_some() && cell == KerasCell::SimpleRnn),
            ("--reset-after", self.reset_after.is_some() && cell != KerasCell::Gru),
            ("--go-backwards", self.go_backwards && both),
        ];
        let wrong: Vec<&str> = not_its_own.into_iter().filter(|(_, wrong)| *wrong).map(|(flag, _)| flag).collect();
        self.refuse(&wrong, &format!("a {} has none", if both { "Bidirectional" } else { cell.name() }))?;
        Ok(rnn)
    }
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
    /// The FILE, if there is one.
    pub fn open(&self) -> Result<Option<ModelFile>> {
        self.file.as_ref().map(ModelFile::open).transpose()
    }

    /// Reads it out of the opened FILE, or of what other flags name; `batch_first` is for files that do not say it themselves. Says on stderr
    /// what was taken out of a FILE.
    pub fn read(&self, opened: Option<&ModelFile>, batch_first: bool) -> Result<Layer> {
        match (opened, &self.onnx, &self.weights, self.cell) {
            (Some(file), ..) => self.of(file, batch_first),
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

    /// The layer of a file that was opened.
    fn of(&self, file: &ModelFile, batch_first: bool) -> Result<Layer> {
        let file = match file {
            ModelFile::Onnx(file) => return self.any_node(file, batch_first),
            ModelFile::Keras(file) => return self.of_keras(file, batch_first),
            ModelFile::Tensors(file) => file,
        };
        self.keras.refuse(&self.keras.given(), "the file is not Keras's")?;
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
        let mut rnn = self.keras.layer(file, self.layer.as_deref())?;
        if self.keras.go_backwards {
            rnn.config.direction = Direction::Reverse;
        }
        let (label, version) = (&rnn.label, file.version().unwrap_or("of an unknown version"));
        eprintln!("layer {}: {}; Keras {version} {label}", label.name, Summary(&rnn.config));
        if !label.said {
            let named = activations(&rnn.config).into_iter().map(|(what, of)| format!("{what} {of}"));
            let functions = named.collect::<Vec<_>>().join(", ");
            eprintln!(
                "the file does not say its activations: {functions} (--activation, --recurrent-activation say others)"
            );
        }
        // What is behind a layer belongs to the whole model.
        eprintln!("y has every step, as x has them, of both directions side by side");
        Ok(Layer::new(RnnConfig { layout: layout(batch_first), ..rnn.config }, rnn.weights.cast()))
    }

    /// Whether a layer is asked for by flags.
    pub fn names_a_layer(&self) -> bool {
        self.layer.is_some() || self.cell.is_some() || !self.keras.given().is_empty()
    }

    fn any_node(&self, file: &OnnxFile, batch_first: bool) -> Result<Layer> {
        self.keras.refuse(&self.keras.given(), "the file is not Keras's")?;
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
