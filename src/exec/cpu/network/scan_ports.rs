//! What a scan's rule gives over a stretch of steps of some heads: its coefficients, and on the way back its ports' gradients.
//!
//! Heads of a single column go side by side, [`HEADS`] at a time, others one by one: the innermost loops of a scan are then over
//! neighbouring heads or over neighbouring columns. A block of values is `[step][index][head]`, index the key or value index.

use super::Context;
use super::tape::{Block, Run, Tape};
use crate::exec::cpu::scratch::Scratch;
use crate::expr::Expr;
use crate::model::network::{Operand, ScanShape, Source};
use crate::model::rule::{EMPTY_MAXIMUM, Extent};
use crate::num::Aligned;
use crate::num::Real;
use std::ops::Range;

/// Heads of a single column that go side by side.
pub(super) const HEADS: usize = 32;
/// Values of an expression that are computed before the next expression's, about: those of a rule fit the nearest cache.
const AT_ONCE: usize = 1 << 10;

/// Neighbouring heads of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub b: usize,
    pub first: usize,
    pub count: usize,
}

/// The tasks of a scan: every sequence's heads, in blocks.
pub(super) fn tasks(shape: &ScanShape, batch: usize) -> Vec<Heads> {
    let side_by_side = if shape.value_size == 1 { HEADS } else { 1 };
    let blocks = (0..shape.heads).step_by(side_by_side);
    let block = |b: usize, first: usize| Heads { b, first, count: side_by_side.min(shape.heads - first) };
    (0..batch).flat_map(|b| blocks.clone().map(move |first| block(b, first))).collect()
}

/// A rule's expressions as the CPU runs them: made with the plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScanTapes {
    /// The logarithms of decay and input gate, of rules with a stabiliser.
    gates: Option<(Tape, [usize; 2])>,
    coefficients: Tape,
    slopes: Tape,
    /// In the order in which their gradients reach a port's.
    terms: Vec<Term>,
}

/// A coefficient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Write,
    Query,
    Value,
    Decay,
    Reads,
    Corrects,
    Through,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    name: Name,
    of: Extent,
    /// Its operation in the tape of coefficients.
    node: usize,
    /// Those of its derivatives by every operand in the tape of slopes; `None`: 0.
    slopes: Vec<Option<usize>>,
}

impl ScanTapes {
    pub fn new(shape: &ScanShape) -> Self {
        let (form, ports) = (shape.form(), shape.ports());
        let (mut coefficients, mut slopes) = (Tape::folding(), Tape::folding());
        let mut terms = Vec::new();
        let mut term = |name: Name, expr: &Expr, of: Extent| {
            let node = coefficients.add(expr);
            let slope = |port: usize| Some(expr.derivative(port)).filter(|e| e.constant() != Some(0.0));
            let slopes = (0..shape.operands.len()).map(|port| slope(port).map(|e| slopes.add(&e))).collect();
            terms.push(Term { name, of, node, slopes });
        };
        term(Name::Write, &form.write, Extent::Key);
        term(Name::Query, &form.query, Extent::Key);
        term(Name::Value, &form.value, Extent::Value);
        if let Some(decay) = &form.decay {
            term(Name::Decay, decay, Extent::Key);
        }
        if let Some((a, b)) = &form.erase {
            term(Name::Reads, a, Extent::Key);
            term(Name::Corrects, b, Extent::Key);
        }
        if let Some(r) = &form.through {
            // One that differs from key index to key index is summed over them.
            let full = ports.iter().enumerate().any(|(n, p)| p.extent != Extent::Head && r.uses(n));
            term(Name::Through, r, if full { Extent::Key } else { Extent::Head });
        }
        let gates = form.stabiliser.as_ref().map(|s| {
            let mut tape = Tape::folding();
            let nodes = [tape.add(&s.decay), tape.add(&s.input)];
            (tape, nodes)
        });
        Self { gates, coefficients, slopes, terms }
    }

    fn has(&self, name: Name) -> bool {
        self.terms.iter().any(|t| t.name == name)
    }
}

