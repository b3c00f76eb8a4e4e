//! Pointwise expressions: written once, run by both executors, differentiated by rule.
//!
//! A linear recurrence's rule ([`crate::rule`]) and the pointwise parts of blocks ([`crate::network`]) are made of these. The CPU
//! executor evaluates them over slices, the GPU executor gets them as WGSL text, and the backward pass evaluates their derivatives,
//! which are expressions themselves: nothing is written twice that could come to differ.
//!
//! ```
//! use wgpu_rnn::expr::{Expr, sigmoid};
//! let x = || Expr::input(0);
//! let silu = x() * sigmoid(x());
//! assert_eq!(silu.at(&[0.0]), 0.0);
//! assert_eq!(silu.derivative(0).at(&[0.0]), 0.5);
//! ```

mod elementwise;

use crate::num::Real;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// e^x
    Exp,
    /// e^x − 1, exact near 0
    ExpM1,
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// tanh x
    Tanh,
    /// log(1 + e^x), without overflow
    Softplus,
    /// max(x, 0)
    Relu,
    /// 1 where x > 0, else 0; its derivative is 0
    Step,
    /// √x
    Sqrt,
    /// The natural logarithm of x
    Log,
    /// x, but a constant to the derivative: for what a result does not depend on (a stabiliser)
    Hold,
}

impl Function {
    /// In place, for every value.
    pub fn apply<T: Real>(self, values: &mut [T]) {
        match self {
            Self::Exp | Self::Sigmoid | Self::Softplus => elementwise::apply(self, values),
            Self::ExpM1 => values.iter_mut().for_each(|v| *v = v.exp_m1()),
            Self::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
            Self::Relu => values.iter_mut().for_each(|v| *v = v.relu()),
            Self::Step => values.iter_mut().for_each(|v| *v = v.step()),
            Self::Sqrt => values.iter_mut().for_each(|v| *v = v.sqrt()),
            Self::Log => values.iter_mut().for_each(|v| *v = v.log()),
            Self::Hold => {}
        }
    }
}

/// A function of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// The larger one; of equals the derivative is that of b.
    Max,
}

impl Operator {
    /// a becomes the result, value by value.
    pub fn apply<T: Real>(self, a: &mut [T], b: &[T]) {
        let pairs = a.iter_mut().zip(b);
        match self {
            Self::Add => pairs.for_each(|(a, b)| *a = *a + *b),
            Self::Sub => pairs.for_each(|(a, b)| *a = a.minus(*b)),
            Self::Mul => pairs.for_each(|(a, b)| *a = *a * *b),
            Self::Div => pairs.for_each(|(a, b)| *a = a.over(*b)),
            Self::Max => pairs.for_each(|(a, b)| *a = if *a > *b { *a } else { *b }),
        }
    }
}

/// An expression over numbered inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The n-th input.
    Input(usize),
    /// A number.
    Constant(f64),
    /// A function of an expression.
    Apply(Function, Arc<Expr>),
    /// A function of two.
    Combine(Operator, Arc<Expr>, Arc<Expr>),
}

/// e^x
pub fn exp(x: Expr) -> Expr {
    Expr::apply(Function::Exp, x)
}

/// e^x − 1
pub fn exp_m1(x: Expr) -> Expr {
    Expr::apply(Function::ExpM1, x)
}

/// 1 / (1 + e^−x)
pub fn sigmoid(x: Expr) -> Expr {
    Expr::apply(Function::Sigmoid, x)
}

/// tanh x
pub fn tanh(x: Expr) -> Expr {
    Expr::apply(Function::Tanh, x)
}

/// log(1 + e^x)
pub fn softplus(x: Expr) -> Expr {
    Expr::apply(Function::Softplus, x)
}

/// max(x, 0)
pub fn relu(x: Expr) -> Expr {
    Expr::apply(Function::Relu, x)
}

/// 1 where x > 0, else 0
pub fn step(x: Expr) -> Expr {
    Expr::apply(Function::Step, x)
}

/// √x
pub fn sqrt(x: Expr) -> Expr {
    Expr::apply(Function::Sqrt, x)
}

/// The natural logarithm
pub fn log(x: Expr) -> Expr {
    Expr::apply(Function::Log, x)
}

/// x as a constant, see [`Function::Hold`].
pub fn hold(x: Expr) -> Expr {
    Expr::apply(Function::Hold, x)
}

