//! Gradients of naive loops: a loop over [`Number`]s runs on plain floats, or on [`Var`]s, whose operations a [`Tape`] notes down
//! with their derivatives. So a loop's gradients need no second loop, and share nothing with those of any executor.
//!
//! ```
//! use wgpu_rnn_verify::tape::{Number, Tape};
//! let tape = Tape::new();
//! let x = tape.variable(0.5f64);
//! let y = x * x.exp();
//! assert_eq!(y.value(), 0.5 * 0.5f64.exp());
//! assert_eq!(tape.gradients(&[(y, 1.0)]).of(x), 0.5f64.exp() + 0.5 * 0.5f64.exp());
//! ```

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Sub};

/// What a naive loop calculates with: `f32`, `f64`, or a [`Var`] of either.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A number that nothing is differentiated by.
    fn constant(v: f64) -> Self;
    /// Its value.
    fn value(self) -> f64;
    /// e^x
    fn exp(self) -> Self;
    /// e^x − 1
    fn exp_m1(self) -> Self;
    /// log(1 + x)
    fn ln_1p(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;

    /// −x
    fn negative(self) -> Self {
        Self::constant(0.0) - self
    }
    /// The larger one.
    fn larger(self, other: Self) -> Self {
        if self.value() > other.value() { self } else { other }
    }
    /// |x|
    fn magnitude(self) -> Self {
        if self.value() < 0.0 { self.negative() } else { self }
    }
    /// 1 / (1 + e^−x)
    fn sigmoid(self) -> Self {
        let (one, e) = (Self::constant(1.0), self.magnitude().negative().exp());
        if self.value() < 0.0 { e / (one + e) } else { one / (one + e) }
    }
    /// x · σ(x)
    fn silu(self) -> Self {
        self * self.sigmoid()
    }
    /// max(x, 0)
    fn relu(self) -> Self {
        if self.value() > 0.0 { self } else { Self::constant(0.0) }
    }
    /// log(1 + e^x)
    fn softplus(self) -> Self {
        let rest = self.magnitude().negative().exp().ln_1p();
        if self.value() < 0.0 { rest } else { self + rest }
    }
}

macro_rules! number {
    ($float:ty) => {
        impl Number for $float {
            fn constant(v: f64) -> Self {
                v as $float
            }
            fn value(self) -> f64 {
                self.into()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
        }
    };
}
number!(f32);
number!(f64);

/// What every operation read, and its derivatives by that.
#[derive(Debug)]
pub struct Tape<N> {
    nodes: RefCell<Vec<[(u32, N); 2]>>,
}

/// The place of a constant: none.
const NOWHERE: u32 = u32::MAX;

/// A number on a tape.
#[derive(Clone, Copy, Debug)]
pub struct Var<'t, N> {
    /// `None`: a constant.
    tape: Option<&'t Tape<N>>,
    at: u32,
    value: N,
}

/// Derivatives of one number by all on a tape.
#[derive(Clone, Debug)]
pub struct Derivatives<N> {
    all: Vec<N>,
}

impl<N: Number> Default for Tape<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Number> Tape<N> {
    /// An empty tape.
    pub fn new() -> Self {
        Self { nodes: RefCell::new(Vec::new()) }
    }

    /// A number to differentiate by.
    pub fn variable(&self, value: N) -> Var<'_, N> {
        self.note(value, [(NOWHERE, value); 2])
    }

    /// The derivatives of Σ weight · number.
    pub fn gradients(&self, sum: &[(Var<'_, N>, N)]) -> Derivatives<N> {
        let nodes = self.nodes.borrow();
        let mut all = vec![N::constant(0.0); nodes.len()];
        for (var, weight) in sum {
            if var.at != NOWHERE {
                all[var.at as usize] = all[var.at as usize] + *weight;
            }
        }
        for (at, node) in nodes.iter().enumerate().rev() {
            let own = all[at];
            // What nothing depends on passes nothing on, whatever its derivatives are.
            if own.value() == 0.0 {
                continue;
            }
            for &(from, slope) in node.iter().filter(|(from, _)| *from != NOWHERE) {
                all[from as usize] = all[from as usize] + slope * own;
            }
        }
        Derivatives { all }
    }

    fn note(&self, value: N, node: [(u32, N); 2]) -> Var<'_, N> {
        let mut nodes = self.nodes.borrow_mut();
        let at = nodes.len() as u32;
        nodes.push(node);
        Var { tape: Some(self), at, value }
    }
}

