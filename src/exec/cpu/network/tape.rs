//! Expressions as lists of operations, made once with the plan: an operation that several expressions have in common is there once,
//! and what depends on parameters alone is evaluated once for all steps.
//!
//! A value is a block `[step][middle][inner]`, where a size of 1 stands for the same values all along; heads that lie side by side are
//! inner, and so are the columns of a map. Every element is computed as [`Expr::evaluate`] would: the bits do not depend on blocks.

use crate::exec::cpu::scratch::Scratch;
use crate::expr::{Expr, Function, Operator};
use crate::num::Real;
use pulp::{Simd, WithSimd};

/// Operations in order, each of those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tape {
    nodes: Vec<Node>,
    /// Whether functions of constants are numbers already, computed in f64.
    folds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Input(usize),
    /// The bits of a number: 0 and −0 are two.
    Constant(u64),
    Apply(Function, usize),
    Combine(Operator, usize, usize),
}

impl Tape {
    /// One that computes functions of constants in f64 beforehand, as scans always have.
    pub fn folding() -> Self {
        Self { folds: true, ..Self::default() }
    }

    /// The operation that gives an expression.
    pub fn add(&mut self, expr: &Expr) -> usize {
        let node = match expr {
            Expr::Input(n) => Node::Input(*n),
            Expr::Constant(v) => Node::Constant(v.to_bits()),
            Expr::Apply(Function::Hold, x) => return self.add(x),
            Expr::Apply(function, x) => {
                let x = self.add(x);
                match self.constant(x) {
                    Some(v) => folded(|value| function.apply(value), v),
                    None => Node::Apply(*function, x),
                }
            }
            Expr::Combine(operator, a, b) => {
                let (a, b) = (self.add(a), self.add(b));
                match (self.constant(a), self.constant(b)) {
                    (Some(a), Some(b)) => folded(|value| operator.apply(value, &[b]), a),
                    _ => Node::Combine(*operator, a, b),
                }
            }
        };
        self.nodes.iter().position(|known| *known == node).unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    fn constant(&self, node: usize) -> Option<f64> {
        match self.nodes[node] {
            Node::Constant(bits) if self.folds => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// How many operations compute something.
    pub fn work(&self) -> usize {
        self.nodes.iter().filter(|n| matches!(n, Node::Apply(..) | Node::Combine(..))).count()
    }
}

fn folded(apply: impl FnOnce(&mut [f64]), v: f64) -> Node {
    let mut value = [v];
    apply(&mut value);
    Node::Constant(value[0].to_bits())
}

/// Values of some steps.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, T> {
    pub values: &'a [T],
    /// Distance of two steps; 0: the same values for all.
    pub step: usize,
    /// Middle and inner.
    pub size: [usize; 2],
}

impl<'a, T: Copy> Block<'a, T> {
    /// The values of a step at an index of the middle: `inner` of them, or one for all.
    #[inline(always)]
    pub fn row(&self, step: usize, middle: usize) -> &'a [T] {
        let [rows, inner] = self.size;
        &self.values[step * self.step + if rows == 1 { 0 } else { middle * inner }..][..inner]
    }
}

/// Where an operation's values are: first element, step, middle, inner.
type Place = [usize; 4];

/// A tape and the memory that it runs in.
pub(super) struct Run<'t, T: Real> {
    tape: &'t Tape,
    places: Scratch<Place>,
    arena: Scratch<T>,
}

impl<'t, T: Real> Run<'t, T> {
    /// For up to so many steps at a time; `inputs`: the blocks of the tape's inputs, of which those that are the same for all steps
    /// are read here.
    pub fn new<'a>(tape: &'t Tape, steps: usize, inputs: &dyn Fn(usize) -> Block<'a, T>) -> Self
    where
        T: 'a,
    {
        let mut places = Scratch::<Place>::any(tape.nodes.len());
        let mut end = 0;
        for (n, node) in tape.nodes.iter().enumerate() {
            let (step, [middle, inner]) = match *node {
                Node::Input(input) => {
                    let block = inputs(input);
                    (block.step, block.size)
                }
                Node::Constant(_) => (0, [1, 1]),
                Node::Apply(_, x) => (places[x][1], [places[x][2], places[x][3]]),
                Node::Combine(_, a, b) => {
                    let (a, b) = (places[a], places[b]);
                    (a[1].max(b[1]), [a[2].max(b[2]), a[3].max(b[3])])
                }
            };
            let own = !matches!(node, Node::Input(_));
            let step = if own && step > 0 { middle * inner } else { step };
            places[n] = [end, step, middle, inner];
            if own {
                end += middle * inner * if step > 0 { steps } else { 1 };
            }
        }
        let mut run = Self { tape, places, arena: Scratch::any(end) };
        run.evaluate(1, inputs, false);
        run
    }

