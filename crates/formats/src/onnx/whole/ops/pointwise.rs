//! Operators that work element by element, each an expression. Truth is 0 or 1.

use super::super::super::constant::Constant;
use super::super::super::fold;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::Value;
use super::{ALL, Row, refused, row};
use crate::element::Element;
use wgpu_rnn::expr::{Expr, exp, exp_m1, log, max, relu, sigmoid, softplus, sqrt, step, tanh};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 39] = [
    row("Neg", 1, |l, op| one(l, op, |x| -x)),
    row("Abs", 1, |l, op| one(l, op, magnitude)),
    row("Sqrt", 1, |l, op| one(l, op, sqrt)),
    row("Reciprocal", 1, |l, op| one(l, op, |x| number(1.0) / x)),
    row("Exp", 1, |l, op| one(l, op, exp)),
    row("Log", 1, |l, op| one(l, op, log)),
    row("Sigmoid", 1, |l, op| one(l, op, sigmoid)),
    row("Tanh", 1, |l, op| one(l, op, tanh)),
    row("Relu", 1, |l, op| one(l, op, relu)),
    row("Softplus", 1, |l, op| one(l, op, softplus)),
    row("Softsign", 1, |l, op| one(l, op, |x| x.clone() / (number(1.0) + magnitude(x)))),
    row("HardSwish", 1, |l, op| one(l, op, |x| x.clone() * hard_sigmoid(x, 1.0 / 6.0, 0.5))),
    row("Mish", 1, |l, op| one(l, op, |x| x.clone() * tanh(softplus(x)))),
    row("Not", 1, |l, op| one(l, op, |x| number(1.0) - x)),
    row("LeakyRelu", 1, |l, op| with(l, op, 0.01, |x, a| max(x.clone(), number(0.0)) + number(a) * low(x, 0.0))),
    row("Elu", 1, |l, op| with(l, op, 1.0, |x, a| relu(x.clone()) + number(a) * exp_m1(low(x, 0.0)))),
    row("ThresholdedRelu", 1, |l, op| with(l, op, 1.0, |x, a| x.clone() * step(x - number(a)))),
    row("Selu", 1, selu),
    row("HardSigmoid", 1, hard),
    row("PRelu", 2, |l, op| two(l, op, None, |x, a| relu(x.clone()) + a * low(x, 0.0))),
    row("Clip", 1, clip),
    row("Add", 2, |l, op| two(l, op, None, |a, b| a + b)),
    row("Sub", 2, |l, op| two(l, op, None, |a, b| a - b)),
    row("Mul", 2, |l, op| two(l, op, None, |a, b| a * b)),
    row("Div", 2, div),
    row("Pow", 1, pow),
    row("Min", ALL, |l, op| many(l, op, smaller)),
    row("Max", ALL, |l, op| many(l, op, max)),
    row("Sum", ALL, |l, op| many(l, op, |a, b| a + b)),
    row("Mean", ALL, mean),
    row("Equal", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| number(1.0) - unequal(a, b))),
    row("Less", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| step(b - a))),
    row("LessOrEqual", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| number(1.0) - step(a - b))),
    row("Greater", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| step(a - b))),
    row("GreaterOrEqual", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| number(1.0) - step(b - a))),
    row("And", 2, |l, op| two(l, op, Some(Element::Bool), |a, b| a * b)),
    row("Or", 2, |l, op| two(l, op, Some(Element::Bool), max)),
    row("Xor", 2, |l, op| two(l, op, Some(Element::Bool), unequal)),
    row("Where", 3, choose),
];

fn number(v: f64) -> Expr {
    Expr::from(v)
}

fn magnitude(x: Expr) -> Expr {
    max(x.clone(), -x)
}

fn smaller(a: Expr, b: Expr) -> Expr {
    -max(-a, -b)
}

/// x, at most `most`.
fn low(x: Expr, most: f64) -> Expr {
    smaller(x, number(most))
}

fn unequal(a: Expr, b: Expr) -> Expr {
    step(a.clone() - b.clone()) + step(b - a)
}

fn hard_sigmoid(x: Expr, alpha: f64, beta: f64) -> Expr {
    max(low(number(alpha) * x + number(beta), 1.0), number(0.0))
}

fn values(op: &Op<'_>) -> Result<Vec<Value>> {
    (0..op.values.len()).map(|n| op.value(n).cloned()).collect()
}

