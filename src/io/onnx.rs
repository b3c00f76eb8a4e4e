//! Recurrent nodes (RNN, LSTM, GRU) out of ONNX models, opset 7 and later: weights, attributes, constant inputs; and back.
//!
//! ```no_run
//! # fn main() -> wgpu_rnn::Result<()> {
//! use wgpu_rnn::io::onnx::OnnxFile;
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
//! Nodes inside the branches and bodies of If, Loop and Scan count too. W, R, B and P must be initialisers or outputs of `Constant`
//! nodes, as exporters write them after constant folding. What [`RnnConfig`] cannot express (`clip`, other activations, ...) is
//! [`Error::Unsupported`], by the attribute's name. Not read: nodes inside model-local functions, and quantised weights.

mod constant;
mod export;
mod operator;
mod order;
mod proto;

pub use export::{Export, export};
pub use operator::OnnxOp;

pub(crate) use constant::{Constant, Element};
pub(crate) use operator::{AttributeValue, Operator, Sizes};
pub(crate) use order::{Order, Parameters, outputs, states};

use crate::config::RnnConfig;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::weights::Weights;
use operator::shortened;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Graphs inside nodes inside graphs, at most.
const MAX_DEPTH: usize = 64;
/// The first opset whose recurrent operators are today's; before it they had other attributes.
const FIRST_OPSET: i64 = 7;
/// Names of nodes in an error message, at most.
const LISTED: usize = 8;

/// An ONNX model in memory, its graphs indexed.
pub struct OnnxFile {
    path: PathBuf,
    opset: i64,
    scopes: Vec<Scope>,
    found: Vec<Found>,
}

/// The names of a graph.
#[derive(Default)]
struct Scope {
    /// The graph around it.
    outer: Option<usize>,
    /// Initialisers by name, each a `TensorProto`.
    constants: HashMap<String, Bytes>,
    /// Nodes by the names of their outputs, each a `NodeProto`.
    producers: HashMap<String, Bytes>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    nodes: usize,
}

/// A recurrent node.
struct Found {
    scope: usize,
    label: OnnxLabel,
    outputs: Vec<String>,
    bytes: Bytes,
}

/// How a recurrent node is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxLabel {
    /// Its name; of a node without one the name of its first output.
    pub name: String,
    /// Its operator.
    pub op: OnnxOp,
}

/// Where an optional input of a node comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source<T> {
    /// Not given: zeros for states, all of T for lengths.
    Absent,
    /// In the file.
    Constant(T),
    /// The model's user or another node gives the value of that name at run time.
    Runtime(String),
}

impl<T> Source<T> {
    /// The value, where there is one.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where it is only known at run time.
    pub fn constant(&self, what: &str) -> Result<Option<&T>> {
        match self {
            Self::Absent => Ok(None),
            Self::Constant(value) => Ok(Some(value)),
            Self::Runtime(name) => {
                Err(Error::mismatch(what, "a constant", format!("{}, a run's value", shortened(name))))
            }
        }
    }
}

/// A recurrent node as a layer of this crate.
///
/// Y is this crate's y with the axes apart: `[T, D, B, H]` there is `[T, B, D·H]` here, with `layout` = 1 `[B, T, D, H]` is
/// `[B, T, D·H]`. Y_h and Y_c are hn and cn, `[D, B, H]`, with `layout` = 1 `[B, D, H]` there.
#[derive(Clone, Debug)]
pub struct OnnxNode {
    /// What the file calls it.
    pub label: OnnxLabel,
    /// One layer; `layout` = 1 is [`crate::Layout::BatchFirst`].
    pub config: RnnConfig,
    /// Its parameters in this crate's order.
    pub weights: Weights<f64>,
    /// `initial_h` as `[D, B, H]`.
    pub h0: Source<Tensor<f64>>,
    /// `initial_c` as `[D, B, H]`.
    pub c0: Source<Tensor<f64>>,
    /// `sequence_lens`, one per sequence.
    pub lengths: Source<Vec<usize>>,
    /// The name of X.
    pub input: String,
    /// The names of Y, Y_h and, of an LSTM, Y_c; `None` for one that the model does not use.
    pub outputs: [Option<String>; 3],
}

