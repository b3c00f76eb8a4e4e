//! A recurrent node, put together from its attributes and from whatever gives its inputs their values.

use super::constant::Constant;
use super::operator::{AttributeValue, OnnxOp, Operator, Sizes, shortened};
use super::order::{Order, Parameters, states};
use super::{Found, OnnxFile, OnnxLabel, Scope, proto};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{Error, Result, RnnConfig, Tensor};

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
    /// One layer; `layout` = 1 is [`wgpu_rnn::Layout::BatchFirst`].
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

/// A node, not yet believed.
pub(super) struct NodeReader<'a> {
    pub values: Values<'a>,
    pub found: &'a Found,
}

/// The values of a graph's names.
pub(super) struct Values<'a> {
    pub file: &'a OnnxFile,
    /// Which graph.
    pub scope: usize,
    /// Values for names that the file leaves to its user.
    pub given: &'a HashMap<&'a str, &'a Constant>,
}

impl NodeReader<'_> {
    pub fn read(&self) -> Result<OnnxNode> {
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
            lengths: self.values.source("sequence_lens", input(4))?,
            h0: self.values.source("initial_h", input(5))?,
            c0: self.values.source("initial_c", input(6))?,
        };
        let order = Order::onnx(operator.op);
        let mut layer = OnnxNode::new(self.found.label.clone(), &operator, order, tensors)?;
        layer.input.clone_from(x);
        layer.outputs = [0, 1, 2].map(|n| node.output.get(n).filter(|name| !name.is_empty()).cloned());
        Ok(layer)
    }

    fn operator(&self, node: &proto::Node) -> Result<Operator> {
        let mut operator = Operator::new(self.found.label.op);
        for attribute in attributes(node) {
            let (name, value) = attribute?;
            operator.set(&name, value)?;
        }
        Ok(operator)
    }

    fn parameter(&self, what: &str, name: Option<&String>) -> Result<Constant> {
        let name = name.ok_or_else(|| Error::mismatch(what, "an input", "none"))?;
        match self.values.source(what, Some(name))? {
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
}

impl Values<'_> {
    /// Where the value of that name comes from. States that the model fills with zeros at run time are none.
    pub fn source(&self, what: &str, name: Option<&String>) -> Result<Source<Constant>> {
        match self.value(what, name)? {
            Source::Runtime(name) if self.is_zeros(what, &name)? => Ok(Source::Absent),
            source => Ok(source),
        }
    }

    /// The same of a value whose zeros are not as good as none.
    pub fn value(&self, what: &str, name: Option<&String>) -> Result<Source<Constant>> {
        let Some(name) = name else { return Ok(Source::Absent) };
        if let Some(given) = self.given.get(name.as_str()) {
            return Ok(Source::Constant((*given).clone()));
        }
        Ok(self.constant(what, name)?.map_or_else(|| Source::Runtime(name.clone()), Source::Constant))
    }

    /// What `look` finds in the graph of the node or in one around it.
    fn look_up<'a>(&'a self, look: impl Fn(&'a Scope) -> Option<&'a Bytes>) -> Option<Bytes> {
        let mut at = Some(self.scope);
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

/// The attributes of a node.
pub(super) fn attributes(node: &proto::Node) -> impl Iterator<Item = Result<(String, AttributeValue)>> {
    node.attribute.iter().map(|bytes| {
        let attribute = proto::Attribute::decode(bytes.clone());
        let attribute = attribute.map_err(|e| Error::mismatch("attribute", "an AttributeProto", e))?;
        let value = attribute_value(&attribute)?;
        Ok((attribute.name, value))
    })
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
pub struct NodeTensors {
    /// W, R, B and P.
    pub parameters: Parameters,
    /// `sequence_lens`
    pub lengths: Source<Constant>,
    /// `initial_h`
    pub h0: Source<Constant>,
    /// `initial_c`
    pub c0: Source<Constant>,
}

impl OnnxNode {
    /// The layer of an operator whose parameters are in `order`; without the names of X and the outputs.
    #[doc(hidden)] // Of [`super::parts`].
    pub fn new(label: OnnxLabel, operator: &Operator, order: Order, tensors: NodeTensors) -> Result<Self> {
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
    pub(super) fn map<T>(self, read: impl FnOnce(Constant) -> Result<T>) -> Result<Source<T>> {
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