/// The larger one.
pub fn max(a: Expr, b: Expr) -> Expr {
    Expr::combine(Operator::Max, a, b)
}

/// x · σ(x)
pub fn silu(x: Expr) -> Expr {
    x.clone() * sigmoid(x)
}

impl Expr {
    /// The n-th input.
    pub fn input(n: usize) -> Self {
        Self::Input(n)
    }

    fn apply(function: Function, x: Self) -> Self {
        Self::Apply(function, Arc::new(x))
    }

    /// Leaves out what adds or multiplies nothing: derivatives are full of it.
    fn combine(operator: Operator, a: Self, b: Self) -> Self {
        use Operator::{Add, Div, Max, Mul, Sub};
        match (operator, &a, &b) {
            (Add, Self::Constant(0.0), _) => b,
            (Add | Sub, _, Self::Constant(0.0)) => a,
            (Mul, Self::Constant(0.0), _) | (Mul, _, Self::Constant(0.0)) | (Div, Self::Constant(0.0), _) => {
                Self::Constant(0.0)
            }
            (Mul, Self::Constant(1.0), _) => b,
            (Mul | Div, _, Self::Constant(1.0)) => a,
            (_, Self::Constant(x), Self::Constant(y)) => Self::Constant(match operator {
                Add => x + y,
                Sub => x - y,
                Mul => x * y,
                Div => x / y,
                Max => x.max(*y),
            }),
            _ => Self::Combine(operator, Arc::new(a), Arc::new(b)),
        }
    }

    /// Whether it is the same number everywhere.
    pub fn constant(&self) -> Option<f64> {
        if let Self::Constant(v) = self { Some(*v) } else { None }
    }

    /// How many inputs it has: one more than the last that it names.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Input(i) => i.saturating_add(1),
            Self::Constant(_) => 0,
            Self::Apply(_, x) => x.inputs(),
            Self::Combine(_, a, b) => a.inputs().max(b.inputs()),
        }
    }

    /// Whether it depends on the n-th input.
    pub fn uses(&self, n: usize) -> bool {
        match self {
            Self::Input(i) => *i == n,
            Self::Constant(_) => false,
            Self::Apply(_, x) => x.uses(n),
            Self::Combine(_, a, b) => a.uses(n) || b.uses(n),
        }
    }

    /// The derivative with respect to the n-th input.
    #[must_use]
    pub fn derivative(&self, n: usize) -> Self {
        use Operator::{Add, Div, Max, Mul, Sub};
        match self {
            Self::Input(i) => Self::Constant(f64::from(u8::from(*i == n))),
            Self::Constant(_) => Self::Constant(0.0),
            Self::Apply(function, x) => {
                let inner = x.derivative(n);
                if inner.constant() == Some(0.0) {
                    return inner;
                }
                let x = || Self::clone(x);
                let slope = match function {
                    Function::Exp | Function::ExpM1 => exp(x()),
                    // 1 − σ(x) would cancel where it saturates.
                    Function::Sigmoid => sigmoid(x()) * sigmoid(-x()),
                    Function::Tanh => Self::Constant(4.0) * sigmoid(x() + x()) * sigmoid(-(x() + x())),
                    Function::Softplus => sigmoid(x()),
                    Function::Relu => step(x()),
                    Function::Log => Self::Constant(1.0) / x(),
                    Function::Step | Function::Hold => Self::Constant(0.0),
                    // Infinite at 0, where an inner derivative that underflows with x would make it NaN: that of f32's smallest.
                    Function::Sqrt => Self::Constant(0.5) / sqrt(max(x(), Self::Constant(2e-38))),
                };
                slope * inner
            }
            Self::Combine(operator, a, b) => {
                let (da, db) = (a.derivative(n), b.derivative(n));
                let (a, b) = (|| Self::clone(a), || Self::clone(b));
                match operator {
                    Add => da + db,
                    Sub => da - db,
                    Mul => da * b() + a() * db,
                    Div if db.constant() == Some(0.0) => da / b(),
                    Div => (da - a() / b() * db) / b(),
                    Max => step(a() - b()) * da + (Self::Constant(1.0) - step(a() - b())) * db,
                }
            }
        }
    }

    /// The value at a point.
    pub fn at(&self, inputs: &[f64]) -> f64 {
        let mut out = [0.0];
        let inputs: Vec<&[f64]> = inputs.iter().map(std::slice::from_ref).collect();
        self.evaluate(&inputs, &mut out);
        out[0]
    }

    /// The values over slices: `inputs[n]` as long as `out`, or one value for all. What the expression does not use is not read.
    pub fn evaluate<T: Real>(&self, inputs: &[&[T]], out: &mut [T]) {
        match self {
            Self::Input(n) => match inputs[*n] {
                [one] => out.fill(*one),
                many => out.copy_from_slice(&many[..out.len()]),
            },
            Self::Constant(v) => out.fill(T::from_f64(*v)),
            Self::Apply(function, x) => {
                x.evaluate(inputs, out);
                function.apply(out);
            }
            Self::Combine(operator, a, b) => {
                a.evaluate(inputs, out);
                let mut other = vec![T::default(); out.len()];
                b.evaluate(inputs, &mut other);
                operator.apply(out, &other);
            }
        }
    }

    /// As WGSL, where the n-th input is the expression `names(n)`; calls `expr_*` of `shaders/network/expr.wgsl`.
    pub fn wgsl(&self, names: &dyn Fn(usize) -> String) -> String {
        match self {
            Self::Input(n) => names(*n),
            Self::Constant(v) => format!("{:e}", *v as f32),
            Self::Apply(Function::Hold, x) => x.wgsl(names),
            Self::Apply(function, x) => {
                let name = match function {
                    Function::Exp => "expr_exp",
                    Function::ExpM1 => "expr_exp_m1",
                    Function::Sigmoid => "expr_sigmoid",
                    Function::Tanh => "safe_tanh",
                    Function::Softplus => "expr_softplus",
                    Function::Relu => "relu",
                    Function::Step => "expr_step",
                    Function::Sqrt => "sqrt",
                    Function::Log => "log",
                    Function::Hold => "",
                };
                format!("{name}({})", x.wgsl(names))
            }
            Self::Combine(operator, a, b) => {
                let (a, b) = (a.wgsl(names), b.wgsl(names));
                match operator {
                    Operator::Add => format!("({a} + {b})"),
                    Operator::Sub => format!("({a} - {b})"),
                    Operator::Mul => format!("({a} * {b})"),
                    Operator::Div => format!("({a} / {b})"),
                    Operator::Max => format!("max({a}, {b})"),
                }
            }
        }
    }
}

