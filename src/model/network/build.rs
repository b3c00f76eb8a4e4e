//! Building a network operation by operation.

use super::layers::{self, LayersShape};
use super::{Network, NetworkData, Node, Norm, Op, Operand, Param, ParamId, Part, ScanShape, Source, Stored, Value};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::rule::{HeadState, Rule};
use crate::model::stack::RnnConfig;
use crate::model::weights::parameters;

/// Puts a network together; every method checks what it is given.
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
    network: NetworkData,
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
        let part = self.value(name, width)?;
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

    /// All elements of a parameter as an operand.
    pub fn whole(&self, param: ParamId) -> Operand {
        // Of a parameter that there is not, nothing: no operation takes it.
        let width = self.network.params.get(param).map_or(0, Param::len);
        Operand { source: Source::Param { param, first: 0, width }, inner: width, repeat: 1 }
    }

    /// x·Wᵀ + b; W `[out, x.width]`, b `[out]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for parameters of other shapes.
    pub fn linear(&mut self, name: &str, x: Part, weight: ParamId, bias: Option<ParamId>) -> Result<Part> {
        self.part(name, x)?;
        self.known(name, Some(weight))?;
        let shape = &self.network.params[weight].shape;
        if shape.len() != 2 || shape[1] != x.width {
            let expected = format!("[out, in] = [_, {}]", x.width);
            return Err(Error::mismatch(&self.network.params[weight].name, expected, format!("{shape:?}")));
        }
        let out = shape[0];
        self.per_column(bias, out)?;
        self.node(name, out, Op::Linear { x, weight, bias })
    }

    /// See [`Op::Norm`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for groups that do not divide the columns, an ε below 0, or parameters of other sizes.
    pub fn norm(
        &mut self,
        name: &str,
        x: Part,
        (kind, groups, epsilon): (Norm, usize, f64),
        gain: Option<ParamId>,
        bias: Option<ParamId>,
    ) -> Result<Part> {
        self.part(name, x)?;
        self.check_groups(name, x, groups)?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(Error::mismatch(format!("epsilon of {name}"), "at least 0", epsilon));
        }
        self.per_column(gain, x.width)?;
        self.per_column(bias, x.width)?;
        self.node(name, x.width, Op::Norm { x, kind, groups, epsilon, gain, bias })
    }

    /// See [`Op::Sum`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for groups that do not divide the columns.
    pub fn sum(&mut self, name: &str, x: Part, groups: usize) -> Result<Part> {
        self.part(name, x)?;
        self.check_groups(name, x, groups)?;
        self.node(name, groups, Op::Sum { x, groups })
    }

    /// See [`Op::Conv`]; `(low, high)`: taps before and after the step.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for parameters of other sizes.
    pub fn conv(
        &mut self,
        name: &str,
        x: Part,
        (weight, bias): (ParamId, Option<ParamId>),
        (low, high): (usize, usize),
    ) -> Result<Part> {
        self.part(name, x)?;
        self.known(name, Some(weight))?;
        let p = &self.network.params[weight];
        let taps = low.saturating_add(1).saturating_add(high);
        let columns = x.width.saturating_mul(taps);
        let inner = p.shape.iter().filter(|&&d| d != 1).product::<usize>();
        if p.len() != columns || inner != columns || p.shape.last() != Some(&taps) {
            let expected = format!("[width, 1, taps] = [{}, 1, {taps}]", x.width);
            return Err(Error::mismatch(&p.name, expected, format!("{:?}", p.shape)));
        }
        self.per_column(bias, x.width)?;
        self.node(name, x.width, Op::Conv { x, weight, bias, low, high })
    }

    /// See [`Op::Shift`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that is taken.
    pub fn shift(&mut self, name: &str, x: Part) -> Result<Part> {
        self.part(name, x)?;
        self.node(name, x.width, Op::Shift { x })
    }

    /// A pointwise expression over operands of one width.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for operands of different widths, or an expression of more inputs.
    pub fn map(&mut self, name: &str, expr: Expr, operands: &[Operand]) -> Result<Part> {
        let width = operands.first().map_or(0, Operand::width);
        for (n, operand) in operands.iter().enumerate() {
            if operand.width() != width {
                return Err(Error::mismatch(
                    format!("operand {n} of {name}"),
                    format!("{width} columns"),
                    operand.width(),
                ));
            }
            self.operand(name, operand)?;
        }
        if expr.inputs() > operands.len() {
            let expected = format!("at least {}", expr.inputs());
            return Err(Error::mismatch(format!("operands of {name}"), expected, operands.len()));
        }
        self.node(name, width, Op::Map { expr, operands: operands.to_vec() })
    }

    /// A linear recurrence; `sizes`: heads, K, V; `operands`: one per port of the rule (inputs, then parameters), which may have
    /// fewer columns than the port if they divide it: every head's values then serve as many neighbouring heads.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for operands that do not fit the ports.
    pub fn scan(
        &mut self,
        name: &str,
        rule: &'static Rule,
        [heads, key_size, value_size]: [usize; 3],
        operands: &[Operand],
        reverse: bool,
    ) -> Result<Part> {
        let expected = rule.inputs.len() + rule.params.len();
        if operands.len() != expected {
            return Err(Error::mismatch(
                format!("operands of {name}"),
                format!("{expected} for {}", rule.name),
                operands.len(),
            ));
        }
        let sizes = [heads, key_size, value_size];
        // The divisor's column too.
        let countable = value_size.checked_add(1).and_then(|v| v.checked_mul(key_size)?.checked_mul(heads));
        if sizes.contains(&0) || rule.state.sizes(sizes) != sizes || countable.is_none() {
            let expected = match rule.state {
                HeadState::Scalar => "at least 1 head, and 1, 1",
                HeadState::Vector => "at least 1, and V = 1",
                HeadState::Matrix => "at least 1, no more than can be counted",
            };
            return Err(Error::mismatch(format!("heads, K, V of {name}"), expected, format!("{sizes:?}")));
        }
        let mut shape = ScanShape::new(rule, sizes, reverse);
        for (port, operand) in rule.inputs.iter().chain(rule.params).zip(operands) {
            self.operand(name, operand)?;
            let (wanted, per_head) = (shape.port_width(port.extent), shape.port_width(port.extent) / heads);
            let given = operand.width();
            let shared = operand.repeat == 1 && wanted.is_multiple_of(given) && given.is_multiple_of(per_head);
            if given != wanted && !shared {
                let expected = format!("{wanted} columns (or a divisor in whole heads of {per_head})");
                return Err(Error::mismatch(format!("{} of {name}", port.name), expected, given));
            }
            let spread = if given == wanted { *operand } else { operand.groups(per_head, wanted / given) };
            shape.operands.push(spread);
        }
        self.node(name, heads * value_size, Op::Scan(shape))
    }

    /// Parts side by side, the first's columns first.
    ///
    /// # Errors
    /// [`Error::Mismatch`] without parts, or more columns than can be counted.
    pub fn concat(&mut self, name: &str, parts: &[Part]) -> Result<Part> {
        parts.iter().try_for_each(|&part| self.part(name, part))?;
        let width = parts.iter().try_fold(0usize, |sum, p| sum.checked_add(p.width));
        let Some(width) = width else {
            return Err(Error::mismatch(format!("columns of {name}"), "as many as can be counted", "more"));
        };
        self.node(name, width, Op::Concat { parts: parts.to_vec() })
    }

    /// A linear recurrence in both directions: `[T, B, 2 · heads · V]`, the way from each sequence's last step to its first behind
    /// the other. Operands as in [`Builder::scan`], for the two ways; states are named `<name>.forward` and `<name>.reverse`.
    ///
    /// # Errors
    /// As [`Builder::scan`].
    pub fn bidirectional_scan(
        &mut self,
        name: &str,
        rule: &'static Rule,
        sizes: [usize; 3],
        [forward, reverse]: [&[Operand]; 2],
    ) -> Result<Part> {
        self.whole_or_nothing(|b| {
            let forward = b.scan(&format!("{name}.forward"), rule, sizes, forward, false)?;
            let reverse = b.scan(&format!("{name}.reverse"), rule, sizes, reverse, true)?;
            b.concat(name, &[forward, reverse])
        })
    }

    /// A stack of recurrent layers over x; parameters are `<name>.weight_ih_l0` and so on, as in PyTorch
    /// ([`crate::weights::parameters`]). Where x is part of a value, `<name>.x` is a copy of it.
    ///
    /// # Errors
    /// As [`RnnConfig::validate`]; [`Error::Mismatch`] for an `input_size` that is not x's width; [`Error::Unsupported`] for what
    /// networks do not have: batch-first layout, a vocabulary, a head, dropout, zoneout.
    ///
    /// ```
    /// use wgpu_rnn::network::Builder;
    /// use wgpu_rnn::{Direction, RnnConfig, cells, rules};
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let mut b = Builder::new();
    /// let (z, h) = (b.input("z", 6)?, b.input("h", 6)?);
    /// let y = b.scan("mingru", &rules::MINGRU, [6, 1, 1], &[z.into(), h.into()], false)?;
    /// let lstm = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 4, direction: Direction::Bidirectional, ..Default::default() };
    /// let y = b.layers("lstm", y, &lstm)?;
    /// assert_eq!(y.width, 8);
    /// b.output("y", y)?;
    /// assert!(b.finish()?.param("lstm.weight_hh_l0_reverse").is_some());
    /// # Ok(()) }
    /// ```
    pub fn layers(&mut self, name: &str, x: Part, config: &RnnConfig) -> Result<Part> {
        self.part(name, x)?;
        layers::check(name, x, config)?;
        self.whole_or_nothing(|b| {
            let whole = b.network.values.get(x.value).is_some_and(|v| v.width == x.width);
            let x = if whole { x } else { b.map(&format!("{name}.x"), Expr::input(0), &[x.into()])? };
            let first = b.network.params.len();
            for p in parameters(config) {
                b.param(&format!("{name}.{}", p.name), &p.shape)?;
            }
            let shape = LayersShape { x, config: Box::new(config.clone()), first };
            b.node(name, config.output_size(), Op::Layers(shape))
        })
    }

    /// Adds several things, or, if one is refused, none of them.
    fn whole_or_nothing(&mut self, add: impl FnOnce(&mut Self) -> Result<Part>) -> Result<Part> {
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

    fn value(&mut self, name: &str, width: usize) -> Result<Part> {
        if width == 0 {
            return Err(Error::mismatch(format!("columns of {name}"), "at least 1", 0));
        }
        if self.network.values.iter().any(|v| v.name == name) {
            return Err(Error::mismatch(format!("value {name}"), "a name of its own", "one that is taken"));
        }
        self.network.values.push(Value { name: name.into(), width });
        Ok(Part { value: self.network.values.len() - 1, first: 0, width })
    }

    fn node(&mut self, name: &str, width: usize, op: Op) -> Result<Part> {
        let part = self.value(name, width)?;
        self.network.nodes.push(Node { name: name.into(), op, value: part.value });
        Ok(part)
    }

    fn check_groups(&self, name: &str, x: Part, groups: usize) -> Result<()> {
        if x.width.is_multiple_of(groups) {
            return Ok(());
        }
        Err(Error::mismatch(format!("groups of {name}"), format!("a divisor of {}", x.width), groups))
    }

    /// Whether there is such a part.
    fn part(&self, name: &str, part: Part) -> Result<()> {
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
    fn known(&self, name: &str, param: Option<ParamId>) -> Result<()> {
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

    fn per_column(&self, param: Option<ParamId>, width: usize) -> Result<()> {
        self.known("a bias or gain", param)?;
        match param.map(|p| &self.network.params[p]) {
            Some(p) if p.len() != width => {
                Err(Error::mismatch(&p.name, format!("[{width}]"), format!("{:?}", p.shape)))
            }
            _ => Ok(()),
        }
    }

    fn operand(&self, name: &str, operand: &Operand) -> Result<()> {
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
