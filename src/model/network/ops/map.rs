//! Pointwise expressions.

use super::super::{Builder, Operand, Part};
use super::Operation;
use crate::error::{Error, Result};
use crate::expr::Expr;

/// A pointwise expression whose n-th input is `operands[n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The expression.
    pub expr: Expr,
    /// Its inputs, all of one width.
    pub operands: Vec<Operand>,
}

impl Operation for Map {}

impl Builder {
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
        let rows = self.rows(name, operands.iter().filter_map(Operand::part))?;
        self.node(name, width, rows, Map { expr, operands: operands.to_vec() })
    }
}
