//! Recurrent nodes (RNN, LSTM, GRU) out of ONNX models, opset 7 and later: weights, attributes, constant inputs; and back.
//!
//! ```no_run
//! # fn main() -> wgpu_rnn::Result<()> {
//! use wgpu_rnn_formats::onnx::OnnxFile;
//! let file = OnnxFile::open("model.onnx")?;
//! for node in file.nodes() {
//!     println!("{} {}", node.op, node.name);
//! }
//! let node = file.node("/encoder/LSTM")?; // or file.only_node()?
//! println!("{:?}", node.config);
//! # Ok(())
//! # }
//! ```
//!
//! Nodes inside the branches and bodies of If, Loop and Scan count too (of an If whose condition is known, those of its branch alone), and
//! those of functions that the model defines. W, R, B and P may be whatever the model's nodes make of initialisers. What
//! [`wgpu_rnn::RnnConfig`] cannot express is [`Error::Unsupported`], by the attribute's name. `DynamicQuantizeLSTM` of ONNX Runtime is
//! read as the LSTM that it stands for, with its int8 weights times their scales.
//!
//! `LinearAttention` and `CausalConvWithState` (opset 27) are no layers but networks: [`OnnxFile::recurrence`].

mod constant;
mod decide;
mod export;
mod external;
mod fold;
mod graph;
mod node;
mod operator;
mod order;
mod proto;
mod quantised;
mod recurrence;
mod whole;

pub use export::{Export, export};
pub use node::{OnnxNode, Source};
pub use operator::OnnxOp;
pub use recurrence::{
    CausalConv, LinearAttention, OnnxRecurrence, Recurrence, RecurrenceFeed, RecurrenceNetwork, RecurrenceOp,
    UpdateRule,
};
pub use whole::{OnnxFeed, OnnxModel, OnnxNetwork, OnnxSession, OnnxSize, OnnxTensor, OnnxValue};

/// What nodes are made of, for the crate that reads recorded cases of single nodes (wgpu-rnn-verify): its files hold the same
/// tensors and attributes outside a model.
#[doc(hidden)]
pub mod parts {
    pub use super::constant::Constant;
    pub use super::node::NodeTensors;
    pub use super::operator::{AttributeValue, Operator};
    pub use super::order::{Order, Parameters, outputs, states};
    pub use super::recurrence::RecurrenceTensors;
    pub use super::within;
    pub use crate::element::Element;
}

use constant::Constant;
use external::Folder;
use fold::{Folded, Folding};
use graph::{Functions, Index, Scope};
use node::{NodeReader, Values};
use operator::shortened;
use prost::Message;
use prost::bytes::Bytes;
use recurrence::RecurrenceTensors;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use wgpu_rnn::{Error, Result};

/// The first opset whose recurrent operators are today's; before it they had other attributes.
const FIRST_OPSET: i64 = 7;
/// Names of nodes in an error message, at most.
const LISTED: usize = 8;
/// The operators that are layers, and those that are networks, in an error message.
const LAYERS: &str = "RNN, LSTM or GRU";
const NETWORKS: &str = "LinearAttention or CausalConvWithState";

/// A node, values by name, and the names of a graph's outputs.
type Only<'a, 'g, O> = (&'a Found<O>, HashMap<&'a str, &'g Constant>, &'a [String]);

/// An ONNX model in memory, its graphs indexed.
#[derive(Clone)]
pub struct OnnxFile {
    path: PathBuf,
    /// Where values may lie that are not in it.
    folder: Folder,
    /// Its bytes.
    size: usize,
    opset: i64,
    scopes: Vec<Scope>,
    found: Vec<Found>,
    recurrences: Vec<Found<RecurrenceOp>>,
}

/// A recurrent node.
#[derive(Clone)]
struct Found<O = OnnxOp> {
    scope: usize,
    label: OnnxLabel<O>,
    outputs: Vec<String>,
    bytes: Bytes,
    /// `DynamicQuantizeLSTM`
    quantised: bool,
}

/// How a recurrent node is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxLabel<O = OnnxOp> {
    /// Its name; of a node without one the name of its first output.
    pub name: String,
    /// Its operator.
    pub op: O,
}

