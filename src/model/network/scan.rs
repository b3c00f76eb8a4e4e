//! A linear recurrence as an operation of a network: its sizes, and where its ports read.

use super::Operand;
use crate::model::rule::{Divisor, Extent, Form, Port, Rule};
use std::sync::Arc;

/// A rule with its sizes. Made by [`super::Builder::scan`].
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
