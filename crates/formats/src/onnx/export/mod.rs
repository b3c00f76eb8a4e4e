//! Layers, stacks and networks as ONNX models.
//!
//! | what | as | file |
//! |---|---|---|
//! | a layer | a model of one node | `node` |
//! | a stack with its embedding and head | its network, with the stack's own axes | `stack` |
//! | a network | nodes for each of its operations | `network`, and `ops` with a file for each kind of operation |
//!
//! All of them are written by `wire`.

mod network;
mod node;
mod ops;
mod stack;
mod wire;

use node::Layer;
use std::path::Path;
use wgpu_rnn::network::Network;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{Error, Result, RnnConfig};

/// Which optional inputs an exported model has beside x, to be fed on every run.
///
/// | | states | lengths |
/// |---|---|---|
/// | [`Export::write`] | `initial_h` and, of an LSTM, `initial_c` `[D, B, H]` | `sequence_lens` `[B]`, int32 |
/// | [`Export::stack`] | `h0` and `c0` `[L·D, B, H]` | the same |
/// | [`Export::network`] | `<name>.h0` and `<name>.c0` of every stack of that name; and outputs `<name>.hn`, `<name>.cn` | the same |
///
/// Without them states are zeros, and sequences as long as T.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Initial states.
    pub states: bool,
    /// Lengths of sequences. Whatever has a row per step is 0 past a sequence's end, as in this crate.
    pub lengths: bool,
}

/// Writes the layer as an ONNX model whose only input is X; see [`Export::write`].
///
/// # Errors
/// As [`Export::write`].
pub fn export<T: Real>(config: &RnnConfig, weights: &Weights<T>, path: impl AsRef<Path>) -> Result<()> {
    Export::default().write(config, weights, path)
}

