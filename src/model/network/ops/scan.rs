//! A linear recurrence as an operation of a network: its sizes, and where its ports read.

use super::super::{Builder, NetworkData, Operand, Part, Rows};
use super::Operation;
use crate::error::{Error, Result};
use crate::model::rule::{Divisor, Extent, Form, HeadState, Port, Rule};
use std::sync::Arc;

/// A rule with its sizes. Made by [`Builder::scan`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScanShape {
    /// The rule.
    pub rule: &'static Rule,
    /// Heads.
    pub heads: usize,
    /// K: rows of a head's state.
    pub key_size: usize,
    /// V: columns of a head's state.
    pub value_size: usize,
    /// One operand per port, inputs first, then parameters: `heads` · (1, K or V) columns each.
    pub operands: Vec<Operand>,
    /// From the last step of each sequence to its first.
    pub reverse: bool,
    /// What the rule says: its expressions are trees, made once.
    said: Arc<Said>,
}

#[derive(Debug, PartialEq)]
struct Said {
    form: Form,
    ports: Vec<Port>,
}

impl ScanShape {
    /// A rule's, without operands yet.
    pub(crate) fn new(rule: &'static Rule, [heads, key_size, value_size]: [usize; 3], reverse: bool) -> Self {
        let said = Arc::new(Said { form: (rule.form)(), ports: rule.ports() });
        Self { rule, heads, key_size, value_size, operands: Vec::new(), reverse, said }
    }
    /// The rule's coefficients.
    pub fn form(&self) -> &Form {
        &self.said.form
    }
    /// The rule's ports, as [`Rule::ports`].
    pub fn ports(&self) -> &[Port] {
        &self.said.ports
    }
    /// Columns of a port.
    pub fn port_width(&self, extent: Extent) -> usize {
        extent.width([self.heads, self.key_size, self.value_size])
    }
    /// Columns of a head's state: V, and with a divisor one more (see [`crate::rule`]).
    pub fn columns(&self) -> usize {
        self.value_size + usize::from(self.divisor().is_some())
    }
    /// What its sums are divided by.
    pub fn divisor(&self) -> Option<Divisor> {
        self.form().stabiliser.as_ref().map(|s| s.divisor)
    }
    /// Values of a sequence's state: `[heads, columns, K]`, and behind them m `[heads]` of rules with a stabiliser.
    pub fn state_size(&self) -> usize {
        self.heads * self.columns() * self.key_size + if self.divisor().is_some() { self.heads } else { 0 }
    }
}

impl Operation for ScanShape {
    fn state_size(&self) -> Option<usize> {
        Some(ScanShape::state_size(self))
    }

    fn flops_of_row(&self, _: &NetworkData) -> usize {
        let passes = if self.form().erase.is_some() { 5 } else { 3 };
        2 * passes * self.heads * self.key_size * self.columns()
    }

    fn waits_for(&self) -> Option<&'static str> {
        self.reverse.then_some("it reads time backwards")
    }
}

impl Builder {
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
            operand.part().map_or(Ok(()), |part| self.steps(name, part))?;
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
        self.node(name, heads * value_size, Rows::Steps, shape)
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
}
