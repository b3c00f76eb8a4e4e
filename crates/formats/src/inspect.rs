//! What is recurrent in a file, and what runs it: [`inspect`].

use crate::blocks::{self, Blocks, Found};
use crate::element::Element;
use crate::file::ModelFile;
use crate::keras::{KerasFile, KerasLabel};
use crate::layers::Layer;
use crate::onnx::{OnnxFile, Source};
use crate::tensors::Tensors;
use crate::whole::WholeValue;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::Kind;
use wgpu_rnn::{Cell, Error, Result, RnnConfig};

/// What is recurrent in a file.
#[derive(Debug)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// What kind of file it is.
    pub kind: Kind,
    /// Its bytes.
    pub size: usize,
    /// Its recurrent layers and blocks.
    pub parts: Vec<Part>,
    /// Whether the whole model can run, or what stops it; `None` for a file that holds no whole model.
    pub whole: Option<Result<Whole>>,
}

/// A model that runs as a whole ([`crate::WholeModel`]).
#[derive(Debug)]
pub struct Whole {
    /// What it reads.
    pub inputs: Vec<WholeValue>,
    /// What it gives.
    pub outputs: Vec<WholeValue>,
}

/// A recurrent layer, a stack of layers, or a block.
#[derive(Debug)]
pub struct Part {
    /// What it is called in the file: a prefix of names, or a node; empty where it has no name.
    pub name: String,
    /// Whose names or operators these are, with its place in the file: `PyTorch nn.LSTM, nn.GRU, nn.RNN`, `ONNX LSTM`.
    pub origin: String,
    /// What it is for this crate.
    pub is: Is,
    /// The number format of its weights, where the file says it.
    pub element: Option<Element>,
    /// Where its initial states and its lengths come from, where that is not from the caller: `h0: zeros`, `c0: model input c`.
    pub inputs: Vec<String>,
}

/// What a part of a file is for this crate.
#[derive(Debug)]
pub enum Is {
    /// A layer or stack that `run --layer` takes, and the other cells that its tensors fit.
    Layer(RnnConfig, Vec<&'static Cell>),
    /// Blocks, or an operator, that a program runs by what the library, or this crate, has for them.
    Block(Blocks),
    /// It cannot be read, and why.
    Unread(Error),
}

/// Reads the file and lists what is recurrent in it.
///
/// # Errors
/// [`Error::File`] for a file that cannot be read or is of a kind that is not read here; errors of its reader.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let (kind, size) = (Kind::of(&bytes), bytes.len());
    let file = ModelFile::from_bytes(path, bytes)?;
    let (parts, may_be_whole) = match &file {
        ModelFile::Onnx(file) => (onnx(file), true),
        // Of weights alone it says what would help.
        ModelFile::Keras(file) => (keras(path, file), true),
        ModelFile::Tensors(file) => (tensors(file), false),
    };
    let whole = may_be_whole.then(|| whole(file));
    // A file of no kind is not read.
    Ok(Inspection { path: path.into(), kind: kind.unwrap_or(Kind::Empty), size, parts, whole })
}

/// Whether a model runs, tried with sizes of its inputs that the model leaves open.
fn whole(file: ModelFile) -> Result<Whole> {
    let model = file.whole()?;
    model.try_out()?;
    Ok(Whole { inputs: model.inputs(), outputs: model.outputs() })
}

fn keras(path: &Path, file: &KerasFile) -> Vec<Part> {
    let version = file.version().map_or("Keras".to_string(), |version| format!("Keras {version}"));
    let layer = |label: &KerasLabel| {
        let is = file.layer(&label.name).map_or_else(Is::Unread, |rnn| Is::Layer(rnn.config, Vec::new()));
        let unsaid = if label.said { "" } else { ", activations as Keras's defaults are (the file does not say them)" };
        let origin = format!("{version} {label}{unsaid}");
        Part { name: label.name.clone(), origin, is, element: None, inputs: Vec::new() }
    };
    let unread = |(name, e): (&str, &Error)| {
        let is = Is::Unread(Error::file(path, e));
        Part { name: name.into(), origin: version.clone(), is, element: None, inputs: Vec::new() }
    };
    file.layers().map(layer).chain(file.refused().map(unread)).collect()
}

fn tensors(file: &Tensors) -> Vec<Part> {
    let part = |layer: Layer<'_>| {
        let is = match layer.config(None) {
            Ok(config) => {
                let others = layer.cells().into_iter().filter(|cell| **cell != *config.cell).collect();
                Is::Layer(config, others)
            }
            Err(e) => Is::Unread(e),
        };
        let origin = layer.convention().tool.to_string();
        Part { name: layer.name().into(), origin, is, element: layer.element(), inputs: Vec::new() }
    };
    file.layers().into_iter().map(part).chain(blocks::find(file).into_iter().map(of_blocks)).collect()
}

/// The blocks of a file.
fn of_blocks(Found { name, origin, element, blocks }: Found) -> Part {
    Part { name, origin, is: Is::Block(blocks), element, inputs: Vec::new() }
}

fn onnx(file: &OnnxFile) -> Vec<Part> {
    let layers = file.nodes().map(|label| {
        let (mut inputs, name) = (Vec::new(), label.name.clone());
        let is = match file.node(&name) {
            Ok(node) => {
                let sources = [("h0", source(&node.h0)), ("c0", source(&node.c0)), ("lengths", source(&node.lengths))];
                inputs.extend(sources.into_iter().filter_map(|(what, from)| Some(format!("{what}: {}", from?))));
                inputs.extend(node.int8.map(|fits| match fits {
                    true => "weights: 8 bits in the file, which --weight-format int8 keeps as they are".to_string(),
                    false => "weights: 8 bits in the file, with zero points that int8 has not: --weight-format int8 rounds them".into(),
                }));
                Is::Layer(node.config, Vec::new())
            }
            Err(e) => Is::Unread(e),
        };
        Part { name, origin: format!("ONNX {}", label.op), is, element: None, inputs }
    });
    let networks = file.recurrences().map(|label| {
        let of = "onnx::OnnxFile::recurrence of wgpu-rnn-formats";
        let is = Is::Block(Blocks { count: 1, of, notes: Vec::new() });
        Part { name: label.name.clone(), origin: format!("ONNX {}", label.op), is, element: None, inputs: Vec::new() }
    });
    layers.chain(networks).collect()
}

/// Where an input of a node comes from, if it has one.
fn source<T>(source: &Source<T>) -> Option<String> {
    match source {
        Source::Absent => None,
        Source::Constant(_) => Some("in the file".into()),
        Source::Runtime(name) => Some(format!("the model's {name}")),
    }
}