/// A port's values over a stretch.
struct Values<T> {
    /// The operand's columns, `[index][head]`; none of m's.
    columns: Vec<usize>,
    /// Whether they are neighbours.
    together: bool,
    values: Scratch<T>,
    /// See [`Block`].
    step: usize,
    size: [usize; 2],
}

impl<T: Real> Values<T> {
    fn from(&self, step: usize) -> Block<'_, T> {
        Block { values: &self.values[step * self.step..], step: self.step, size: self.size }
    }
}

/// A stretch of steps of some heads, one after the other.
pub(super) struct Stretch<'a, T: Real> {
    pub shape: &'a ScanShape,
    tapes: &'a ScanTapes,
    pub heads: Heads,
    /// The rows of its steps, in the scan's order.
    pub rows: Vec<usize>,
    /// Of every port, m's two included.
    values: Vec<Values<T>>,
    run: Option<Run<'a, T>>,
    slopes: Option<Run<'a, T>>,
}

impl<'a, T: Real> Stretch<'a, T> {
    /// Of up to `longest` steps; reads parameters.
    pub fn new(
        c: &Context<'_, T>,
        (shape, tapes): (&'a ScanShape, &'a ScanTapes),
        heads: Heads,
        longest: usize,
    ) -> Self {
        let mut stretch = Self {
            shape,
            tapes,
            heads,
            rows: Vec::with_capacity(longest),
            values: Vec::new(),
            run: None,
            slopes: None,
        };
        for (port, operand) in shape.ports().iter().zip(&shape.operands) {
            let values = stretch.port(c, port.extent, operand, longest);
            stretch.values.push(values);
        }
        for _ in stretch.values.len()..shape.ports().len() {
            // m, as lists of heads.
            let (values, size) = (Scratch::any(longest * heads.count), [1, heads.count]);
            stretch.values.push(Values { columns: Vec::new(), together: false, values, step: heads.count, size });
        }
        let run = Run::new(&tapes.coefficients, stretch.at_once(), &inputs(&stretch.values, 0));
        stretch.run = Some(run);
        stretch
    }

    fn port(&self, c: &Context<'_, T>, extent: Extent, operand: &Operand, longest: usize) -> Values<T> {
        let (indices, count) = (self.indices(extent), self.heads.count);
        let all = (0..indices).flat_map(|i| (0..count).map(move |h| (i, h)));
        let columns: Vec<usize> = all.map(|(i, h)| operand.column((self.heads.first + h) * indices + i)).collect();
        let together = columns.windows(2).all(|c| c[0] + 1 == c[1]);
        // Values that all heads share are read once.
        let shared = columns.chunks_exact(count).all(|heads| heads.iter().all(|c| *c == heads[0]));
        let size = match (count, shared) {
            (1, _) => [1, indices],
            (_, true) => [indices, 1],
            (_, false) => [indices, count],
        };
        let len = size[0] * size[1];
        let (values, step) = match operand.source {
            Source::Value(_) => (Scratch::any(longest * len), len),
            Source::Param { param, first, width } => {
                let (mut values, source) = (Scratch::any(len), &c.param(param)[first..][..width]);
                let columns = columns.iter().step_by(columns.len() / len);
                values.iter_mut().zip(columns).for_each(|(v, &at)| *v = source[at]);
                (values, 0)
            }
        };
        Values { columns, together, values, step, size }
    }

    /// Goes on to the steps of other rows; values of m are made by [`Stretch::maxima`] or [`Stretch::set_maxima`].
    pub fn load(&mut self, c: &Context<'_, T>, rows: impl Iterator<Item = usize>, slots: &[Aligned<T>]) {
        self.rows.clear();
        self.rows.extend(rows);
        for (port, operand) in self.values.iter_mut().zip(&self.shape.operands) {
            let Source::Value(part) = operand.source else { continue };
            let (stride, from) = (c.stride(part), &slots[c.plan.values[part.value]]);
            let each = port.columns.len() / port.step;
            for (to, &row) in port.values.chunks_exact_mut(port.step).zip(&self.rows) {
                let row = &from[row * stride + part.first..][..part.width];
                if port.together && each == 1 {
                    to.copy_from_slice(&row[port.columns[0]..][..port.step]);
                } else {
                    to.iter_mut().zip(port.columns.iter().step_by(each)).for_each(|(v, &at)| *v = row[at]);
                }
            }
        }
    }

