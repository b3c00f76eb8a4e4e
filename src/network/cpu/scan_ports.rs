//! What a scan's rule gives over a stretch of steps of some heads: its coefficients, and on the way back its ports' gradients.
//!
//! Heads of a single column go side by side, [`HEADS`] at a time, others one by one: the innermost loops of a scan are then over
//! neighbouring heads or over neighbouring columns. A block of values is `[step][index][head]`, index the key or value index.

use super::Context;
use crate::expr::{Element, Expr, Function};
use crate::network::{Operand, ScanShape, Source};
use crate::rule::{EMPTY_MAXIMUM, Extent, Form, Port};
use std::cell::RefCell;

/// Heads of a single column that go side by side.
pub(super) const HEADS: usize = 32;

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

/// A stretch of steps of some heads.
pub(super) struct Stretch<'a, T: Element> {
    pub shape: &'a ScanShape,
    pub form: &'a Form,
    pub ports: &'a [Port],
    pub heads: Heads,
    /// The rows of its steps, in the scan's order.
    pub rows: Vec<usize>,
    /// Values of every port, m's two included.
    pub values: Vec<Vec<T>>,
    /// Functions that have been evaluated: derivatives have many in common.
    known: RefCell<Vec<(Expr, Values<T>)>>,
}

/// An expression's values, by what they depend on.
#[derive(Clone)]
enum Values<T> {
    Constant(f64),
    /// `[step][head]`
    Head(Vec<T>),
    /// `[step][index][head]`
    Full(Vec<T>),
}