impl Export {
    /// Writes the layer as an ONNX model (opset 22) of one node, with weights of type `T`. Inputs X `[T, B, I]` and those
    /// asked for, outputs Y `[T, D, B, H]`, Y_h `[D, B, H]` and, of an LSTM, Y_c; T and B are left open. A batch-first layer has
    /// `layout` = 1 and ONNX's axes for it, which ONNX Runtime 1.32's CPU provider does not run ([`Export::stack`] writes what it
    /// runs). A single bias becomes two, one of zeros; R of a layer with heads ([`wgpu_rnn::Recurrence`]) becomes a full matrix with
    /// zeros between its blocks; a layer without W ([`wgpu_rnn::InputMode::Skip`]) has one of identities.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what one node cannot be: several layers, a projection, an embedding, a head, zoneout, a cell that
    /// ONNX does not have; [`Error::Mismatch`] for weights that do not fit; [`Error::Limit`] for more than a protobuf message
    /// holds; [`Error::File`] if the file cannot be written.
    pub fn write<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>, path: impl AsRef<Path>) -> Result<()> {
        written(path.as_ref(), self.bytes(config, weights)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Export::write`].
    pub fn bytes<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>) -> Result<Vec<u8>> {
        node::operator(config)?;
        // ONNX knows no heads.
        let (config, weights) = weights.to_dense(config)?;
        wire::within_protobuf(config.parameter_count().saturating_mul(size_of::<T>() as u64))?;
        Layer::new(config, &weights)?.model::<T>(self.states, self.lengths)
    }

    /// Writes a stack with its embedding and head as an ONNX model (opset 22), with weights of type `T`: a node per layer, and
    /// what stands between them. T and B are left open.
    ///
    /// ```text
    /// inputs   ids [T, B] int64 with a vocabulary, else x [T, B, I]; batch-first [B, T] and [B, T, I]; those asked for
    /// outputs  y [T, B, D·(P or H)], with a head logits [T, B, O] in its place; batch-first [B, T, ·]
    ///          hn [L·D, B, P or H] and, of LSTMs, cn [L·D, B, H]
    /// ```
    ///
    /// A batch-first stack has a Transpose at its ends, which every runtime runs. A head's loss is left out: logits are what the head
    /// gives, before any softmax. Dropout is left out, for it is training's. ONNX's LSTM has no projection: the product R·W_p
    /// `[4·H, H]` stands in for R, which is the same recurrence with more work, and y is a product with W_p. Biases, heads of R and a
    /// layer without W are written as by [`Export::write`].
    ///
    /// ```
    /// use wgpu_rnn::{Direction, Head, RnnConfig, Weights};
    /// use wgpu_rnn_formats::onnx::{Export, OnnxFile};
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let config = RnnConfig {
    ///     num_layers: 2,
    ///     direction: Direction::Bidirectional,
    ///     vocabulary: Some(20),
    ///     head: Some(Head { size: 4, loss: None }),
    ///     ..RnnConfig::lstm(3, 5)
    /// };
    /// let weights = Weights::<f32>::random(&config, 1)?;
    /// let model = Export::default().stack_bytes(&config, &weights)?; // or stack(&config, &weights, "tagger.onnx")
    /// let names = |values: Vec<wgpu_rnn_formats::onnx::OnnxValue>| values.into_iter().map(|v| v.name).collect::<Vec<_>>();
    /// let file = OnnxFile::from_bytes("tagger.onnx", model)?;
    /// assert_eq!((names(file.inputs()), names(file.outputs())), (vec!["ids".into()], vec!["logits".into(), "hn".into(), "cn".into()]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what ONNX does not have: zoneout, `cell_clip`, cells that are no RNN, LSTM or GRU of ONNX's, and
    /// states given to a projected stack (h0 is of P values, ONNX's of H); [`Error::Mismatch`], [`Error::Limit`] and [`Error::File`] as
    /// [`Export::write`].
    pub fn stack<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>, path: impl AsRef<Path>) -> Result<()> {
        written(path.as_ref(), self.stack_bytes(config, weights)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Export::stack`].
    pub fn stack_bytes<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>) -> Result<Vec<u8>> {
        stack::bytes(*self, config, weights)
    }

    /// Writes a network as an ONNX model (opset 22), with parameters of type `T` as [`wgpu_rnn::network::NetworkSession::new`] takes
    /// them. `outputs` names those of its outputs, or of its values, that the model shall give; empty: all of its outputs. What these do
    /// not need is left out: so a network with losses is exported by its other values.
    ///
    /// ```text
    /// inputs   [T, B, width] and [B, width] under the network's names; token ids [T, B] and [B], int64; those asked for
    /// outputs  [T, B, width] and [B, width]
    /// ```
    ///
    /// T and B are left open. Initialisers have the names and shapes of the network's parameters, but for stacks of layers, whose W, R,
    /// B and P are in ONNX's order.
    ///
    /// ```
    /// use wgpu_rnn::RnnConfig;
    /// use wgpu_rnn::network::{Builder, Norm, Pooling};
    /// use wgpu_rnn_formats::onnx::{Export, OnnxFile};
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let mut b = Builder::new();
    /// let x = b.input("x", 6)?;
    /// let y = b.layers("gru", x, &RnnConfig::gru(6, 8))?;
    /// let y = b.norm("norm", y, (Norm::Layer, 1, 1e-5), None, None)?;
    /// let last = b.pool("last", y, Pooling::Last)?;
    /// b.output("last", last)?;
    /// let network = b.finish()?;
    /// let params = vec![0.1f32; network.parameter_count()];
    /// let model = Export::default().network_bytes(&network, &params, &[])?; // or network(&network, &params, &[], "m.onnx")
    /// assert_eq!(OnnxFile::from_bytes("m.onnx", model)?.outputs()[0].name, "last");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an operation that ONNX does not have (linear recurrences, and so Mamba, RWKV and linear attention;
    /// losses), by its name; and what [`Export::stack`] refuses in a stack; [`Error::Mismatch`] for an output that there is not, for a
    /// name that two inputs or outputs would have, and for another number of parameters; [`Error::Limit`] and [`Error::File`] as
    /// [`Export::write`].
    pub fn network<T: Real>(
        &self,
        network: &Network,
        params: &[T],
        outputs: &[&str],
        path: impl AsRef<Path>,
    ) -> Result<()> {
        written(path.as_ref(), self.network_bytes(network, params, outputs)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Export::network`].
    pub fn network_bytes<T: Real>(&self, network: &Network, params: &[T], outputs: &[&str]) -> Result<Vec<u8>> {
        network::bytes(*self, network, params, outputs)
    }
}

fn written(path: &Path, bytes: Vec<u8>) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| Error::file(path, e))
}