    /// Indices per head of an extent.
    fn indices(&self, extent: Extent) -> usize {
        match extent {
            Extent::Head => 1,
            Extent::Key => self.shape.key_size,
            Extent::Value => self.shape.value_size,
        }
    }

    /// Steps whose coefficients are computed together.
    pub fn at_once(&self) -> usize {
        let widest = self.shape.key_size.max(self.shape.value_size) * self.heads.count;
        (AT_ONCE / widest).clamp(1, 64)
    }

    /// m of every step, `[step][head]`, from `before` (which becomes the last one's); `reset`: where it starts anew.
    pub fn maxima(&mut self, before: &mut [T], reset: &dyn Fn(usize) -> bool) {
        let Some((tape, nodes)) = &self.tapes.gates else { return };
        let (steps, count, ports) = (self.rows.len(), self.heads.count, self.values.len());
        let (values, m) = self.values.split_at_mut(ports - 2);
        let [earlier, now] = m else { return };
        let at_once = steps.min(64);
        let mut run = Run::new(tape, at_once, &inputs(values, 0));
        let mut gates = [Scratch::any(at_once * count), Scratch::any(at_once * count)];
        for first in (0..steps).step_by(at_once.max(1)) {
            let block = at_once.min(steps - first);
            run.steps(block, &inputs(values, first));
            for (gate, node) in gates.iter_mut().zip(nodes) {
                widen(run.block(*node, &inputs(values, first)), [block, 1, count], gate, count);
            }
            let [decay, input] = &gates;
            for step in 0..block {
                if reset(first + step) {
                    before.fill(T::from_f64(EMPTY_MAXIMUM));
                }
                let own = (first + step) * count;
                earlier.values[own..][..count].copy_from_slice(before);
                for (head, m) in before.iter_mut().enumerate() {
                    let at = step * count + head;
                    let kept = *m + decay[at];
                    *m = if kept > input[at] { kept } else { input[at] };
                }
                now.values[own..][..count].copy_from_slice(before);
            }
        }
    }

    /// The same from what a forward pass has kept.
    pub fn set_maxima(&mut self, before: &[T], now: &[T]) {
        let ports = self.values.len();
        self.values[ports - 2].values[..before.len()].copy_from_slice(before);
        self.values[ports - 1].values[..now.len()].copy_from_slice(now);
    }

    /// m after a step, of every head.
    pub fn m(&self, step: usize) -> &[T] {
        let count = self.heads.count;
        self.values.last().map_or(&[], |m| &m.values[step * count..][..count])
    }

    /// Room for the rule's coefficients over so many steps.
    pub fn room(&self, steps: usize) -> Coefficients<T> {
        let (heads, keys, tapes) = (self.heads.count, self.shape.key_size, self.tapes);
        let of_key = || Scratch::any(steps * keys * heads);
        let (decay, reads) = (tapes.has(Name::Decay), tapes.has(Name::Reads));
        Coefficients {
            decay: decay.then(of_key),
            erase: reads.then(|| (of_key(), of_key())),
            write: of_key(),
            query: of_key(),
            through: tapes.has(Name::Through).then(|| Scratch::any(steps * heads)),
            value: Scratch::any(steps * self.shape.columns() * heads),
        }
    }

    /// The rule's coefficients of all steps.
    pub fn coefficients(&mut self) -> Coefficients<T> {
        let mut all = self.room(self.rows.len());
        self.fill(0..self.rows.len(), &mut all);
        all
    }

