//! A recurrent node, put together from its attributes and from whatever gives its inputs their values.

use super::constant::Constant;
use super::fold::{Cut, Folded, Folding, Places, broadcast, cut};
use super::operator::{AttributeValue, OnnxOp, Operator, Sizes, shortened};
use super::order::{Order, Parameters, states};
use super::{Found, OnnxFile, OnnxLabel, proto, quantised};
use prost::Message;
use prost::bytes::Bytes;
use std::cell::RefCell;
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
    /// `initial_h` as `[D, B, H]`; `[D, 1, H]` where every sequence of a batch has the same. Zeros are [`Source::Absent`].
    pub h0: Source<Tensor<f64>>,
    /// `initial_c`, as `h0`.
    pub c0: Source<Tensor<f64>>,
    /// `sequence_lens`, one per sequence.
    pub lengths: Source<Vec<usize>>,
    /// Of a `DynamicQuantizeLSTM`, whose W and R are 8-bit numbers: whether [`wgpu_rnn::weights::WeightFormat::Int8`] holds them as they are.
    pub int8: Option<bool>,
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
    folding: RefCell<Folding<'a>>,
    /// Which graph.
    scope: usize,
    /// Values for names that the file leaves to its user.
    given: &'a HashMap<&'a str, &'a Constant>,
}

impl NodeReader<'_> {
    pub fn read(&self) -> Result<OnnxNode> {
        let node =
            proto::Node::decode(self.found.bytes.clone()).map_err(|e| Error::mismatch("node", "a NodeProto", e))?;
        let operator = Operator::of_node(self.found.label.op, &node)?;
        let input = |n: usize| node.input.get(n).filter(|name| !name.is_empty());
        let (known_inputs, known_outputs) = match operator.op {
            OnnxOp::Lstm if self.found.quantised => (12, 3),
            OnnxOp::Lstm => (8, 3),
            _ => (6, 2),
        };
        for (what, count, known) in
            [("inputs", node.input.len(), known_inputs), ("outputs", node.output.len(), known_outputs)]
        {
            if count > known {
                return Err(Error::mismatch(what, format!("at most {known}"), count));
            }
        }
        let x = input(0).ok_or_else(|| Error::mismatch("X", "an input", "none"))?;
        let parameter = |n: usize, what: &str| self.values.parameter(what, input(n));
        let optional = |n: usize, what: &str| input(n).map(|_| parameter(n, what)).transpose();
        let (w, r) = match self.found.quantised {
            false => (parameter(1, "W")?, parameter(2, "R")?),
            true => {
                let (w_zero, r_zero) = (optional(9, "W_zero_point")?, optional(11, "R_zero_point")?);
                let (w_scale, r_scale) = (parameter(8, "W_scale")?, parameter(10, "R_scale")?);
                let w = quantised::matrix("W", &parameter(1, "W")?, &w_scale, w_zero.as_ref())?;
                (w, quantised::matrix("R", &parameter(2, "R")?, &r_scale, r_zero.as_ref())?)
            }
        };
        let parameters = Parameters { w, r, b: optional(3, "B")?, p: optional(7, "P")? };
        let axes = StateAxes::of(&operator, &parameters.r);
        let tensors = NodeTensors {
            lengths: self.values.value("sequence_lens", input(4))?,
            h0: self.values.state("initial_h", input(5), axes)?,
            c0: self.values.state("initial_c", input(6), axes)?,
            parameters,
        };
        let order = Order::onnx(operator.op);
        let mut layer = OnnxNode::new(self.found.label.clone(), &operator, order, tensors)?;
        layer.input.clone_from(x);
        if self.found.quantised {
            let fits = |n: usize, zero: usize| -> Result<bool> {
                Ok(quantised::fits_int8(&parameter(n, "W or R")?, optional(zero, "zero point")?.as_ref()))
            };
            layer.int8 = Some(fits(1, 9)? && fits(2, 11)?);
        }
        layer.outputs = [0, 1, 2].map(|n| node.output.get(n).filter(|name| !name.is_empty()).cloned());
        Ok(layer)
    }
}

/// What a node's initial states must be: D, H, and which axis is the batch.
#[derive(Clone, Copy)]
struct StateAxes {
    directions: usize,
    hidden: usize,
    batch: usize,
}

impl StateAxes {
    fn of(operator: &Operator, r: &Constant) -> Self {
        let hidden = r.shape.last().copied().unwrap_or(0);
        Self { directions: operator.direction.count(), hidden, batch: usize::from(!operator.batch_first) }
    }

    /// One row for any batch, of a state that only a run repeats, or that is the same for all sequences of the batch that the model was
    /// traced with. `None` for another.
    fn one_row(self, state: &Constant) -> Option<Constant> {
        let mut wanted = vec![self.directions, self.directions, self.hidden];
        wanted[self.batch] = 1;
        if broadcast(&state.shape, &wanted).is_ok_and(|both| both == wanted) {
            let places = Places::repeated(&state.shape, &wanted);
            return Some(state.taken(wanted, places));
        }
        if state.shape.len() != 3 || state.len() == 0 {
            return None;
        }
        let (shape, places) = cut(&state.shape, &[Cut { axis: self.batch, first: 0, step: 1, count: 1 }]);
        let row = state.taken(shape, places);
        let again = row.taken(state.shape.clone(), Places::repeated(&row.shape, &state.shape));
        (row.shape == wanted && again.numbers() == state.numbers()).then_some(row)
    }
}