impl From<f64> for Expr {
    fn from(v: f64) -> Self {
        Self::Constant(v)
    }
}

impl Add for Expr {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::combine(Operator::Add, self, other)
    }
}

impl Sub for Expr {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::combine(Operator::Sub, self, other)
    }
}

impl Mul for Expr {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::combine(Operator::Mul, self, other)
    }
}

impl Div for Expr {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        Self::combine(Operator::Div, self, other)
    }
}

impl Neg for Expr {
    type Output = Self;
    fn neg(self) -> Self {
        Self::Constant(0.0) - self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_central_differences() {
        let (x, y) = (|| Expr::input(0), || Expr::input(1));
        let all = [
            exp(x() * y()),
            sigmoid(x()) / softplus(y()),
            tanh(x() - y()) * relu(x()),
            sqrt(exp_m1(x() * x()) + 1.0.into()) + max(x(), y() * 2.0.into()),
            silu(-x()) / (x() * y() + 3.0.into()),
            log(exp(x()) + y() * y()) * y(),
        ];
        for e in &all {
            for (n, at) in [(0, [0.7, -0.4]), (1, [0.7, -0.4]), (0, [-1.3, 0.9]), (1, [-1.3, 0.9])] {
                let moved = |by: f64| {
                    let mut p = at;
                    p[n] += by;
                    e.at(&p)
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((e.derivative(n).at(&at) - difference).abs() < 1e-8, "{e:?} by {n} at {at:?}");
            }
        }
        assert_eq!(hold(x()).derivative(0), Expr::Constant(0.0));
        assert_eq!((x() * y()).derivative(2), Expr::Constant(0.0));
    }

    #[test]
    fn extremes_do_not_overflow() {
        for v in [-1e4, -100.0, 100.0, 1e4] {
            for e in [sigmoid(Expr::input(0)), softplus(Expr::input(0)), tanh(Expr::input(0))] {
                assert!(e.at(&[v]).is_finite() && e.derivative(0).at(&[v]).is_finite());
            }
        }
        assert_eq!(softplus(Expr::input(0)).at(&[-100.0]), (-100f64).exp());
    }
}