impl OnnxFile {
    /// Reads the file and indexes its graphs.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or is no ONNX model, [`Error::Unsupported`] for an opset before 7.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`OnnxFile::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.into();
        let not_onnx = |reason: String| Error::file(&path, format!("not an ONNX model: {reason}"));
        let model = proto::Model::decode(Bytes::from(bytes)).map_err(|e| not_onnx(e.to_string()))?;
        let graph = model.graph.ok_or_else(|| not_onnx("no graph".into()))?;
        let (scopes, found) = index(graph).map_err(not_onnx)?;
        let default = |set: &&proto::OperatorSet| set.domain.is_empty() || set.domain == "ai.onnx";
        let opset = model.opset_import.iter().find(default).map(|set| set.version);
        let opset = match opset {
            Some(opset) if opset >= FIRST_OPSET => opset,
            Some(opset) => {
                let reason =
                    format!("its recurrent operators are read from {FIRST_OPSET} on; onnx.version_converter helps");
                return Err(Error::Unsupported { what: format!("{}: opset {opset}", path.display()), reason });
            }
            None if found.is_empty() => 0,
            None => return Err(not_onnx("no version of the operators it uses".into())),
        };
        Ok(Self { path, opset, scopes, found })
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
        self.read(self.find(Some(name))?, &HashMap::new())
    }

    /// The recurrent node of a file that has one.
    ///
    /// # Errors
    /// As [`OnnxFile::node`].
    pub fn only_node(&self) -> Result<OnnxNode> {
        self.read(self.find(None)?, &HashMap::new())
    }

    /// The only node of a model that has no other, whose inputs, in the graph's order, have the values `given`; and, in the
    /// graph's order, the names of its outputs.
    pub(crate) fn single(&self, given: &[Constant]) -> Result<(OnnxNode, Constant, &[String])> {
        let found = self.find(None)?;
        let main = &self.scopes[0];
        if found.scope != 0 || main.nodes != 1 {
            let what = format!("{}: a test case of {} nodes", self.path.display(), main.nodes);
            return Err(Error::Unsupported { what, reason: "it must have one, RNN, LSTM or GRU".into() });
        }
        let inputs: Vec<&String> = main.inputs.iter().filter(|name| !main.constants.contains_key(*name)).collect();
        if inputs.len() != given.len() {
            return Err(self.mismatch("recorded inputs", inputs.len(), given.len()));
        }
        let given: HashMap<&str, &Constant> = inputs.into_iter().map(String::as_str).zip(given).collect();
        let node = self.read(found, &given)?;
        let x = given.get(node.input.as_str()).copied().cloned();
        let x = x.ok_or_else(|| self.mismatch("X", "a recorded input", shortened(&node.input)))?;
        Ok((node, x, &main.outputs))
    }

    fn find(&self, name: Option<&str>) -> Result<&Found> {
        let matches: Vec<&Found> = match name {
            None => self.found.iter().collect(),
            Some(name) => {
                let named = self.found.iter().filter(|found| found.label.name == name);
                let by_output = || self.found.iter().filter(|found| found.outputs.iter().any(|o| o == name));
                Some(named.collect::<Vec<_>>()).filter(|n| !n.is_empty()).unwrap_or_else(|| by_output().collect())
            }
        };
        if let [only] = matches[..] {
            return Ok(only);
        }
        let listed = self.nodes().take(LISTED).map(|label| format!("{} {}", label.op, shortened(&label.name)));
        let listed = listed.collect::<Vec<_>>().join(", ");
        let more =
            if self.found.len() > LISTED { format!(" and {} more", self.found.len() - LISTED) } else { String::new() };
        let expected = name.map_or("one RNN, LSTM or GRU".into(), |name| format!("one named {}", shortened(name)));
        let all =
            if listed.is_empty() { "no recurrent node".into() } else { format!("{} of {listed}{more}", matches.len()) };
        Err(self.mismatch("node", expected, all))
    }

    fn read(&self, found: &Found, given: &HashMap<&str, &Constant>) -> Result<OnnxNode> {
        let what = format!("{}: {} {}", self.path.display(), found.label.op, shortened(&found.label.name));
        NodeReader { file: self, found, given }.read().map_err(|e| within(&what, e))
    }

    fn mismatch(&self, what: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(format!("{}: {what}", self.path.display()), expected, got)
    }
}

