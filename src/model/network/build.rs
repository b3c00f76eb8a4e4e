//! Building a network operation by operation.

use super::{Network, NetworkData, Node, Op, Operand, Param, ParamId, Part, Rows, Source, Stored, Value};
use crate::error::{Error, Result};

/// Puts a network together; every method checks what it is given. The method that adds an operation stands in the operation's file.
///
/// ```
/// use wgpu_rnn::expr::{Expr, silu};
/// use wgpu_rnn::network::Builder;
/// # fn main() -> wgpu_rnn::Result<()> {
/// let mut b = Builder::new();
/// let x = b.input("x", 6)?;
/// let (w, bias) = (b.param("proj.weight", &[4, 6])?, b.param("proj.bias", &[4])?);
/// let h = b.linear("proj", x, w, Some(bias))?;
/// let y = b.map("act", silu(Expr::input(0)), &[h.into()])?;
/// b.output("y", y)?;
/// let network = b.finish()?;
/// assert_eq!(network.parameter_count(), 28);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) network: NetworkData,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A network without operations.
    pub fn new() -> Self {
        let network = NetworkData {
            values: Vec::new(),
            inputs: Vec::new(),
            params: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
        };
        Self { network }
    }

    /// A value `[T, B, width]` that the caller gives.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a width of 0 or a name that is taken.
    pub fn input(&mut self, name: &str, width: usize) -> Result<Part> {
        let part = self.value(name, width, Rows::Steps)?;
        self.network.inputs.push(part.value);
        Ok(part)
    }

    /// A value `[B, width]` that the caller gives, a row per sequence: a label, or what a sequence is told beside its steps.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a width of 0 or a name that is taken.
    pub fn sequence_input(&mut self, name: &str, width: usize) -> Result<Part> {
        let part = self.value(name, width, Rows::Sequences)?;
        self.network.inputs.push(part.value);
        Ok(part)
    }

    /// A parameter.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a dimension of 0 or a name that is taken.
    pub fn param(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        if shape.is_empty() || shape.contains(&0) {
            return Err(Error::mismatch(format!("parameter {name}"), "dimensions of at least 1", format!("{shape:?}")));
        }
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none() {
            return Err(Error::mismatch(format!("parameter {name}"), "a number of elements", format!("{shape:?}")));
        }
        let stored = |p: &Param| p.stored.as_ref().is_some_and(|s| s.tensor == name);
        if self.network.param(name).is_some() || self.network.params.iter().any(stored) {
            return Err(Error::mismatch(format!("parameter {name}"), "a name of its own", "one that is taken"));
        }
        self.network.params.push(Param { name: name.into(), shape: shape.to_vec(), stored: None });
        Ok(self.network.params.len() - 1)
    }

    /// A matrix `[out, in]` that files hold in another way.
    ///
    /// # Errors
    /// As [`Builder::param`]; [`Error::Mismatch`] for a slice beyond the tensor's, or slices that another parameter has counted
    /// differently.
    pub fn stored_param(&mut self, name: &str, [out, inputs]: [usize; 2], stored: Stored) -> Result<ParamId> {
        let beyond = stored.slice.is_some_and(|(at, count)| at >= count);
        let same = |p: &&Param| p.stored.as_ref().map_or(&p.name, |s| &s.tensor) == &stored.tensor;
        // Another slice of as many, of the same shape and way round.
        let differs = |p: &Param| {
            let Some(o) = &p.stored else { return true };
            let slices = o.slice.zip(stored.slice);
            o.transposed != stored.transposed
                || p.shape != [out, inputs]
                || slices.is_none_or(|((a, of), (b, others))| a == b || of != others)
        };
        if beyond || self.network.params.iter().filter(same).any(differs) {
            return Err(Error::mismatch(
                format!("parameter {name}"),
                "one of the tensor's slices",
                format!("{stored:?}"),
            ));
        }
        let param = self.param(name, &[out, inputs])?;
        self.network.params[param].stored = Some(stored);
        Ok(param)
    }

    /// The parameter of that name: one that an operation has made with itself.
    pub fn param_id(&self, name: &str) -> Option<ParamId> {
        self.network.param(name)
    }

    /// All elements of a parameter as an operand.
    pub fn whole(&self, param: ParamId) -> Operand {
        // Of a parameter that there is not, nothing: no operation takes it.
        let width = self.network.params.get(param).map_or(0, Param::len);
        Operand { source: Source::Param { param, first: 0, width }, inner: width, repeat: 1 }
    }

    /// Adds several things, or, if one is refused, none of them.
    pub(super) fn whole_or_nothing(&mut self, add: impl FnOnce(&mut Self) -> Result<Part>) -> Result<Part> {
        let NetworkData { values, params, nodes, .. } = &self.network;
        let before = (values.len(), params.len(), nodes.len());
        let added = add(self);
        if added.is_err() {
            self.network.values.truncate(before.0);
            self.network.params.truncate(before.1);
            self.network.nodes.truncate(before.2);
        }
        added
    }

    /// Names a part of a value as an output.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that is taken.
    pub fn output(&mut self, name: &str, part: Part) -> Result<()> {
        if self.network.outputs.iter().any(|(n, _)| n == name) {
            return Err(Error::mismatch(format!("output {name}"), "a name of its own", "one that is taken"));
        }
        self.part(name, part)?;
        self.network.outputs.push((name.into(), part));
        Ok(())
    }

    /// The network.
    ///
    /// # Errors
    /// [`Error::Mismatch`] without inputs or outputs.
    pub fn finish(self) -> Result<Network> {
        if self.network.inputs.is_empty() || self.network.outputs.is_empty() {
            let got = format!("{} and {}", self.network.inputs.len(), self.network.outputs.len());
            return Err(Error::mismatch("inputs and outputs of a network", "at least one of each", got));
        }
        Ok(Network(self.network))
    }

    pub(super) fn value(&mut self, name: &str, width: usize, rows: Rows) -> Result<Part> {
        if width == 0 {
            return Err(Error::mismatch(format!("columns of {name}"), "at least 1", 0));
        }
        if self.network.values.iter().any(|v| v.name == name) {
            return Err(Error::mismatch(format!("value {name}"), "a name of its own", "one that is taken"));
        }
        self.network.values.push(Value { name: name.into(), width, rows });
        Ok(Part { value: self.network.values.len() - 1, first: 0, width })
    }

    /// Adds an operation whose value has the rows of what it reads.
    pub(super) fn node(&mut self, name: &str, width: usize, rows: Rows, op: impl Into<Op>) -> Result<Part> {
        let part = self.value(name, width, rows)?;
        self.network.nodes.push(Node { name: name.into(), op: op.into(), value: part.value });
        Ok(part)
    }

    /// The rows of what an operation reads, which must all be the same: a step has no row of a value per sequence.
    pub(super) fn rows(&self, name: &str, parts: impl IntoIterator<Item = Part>) -> Result<Rows> {
        let mut rows = None;
        for part in parts {
            self.part(name, part)?;
            let own = self.network.values[part.value].rows;
            if *rows.get_or_insert(own) != own {
                let expected = "values that all have a row per step, or all one per sequence";
                let got = format!("{} has a row per {own}", self.network.values[part.value].name);
                return Err(Error::mismatch(format!("what {name} reads"), expected, got));
            }
        }
        Ok(rows.unwrap_or(Rows::Steps))
    }

    /// Whether a part has a row per step, as operations over time read.
    pub(super) fn steps(&self, name: &str, part: Part) -> Result<()> {
        match self.rows(name, [part])? {
            Rows::Steps => Ok(()),
            Rows::Sequences => {
                let got = format!("{}, which has one per sequence", self.network.values[part.value].name);
                Err(Error::mismatch(format!("what {name} reads"), "a value with a row per step", got))
            }
        }
    }

    /// Whether a part, one there is, is so many columns of an input, whose numbers can be checked when they come.
    pub(super) fn given(&self, name: &str, what: &str, part: Part, width: usize) -> Result<()> {
        if part.width != width {
            return Err(Error::mismatch(format!("columns of the {what} of {name}"), width, part.width));
        }
        if !self.network.inputs.contains(&part.value) {
            let got = format!("{}, which an operation makes", self.network.values[part.value].name);
            return Err(Error::mismatch(format!("{what} of {name}"), "an input", got));
        }
        Ok(())
    }

    pub(super) fn check_groups(&self, name: &str, x: Part, groups: usize) -> Result<()> {
        if x.width.is_multiple_of(groups) {
            return Ok(());
        }
        Err(Error::mismatch(format!("groups of {name}"), format!("a divisor of {}", x.width), groups))
    }

    /// Whether there is such a part.
    pub(super) fn part(&self, name: &str, part: Part) -> Result<()> {
        let width = self.network.values.get(part.value).map_or(0, |v| v.width);
        let end = part.first.checked_add(part.width);
        if part.width == 0 || end.is_none_or(|end| end > width) {
            return Err(Error::mismatch(
                format!("part that {name} reads"),
                "columns of what there is",
                format!("{part:?}"),
            ));
        }
        Ok(())
    }

    /// Whether there is such a parameter, and it belongs to no stack of layers, whose session has it for itself.
    pub(super) fn known(&self, name: &str, param: Option<ParamId>) -> Result<()> {
        let Some(param) = param else { return Ok(()) };
        let Some(known) = self.network.params.get(param) else {
            let expected = format!("one of {}", self.network.params.len());
            return Err(Error::mismatch(format!("parameter of {name}"), expected, param));
        };
        if self.network.of_layers(param) {
            let expected = "one that no recurrent layers have";
            return Err(Error::mismatch(format!("parameter of {name}"), expected, &known.name));
        }
        Ok(())
    }

    pub(super) fn per_column(&self, param: Option<ParamId>, width: usize) -> Result<()> {
        self.known("a bias or gain", param)?;
        match param.map(|p| &self.network.params[p]) {
            Some(p) if p.len() != width => {
                Err(Error::mismatch(&p.name, format!("[{width}]"), format!("{:?}", p.shape)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn operand(&self, name: &str, operand: &Operand) -> Result<()> {
        let within = match operand.source {
            Source::Value(part) => self.part(name, part).is_ok(),
            Source::Param { param, first, width } => {
                self.known(name, Some(param))?;
                let end = first.checked_add(width);
                width > 0 && self.network.params.get(param).is_some_and(|p| end.is_some_and(|end| end <= p.len()))
            }
        };
        let countable = operand.source_width().checked_mul(operand.repeat).is_some();
        if !within
            || !countable
            || operand.inner == 0
            || operand.repeat == 0
            || !operand.source_width().is_multiple_of(operand.inner)
        {
            return Err(Error::mismatch(
                format!("operand of {name}"),
                "columns of what there is",
                format!("{operand:?}"),
            ));
        }
        Ok(())
    }
}
