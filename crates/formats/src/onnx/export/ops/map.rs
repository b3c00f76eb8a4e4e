//! Pointwise expressions, function by function.

use super::refused;
use crate::onnx::export::network::Lowering;
use crate::onnx::export::wire::{int, size_of_axis};
use wgpu_rnn::Result;
use wgpu_rnn::expr::{Expr, Function, Operator};
use wgpu_rnn::network::{Map, Operand, Source};

pub fn write(to: &mut Lowering<'_>, name: &str, op: &Map) -> Result<String> {
    let mut operands = Vec::new();
    for (n, operand) in op.operands.iter().enumerate() {
        let used = op.expr.uses(n);
        operands.push(if used { columns(to, operand, name)? } else { String::new() });
    }
    let made = expression(to, &op.expr, &operands, name);
    let of_rows = |n: usize| op.expr.uses(n) && op.operands[n].part().is_some();
    if (0..op.operands.len()).any(of_rows) {
        return Ok(made);
    }
    // The same for every row: it takes its rows from a value that it is given and does not use.
    let rows = op.operands.iter().find(|operand| operand.part().is_some());
    let rows =
        rows.ok_or_else(|| refused("expression", name, "it reads parameters alone, and no value says its rows"))?;
    let like = columns(to, rows, name)?;
    let shape = to.to.call("Shape", &[&like], name);
    Ok(to.to.call("Expand", &[&made, &shape], name))
}

/// The columns of an operand.
fn columns(to: &mut Lowering<'_>, operand: &Operand, name: &str) -> Result<String> {
    let source = match operand.source {
        Source::Value(part) => to.part(part)?,
        Source::Param { param, first, width } => {
            let all = to.flat(param)?;
            if width == to.network.params[param].len() {
                all
            } else {
                let [first, end] = [first, first + width].map(|n| to.to.integers(&[size_of_axis(n)]));
                to.to.call("Slice", &[&all, &first, &end], &all)
            }
        }
    };
    if operand.repeat == 1 {
        return Ok(source);
    }
    let places: Vec<i64> = (0..operand.width()).map(|c| size_of_axis(operand.column(c))).collect();
    let places = to.to.integers(&places);
    Ok(to.to.call_with("Gather", &[&source, &places], &[int("axis", -1)], name))
}

/// The name of an expression's value.
fn expression(to: &mut Lowering<'_>, expr: &Expr, operands: &[String], name: &str) -> String {
    match expr {
        Expr::Input(n) => operands.get(*n).cloned().unwrap_or_default(),
        Expr::Constant(value) => to.to.number(*value),
        Expr::Apply(function, x) => {
            let x = expression(to, x, operands, name);
            apply(to, *function, &x, name)
        }
        Expr::Combine(operator, a, b) => {
            let (a, b) = (expression(to, a, operands, name), expression(to, b, operands, name));
            let op = match operator {
                Operator::Add => "Add",
                Operator::Sub => "Sub",
                Operator::Mul => "Mul",
                Operator::Div => "Div",
                Operator::Max => "Max",
            };
            to.to.call(op, &[&a, &b], name)
        }
    }
}

fn apply(to: &mut Lowering<'_>, function: Function, x: &str, name: &str) -> String {
    let op = match function {
        Function::Exp => "Exp",
        Function::Sigmoid => "Sigmoid",
        Function::Tanh => "Tanh",
        Function::Softplus => "Softplus",
        Function::Relu => "Relu",
        Function::Sqrt => "Sqrt",
        Function::Log => "Log",
        Function::Hold => return x.to_string(),
        Function::Step => {
            let zero = to.to.number(0.0);
            let above = to.to.call("Greater", &[x, &zero], name);
            let numbers = to.to.element();
            return to.to.cast(&above, numbers, name);
        }
        // e^x − 1 = tanh(x/2) · (e^x + 1): nothing cancels near 0.
        Function::ExpM1 => {
            let (half, one) = (to.to.number(0.5), to.to.number(1.0));
            let half = to.to.call("Mul", &[x, &half], name);
            let (tanh, exp) = (to.to.call("Tanh", &[&half], name), to.to.call("Exp", &[x], name));
            let above = to.to.call("Add", &[&exp, &one], name);
            return to.to.call("Mul", &[&tanh, &above], name);
        }
    };
    to.to.call(op, &[x], name)
}