/// Puts `what` before a message about a part of it.
pub(crate) fn within(what: &str, error: Error) -> Error {
    match error {
        Error::Mismatch { what: part, expected, got } => Error::mismatch(format!("{what}: {part}"), expected, got),
        Error::Unsupported { what: part, reason } => Error::Unsupported { what: format!("{what}: {part}"), reason },
        Error::Limit { what: part, needs, limit, unit, limit_name, hint } => {
            Error::Limit { what: format!("{what}: {part}"), needs, limit, unit, limit_name, hint }
        }
        other => other,
    }
}

/// The names and recurrent nodes of `graph` and of the graphs inside it.
fn index(graph: Bytes) -> Result<(Vec<Scope>, Vec<Found>), String> {
    let (mut scopes, mut found) = (Vec::new(), Vec::new());
    // A list, not recursion: a file's nesting must not cost stack.
    let mut waiting = vec![(graph, None, 0)];
    while let Some((bytes, outer, depth)) = waiting.pop() {
        if depth > MAX_DEPTH {
            return Err(format!("graphs nested over {MAX_DEPTH} deep"));
        }
        let graph = proto::Graph::decode(bytes).map_err(|e| e.to_string())?;
        let at = scopes.len();
        let mut scope = Scope { outer, nodes: graph.node.len(), ..Default::default() };
        for bytes in graph.initializer {
            let name = proto::TensorName::decode(bytes.clone()).map_err(|e| e.to_string())?.name;
            scope.constants.insert(name, bytes);
        }
        for (values, names) in [(graph.input, &mut scope.inputs), (graph.output, &mut scope.outputs)] {
            for bytes in values {
                names.push(proto::ValueName::decode(bytes).map_err(|e| e.to_string())?.name);
            }
        }
        for bytes in graph.node {
            let node = proto::Node::decode(bytes.clone()).map_err(|e| e.to_string())?;
            for attribute in node.attribute {
                let attribute = proto::Attribute::decode(attribute).map_err(|e| e.to_string())?;
                waiting.extend(attribute.g.into_iter().chain(attribute.graphs).map(|g| (g, Some(at), depth + 1)));
            }
            let named = node.output.iter().filter(|name| !name.is_empty());
            scope.producers.extend(named.clone().map(|name| (name.clone(), bytes.clone())));
            let op = OnnxOp::by_name(&node.op_type).filter(|_| node.domain.is_empty() || node.domain == "ai.onnx");
            if let Some(op) = op {
                let name =
                    if node.name.is_empty() { named.clone().next().cloned().unwrap_or_default() } else { node.name };
                found.push(Found { scope: at, label: OnnxLabel { name, op }, outputs: node.output, bytes });
            }
        }
        scopes.push(scope);
    }
    Ok((scopes, found))
}

/// A node, not yet believed.
struct NodeReader<'a> {
    file: &'a OnnxFile,
    found: &'a Found,
    /// Values for names that the file leaves to its user.
    given: &'a HashMap<&'a str, &'a Constant>,
}

