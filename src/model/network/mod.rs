//! Networks of linear recurrences and what stands around them: blocks as operations over values `[T, B, width]`.
//!
//! ```text
//! Network (operations, parameters by name)  ──>  NetworkPlan (sizes, strategy, memory)  ──>  NetworkSession (on a device)
//!
//! linear   x·Wᵀ + b                      norm   RMS, layer or L2, over groups of columns
//! conv     depthwise over time           map    a pointwise expression of several operands
//! shift    the step before               scan   a linear recurrence (crate::rule)
//! sum      of groups of columns          layers a stack of LSTM, GRU, … (crate::RnnConfig)
//! concat   parts side by side            pool   of a sequence the last, first, mean or largest row of its steps
//! loss     how far from targets          embedding  rows of a table by token ids
//! ```
//!
//! An operation makes one new value; it reads parts of values (ranges of columns), so that what one product gives several readers
//! take without a copy. Each has its adjoint, and the backward pass walks the operations in reverse: gradients of values and
//! parameters are sums over their readers, in that fixed order. Operations over time (conv, shift, scan, layers) know lengths and resets and
//! carry a state from run to run, so that a network runs whole, in pieces or step by step; all others work row by row.
//!
//! Published blocks are functions that add their operations to a network, in `crate::blocks`.

mod build;
mod lower;
pub mod ops;
mod random;

pub use build::Builder;
pub use ops::{
    Compared, Concat, Conv, Embedding, LayersShape, Linear, Map, Norm, Normalise, Op, Pool, Pooling, ScanShape, Shift,
    Sum,
};

use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Index of a value: `[T, B, width]`, or `[B, width]` ([`Rows`]).
pub type ValueId = usize;
/// Index of a parameter.
pub type ParamId = usize;

/// Some columns of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which value.
    pub value: ValueId,
    /// Its first column of these.
    pub first: usize,
    /// How many.
    pub width: usize,
}

impl Part {
    /// `width` columns of it from `first` on.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] beyond its end.
    pub fn columns(self, first: usize, width: usize) -> Result<Self> {
        if width == 0 || first.checked_add(width).is_none_or(|end| end > self.width) {
            let got = format!("{first}..{first}+{width}");
            return Err(Error::mismatch("columns of a part", format!("within 0..{}", self.width), got));
        }
        Ok(Self { value: self.value, first: self.first + first, width })
    }
}

/// Where an operand's columns are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Of every row.
    Value(Part),
    /// The same for all rows: elements of a parameter, in row-major order.
    Param {
        /// Which parameter.
        param: ParamId,
        /// Its first element of these.
        first: usize,
        /// How many.
        width: usize,
    },
}

/// What a pointwise operation or a scan reads: its column c is column c / (`inner` · `repeat`) · `inner` + c % `inner` of the source.
/// So `repeat` 1 is the source itself; `inner` 1 repeats every column (a value per head over the head's columns), `inner` = the
/// source's width repeats the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Where its columns are.
    pub source: Source,
    /// Neighbouring columns that are repeated together.
    pub inner: usize,
    /// How often.
    pub repeat: usize,
}

impl Operand {
    /// Columns of the source.
    pub fn source_width(&self) -> usize {
        match self.source {
            Source::Value(part) => part.width,
            Source::Param { width, .. } => width,
        }
    }
    /// The part of a value that it shows, if it does not show a parameter.
    pub fn part(&self) -> Option<Part> {
        match self.source {
            Source::Value(part) => Some(part),
            Source::Param { .. } => None,
        }
    }
    /// Columns of the operand.
    pub fn width(&self) -> usize {
        self.source_width().saturating_mul(self.repeat)
    }
    /// Whether it shows some of a part's columns, but not the same ones in the same places.
    pub(crate) fn overlaps(&self, part: Part) -> bool {
        let Source::Value(other) = self.source else { return false };
        let meet = other.value == part.value
            && other.first < part.first + part.width
            && part.first < other.first + other.width;
        meet && other != part
    }
    /// The source's column of the operand's column c.
    pub fn column(&self, c: usize) -> usize {
        c / (self.inner * self.repeat) * self.inner + c % self.inner
    }
    /// Every column `times` times in a row.
    #[must_use]
    pub fn each(self, times: usize) -> Self {
        Self { inner: 1, repeat: times, ..self }
    }
    /// Groups of `inner` columns, every group `times` times in a row.
    #[must_use]
    pub fn groups(self, inner: usize, times: usize) -> Self {
        Self { inner, repeat: times, ..self }
    }
}

