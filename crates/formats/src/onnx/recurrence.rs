//! Nodes of ONNX (opset 27 on) that are linear recurrences or carry a convolution's last inputs: `LinearAttention` and
//! `CausalConvWithState`, as [`wgpu_rnn::network`]s.
//!
//! ```text
//! OnnxFile ──> OnnxRecurrence (attributes, constant inputs, names) ──shapes──> RecurrenceNetwork ──> NetworkPlan, NetworkSession
//! ```
//!
//! Sizes come from the shapes of the inputs, which an ONNX file need not say. Source: the operators' pages of ONNX, version 27.
//! Operators of those names in other domains (`com.microsoft`) have other attributes and are not read.
//!
//! ```
//! use wgpu_rnn_formats::onnx::{CausalConv, Recurrence};
//! use wgpu_rnn::network::NetworkOptions;
//! use wgpu_rnn::{Device, View};
//! # fn main() -> wgpu_rnn::Result<()> {
//! let operator = Recurrence::CausalConvWithState(CausalConv { silu: false });
//! // input [B, C, T], weight [C, 1, k]
//! let (x, w) = (View::new(&[1.0f32, 2.0, 3.0], &[1, 1, 3]), View::new(&[10.0, 1.0], &[1, 1, 2]));
//! let network = operator.network(&[Some(x.shape), Some(w.shape)])?;
//! let [y, state] = network.run(&Device::cpu(), &NetworkOptions::default(), &[Some(x), Some(w)])?;
//! assert_eq!((y.data, state.data), (vec![1.0, 12.0, 23.0], vec![3.0]));
//! # Ok(()) }
//! ```

mod attention;
mod convolution;
mod network;

pub use attention::{LinearAttention, UpdateRule};
pub use convolution::CausalConv;
pub use network::{RecurrenceFeed, RecurrenceNetwork};

pub(super) use attention::{Heads, VALUES};

use super::constant::Constant;
use super::node::{Values, attributes};
use super::operator::{AttributeValue, shortened};
use super::{Found, OnnxLabel, Source, proto};
use prost::Message;
use wgpu_rnn::{Error, Result, Tensor};

/// The first opset that has these operators.
pub(super) const FIRST_OPSET: i64 = 27;

/// An operator of ONNX that is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrenceOp {
    /// `LinearAttention`
    LinearAttention,
    /// `CausalConvWithState`
    CausalConvWithState,
}

impl RecurrenceOp {
    /// The operator of that `op_type`.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::LinearAttention, Self::CausalConvWithState].into_iter().find(|op| op.name() == name)
    }
    /// Its `op_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinearAttention => "LinearAttention",
            Self::CausalConvWithState => "CausalConvWithState",
        }
    }
    /// Its inputs in order: name and dimensions.
    pub fn inputs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::LinearAttention => &attention::INPUTS,
            Self::CausalConvWithState => &convolution::INPUTS,
        }
    }
    /// Its outputs in order.
    pub fn outputs(self) -> [&'static str; 2] {
        ["output", "present_state"]
    }
}

impl std::fmt::Display for RecurrenceOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An operator with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrence {
    /// `LinearAttention`
    LinearAttention(LinearAttention),
    /// `CausalConvWithState`
    CausalConvWithState(CausalConv),
}

impl Recurrence {
    /// # Errors
    /// [`Error::Mismatch`] for values that an attribute cannot have, [`Error::Unsupported`] for one that the operator does not know.
    #[doc(hidden)] // Of [`super::parts`].
    pub fn new(op: RecurrenceOp, attributes: &[(String, AttributeValue)]) -> Result<Self> {
        match op {
            RecurrenceOp::LinearAttention => LinearAttention::new(attributes).map(Self::LinearAttention),
            RecurrenceOp::CausalConvWithState => CausalConv::new(attributes).map(Self::CausalConvWithState),
        }
    }

    /// Which operator.
    pub fn op(&self) -> RecurrenceOp {
        match self {
            Self::LinearAttention(_) => RecurrenceOp::LinearAttention,
            Self::CausalConvWithState(_) => RecurrenceOp::CausalConvWithState,
        }
    }

    /// The network for inputs of these shapes, in the operator's order; `None` (or nothing, at the end) for one left out.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing, too many or of other shapes; [`Error::Limit`] for a state beyond any device.
    pub fn network(&self, shapes: &[Option<&[usize]>]) -> Result<RecurrenceNetwork> {
        let shapes = Shapes::new(self.op(), shapes)?;
        match self {
            Self::LinearAttention(attention) => attention.network(&shapes),
            Self::CausalConvWithState(convolution) => convolution.network(&shapes),
        }
    }
}