/// Puts an input's name before a message, if it is not there: often the model calls a value what the operator calls its input.
fn of_input(what: &str, error: Error) -> Error {
    let part = match &error {
        Error::Mismatch { what, .. } | Error::Unsupported { what, .. } | Error::Limit { what, .. } => what.as_str(),
        _ => "",
    };
    if part.split(' ').next() == Some(what) { error } else { super::within(what, error) }
}

impl<'a> Values<'a> {
    /// Of the names that a node of that graph sees.
    pub fn new(file: &'a OnnxFile, scope: usize, given: &'a HashMap<&'a str, &'a Constant>) -> Self {
        Self { folding: RefCell::new(Folding::new(file, given)), scope, given }
    }

    fn folded(&self, what: &str, name: &str) -> Result<Folded> {
        self.folding.borrow_mut().value(self.scope, name).map_err(|e| of_input(what, e))
    }

    /// Where the value of that name comes from. Zeros, in the file or made at run time, are as good as none.
    pub fn source(&self, what: &str, name: Option<&String>) -> Result<Source<Constant>> {
        let Some(name) = name else { return Ok(Source::Absent) };
        Ok(match self.folded(what, name)? {
            Folded::Constant(c) | Folded::Repeated(c) if c.is_zero() && !self.given.contains_key(name.as_str()) => {
                Source::Absent
            }
            Folded::Constant(c) => Source::Constant(c),
            Folded::Repeated(_) | Folded::Runtime => Source::Runtime(name.clone()),
        })
    }

    /// The same of a value whose zeros are not as good as none.
    pub fn value(&self, what: &str, name: Option<&String>) -> Result<Source<Constant>> {
        let Some(name) = name else { return Ok(Source::Absent) };
        Ok(match self.folded(what, name)? {
            Folded::Constant(c) => Source::Constant(c),
            Folded::Repeated(_) | Folded::Runtime => Source::Runtime(name.clone()),
        })
    }

    /// An initial state: one row of it where that is for any batch.
    fn state(&self, what: &str, name: Option<&String>, axes: StateAxes) -> Result<Source<Constant>> {
        let given = name.is_some_and(|name| self.given.contains_key(name.as_str()));
        let Some(name) = name.filter(|_| !given) else { return self.value(what, name) };
        Ok(match self.folded(what, name)? {
            Folded::Constant(c) | Folded::Repeated(c) if c.is_zero() => Source::Absent,
            Folded::Constant(c) => Source::Constant(axes.one_row(&c).unwrap_or(c)),
            Folded::Repeated(c) => axes.one_row(&c).map_or_else(|| Source::Runtime(name.clone()), Source::Constant),
            Folded::Runtime => Source::Runtime(name.clone()),
        })
    }

    fn parameter(&self, what: &str, name: Option<&String>) -> Result<Constant> {
        let name = name.ok_or_else(|| Error::mismatch(what, "an input", "none"))?;
        match self.value(what, Some(name))? {
            Source::Constant(constant) => Ok(constant),
            Source::Absent | Source::Runtime(_) => {
                let expected = "a constant, or what nodes make of constants";
                Err(Error::mismatch(what, expected, format!("{}, a value of a run", shortened(name))))
            }
        }
    }
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
        let [_, rows, hidden] = parameters.r.sizes("R", "[D, G·H, H]")?;
        if operator.op == OnnxOp::Lstm && rows > 4 * hidden && rows.is_multiple_of(4) {
            let what = format!("an LSTM with a projection (H = {}, P = {hidden}, by the shapes of W and R)", rows / 4);
            let reason =
                "ONNX has none; what PyTorch 2.15 exports of one leaves its matrix out. Load the PyTorch weights";
            return Err(Error::Unsupported { what, reason: reason.into() });
        }
        if let Some(said) = operator.hidden_size.filter(|&said| said != hidden) {
            return Err(Error::mismatch("hidden_size", format!("R's H = {hidden}"), said));
        }
        let (bias, peepholes) = (parameters.b.is_some(), parameters.p.is_some());
        let config = operator.config(&Sizes { input, hidden, bias, peepholes })?;
        let weights = parameters.weights(&config, order)?;
        let state = |what: &str, source: Source<Constant>| source.map(|constant| states(what, &config, &constant));
        let (h0, c0) = (state("initial_h", h0)?, state("initial_c", c0)?);
        let lengths = lengths.map(|constant| lengths_of(&constant))?;
        Ok(Self {
            label,
            config,
            weights,
            h0,
            c0,
            lengths,
            int8: None,
            input: String::new(),
            outputs: [None, None, None],
        })
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