impl<N: Number> Derivatives<N> {
    /// By `var`; 0 by a constant.
    pub fn of(&self, var: Var<'_, N>) -> N {
        self.all.get(var.at as usize).copied().unwrap_or_else(|| N::constant(0.0))
    }
}

impl<N: Number> Var<'_, N> {
    /// Its value, in the type that the tape calculates with.
    pub fn plain(self) -> N {
        self.value
    }

    fn unary(self, value: N, slope: N) -> Self {
        match self.tape {
            Some(tape) => tape.note(value, [(self.at, slope), (NOWHERE, slope)]),
            None => Self { value, ..self },
        }
    }

    fn binary(self, other: Self, value: N, slopes: [N; 2]) -> Self {
        match self.tape.or(other.tape) {
            Some(tape) => tape.note(value, [(self.at, slopes[0]), (other.at, slopes[1])]),
            None => Self { value, ..self },
        }
    }
}

impl<N: Number> Add for Var<'_, N> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let one = N::constant(1.0);
        self.binary(other, self.value + other.value, [one, one])
    }
}

impl<N: Number> Sub for Var<'_, N> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.binary(other, self.value - other.value, [N::constant(1.0), N::constant(-1.0)])
    }
}

impl<N: Number> Mul for Var<'_, N> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.binary(other, self.value * other.value, [other.value, self.value])
    }
}

impl<N: Number> Div for Var<'_, N> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let (one, quotient) = (N::constant(1.0), self.value / other.value);
        self.binary(other, quotient, [one / other.value, (quotient / other.value).negative()])
    }
}

impl<N: Number> Number for Var<'_, N> {
    fn constant(v: f64) -> Self {
        Self { tape: None, at: NOWHERE, value: N::constant(v) }
    }
    fn value(self) -> f64 {
        self.value.value()
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.unary(e, e)
    }
    fn exp_m1(self) -> Self {
        self.unary(self.value.exp_m1(), self.value.exp())
    }
    fn ln_1p(self) -> Self {
        let one = N::constant(1.0);
        self.unary(self.value.ln_1p(), one / (one + self.value))
    }
    fn tanh(self) -> Self {
        // 1 − tanh² would cancel where it saturates.
        let twice = self.value + self.value;
        self.unary(self.value.tanh(), N::constant(4.0) * twice.sigmoid() * twice.negative().sigmoid())
    }
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.unary(root, N::constant(0.5) / root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<N: Number>(x: N, y: N) -> N {
        let quotient = (x * y).tanh() / (x.sigmoid() + y.softplus());
        quotient.larger(x - y) + (x * x).sqrt() * y.exp_m1() - (x.magnitude() + N::constant(2.0)).ln_1p()
    }

    #[test]
    fn derivatives_are_those_of_central_differences() {
        for (x, y) in [(0.4, -0.9), (-1.2, 0.3), (2.0, 1.5), (-0.3, -0.7)] {
            let tape = Tape::new();
            let (u, v) = (tape.variable(x), tape.variable(y));
            let z = all(u, v);
            assert_eq!(z.value(), all(x, y));
            let gradients = tape.gradients(&[(z, 2.0), (u, 3.0)]);
            let h = 1e-6;
            let by_x = (all(x + h, y) - all(x - h, y)) / h + 3.0;
            let by_y = (all(x, y + h) - all(x, y - h)) / h;
            assert!((gradients.of(u) - by_x).abs() < 1e-8 && (gradients.of(v) - by_y).abs() < 1e-8, "{x} {y}");
        }
    }

    #[test]
    fn constants_have_no_derivative() {
        let tape = Tape::<f64>::new();
        let x = tape.variable(1.0);
        let c = Var::constant(3.0) * Var::constant(2.0);
        let y = c * x;
        let gradients = tape.gradients(&[(y, 1.0), (c, 5.0)]);
        assert_eq!((gradients.of(x), gradients.of(c)), (6.0, 0.0));
    }
}