impl From<Part> for Operand {
    fn from(part: Part) -> Self {
        Self { source: Source::Value(part), inner: part.width, repeat: 1 }
    }
}

/// An operation and the value it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, of its state too.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it makes.
    pub value: ValueId,
}

/// What a value has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Every step of every sequence: `[T, B, width]`.
    Steps,
    /// Every sequence: `[B, width]`.
    Sequences,
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Steps => "step",
            Self::Sequences => "sequence",
        })
    }
}

/// A value's name and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Columns of a row.
    pub width: usize,
    /// What it has a row for.
    pub rows: Rows,
}

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, of its tensor in files too unless `stored` says otherwise.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// How files hold it; `None`: as it is.
    pub stored: Option<Stored>,
}

/// How a file holds a parameter that it does not hold as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The tensor's name.
    pub tensor: String,
    /// Which of how many equal slices of the tensor, along a first dimension of that size; `None`: the whole of it.
    pub slice: Option<(usize, usize)>,
    /// A matrix `[in, out]` in the file, `[out, in]` here.
    pub transposed: bool,
}

impl Param {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Never: every dimension is at least 1.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Operations in order, each reading what those before it have made. Made by [`Builder::finish`]; everything in it can be read
/// ([`NetworkData`]) and nothing changed: kernels without checks of their indices trust its sizes.
///
/// ```compile_fail,E0594
/// # use wgpu_rnn::network::Builder;
/// let mut b = Builder::new();
/// let x = b.input("x", 3).unwrap();
/// b.output("y", x).unwrap();
/// let mut network = b.finish().unwrap();
/// network.values[0].width = 4; // cannot assign to data in dereference of `Network`
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Network(NetworkData);

impl std::ops::Deref for Network {
    type Target = NetworkData;
    fn deref(&self) -> &NetworkData {
        &self.0
    }
}

/// What a [`Network`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkData {
    /// All values: inputs, then one per operation.
    pub values: Vec<Value>,
    /// Which of them the caller gives.
    pub inputs: Vec<ValueId>,
    /// All parameters.
    pub params: Vec<Param>,
    /// The operations.
    pub nodes: Vec<Node>,
    /// What the caller gets, by name.
    pub outputs: Vec<(String, Part)>,
}

impl NetworkData {
    /// The parameter of that name.
    pub fn param(&self, name: &str) -> Option<ParamId> {
        self.params.iter().position(|p| p.name == name)
    }
    /// The values that outputs show, whole or in part.
    pub(crate) fn shown(&self) -> BTreeSet<ValueId> {
        self.outputs.iter().map(|(_, part)| part.value).collect()
    }
    /// Its losses, each with the value that holds it.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (ValueId, &Compared)> {
        self.nodes.iter().filter_map(|n| match &n.op {
            Op::Loss(of) => Some((n.value, of)),
            _ => None,
        })
    }
    /// Its embeddings, each with the value that it makes.
    pub(crate) fn embeddings(&self) -> impl Iterator<Item = (ValueId, &Embedding)> {
        self.nodes.iter().filter_map(|n| match &n.op {
            Op::Embedding(of) => Some((n.value, of)),
            _ => None,
        })
    }
    /// Its linear recurrences.
    pub(crate) fn scans(&self) -> impl Iterator<Item = &ScanShape> {
        self.nodes.iter().filter_map(|n| match &n.op {
            Op::Scan(s) => Some(s),
            _ => None,
        })
    }
    /// Whether a parameter belongs to a stack of recurrent layers.
    pub(crate) fn of_layers(&self, param: ParamId) -> bool {
        self.nodes.iter().any(|n| matches!(&n.op, Op::Layers(layers) if layers.own().contains(&param)))
    }
    /// Where every parameter begins among those that operations of the network's own read, `None` for those of layers; and how many
    /// elements those are.
    pub(crate) fn own_params(&self) -> (Vec<Option<usize>>, usize) {
        let mut len = 0;
        let mut place = |(n, p): (ParamId, &Param)| {
            (!self.of_layers(n)).then(|| {
                len += p.len();
                len - p.len()
            })
        };
        let places = self.params.iter().enumerate().map(&mut place).collect();
        (places, len)
    }
    /// Number of parameter elements.
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(Param::len).sum()
    }
    /// Where a parameter begins among all, laid out one after the other.
    pub fn param_offset(&self, param: ParamId) -> usize {
        self.params[..param].iter().map(Param::len).sum()
    }
}
