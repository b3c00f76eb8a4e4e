//! Models of Keras: `.keras`, `.weights.h5`, `.h5` and `.hdf5`, of Keras 1 to 3 and tf.keras.
//!
//! ```no_run
//! # fn main() -> wgpu_rnn::Result<()> {
//! use wgpu_rnn_formats::keras::KerasFile;
//! let file = KerasFile::open("model.keras")?;
//! for layer in file.layers() {
//!     println!("{} {} {}", layer.cell, layer.name, layer.units);
//! }
//! let lstm = file.layer("lstm")?; // or file.only_layer()?
//! println!("{:?}", lstm.config);
//! let whole = file.network()?; // Sequential and functional models
//! println!("{:?}", whole.outputs);
//! # Ok(())
//! # }
//! ```
//!
//! A layer is one of this crate's, with its weights; [`KerasFile::network`] makes the whole model one network. What Keras has and
//! this crate does not is [`Error::Unsupported`], by the layer's name and class.
//!
//! Values are time-major here, `[T, B, ·]`; Keras has `[B, T, ·]`.

mod activation;
mod archive;
mod config;
mod hdf5;
mod network;
mod recurrent;
mod store;
mod unsaid;

#[cfg(not(target_family = "wasm"))]
pub use network::KerasModel;
pub use network::{
    KerasBegin, KerasFeed, KerasFill, KerasFrom, KerasInput, KerasMask, KerasNetwork, KerasOutput, KerasPadding,
    KerasStage, KerasState, KerasSteps, KerasWindows,
};
pub use recurrent::{KerasCell, KerasLabel, KerasRnn, Merge};
pub use unsaid::Unsaid;

use crate::onnx::parts::within;
use activation::HardSigmoid;
use config::{LayerConfig, ModelConfig, shown};
use hdf5::Tree;
use std::path::{Path, PathBuf};
use store::Store;
use wgpu_rnn::{Activation, Error, Result};

/// What a file may unpack to, as a multiple of its own bytes, and at least so many bytes. Weights are hardly ever half as large packed.
const MOST_EXPANSION: u64 = 64;
const LEAST_BUDGET: u64 = 1 << 20;
/// Names of layers in an error message, at most.
const LISTED: usize = 8;

/// A Keras model, or the weights of one, in memory.
pub struct KerasFile {
    path: PathBuf,
    version: Option<String>,
    hard_sigmoid: HardSigmoid,
    /// Bytes that may be made of the file's.
    budget: u64,
    tree: Tree,
    model: Option<ModelConfig>,
    found: Vec<Found>,
}

/// A recurrent layer.
struct Found {
    name: String,
    layer: LayerConfig,
    store: Store,
    label: Result<KerasLabel>,
}