impl<'a, T: Element> Stretch<'a, T> {
    /// Reads the ports' values; those of m are made by [`Stretch::maxima`] or [`Stretch::set_maxima`].
    pub fn new(
        c: &Context<'_, T>,
        (shape, form, ports): (&'a ScanShape, &'a Form, &'a [Port]),
        heads: Heads,
        rows: Vec<usize>,
        slots: &[Vec<T>],
    ) -> Self {
        let mut stretch = Self { shape, form, ports, heads, rows, values: Vec::new(), known: RefCell::default() };
        for (port, operand) in ports.iter().zip(&shape.operands) {
            let values = stretch.read(c, port.extent, operand, slots);
            stretch.values.push(values);
        }
        stretch
    }

    /// Indices per head of an extent.
    pub fn indices(&self, extent: Extent) -> usize {
        self.shape.port_width(extent) / self.shape.heads
    }

    /// The operand's column of a head's index.
    fn column(&self, extent: Extent, operand: &Operand, index: usize, head: usize) -> usize {
        operand.column((self.heads.first + head) * self.indices(extent) + index)
    }

    /// That of every index and head, `[index][head]`.
    fn columns(&self, extent: Extent, operand: &Operand) -> Vec<usize> {
        let all = (0..self.indices(extent)).flat_map(|i| (0..self.heads.count).map(move |h| (i, h)));
        all.map(|(i, h)| self.column(extent, operand, i, h)).collect()
    }

    fn read(&self, c: &Context<'_, T>, extent: Extent, operand: &Operand, slots: &[Vec<T>]) -> Vec<T> {
        let columns = self.columns(extent, operand);
        match operand.source {
            Source::Value(part) => {
                let (stride, values) = (c.stride(part), &slots[c.plan.values[part.value]]);
                let together = columns.windows(2).all(|c| c[0] + 1 == c[1]);
                let mut read = Vec::with_capacity(self.rows.len() * columns.len());
                for &r in &self.rows {
                    let row = &values[r * stride + part.first..][..part.width];
                    match columns.first() {
                        Some(&first) if together => read.extend_from_slice(&row[first..][..columns.len()]),
                        _ => read.extend(columns.iter().map(|&at| row[at])),
                    }
                }
                read
            }
            Source::Param { param, first, width } => {
                let values = &c.param(param)[first..][..width];
                columns.iter().map(|&at| values[at]).collect::<Vec<T>>().repeat(self.rows.len())
            }
        }
    }

    /// m of every step, `[step][head]`, from `before` (which becomes the last one's); `reset`: where it starts anew.
    pub fn maxima(&mut self, before: &mut [T], reset: &dyn Fn(usize) -> bool) {
        let Some(s) = &self.form.stabiliser else { return };
        let (decay, input) = (self.heads_of(&s.decay), self.heads_of(&s.input));
        let (mut earlier, mut now) = (Vec::new(), Vec::new());
        for step in 0..self.rows.len() {
            if reset(step) {
                before.fill(T::from_f64(EMPTY_MAXIMUM));
            }
            earlier.extend_from_slice(before);
            for (head, m) in before.iter_mut().enumerate() {
                let at = step * self.heads.count + head;
                let kept = *m + decay[at];
                *m = if kept > input[at] { kept } else { input[at] };
            }
            now.extend_from_slice(before);
        }
        self.values.push(earlier);
        self.values.push(now);
    }

    /// The same from what a forward pass has kept.
    pub fn set_maxima(&mut self, before: Vec<T>, now: Vec<T>) {
        self.values.push(before);
        self.values.push(now);
    }

    /// An expression of Head ports alone, `[step][head]`.
    fn heads_of(&self, expr: &Expr) -> Vec<T> {
        match self.evaluate(expr, 1) {
            Values::Constant(v) => vec![T::from_f64(v); self.rows.len() * self.heads.count],
            Values::Head(v) | Values::Full(v) => v,
        }
    }

    /// An expression's values, `[step][index][head]`.
    pub fn full(&self, expr: &Expr, extent: Extent) -> Vec<T> {
        let indices = self.indices(extent);
        match self.evaluate(expr, indices) {
            Values::Constant(v) => vec![T::from_f64(v); self.rows.len() * indices * self.heads.count],
            Values::Head(v) => self.widened(&v, indices),
            Values::Full(v) => v,
        }
    }

    /// Whether it uses a port of more than one value per head.
    pub fn is_full(&self, expr: &Expr) -> bool {
        self.ports.iter().enumerate().any(|(n, p)| p.extent != Extent::Head && expr.uses(n))
    }

    fn widened(&self, values: &[T], indices: usize) -> Vec<T> {
        let mut wide = Vec::with_capacity(values.len() * indices);
        for heads in values.chunks_exact(self.heads.count) {
            (0..indices).for_each(|_| wide.extend_from_slice(heads));
        }
        wide
    }

    fn evaluate(&self, expr: &Expr, indices: usize) -> Values<T> {
        match expr {
            Expr::Constant(v) => Values::Constant(*v),
            Expr::Input(n) if self.ports[*n].extent == Extent::Head => Values::Head(self.values[*n].clone()),
            Expr::Input(n) => Values::Full(self.values[*n].clone()),
            Expr::Apply(function, x) => {
                if let Some((_, values)) = self.known.borrow().iter().find(|(known, _)| known == expr) {
                    return values.clone();
                }
                let values = Self::apply(*function, self.evaluate(x, indices));
                self.known.borrow_mut().push((expr.clone(), values.clone()));
                values
            }
            Expr::Combine(operator, a, b) => {
                let (a, b) = (self.evaluate(a, indices), self.evaluate(b, indices));
                let heads = |v: f64| vec![T::from_f64(v); self.rows.len() * self.heads.count];
                let full = |v: Values<T>| match v {
                    Values::Constant(v) => vec![T::from_f64(v); self.rows.len() * indices * self.heads.count],
                    Values::Head(v) => self.widened(&v, indices),
                    Values::Full(v) => v,
                };
                match (a, b) {
                    (Values::Constant(a), Values::Constant(b)) => {
                        let mut value = [a];
                        operator.apply(&mut value, &[b]);
                        Values::Constant(value[0])
                    }
                    (Values::Head(mut a), Values::Head(b)) => {
                        operator.apply(&mut a, &b);
                        Values::Head(a)
                    }
                    (Values::Head(mut a), Values::Constant(b)) => {
                        operator.apply(&mut a, &heads(b));
                        Values::Head(a)
                    }
                    (Values::Constant(a), Values::Head(b)) => {
                        let mut a = heads(a);
                        operator.apply(&mut a, &b);
                        Values::Head(a)
                    }
                    (Values::Full(mut a), Values::Constant(b)) => {
                        operator.apply_one(&mut a, T::from_f64(b));
                        Values::Full(a)
                    }
                    (Values::Constant(a), Values::Full(mut b)) => {
                        operator.apply_from(T::from_f64(a), &mut b);
                        Values::Full(b)
                    }
                    (a, b) => {
                        let mut a = full(a);
                        operator.apply(&mut a, &full(b));
                        Values::Full(a)
                    }
                }
            }
        }
    }

    fn apply(function: Function, values: Values<T>) -> Values<T> {
        match values {
            Values::Constant(v) => {
                let mut value = [v];
                function.apply(&mut value);
                Values::Constant(value[0])
            }
            Values::Head(mut v) => {
                function.apply(&mut v);
                Values::Head(v)
            }
            Values::Full(mut v) => {
                function.apply(&mut v);
                Values::Full(v)
            }
        }
    }

    /// The rule's coefficients.
    pub fn coefficients(&self) -> Coefficients<T> {
        let key = |expr: &Expr| self.full(expr, Extent::Key);
        let form = self.form;
        let (steps, heads) = (self.rows.len(), self.heads.count);
        let through = form.through.as_ref().map(|r| match self.is_full(r) {
            // Summed over the key indices.
            true => {
                let all = self.full(r, Extent::Key);
                let of_step = all.chunks_exact(self.shape.key_size * heads);
                let sums = of_step.flat_map(|of| {
                    (0..heads).map(|h| of.iter().skip(h).step_by(heads).fold(T::default(), |a, v| a + *v))
                });
                sums.collect()
            }
            false => self.heads_of(r),
        });
        let (given, columns) = (self.full(&form.value, Extent::Value), self.shape.columns());
        let mut value = given;
        if columns > self.shape.value_size {
            let ones = vec![T::from_f64(1.0); heads];
            value = value
                .chunks_exact(self.shape.value_size * heads)
                .flat_map(|v| v.iter().chain(&ones))
                .copied()
                .collect();
        }
        debug_assert_eq!(value.len(), steps * columns * heads);
        Coefficients {
            decay: form.decay.as_ref().map(key),
            erase: form.erase.as_ref().map(|(a, b)| (key(a), key(b))),
            write: key(&form.write),
            query: key(&form.query),
            through,
            value,
        }
    }
}

/// d, a, b, k, q `[step][K][head]`, r `[step][head]`, v `[step][columns][head]`; also their gradients.
pub(super) struct Coefficients<T> {
    pub decay: Option<Vec<T>>,
    pub erase: Option<(Vec<T>, Vec<T>)>,
    pub write: Vec<T>,
    pub query: Vec<T>,
    pub through: Option<Vec<T>>,
    pub value: Vec<T>,
}

impl<T: Element> Coefficients<T> {
    /// Zeros of the same sizes.
    pub fn zeros(&self) -> Self {
        let like = |v: &Vec<T>| vec![T::default(); v.len()];
        Self {
            decay: self.decay.as_ref().map(like),
            erase: self.erase.as_ref().map(|(a, b)| (like(a), like(b))),
            write: like(&self.write),
            query: like(&self.query),
            through: self.through.as_ref().map(like),
            value: like(&self.value),
        }
    }
}

impl<T: Element> Stretch<'_, T> {
    /// Gradients of the ports (inputs and parameters; m has none), `[step][index][head]` each, from those of the coefficients.
    pub fn port_gradients(&self, d: &Coefficients<T>) -> Vec<Vec<T>> {
        let (heads, keys) = (self.heads.count, self.shape.key_size);
        // Without the divisor's column, whose value is 1.
        let columns = self.shape.columns();
        let value: Vec<T> =
            d.value.chunks_exact(columns * heads).flat_map(|v| &v[..self.shape.value_size * heads]).copied().collect();
        let through: Option<Vec<T>> = d.through.as_ref().map(|r| self.widened(r, keys));
        let form = self.form;
        let mut terms: Vec<(&Expr, &[T], Extent)> = vec![
            (&form.write, &d.write, Extent::Key),
            (&form.query, &d.query, Extent::Key),
            (&form.value, &value, Extent::Value),
        ];
        terms.extend(form.decay.as_ref().zip(d.decay.as_deref()).map(|(e, d)| (e, d, Extent::Key)));
        if let (Some((a, b)), Some((da, db))) = (&form.erase, &d.erase) {
            terms.extend([(a, &da[..], Extent::Key), (b, &db[..], Extent::Key)]);
        }
        if let (Some(r), Some(of_head), Some(of_key)) = (&form.through, &d.through, &through) {
            terms.push(if self.is_full(r) { (r, of_key, Extent::Key) } else { (r, of_head, Extent::Head) });
        }
        let inputs = self.shape.operands.len();
        (0..inputs).map(|n| self.port_gradient(n, &terms)).collect()
    }