fn one(lowering: &mut Lowering<'_>, op: &Op<'_>, f: impl Fn(Expr) -> Expr) -> Made<Vec<Value>> {
    let x = Value::Laid(op.laid(0)?.clone());
    Ok(vec![lowering.pointwise(&op.name, &[x], None, |x| f(x[0].clone()))?])
}

/// With an attribute `alpha`.
fn with(lowering: &mut Lowering<'_>, op: &Op<'_>, default: f64, f: impl Fn(Expr, f64) -> Expr) -> Made<Vec<Value>> {
    let alpha = op.attributes(lowering.file).float("alpha")?.unwrap_or(default);
    one(lowering, op, |x| f(x, alpha))
}

fn two(
    lowering: &mut Lowering<'_>,
    op: &Op<'_>,
    element: Option<Element>,
    f: impl Fn(Expr, Expr) -> Expr,
) -> Made<Vec<Value>> {
    let values = [op.value(0)?.clone(), op.value(1)?.clone()];
    Ok(vec![lowering.pointwise(&op.name, &values, element, |x| f(x[0].clone(), x[1].clone()))?])
}

fn many(lowering: &mut Lowering<'_>, op: &Op<'_>, f: impl Fn(Expr, Expr) -> Expr) -> Made<Vec<Value>> {
    let all = |x: &[Expr]| x.iter().cloned().reduce(&f).unwrap_or(Expr::Constant(0.0));
    Ok(vec![lowering.pointwise(&op.name, &values(op)?, None, all)?])
}

fn mean(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let count = op.values.len() as f64;
    let all = |x: &[Expr]| x.iter().cloned().reduce(|a, b| a + b).unwrap_or(Expr::Constant(0.0)) / number(count);
    Ok(vec![lowering.pointwise(&op.name, &values(op)?, None, all)?])
}

fn selu(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let attributes = op.attributes(lowering.file);
    let alpha = attributes.float("alpha")?.unwrap_or(1.673_263_192_176_818_8);
    let gamma = attributes.float("gamma")?.unwrap_or(1.050_701_022_148_132_3);
    one(lowering, op, |x| number(gamma) * (relu(x.clone()) + number(alpha) * exp_m1(low(x, 0.0))))
}

fn hard(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let attributes = op.attributes(lowering.file);
    let (alpha, beta) = (attributes.float("alpha")?.unwrap_or(0.2), attributes.float("beta")?.unwrap_or(0.5));
    one(lowering, op, |x| hard_sigmoid(x, alpha, beta))
}

fn clip(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let (least, most) = fold::bounds(&op.call(lowering.file, &mut lowering.budget))?;
    one(lowering, op, |x| {
        let x = if least > f64::NEG_INFINITY { max(x, number(least)) } else { x };
        if most < f64::INFINITY { low(x, most) } else { x }
    })
}

fn div(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let whole = |value: &Value| match value {
        Value::Laid(laid) => !laid.element.is_real(),
        Value::Constant(constant) => !constant.element.is_real(),
        Value::Order { .. } => true,
    };
    if whole(op.value(0)?) {
        return Err(refused("a quotient of integers", "networks do not cut numbers off"));
    }
    two(lowering, op, None, |a, b| a / b)
}

fn pow(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let missing = || Error::mismatch("exponent", "one number", "several");
    let exponent = op.constant(1).and_then(Constant::uniform).ok_or_else(missing)?;
    let exponent = exponent.numbers().first().copied().unwrap_or(1.0);
    one(lowering, op, |x| power(x, exponent))
}

/// x^p; other powers than whole ones and roots only of x above 0.
fn power(x: Expr, p: f64) -> Expr {
    match p {
        p if p < 0.0 => number(1.0) / power(x, -p),
        p if p.fract() == 0.0 && p <= 16.0 => {
            (0..p as usize).map(|_| x.clone()).reduce(|a, b| a * b).unwrap_or(Expr::Constant(1.0))
        }
        0.5 => sqrt(x),
        1.5 => sqrt(x.clone()) * x,
        p => exp(number(p) * log(x)),
    }
}

fn choose(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let values = [op.value(0)?.clone(), op.value(1)?.clone(), op.value(2)?.clone()];
    let element = match (&values[1], &values[2]) {
        (Value::Laid(laid), _) | (_, Value::Laid(laid)) => Some(laid.element),
        (Value::Constant(constant), _) => Some(constant.element),
        _ => None,
    };
    let chosen = |x: &[Expr]| x[0].clone() * x[1].clone() + (number(1.0) - x[0].clone()) * x[2].clone();
    Ok(vec![lowering.pointwise(&op.name, &values, element, chosen)?])
}