impl KerasFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, is no Keras file, or says that it is larger than it can be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`KerasFile::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.into();
        let budget = (bytes.len() as u64).saturating_mul(MOST_EXPANSION).max(LEAST_BUDGET);
        let refused = |reason: String| Error::file(&path, reason);
        let archive = bytes.starts_with(b"PK");
        let (tree, model, version) = if archive {
            let parts = archive::read(&bytes, budget).map_err(|e| refused(format!("not a .keras archive: {e}")))?;
            let metadata: serde_json::Value =
                serde_json::from_slice(&parts.metadata).map_err(|e| refused(format!("metadata.json: {e}")))?;
            let version = metadata.get("keras_version").and_then(|v| v.as_str()).map(str::to_string);
            let tree = Tree::read(parts.weights, budget).map_err(|e| refused(format!("model.weights.h5: {e}")))?;
            (tree, Some(ModelConfig::parse(&parts.config).map_err(refused)?), version)
        } else if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
            let tree = Tree::read(bytes, budget).map_err(|e| refused(format!("HDF5: {e}")))?;
            let model = tree.text("", "model_config").map(|json| ModelConfig::parse(json.as_bytes()));
            let model = model.transpose().map_err(refused)?;
            let version = ["", "model_weights"].iter().find_map(|group| tree.text(group, "keras_version"));
            let version = version.map(str::to_string);
            (tree, model, version)
        } else {
            return Err(refused("not a Keras file: expected HDF5 (.h5, .weights.h5) or a .keras archive".into()));
        };
        // keras-core, which became Keras 3, has versions 0.1; Keras 1 named no version.
        let major = version.as_deref().and_then(|v| v.split('.').next()?.parse::<u64>().ok()).unwrap_or(0);
        // Arrays in the layout of Keras 3 without a version: Keras 3's own, but for those of tf.keras 2.12 and 2.13, which have a group of
        // another name around them.
        let unnamed = major == 0 && model.is_none() && tree.paths("layers/").next().is_some();
        let new = major >= 3 || unnamed || archive && major == 0;
        let hard_sigmoid = if new { HardSigmoid::NEW } else { HardSigmoid::OLD };
        let mut file = Self { path, version, hard_sigmoid, budget, tree, model, found: Vec::new() };
        file.found = match &file.model {
            Some(model) => {
                let mut found = Vec::new();
                collect(model, &Store::Root, &file.tree, "", &mut found);
                found
            }
            None => unsaid::discover(&file.tree, file.version.as_deref()).map_err(|e| Error::file(&file.path, e))?,
        };
        Ok(file)
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of Keras that wrote it; none in files of Keras 1 and in `.weights.h5` of Keras 3.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether Keras 3, or a later one, wrote it.
    pub(super) fn is_keras_3(&self) -> bool {
        let major = self.version().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        major.is_some_and(|major| major >= 3)
    }

    /// Whether the file has the weights alone, without the model's configuration.
    pub fn is_weights_only(&self) -> bool {
        self.model.is_none()
    }

    /// The activation of a recurrent cell that Keras calls so: `tanh`, `relu`, `hard_sigmoid` as it was in the version that wrote the file
    /// (a file without a version that has the groups of Keras 3 counts as Keras 3's).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for one that recurrent cells do not have, with those that they have.
    pub fn activation(&self, name: &str) -> Result<Activation> {
        activation::of_cell(Some(name), self.hard_sigmoid)
    }

    /// Its recurrent layers, in the model's order; those of models inside the model too.
    pub fn layers(&self) -> impl Iterator<Item = &KerasLabel> {
        self.found.iter().filter_map(|found| found.label.as_ref().ok())
    }

    /// Recurrent layers that cannot be read: their names, and why not.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.found.iter().filter_map(|found| Some((found.name.as_str(), found.label.as_ref().err()?)))
    }

    /// The recurrent layer of that name. Of a file of weights alone with Keras's defaults, see [`Unsaid`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is none, or its arrays are missing or do not fit; [`Error::Unsupported`] for settings that this crate
    /// does not have.
    pub fn layer(&self, name: &str) -> Result<KerasRnn> {
        self.layer_with(name, &Unsaid::default())
    }

    /// The same, where `unsaid` tells what the file does not say. What it tells counts, whatever the file says.
    ///
    /// # Errors
    /// As [`KerasFile::layer`].
    pub fn layer_with(&self, name: &str, unsaid: &Unsaid) -> Result<KerasRnn> {
        let found = self.found.iter().find(|found| found.name == name);
        self.read(found.ok_or_else(|| self.none(&format!("one named {}", shown(name))))?, unsaid)
    }

    /// The recurrent layer of a file that has one.
    ///
    /// # Errors
    /// As [`KerasFile::layer`].
    pub fn only_layer(&self) -> Result<KerasRnn> {
        self.only_layer_with(&Unsaid::default())
    }

    /// The same, where `unsaid` tells what the file does not say, as of [`KerasFile::layer_with`].
    ///
    /// # Errors
    /// As [`KerasFile::layer`].
    pub fn only_layer_with(&self, unsaid: &Unsaid) -> Result<KerasRnn> {
        match &self.found[..] {
            [only] => self.read(only, unsaid),
            _ => Err(self.none("one")),
        }
    }

    /// The whole model as a network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer that networks do not have, with the last layer before it, up to which
    /// [`KerasFile::network_to`] goes, and for a file of weights alone; [`Error::Mismatch`] for arrays that are missing or do not fit.
    pub fn network(&self) -> Result<KerasNetwork> {
        let model = self.model.as_ref().ok_or_else(|| self.no_model())?;
        network::build(self, model, &model.outputs).map_err(|e| within(&self.what(), e))
    }

    /// The model up to the first call of a layer, whose result is the network's.
    ///
    /// # Errors
    /// As [`KerasFile::network`]; [`Error::Mismatch`] if there is no such layer outside of inner models.
    pub fn network_to(&self, layer: &str) -> Result<KerasNetwork> {
        let model = self.model.as_ref().ok_or_else(|| self.no_model())?;
        let wanted = config::Source { layer: layer.into(), call: 0, tensor: 0 };
        network::build(self, model, &[wanted]).map_err(|e| within(&self.what(), e))
    }

    fn read(&self, found: &Found, unsaid: &Unsaid) -> Result<KerasRnn> {
        let what = format!("{}: {}", self.what(), found.layer.label());
        let read = || {
            let label = recurrent::label(&found.layer, found.name.clone(), self.model.is_some())?;
            let label =
                label.ok_or_else(|| Error::mismatch("class", "a recurrent layer", shown(&found.layer.class)))?;
            let label = unsaid.complete(label, &found.layer, self.version())?;
            self.rnn(&found.layer, &found.store, label, [unsaid.activation, unsaid.recurrent_activation])
        };
        read().map_err(|e| within(&what, e))
    }

    fn what(&self) -> String {
        self.path.display().to_string()
    }

    fn none(&self, expected: &str) -> Error {
        let listed: Vec<String> = self.found.iter().take(LISTED).map(|found| shown(&found.name)).collect();
        let more = self.found.len().saturating_sub(LISTED);
        let got = match (listed.is_empty(), more) {
            (true, _) => "none".to_string(),
            (false, 0) => listed.join(", "),
            (false, more) => format!("{} and {more} more", listed.join(", ")),
        };
        Error::mismatch(format!("{}: recurrent layer", self.what()), expected, got)
    }

    fn no_model(&self) -> Error {
        Error::Unsupported {
            what: format!("{}: a whole model out of a file of weights", self.what()),
            reason: "it does not say which layers there are: save the model with model.save(\"model.keras\"), or take its layers \
                     one by one"
                .into(),
        }
    }
}

/// The recurrent layers of a model and of those in it.
fn collect(model: &ModelConfig, store: &Store, tree: &Tree, around: &str, found: &mut Vec<Found>) {
    for (layer, store) in model.layers.iter().zip(store.of_layers(model, tree)) {
        let name = format!("{around}{}", layer.name);
        if let Some(inner) = &layer.model {
            collect(inner, &store, tree, &format!("{name}/"), found);
            continue;
        }
        if let Some(label) = recurrent::label(layer, name.clone(), true).transpose() {
            found.push(Found { name, layer: layer.clone(), store, label });
        }
    }
}