    /// Evaluates what changes from step to step, for so many.
    pub fn steps<'a>(&mut self, count: usize, inputs: &dyn Fn(usize) -> Block<'a, T>)
    where
        T: 'a,
    {
        self.evaluate(count, inputs, true);
    }

    /// What an operation gives.
    pub fn block<'s, 'a: 's>(&'s self, node: usize, inputs: &dyn Fn(usize) -> Block<'a, T>) -> Block<'s, T> {
        read(self.tape, &self.places, &self.arena, node, inputs)
    }

    fn evaluate<'a>(&mut self, count: usize, inputs: &dyn Fn(usize) -> Block<'a, T>, changing: bool)
    where
        T: 'a,
    {
        let Self { tape, places, arena } = self;
        for (n, node) in tape.nodes.iter().enumerate() {
            let [at, step, middle, inner] = places[n];
            if (step > 0) != changing || matches!(node, Node::Input(_)) {
                continue;
            }
            // What an operation reads lies before what it writes.
            let (before, out) = arena.split_at_mut(at);
            let out = &mut out[..count * middle * inner];
            match *node {
                Node::Input(_) => {}
                Node::Constant(bits) => out.fill(T::from_f64(f64::from_bits(bits))),
                Node::Apply(function, x) => {
                    let x = read(tape, places, before, x, inputs);
                    let whole = middle * inner;
                    if x.step == whole || count == 1 {
                        out.copy_from_slice(&x.values[..out.len()]);
                    } else {
                        for (s, out) in out.chunks_exact_mut(whole).enumerate() {
                            out.copy_from_slice(&x.values[s * x.step..][..whole]);
                        }
                    }
                    function.apply(out);
                }
                Node::Combine(operator, a, b) => {
                    let [a, b] = [a, b].map(|x| read(tape, places, before, x, inputs));
                    T::dispatch(Combine { operator, out, a, b, size: [middle, inner] });
                }
            }
        }
    }
}

fn read<'s, 'a: 's, T: Real>(
    tape: &Tape,
    places: &[Place],
    arena: &'s [T],
    node: usize,
    inputs: &dyn Fn(usize) -> Block<'a, T>,
) -> Block<'s, T> {
    match tape.nodes[node] {
        Node::Input(n) => inputs(n),
        _ => {
            let [at, step, middle, inner] = places[node];
            Block { values: &arena[at..], step, size: [middle, inner] }
        }
    }
}

/// An operator over blocks, for the widest registers that the machine has; every value is computed by itself.
struct Combine<'a, T> {
    operator: Operator,
    /// `[step][middle][inner]`
    out: &'a mut [T],
    a: Block<'a, T>,
    b: Block<'a, T>,
    size: [usize; 2],
}

impl<T: Real> WithSimd for Combine<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.operator {
            Operator::Add => self.each(|a, b| a + b),
            Operator::Sub => self.each(|a, b| a.minus(b)),
            Operator::Mul => self.each(|a, b| a * b),
            Operator::Div => self.each(|a, b| a.over(b)),
            Operator::Max => self.each(|a, b| if a > b { a } else { b }),
        }
    }
}