impl OnnxFile {
    /// Reads the file and indexes its graphs.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or is no ONNX model, [`Error::Unsupported`] for an opset before 7.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::within_folder(path, bytes)
    }

    /// The same of a file that has been read already: values that lie in other files are looked for beside it.
    ///
    /// # Errors
    /// As [`OnnxFile::open`].
    pub fn within_folder(path: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        let path = path.as_ref();
        Self::read_bytes(path.into(), Folder::of(path), bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors. Values that lie in other files are [`Error::Unsupported`]
    /// then, where they are needed.
    ///
    /// # Errors
    /// As [`OnnxFile::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::read_bytes(name.into(), Folder::None, bytes)
    }

    fn read_bytes(path: PathBuf, folder: Folder, bytes: Vec<u8>) -> Result<Self> {
        let size = bytes.len();
        let not_onnx = |reason: String| Error::file(&path, format!("not an ONNX model: {reason}"));
        let model = proto::Model::decode(Bytes::from(bytes)).map_err(|e| not_onnx(e.to_string()))?;
        let graph = model.graph.ok_or_else(|| not_onnx("no graph".into()))?;
        let functions = Functions::new(model.functions).map_err(not_onnx)?;
        let Index { scopes, found, recurrences } = Index::new(graph, &functions, size).map_err(not_onnx)?;
        let default = |set: &&proto::OperatorSet| graph::is_onnx(&set.domain);
        let opset = model.opset_import.iter().find(default).map(|set| set.version);
        let opset = match opset {
            Some(opset) if opset >= FIRST_OPSET => opset,
            Some(opset) => {
                let reason =
                    format!("its recurrent operators are read from {FIRST_OPSET} on; onnx.version_converter helps");
                return Err(Error::Unsupported { what: format!("{}: opset {opset}", path.display()), reason });
            }
            None if found.is_empty() && recurrences.is_empty() => 0,
            None => return Err(not_onnx("no version of the operators it uses".into())),
        };
        let mut file = Self { path, folder, size, opset, scopes, found, recurrences };
        file.forget_untaken();
        Ok(file)
    }

    /// Takes the nodes of branches that no run takes out of its lists.
    fn forget_untaken(&mut self) {
        let untaken = self.untaken();
        self.found.retain(|found| !untaken[found.scope]);
        self.recurrences.retain(|found| !untaken[found.scope]);
    }

    /// Which graphs no run takes: the other branch of an If whose condition is known, and what is inside it.
    fn untaken(&self) -> Vec<bool> {
        let nothing = HashMap::new();
        let mut folding = Folding::new(self, &nothing);
        let mut untaken = vec![false; self.scopes.len()];
        // A graph stands behind the one that it is in.
        for (n, scope) in self.scopes.iter().enumerate() {
            let Some(outer) = scope.outer else { continue };
            untaken[n] = untaken[outer] || {
                let node =
                    self.scopes[outer].nodes.get(scope.owner.0).and_then(|b| proto::Node::decode(b.clone()).ok());
                let condition = node.filter(|node| node.op_type == "If").and_then(|node| node.input.first().cloned());
                // What cannot be worked out may be either.
                let known = condition.and_then(|name| folding.value(outer, &name).ok());
                matches!(known, Some(Folded::Constant(c)) if c.is_zero() == (scope.owner.1 == "then_branch"))
            };
        }
        untaken
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of ONNX's operators; 0 for a model that has none of them.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Its recurrent nodes: those of the main graph in its order, then those inside other nodes' graphs.
    pub fn nodes(&self) -> impl Iterator<Item = &OnnxLabel> {
        self.found.iter().map(|found| &found.label)
    }

    /// The recurrent node of that name, or with an output of that name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is none or several, or its tensors are missing or do not fit; [`Error::Unsupported`] for
    /// attributes that this build does not have, and for weights in other files.
    pub fn node(&self, name: &str) -> Result<OnnxNode> {
        self.read(self.find(&self.found, LAYERS, Some(name))?, &HashMap::new())
    }

    /// The recurrent node of a file that has one.
    ///
    /// # Errors
    /// As [`OnnxFile::node`].
    pub fn only_node(&self) -> Result<OnnxNode> {
        self.read(self.find(&self.found, LAYERS, None)?, &HashMap::new())
    }

    /// Its nodes that are networks: those of the main graph in its order, then those inside other nodes' graphs.
    pub fn recurrences(&self) -> impl Iterator<Item = &OnnxLabel<RecurrenceOp>> {
        self.recurrences.iter().map(|found| &found.label)
    }

    /// The node of [`OnnxFile::recurrences`] of that name, or with an output of that name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is none or several, or its attributes or constant inputs do not fit; [`Error::Unsupported`] for
    /// attributes that this build does not have, an opset before 27, and for values in other files.
    pub fn recurrence(&self, name: &str) -> Result<OnnxRecurrence> {
        self.read_recurrence(self.find(&self.recurrences, NETWORKS, Some(name))?, &HashMap::new())?.into_node()
    }

    /// The only node of a model that has no other, whose inputs, in the graph's order, have the values `given`; and, in the
    /// graph's order, the names of its outputs.
    #[doc(hidden)] // Of [`parts`].
    pub fn single(&self, given: &[Constant]) -> Result<(OnnxNode, Constant, &[String])> {
        let (found, given, outputs) = self.only(&self.found, LAYERS, given)?;
        let node = self.read(found, &given)?;
        let x = given.get(node.input.as_str()).copied().cloned();
        let x = x.ok_or_else(|| self.mismatch("X", "a recorded input", shortened(&node.input)))?;
        Ok((node, x, outputs))
    }

    /// The same where that node is of [`OnnxFile::recurrences`].
    #[doc(hidden)] // Of [`parts`].
    pub fn single_recurrence(&self, given: &[Constant]) -> Result<(RecurrenceTensors, &[String])> {
        let (found, given, outputs) = self.only(&self.recurrences, NETWORKS, given)?;
        Ok((self.read_recurrence(found, &given)?, outputs))
    }

    /// The only node of a model, what its inputs are given, and the names of the graph's outputs.
    fn only<'a, 'g, O: Display>(
        &'a self,
        list: &'a [Found<O>],
        kinds: &str,
        given: &'g [Constant],
    ) -> Result<Only<'a, 'g, O>> {
        let found = self.find(list, kinds, None)?;
        let main = &self.scopes[0];
        if found.scope != 0 || main.nodes.len() != 1 {
            let what = format!("{}: a test case of {} nodes", self.path.display(), main.nodes.len());
            return Err(Error::Unsupported { what, reason: format!("it must have one, {kinds}") });
        }
        let inputs: Vec<&String> = main.inputs.iter().filter(|name| !main.constants.contains_key(*name)).collect();
        if inputs.len() != given.len() {
            return Err(self.mismatch("recorded inputs", inputs.len(), given.len()));
        }
        let given = inputs.into_iter().map(String::as_str).zip(given).collect();
        Ok((found, given, &main.outputs))
    }

    fn find<'a, O: Display>(&self, list: &'a [Found<O>], kinds: &str, name: Option<&str>) -> Result<&'a Found<O>> {
        let matches: Vec<&Found<O>> = match name {
            None => list.iter().collect(),
            Some(name) => {
                let named = list.iter().filter(|found| found.label.name == name);
                let by_output = || list.iter().filter(|found| found.outputs.iter().any(|o| o == name));
                Some(named.collect::<Vec<_>>()).filter(|n| !n.is_empty()).unwrap_or_else(|| by_output().collect())
            }
        };
        if let [only] = matches[..] {
            return Ok(only);
        }
        let labels = list.iter().map(|found| &found.label);
        let listed = labels.take(LISTED).map(|label| format!("{} {}", label.op, shortened(&label.name)));
        let listed = listed.collect::<Vec<_>>().join(", ");
        let more = if list.len() > LISTED { format!(" and {} more", list.len() - LISTED) } else { String::new() };
        let expected = name.map_or(format!("one {kinds}"), |name| format!("one named {}", shortened(name)));
        let all =
            if listed.is_empty() { "no recurrent node".into() } else { format!("{} of {listed}{more}", matches.len()) };
        Err(self.mismatch("node", expected, all))
    }

    fn read(&self, found: &Found, given: &HashMap<&str, &Constant>) -> Result<OnnxNode> {
        let values = Values::new(self, found.scope, given);
        NodeReader { values, found }.read().map_err(|e| within(&self.what(found), e))
    }

    fn read_recurrence(
        &self,
        found: &Found<RecurrenceOp>,
        given: &HashMap<&str, &Constant>,
    ) -> Result<RecurrenceTensors> {
        if self.opset < recurrence::FIRST_OPSET {
            let reason = format!("ONNX has the operator since opset {}", recurrence::FIRST_OPSET);
            return Err(Error::Unsupported { what: format!("{} in opset {}", self.what(found), self.opset), reason });
        }
        let values = Values::new(self, found.scope, given);
        RecurrenceTensors::read(&values, found).map_err(|e| within(&self.what(found), e))
    }

    fn what<O: Display>(&self, found: &Found<O>) -> String {
        format!("{}: {} {}", self.path.display(), found.label.op, shortened(&found.label.name))
    }

    fn mismatch(&self, what: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(format!("{}: {what}", self.path.display()), expected, got)
    }
}

/// Puts `what` before a message about a part of it.
pub fn within(what: &str, error: Error) -> Error {
    match error {
        Error::Mismatch { what: part, expected, got } => Error::mismatch(format!("{what}: {part}"), expected, got),
        Error::Unsupported { what: part, reason } => Error::Unsupported { what: format!("{what}: {part}"), reason },
        Error::Limit { what: part, needs, limit, unit, limit_name, hint } => {
            Error::Limit { what: format!("{what}: {part}"), needs, limit, unit, limit_name, hint }
        }
        other => other,
    }
}
