//! Reverse-mode differentiation of plain scalar arithmetic: every operation on [`Var`]s is noted with its derivatives, and
//! [`Tape::gradients`] walks the notes back. Slow and simple; shares nothing with the executors.

use crate::verify::naive::Scalar;
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Sub};

/// What was computed from what, in order.
pub struct Tape<T> {
    /// The two operands of each value and its derivatives by them; of those without operands twice itself, by 0.
    notes: RefCell<Vec<[(u32, T); 2]>>,
}

/// A number on a tape.
pub struct Var<'t, T> {
    tape: &'t Tape<T>,
    at: u32,
    /// Its value.
    pub value: T,
}

impl<T: Scalar> Clone for Var<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Scalar> Copy for Var<'_, T> {}

impl<T: Scalar> Default for Tape<T> {
    fn default() -> Self {
        Self { notes: RefCell::new(Vec::new()) }
    }
}

impl<T: Scalar> Tape<T> {
    /// A number that does not depend on others.
    pub fn var(&self, value: f64) -> Var<'_, T> {
        let at = self.notes.borrow().len() as u32;
        self.note(T::from_f64(value), [(at, T::default()); 2])
    }

    fn note(&self, value: T, operands: [(u32, T); 2]) -> Var<'_, T> {
        let mut notes = self.notes.borrow_mut();
        notes.push(operands);
        Var { tape: self, at: (notes.len() - 1) as u32, value }
    }

    /// ∂(Σ upstream·of)/∂ every value.
    pub fn gradients(&self, of: &[(Var<'_, T>, T)]) -> Gradients<T> {
        let notes = self.notes.borrow();
        let mut all = vec![T::default(); notes.len()];
        for (var, upstream) in of {
            all[var.at as usize] = all[var.at as usize] + *upstream;
        }
        for (at, operands) in notes.iter().enumerate().rev() {
            let upstream = all[at];
            for (operand, slope) in operands.iter().filter(|(operand, _)| *operand as usize != at) {
                all[*operand as usize] = all[*operand as usize] + upstream * *slope;
            }
        }
        Gradients(all)
    }
}

/// What [`Tape::gradients`] gives.
pub struct Gradients<T>(Vec<T>);

impl<T: Scalar> Gradients<T> {
    /// That of one number.
    pub fn of(&self, var: Var<'_, T>) -> f64 {
        self.0[var.at as usize].to_f64()
    }
}

fn number<T: Scalar>(v: f64) -> T {
    T::from_f64(v)
}

impl<'t, T: Scalar> Var<'t, T> {
    fn unary(self, value: T, slope: T) -> Self {
        self.tape.note(value, [(self.at, slope), (self.at, T::default())])
    }
    /// A number of the same tape.
    pub fn constant(self, value: f64) -> Self {
        self.tape.var(value)
    }
    /// −x
    pub fn negative(self) -> Self {
        self.unary(number::<T>(0.0) - self.value, number(-1.0))
    }
    /// x + v
    pub fn plus(self, v: f64) -> Self {
        self.unary(self.value + number(v), number(1.0))
    }
    /// x · v
    pub fn times(self, v: f64) -> Self {
        self.unary(self.value * number(v), number(v))
    }
    /// e^x
    pub fn exp(self) -> Self {
        let y = self.value.exp();
        self.unary(y, y)
    }
    /// tanh x
    pub fn tanh(self) -> Self {
        let y = self.value.tanh();
        self.unary(y, number::<T>(1.0) - y * y)
    }
    /// 1 / (1 + e^−x)
    pub fn sigmoid(self) -> Self {
        let y = number::<T>(1.0) / (number::<T>(1.0) + (number::<T>(0.0) - self.value).exp());
        self.unary(y, y * (number::<T>(1.0) - y))
    }
    /// x · σ(x)
    pub fn silu(self) -> Self {
        self * self.sigmoid()
    }
    /// log(1 + e^x)
    pub fn softplus(self) -> Self {
        let (zero, one, x) = (number::<T>(0.0), number::<T>(1.0), self.value);
        let y = if x > zero { x + (one + (zero - x).exp()).ln() } else { (one + x.exp()).ln() };
        self.unary(y, one / (one + (zero - x).exp()))
    }
    /// max(x, 0)
    pub fn relu(self) -> Self {
        if self.value > T::default() {
            self.unary(self.value, number(1.0))
        } else {
            self.unary(T::default(), T::default())
        }
    }
    /// √x
    pub fn sqrt(self) -> Self {
        let y = self.value.sqrt();
        self.unary(y, number::<T>(0.5) / y)
    }
    /// The larger one.
    pub fn max(self, other: Self) -> Self {
        if self.value > other.value { self } else { other }
    }
}

impl<T: Scalar> Add for Var<'_, T> {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        self.tape.note(self.value + o.value, [(self.at, number(1.0)), (o.at, number(1.0))])
    }
}
impl<T: Scalar> Sub for Var<'_, T> {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self.tape.note(self.value - o.value, [(self.at, number(1.0)), (o.at, number(-1.0))])
    }
}
impl<T: Scalar> Mul for Var<'_, T> {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        self.tape.note(self.value * o.value, [(self.at, o.value), (o.at, self.value)])
    }
}
impl<T: Scalar> Div for Var<'_, T> {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let y = self.value / o.value;
        let slopes = (number::<T>(1.0) / o.value, number::<T>(0.0) - y / o.value);
        self.tape.note(y, [(self.at, slopes.0), (o.at, slopes.1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let f = |x: Var<'_, f64>, y: Var<'_, f64>| {
            let a = (x * y).silu() + (x - y).tanh() / y.softplus();
            let b = (x * x).plus(1.0).sqrt() * y.times(3.0).sigmoid() - x.relu() * y.exp();
            a.max(b) + b.negative() * x.constant(0.5)
        };
        for at in [(0.7, -0.4), (-1.2, 0.9), (0.3, 1.5)] {
            let tape = Tape::default();
            let (x, y) = (tape.var(at.0), tape.var(at.1));
            let gradients = tape.gradients(&[(f(x, y), 2.0)]);
            let at_moved = |dx: f64, dy: f64| f(tape.var(at.0 + dx), tape.var(at.1 + dy)).value;
            let h = 1e-5;
            assert!((gradients.of(x) - (at_moved(h, 0.0) - at_moved(-h, 0.0)) / h).abs() < 1e-8);
            assert!((gradients.of(y) - (at_moved(0.0, h) - at_moved(0.0, -h)) / h).abs() < 1e-8);
        }
    }
}