    /// Those of some steps.
    pub fn fill(&mut self, steps: Range<usize>, to: &mut Coefficients<T>) {
        let (keys, values, columns, heads) =
            (self.shape.key_size, self.shape.value_size, self.shape.columns(), self.heads.count);
        let at_once = self.at_once();
        let Some(run) = &mut self.run else { return };
        for first in steps.clone().step_by(at_once) {
            let (at, count) = (first - steps.start, at_once.min(steps.end - first));
            let inputs = inputs(&self.values, first);
            run.steps(count, &inputs);
            for term in &self.tapes.terms {
                let block = run.block(term.node, &inputs);
                let of_key = match (term.name, &mut to.decay, &mut to.erase) {
                    (Name::Write, ..) => &mut to.write,
                    (Name::Query, ..) => &mut to.query,
                    (Name::Decay, Some(decay), _) => decay,
                    (Name::Reads, _, Some((a, _))) => a,
                    (Name::Corrects, _, Some((_, b))) => b,
                    (Name::Value, ..) => {
                        let value = &mut to.value[at * columns * heads..][..count * columns * heads];
                        widen(block, [count, values, heads], value, columns * heads);
                        for value in value.chunks_exact_mut(columns * heads) {
                            // The divisor's column.
                            value[values * heads..].fill(T::from_f64(1.0));
                        }
                        continue;
                    }
                    _ => {
                        if let Some(through) = &mut to.through {
                            let through = &mut through[at * heads..][..count * heads];
                            if term.of == Extent::Head {
                                widen(block, [count, 1, heads], through, heads);
                            } else {
                                sum_keys(block, [count, keys, heads], through);
                            }
                        }
                        continue;
                    }
                };
                widen(block, [count, keys, heads], &mut of_key[at * keys * heads..], keys * heads);
            }
        }
    }
}

/// The blocks of ports from a step on.
fn inputs<'v, T: Real>(values: &'v [Values<T>], step: usize) -> impl Fn(usize) -> Block<'v, T> {
    move |port| values[port].from(step)
}

/// Values of so many steps, indices and heads, `[index][head]` every `stride`.
fn widen<T: Real>(block: Block<'_, T>, [steps, indices, heads]: [usize; 3], out: &mut [T], stride: usize) {
    let own = indices * heads;
    let whole = block.size[0] * block.size[1] == own;
    for (s, out) in out.chunks_mut(stride).take(steps).enumerate() {
        let out = &mut out[..own];
        if whole {
            out.copy_from_slice(&block.values[s * block.step..][..own]);
        } else if heads == 1 {
            // Indices are inner there.
            out.fill(block.row(s, 0)[0]);
        } else {
            for (i, out) in out.chunks_exact_mut(heads).enumerate() {
                match block.row(s, i) {
                    &[one] => out.fill(one),
                    row => out.copy_from_slice(row),
                }
            }
        }
    }
}

/// Of every step and head the sum over the key indices.
fn sum_keys<T: Real>(block: Block<'_, T>, [steps, keys, heads]: [usize; 3], out: &mut [T]) {
    let mut all = Scratch::any(keys * heads);
    for (s, out) in out.chunks_exact_mut(heads).take(steps).enumerate() {
        let of_step = Block { values: &block.values[s * block.step..], ..block };
        widen(of_step, [1, keys, heads], &mut all, keys * heads);
        out.fill(T::default());
        for key in all.chunks_exact(heads) {
            out.iter_mut().zip(key).for_each(|(sum, v)| *sum = *sum + *v);
        }
    }
}

/// d, a, b, k, q `[step][K][head]`, r `[step][head]`, v `[step][columns][head]`; also their gradients.
pub(super) struct Coefficients<T> {
    pub decay: Option<Scratch<T>>,
    pub erase: Option<(Scratch<T>, Scratch<T>)>,
    pub write: Scratch<T>,
    pub query: Scratch<T>,
    pub through: Option<Scratch<T>>,
    pub value: Scratch<T>,
}

impl<T: Real> Coefficients<T> {
    /// Zeros of the same sizes.
    pub fn zeros(&self) -> Self {
        let like = |v: &Scratch<T>| Scratch::filled(v.len(), T::default());
        Self {
            decay: self.decay.as_ref().map(like),
            erase: self.erase.as_ref().map(|(a, b)| (like(a), like(b))),
            write: like(&self.write),
            query: like(&self.query),
            through: self.through.as_ref().map(like),
            value: like(&self.value),
        }
    }