impl NodeReader<'_> {
    fn read(&self) -> Result<OnnxNode> {
        let node =
            proto::Node::decode(self.found.bytes.clone()).map_err(|e| Error::mismatch("node", "a NodeProto", e))?;
        let operator = self.operator(&node)?;
        let input = |n: usize| node.input.get(n).filter(|name| !name.is_empty());
        let (known_inputs, known_outputs) = if operator.op == OnnxOp::Lstm { (8, 3) } else { (6, 2) };
        for (what, count, known) in
            [("inputs", node.input.len(), known_inputs), ("outputs", node.output.len(), known_outputs)]
        {
            if count > known {
                return Err(Error::mismatch(what, format!("at most {known}"), count));
            }
        }
        let x = input(0).ok_or_else(|| Error::mismatch("X", "an input", "none"))?;
        let parameters = Parameters {
            w: self.parameter("W", input(1))?,
            r: self.parameter("R", input(2))?,
            b: input(3).map(|name| self.parameter("B", Some(name))).transpose()?,
            p: input(7).map(|name| self.parameter("P", Some(name))).transpose()?,
        };
        let tensors = NodeTensors {
            parameters,
            lengths: self.source("sequence_lens", input(4))?,
            h0: self.source("initial_h", input(5))?,
            c0: self.source("initial_c", input(6))?,
        };
        let order = Order::onnx(operator.op);
        let mut layer = OnnxNode::new(self.found.label.clone(), &operator, order, tensors)?;
        layer.input.clone_from(x);
        layer.outputs = [0, 1, 2].map(|n| node.output.get(n).filter(|name| !name.is_empty()).cloned());
        Ok(layer)
    }

    fn operator(&self, node: &proto::Node) -> Result<Operator> {
        let mut operator = Operator::new(self.found.label.op);
        for bytes in &node.attribute {
            let attribute = proto::Attribute::decode(bytes.clone());
            let attribute = attribute.map_err(|e| Error::mismatch("attribute", "an AttributeProto", e))?;
            operator.set(&attribute.name, attribute_value(&attribute)?)?;
        }
        Ok(operator)
    }

    fn parameter(&self, what: &str, name: Option<&String>) -> Result<Constant> {
        let name = name.ok_or_else(|| Error::mismatch(what, "an input", "none"))?;
        match self.source(what, Some(name))? {
            Source::Constant(constant) => Ok(constant),
            Source::Absent | Source::Runtime(_) => {
                let expected = "an initialiser, or the output of a Constant node (fold constants when exporting)";
                Err(Error::mismatch(
                    what,
                    expected,
                    format!("{}, a value computed or fed at run time", shortened(name)),
                ))
            }
        }
    }

    /// Where the value of that name comes from. States that the model fills with zeros at run time are none.
    fn source(&self, what: &str, name: Option<&String>) -> Result<Source<Constant>> {
        let Some(name) = name else { return Ok(Source::Absent) };
        if let Some(given) = self.given.get(name.as_str()) {
            return Ok(Source::Constant((*given).clone()));
        }
        if let Some(constant) = self.constant(what, name)? {
            return Ok(Source::Constant(constant));
        }
        if self.is_zeros(what, name)? {
            return Ok(Source::Absent);
        }
        Ok(Source::Runtime(name.clone()))
    }

    /// What `look` finds in the graph of the node or in one around it.
    fn look_up<'a>(&'a self, look: impl Fn(&'a Scope) -> Option<&'a Bytes>) -> Option<Bytes> {
        let mut at = Some(self.found.scope);
        while let Some(n) = at {
            let scope = &self.file.scopes[n];
            if let Some(bytes) = look(scope) {
                return Some(bytes.clone());
            }
            at = scope.outer;
        }
        None
    }

    fn producer(&self, name: &str) -> Result<Option<proto::Node>> {
        let bytes = self.look_up(|scope| scope.producers.get(name));
        let decode = |bytes| proto::Node::decode(bytes).map_err(|e| Error::mismatch("node", "a NodeProto", e));
        bytes.map(decode).transpose()
    }

    fn constant(&self, what: &str, name: &str) -> Result<Option<Constant>> {
        if let Some(bytes) = self.look_up(|scope| scope.constants.get(name)) {
            return Constant::decode(what, bytes).map(Some);
        }
        match self.producer(name)? {
            Some(node) if node.op_type == "Constant" => tensor_attribute(&node, what),
            _ => Ok(None),
        }
    }

    /// Whether another node makes zeros under that name, whatever their shape: `ConstantOfShape`, or `Expand` of a zero.
    fn is_zeros(&self, what: &str, name: &str) -> Result<bool> {
        let Some(node) = self.producer(name)? else { return Ok(false) };
        let value = match (node.op_type.as_str(), node.input.first()) {
            ("ConstantOfShape", _) if node.attribute.is_empty() => return Ok(true),
            ("ConstantOfShape", _) => tensor_attribute(&node, what)?,
            ("Expand", Some(expanded)) => self.constant(what, expanded)?,
            _ => None,
        };
        Ok(value.is_some_and(|v| v.is_zero()))
    }
}

/// The attribute `value` of a node.
fn tensor_attribute(node: &proto::Node, what: &str) -> Result<Option<Constant>> {
    for bytes in &node.attribute {
        let attribute = proto::Attribute::decode(bytes.clone());
        let attribute = attribute.map_err(|e| Error::mismatch(what, "an AttributeProto", e))?;
        if let ("value", Some(tensor)) = (attribute.name.as_str(), attribute.t) {
            return Constant::decode(what, tensor).map(Some);
        }
    }
    Ok(None)
}