impl<T: Real> Combine<'_, T> {
    #[inline(always)]
    fn each(self, f: impl Fn(T, T) -> T) {
        let Self { out, a, b, size, .. } = self;
        let [middle, inner] = size;
        let whole = middle * inner;
        let one_step = out.len() == whole;
        let flat = |x: &Block<'_, T>| x.size == size && (one_step || x.step == whole);
        let single = |x: &Block<'_, T>| x.size == [1, 1] && (one_step || x.step == 0);
        // One long row where both sides allow it.
        if (flat(&a) || single(&a)) && (flat(&b) || single(&b)) {
            let len = out.len();
            let of = |x: &Block<'_, T>| if flat(x) { len } else { 1 };
            let (a, b) = (&a.values[..of(&a)], &b.values[..of(&b)]);
            return row(out, a, b, f);
        }
        for (s, out) in out.chunks_exact_mut(whole).enumerate() {
            for (m, out) in out.chunks_exact_mut(inner).enumerate() {
                row(out, a.row(s, m), b.row(s, m), &f);
            }
        }
    }
}

#[inline(always)]
fn row<T: Real>(out: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T) -> T) {
    match (a, b) {
        (a, b) if a.len() == out.len() && b.len() == out.len() => {
            out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o = f(*a, *b));
        }
        (a, &[b]) if a.len() == out.len() => out.iter_mut().zip(a).for_each(|(o, a)| *o = f(*a, b)),
        (&[a], b) if b.len() == out.len() => out.iter_mut().zip(b).for_each(|(o, b)| *o = f(a, *b)),
        (a, b) => out.fill(f(a[0], b[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{exp, max, sigmoid, silu, softplus, tanh};

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|n| ((n * 37 + seed * 101) % 199) as f32 * 0.013 - 1.3).collect()
    }

    #[test]
    fn blocks_of_any_sizes_are_evaluated_value_by_value() {
        let x = Expr::input;
        let expressions = [
            exp(-(x(0) * exp(x(1)))) + x(2) / (x(3) + 3.0.into()),
            max(silu(x(0) - x(2)), tanh(x(1)) * x(3)) - softplus(x(0)),
            Expr::Constant(0.0) - sigmoid(x(1)),
            x(0) * x(2) + 0.5.into(),
        ];
        let (steps, middle, inner) = (7, 3, 5);
        // Per step and inner; parameters of both; per step and middle; per step, of columns that lie apart.
        let shapes = [(inner, [1, inner]), (0, [middle, inner]), (middle, [middle, 1]), (4, [1, 1])];
        let values: Vec<Vec<f32>> = (0..4).map(|n| numbers(steps * middle * inner, n)).collect();
        let mut tape = Tape::default();
        let nodes: Vec<usize> = expressions.iter().map(|e| tape.add(e)).collect();
        assert_eq!(nodes, expressions.iter().map(|e| tape.add(e)).collect::<Vec<_>>(), "nothing is there twice");
        let inputs = |first: usize| {
            let values = &values;
            move |n: usize| {
                let (step, size) = shapes[n];
                Block { values: &values[n][first * step..], step, size }
            }
        };
        for most in [1, 2, 7] {
            let mut run = Run::new(&tape, most, &inputs(0));
            for first in (0..steps).step_by(most) {
                let count = most.min(steps - first);
                run.steps(count, &inputs(first));
                for (node, e) in nodes.iter().zip(&expressions) {
                    let block = run.block(*node, &inputs(first));
                    for (s, m, i) in (0..count * middle * inner).map(|n| (n / 15, n / 5 % 3, n % 5)) {
                        let at: Vec<f32> = (0..4)
                            .map(|n| {
                                let row = inputs(first)(n).row(s, m);
                                row[if row.len() == 1 { 0 } else { i }]
                            })
                            .collect();
                        let mut truth = [0.0f32];
                        e.evaluate(&at.iter().map(std::slice::from_ref).collect::<Vec<_>>(), &mut truth);
                        let row = block.row(s, m);
                        let got = row[if row.len() == 1 { 0 } else { i }];
                        assert_eq!(got.to_bits(), truth[0].to_bits(), "{e:?} at {s} {m} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn constants_fold_only_where_scans_ask_for_it() {
        let e = exp(Expr::Constant(0.3)) * Expr::input(0);
        let (mut folding, mut other) = (Tape::folding(), Tape::default());
        folding.add(&e);
        other.add(&e);
        assert_eq!((folding.work(), other.work()), (1, 2));
        let hold = crate::expr::hold(Expr::input(3));
        assert_eq!(other.add(&hold), other.add(&Expr::input(3)));
    }
}