/// A node of such an operator in a file.
#[derive(Clone, Debug)]
pub struct OnnxRecurrence {
    /// What the file calls it.
    pub label: OnnxLabel<RecurrenceOp>,
    /// The operator with its attributes.
    pub recurrence: Recurrence,
    /// All of [`RecurrenceOp::inputs`], with ONNX's axes.
    pub inputs: Vec<Source<Tensor<f64>>>,
    /// The names of [`RecurrenceOp::outputs`]; `None` for one that the model does not use.
    pub outputs: [Option<String>; 2],
}

/// The same as it is read.
pub struct RecurrenceTensors {
    label: OnnxLabel<RecurrenceOp>,
    /// The operator with its attributes.
    pub recurrence: Recurrence,
    /// All of [`RecurrenceOp::inputs`].
    pub inputs: Vec<Source<Constant>>,
    /// The names of [`RecurrenceOp::outputs`]; `None` for one that the model does not use.
    pub outputs: [Option<String>; 2],
}

impl RecurrenceTensors {
    pub(super) fn read(values: &Values<'_>, found: &Found<RecurrenceOp>) -> Result<Self> {
        let node = proto::Node::decode(found.bytes.clone()).map_err(|e| Error::mismatch("node", "a NodeProto", e))?;
        let op = found.label.op;
        for (what, count, known) in
            [("inputs", node.input.len(), op.inputs().len()), ("outputs", node.output.len(), op.outputs().len())]
        {
            if count > known {
                return Err(Error::mismatch(what, format!("at most {known}"), count));
            }
        }
        let input = |(n, &(what, _)): (usize, &(&str, &str))| {
            let name = node.input.get(n).filter(|name| !name.is_empty());
            // A state or a bias of zeros is as good as none; a gate of zeros is a gate.
            if matches!(what, "past_state" | "bias") { values.source(what, name) } else { values.value(what, name) }
        };
        let inputs = op.inputs().iter().enumerate().map(input).collect::<Result<_>>()?;
        let recurrence = Recurrence::new(op, &attributes(&node).collect::<Result<Vec<_>>>()?)?;
        let outputs = [0, 1].map(|n| node.output.get(n).filter(|name| !name.is_empty()).cloned());
        Ok(Self { label: found.label.clone(), recurrence, inputs, outputs })
    }

    pub(super) fn into_node(self) -> Result<OnnxRecurrence> {
        let Self { label, recurrence, inputs, outputs } = self;
        let names = label.op.inputs().iter().map(|(name, _)| *name);
        let tensor = |(name, source): (&str, Source<Constant>)| {
            source.map(|c| Ok(Tensor { data: c.reals(name)?.to_vec(), shape: c.shape }))
        };
        let inputs = names.zip(inputs).map(tensor).collect::<Result<_>>()?;
        Ok(OnnxRecurrence { label, recurrence, inputs, outputs })
    }
}

/// The shapes of an operator's inputs.
pub(super) struct Shapes<'a> {
    op: RecurrenceOp,
    given: &'a [Option<&'a [usize]>],
}

impl<'a> Shapes<'a> {
    /// # Errors
    /// [`Error::Mismatch`] for more than there are.
    pub fn new(op: RecurrenceOp, given: &'a [Option<&'a [usize]>]) -> Result<Self> {
        let known = op.inputs().len();
        if given.len() > known {
            return Err(Error::mismatch("inputs", format!("at most {known}"), given.len()));
        }
        Ok(Self { op, given })
    }

    fn get(&self, n: usize) -> Option<&'a [usize]> {
        self.given.get(n).copied().flatten()
    }

    /// The three sizes of an input that there must be, all at least 1.
    fn three(&self, n: usize) -> Result<[usize; 3]> {
        let (name, dimensions) = self.op.inputs()[n];
        let shape = self.get(n).ok_or_else(|| Error::mismatch(name, "an input", "none"))?;
        let sizes = <[usize; 3]>::try_from(shape).ok().filter(|sizes| !sizes.contains(&0));
        sizes.ok_or_else(|| Error::mismatch(name, format!("[{dimensions}], each at least 1"), format!("{shape:?}")))
    }

    /// Refuses an input of another shape, if there is one.
    fn expect(&self, n: usize, sizes: &[usize]) -> Result<()> {
        let (name, dimensions) = self.op.inputs()[n];
        match self.get(n) {
            Some(shape) if shape != sizes => {
                Err(Error::mismatch(name, format!("[{dimensions}] = {sizes:?}"), format!("{shape:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// An attribute that was not taken: a wrong value, or a name that the operator does not have; `known`: names, and what they must be.
fn refused(op: RecurrenceOp, known: &[(&str, &str)], name: &str, value: &AttributeValue) -> Error {
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, expected)) => Error::mismatch(name, *expected, shortened(&format!("{value:?}"))),
        None => {
            let reason = format!("{op} has no such attribute in the opsets this build knows");
            Error::Unsupported { what: format!("attribute {}", shortened(name)), reason }
        }
    }
}
