//! Operators that work element by element.

use super::super::constant::Constant;
use super::{Call, Keeps, Places, Row, broadcast, row};
use crate::element::Element;
use wgpu_rnn::{Error, Result};

macro_rules! one {
    ($name:literal) => {
        row($name, Keeps::Repeated, of_one)
    };
}

macro_rules! two {
    ($name:literal) => {
        row($name, Keeps::Nothing, of_two)
    };
}

pub(super) const ROWS: [Row; 34] = [
    one!("Neg"),
    one!("Abs"),
    one!("Not"),
    one!("Sqrt"),
    one!("Reciprocal"),
    one!("Exp"),
    one!("Log"),
    one!("Sigmoid"),
    one!("Tanh"),
    one!("Relu"),
    one!("Softplus"),
    one!("Floor"),
    one!("Ceil"),
    one!("Round"),
    one!("Sign"),
    one!("Sin"),
    one!("Cos"),
    two!("Add"),
    two!("Sub"),
    two!("Mul"),
    two!("Div"),
    two!("Pow"),
    two!("Mod"),
    two!("Min"),
    two!("Max"),
    two!("Equal"),
    two!("Less"),
    two!("LessOrEqual"),
    two!("Greater"),
    two!("GreaterOrEqual"),
    two!("And"),
    two!("Or"),
    row("Clip", Keeps::Nothing, clip),
    row("Where", Keeps::Nothing, choose),
];

/// An operator of one value, as a function of it.
fn unary(op: &str) -> Option<fn(f64) -> f64> {
    Some(match op {
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Not" => |v| f64::from(u8::from(v == 0.0)),
        "Sqrt" => f64::sqrt,
        "Reciprocal" => |v| 1.0 / v,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Sigmoid" => |v| 1.0 / (1.0 + (-v).exp()),
        "Tanh" => f64::tanh,
        "Relu" => |v| v.max(0.0),
        "Softplus" => |v| v.max(0.0) + (-v.abs()).exp().ln_1p(),
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        // Halves go to the even neighbour.
        "Round" => f64::round_ties_even,
        "Sign" => |v| if v == 0.0 { 0.0 } else { v.signum() },
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        _ => return None,
    })
}

/// A function of two values, and whether it tells true from false.
type Binary = (fn(f64, f64) -> f64, bool);

/// An operator of two values.
fn binary(op: &str) -> Option<Binary> {
    fn truth(v: bool) -> f64 {
        f64::from(u8::from(v))
    }
    Some(match op {
        "Add" => (|a, b| a + b, false),
        "Sub" => (|a, b| a - b, false),
        "Mul" => (|a, b| a * b, false),
        "Div" => (|a, b| a / b, false),
        "Pow" => (f64::powf, false),
        "Min" => (f64::min, false),
        "Max" => (f64::max, false),
        "Equal" => (|a, b| truth(a == b), true),
        "Less" => (|a, b| truth(a < b), true),
        "LessOrEqual" => (|a, b| truth(a <= b), true),
        "Greater" => (|a, b| truth(a > b), true),
        "GreaterOrEqual" => (|a, b| truth(a >= b), true),
        "And" => (|a, b| truth(a != 0.0 && b != 0.0), true),
        "Or" => (|a, b| truth(a != 0.0 || b != 0.0), true),
        _ => return None,
    })
}

/// The same of integers, where it is another function of them: exact, and an error where it would leave i64.
fn binary_of_integers(op: &str, a: i64, b: i64) -> Option<Option<i64>> {
    Some(match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        // The sign is the divisor's.
        "Mod" => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        "Pow" => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        "Equal" => Some(i64::from(a == b)),
        "Less" => Some(i64::from(a < b)),
        "LessOrEqual" => Some(i64::from(a <= b)),
        "Greater" => Some(i64::from(a > b)),
        "GreaterOrEqual" => Some(i64::from(a >= b)),
        _ => return None,
    })
}

fn of_one(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let unknown = || Error::Unsupported { what: call.op.into(), reason: "it is not worked out".into() };
    let function = unary(call.op).ok_or_else(unknown)?;
    let x = call.input(0)?;
    let (shape, element) = (x.shape.clone(), x.element);
    call.budget.take(&shape)?;
    let values = call.input(0)?.numbers().iter().map(|&v| function(v)).collect();
    Ok(vec![Call::numbers(shape, element, values)?])
}

fn of_two(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    // Min and Max take any number of inputs.
    let mut all = call.input(0)?.clone();
    for n in 1..call.inputs.len() {
        let other = call.input(n)?.clone();
        all = pair(call, &all, &other)?;
    }
    Ok(vec![all])
}

fn pair(call: &mut Call<'_>, a: &Constant, b: &Constant) -> Result<Constant> {
    let shape = broadcast(&a.shape, &b.shape)?;
    call.budget.take(&shape)?;
    let pairs = Places::repeated(&a.shape, &shape).zip(Places::repeated(&b.shape, &shape));
    let tells = matches!(binary(call.op), Some((_, true)));
    let wrong = || Error::mismatch(call.op, "numbers that it has a result for", "others");
    if let (Ok(x), Ok(y)) = (a.integers("a"), b.integers("b"))
        && binary_of_integers(call.op, 0, 1).is_some()
    {
        let value = |(i, j): (usize, usize)| binary_of_integers(call.op, *x.get(i)?, *y.get(j)?).flatten();
        let values = pairs.map(value).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let element = if tells { Element::Bool } else { a.element };
        return Constant::from_integers_of("result", shape, element, values);
    }
    let (function, tells) = binary(call.op).ok_or_else(wrong)?;
    let (x, y) = (a.numbers(), b.numbers());
    let value = |(i, j): (usize, usize)| Some(function(*x.get(i)?, *y.get(j)?));
    let values = pairs.map(value).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    Call::numbers(shape, if tells { Element::Bool } else { a.element }, values)
}

fn clip(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let (low, high) = bounds(call)?;
    let x = call.input(0)?;
    let (shape, element) = (x.shape.clone(), x.element);
    call.budget.take(&shape)?;
    let values = call.input(0)?.numbers().iter().map(|&v| v.max(low).min(high)).collect();
    Ok(vec![Call::numbers(shape, element, values)?])
}

/// `Clip`'s, infinite where there are none.
pub(in crate::onnx) fn bounds(call: &Call<'_>) -> Result<(f64, f64)> {
    let bound = |n: usize, name: &str| match call.optional(n) {
        Some(bound) => Ok(bound.numbers().first().copied()),
        None => call.attributes.float(name),
    };
    Ok((bound(1, "min")?.unwrap_or(f64::NEG_INFINITY), bound(2, "max")?.unwrap_or(f64::INFINITY)))
}

fn choose(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let (condition, a, b) = (call.input(0)?.clone(), call.input(1)?.clone(), call.input(2)?.clone());
    let shape = broadcast(&broadcast(&condition.shape, &a.shape)?, &b.shape)?;
    call.budget.take(&shape)?;
    let truth = condition.numbers();
    let joined = Constant::joined("inputs", &[a.clone(), b.clone()])?;
    let places = Places::repeated(&condition.shape, &shape)
        .zip(Places::repeated(&a.shape, &shape))
        .zip(Places::repeated(&b.shape, &shape))
        .map(|((c, x), y)| if truth.get(c).is_some_and(|&v| v != 0.0) { x } else { a.len() + y });
    let made = joined.taken(shape, places);
    Ok(vec![made])
}