    fn port_gradient(&self, port: usize, terms: &[(&Expr, &[T], Extent)]) -> Vec<T> {
        let (heads, extent) = (self.heads.count, self.ports[port].extent);
        let mut gradient = vec![T::default(); self.rows.len() * self.indices(extent) * heads];
        for &(expr, d, of) in terms {
            let slope = expr.derivative(port);
            if slope.constant() == Some(0.0) {
                continue;
            }
            let slope = match of {
                Extent::Head => self.heads_of(&slope),
                _ => self.full(&slope, of),
            };
            if of == extent {
                gradient.iter_mut().zip(&slope).zip(d).for_each(|((g, s), d)| *g = *g + *s * *d);
                continue;
            }
            // A Head port in an expression per key or value index: summed over it.
            let per_step = self.indices(of) * heads;
            let steps = slope.chunks_exact(per_step).zip(d.chunks_exact(per_step));
            for (sums, (slope, d)) in gradient.chunks_exact_mut(heads).zip(steps) {
                for (slope, d) in slope.chunks_exact(heads).zip(d.chunks_exact(heads)) {
                    sums.iter_mut().zip(slope).zip(d).for_each(|((sum, s), d)| *sum = *sum + *s * *d);
                }
            }
        }
        gradient
    }
}

/// Adds a port's gradients of a stretch to columns of a row-major block: `to(row, column)` for values, where `row` counts the
/// stretch's steps.
pub(super) fn scatter<T: Element>(
    stretch: &Stretch<'_, T>,
    port: usize,
    gradient: &[T],
    mut to: impl FnMut(usize, usize, T),
) {
    let columns = stretch.columns(stretch.ports[port].extent, &stretch.shape.operands[port]);
    for (step, row) in gradient.chunks_exact(columns.len()).enumerate() {
        columns.iter().zip(row).for_each(|(&column, &g)| to(step, column, g));
    }
}