fn attribute_value(attribute: &proto::Attribute) -> Result<AttributeValue> {
    let name = shortened(&attribute.name);
    if !attribute.ref_attr_name.is_empty() {
        let what = format!("{name} as a reference to a function's attribute");
        return Err(Error::Unsupported { what, reason: "functions are not read".into() });
    }
    let text = |bytes: &Bytes| {
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::mismatch(name.clone(), "UTF-8", "other bytes"))
    };
    // Files from before IR version 4 may leave the type out.
    let kind = match (attribute.kind, attribute) {
        (proto::kind::UNDEFINED, proto::Attribute { i: Some(_), .. }) => proto::kind::INT,
        (proto::kind::UNDEFINED, proto::Attribute { f: Some(_), .. }) => proto::kind::FLOAT,
        (proto::kind::UNDEFINED, proto::Attribute { s: Some(_), .. }) => proto::kind::STRING,
        (proto::kind::UNDEFINED, a) if !a.floats.is_empty() => proto::kind::FLOATS,
        (proto::kind::UNDEFINED, a) if !a.strings.is_empty() => proto::kind::STRINGS,
        (kind, _) => kind,
    };
    // A scalar that is not there is the zero that proto3 does not write.
    match kind {
        proto::kind::INT => Ok(AttributeValue::Int(attribute.i.unwrap_or(0))),
        proto::kind::FLOAT => Ok(AttributeValue::Float(attribute.f.unwrap_or(0.0).into())),
        proto::kind::STRING => Ok(AttributeValue::Text(attribute.s.as_ref().map_or(Ok(String::new()), text)?)),
        proto::kind::FLOATS => Ok(AttributeValue::Floats(attribute.floats.iter().map(|&v| v.into()).collect())),
        proto::kind::STRINGS => Ok(AttributeValue::Texts(attribute.strings.iter().map(text).collect::<Result<_>>()?)),
        other => Err(Error::mismatch(name, "an int, float, string, floats or strings", format!("type {other}"))),
    }
}

/// The tensors of a node, however they were found.
#[derive(Clone, Debug)]
pub(crate) struct NodeTensors {
    pub parameters: Parameters,
    pub lengths: Source<Constant>,
    pub h0: Source<Constant>,
    pub c0: Source<Constant>,
}

impl OnnxNode {
    /// The layer of an operator whose parameters are in `order`; without the names of X and the outputs.
    pub(crate) fn new(label: OnnxLabel, operator: &Operator, order: Order, tensors: NodeTensors) -> Result<Self> {
        let NodeTensors { parameters, lengths, h0, c0 } = tensors;
        let [_, _, input] = parameters.w.sizes("W", "[D, G·H, I]")?;
        let [_, _, hidden] = parameters.r.sizes("R", "[D, G·H, H]")?;
        if let Some(said) = operator.hidden_size.filter(|&said| said != hidden) {
            return Err(Error::mismatch("hidden_size", format!("R's H = {hidden}"), said));
        }
        let (bias, peepholes) = (parameters.b.is_some(), parameters.p.is_some());
        let config = operator.config(&Sizes { input, hidden, bias, peepholes })?;
        let weights = parameters.weights(&config, order)?;
        let state = |what: &str, source: Source<Constant>| source.map(|constant| states(what, &config, &constant));
        let (h0, c0) = (state("initial_h", h0)?, state("initial_c", c0)?);
        let lengths = lengths.map(|constant| lengths_of(&constant))?;
        Ok(Self { label, config, weights, h0, c0, lengths, input: String::new(), outputs: [None, None, None] })
    }
}

impl Source<Constant> {
    fn map<T>(self, read: impl FnOnce(Constant) -> Result<T>) -> Result<Source<T>> {
        Ok(match self {
            Self::Absent => Source::Absent,
            Self::Constant(constant) => Source::Constant(read(constant)?),
            Self::Runtime(name) => Source::Runtime(name),
        })
    }
}

fn lengths_of(constant: &Constant) -> Result<Vec<usize>> {
    let what = "sequence_lens";
    let [_] = constant.sizes(what, "[B]")?;
    let length = |&n: &i64| usize::try_from(n).map_err(|_| Error::mismatch(what, "lengths", n));
    constant.integers(what)?.iter().map(length).collect()
}