    /// A coefficient's values of a step at an index, and how many indices have them side by side; `indices`: those of its
    /// expression.
    fn rows(&self, name: Name, step: usize, (indices, columns, heads): (usize, usize, usize)) -> Option<(&[T], bool)> {
        let of_key = match (name, &self.decay, &self.erase) {
            (Name::Write, ..) => &self.write,
            (Name::Query, ..) => &self.query,
            (Name::Decay, decay, _) => decay.as_ref()?,
            (Name::Reads, _, erase) => &erase.as_ref()?.0,
            (Name::Corrects, _, erase) => &erase.as_ref()?.1,
            // Without the divisor's column, whose value is 1.
            (Name::Value, ..) => return Some((&self.value[step * columns * heads..][..indices * heads], true)),
            // One for all indices.
            (Name::Through, ..) => return Some((&self.through.as_ref()?[step * heads..][..heads], indices == 1)),
        };
        Some((&of_key[step * indices * heads..][..indices * heads], true))
    }
}

impl<'a, T: Real> Stretch<'a, T> {
    /// Gradients of the ports (inputs and parameters; m has none), `[step][index][head]` each, from those of the coefficients.
    pub fn port_gradients(&mut self, d: &Coefficients<T>) -> Vec<Scratch<T>> {
        let (steps, heads, columns) = (self.rows.len(), self.heads.count, self.shape.columns());
        let at_once = self.at_once();
        let ports = &self.shape.ports()[..self.shape.operands.len()];
        let zeros = |extent: Extent| Scratch::filled(steps * self.indices(extent) * heads, T::default());
        let mut gradients: Vec<Scratch<T>> = ports.iter().map(|p| zeros(p.extent)).collect();
        let widest = self.shape.key_size.max(self.shape.value_size) * heads;
        let (mut slope, tapes) = (Scratch::any(widest), self.tapes);
        let mut run = self.slopes.take().unwrap_or_else(|| Run::new(&tapes.slopes, at_once, &inputs(&self.values, 0)));
        for first in (0..steps).step_by(at_once) {
            let count = at_once.min(steps - first);
            let inputs = inputs(&self.values, first);
            run.steps(count, &inputs);
            for (port, gradient) in gradients.iter_mut().enumerate() {
                let extent = ports[port].extent;
                let own = self.indices(extent) * heads;
                for term in &tapes.terms {
                    let Some(node) = term.slopes[port] else { continue };
                    let (block, indices) = (run.block(node, &inputs), self.indices(term.of));
                    for step in first..first + count {
                        let values = &block.values[(step - first) * block.step..];
                        let slope = &mut slope[..indices * heads];
                        widen(Block { values, ..block }, [1, indices, heads], slope, indices * heads);
                        let Some((d, each)) = d.rows(term.name, step, (indices, columns, heads)) else { continue };
                        add_products(&mut gradient[step * own..][..own], slope, (d, each), heads);
                    }
                }
            }
        }
        self.slopes = Some(run);
        gradients
    }

    /// Adds a port's gradients of a stretch to columns of a row-major block: `to(step, column, values)` for neighbouring columns from
    /// that one on, where `step` counts the stretch's.
    pub fn scatter(&self, port: usize, gradient: &[T], mut to: impl FnMut(usize, usize, &[T])) {
        let Values { columns, together, .. } = &self.values[port];
        for (step, row) in gradient.chunks_exact(columns.len()).enumerate() {
            if *together {
                to(step, columns[0], row);
            } else {
                columns.iter().zip(row.chunks_exact(1)).for_each(|(&column, g)| to(step, column, g));
            }
        }
    }
}

/// gradient += slope · d, `[index][head]`; that of a head is the sum over the indices. `each`: whether every index has a d of its
/// own.
fn add_products<T: Real>(gradient: &mut [T], slope: &[T], (d, each): (&[T], bool), heads: usize) {
    if gradient.len() == slope.len() && each {
        gradient.iter_mut().zip(slope).zip(d).for_each(|((g, s), d)| *g = *g + *s * *d);
        return;
    }
    let per_index = gradient.len() == slope.len();
    for (i, slope) in slope.chunks_exact(heads).enumerate() {
        let d = if each { &d[i * heads..][..heads] } else { d };
        let gradient = if per_index { &mut gradient[i * heads..][..heads] } else { &mut gradient[..] };
        gradient.iter_mut().zip(slope).zip(d).for_each(|((g, s), d)| *g = *g + *s * *d);
    }
}
