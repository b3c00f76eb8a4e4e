//! Pointwise expressions, some rows at a time.

use super::pieces::for_pieces;
use super::tape::{Block, Run, Tape};
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::cpu::scratch::Scratch;
use crate::expr::Expr;
use crate::model::network::{Map, Operand, Source};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

/// Values of an expression that are computed before the next expression's, about: those of a map fit a near cache.
const AT_ONCE: usize = 1 << 11;
/// Columns of a parameter whose gradients a thread adds up at least.
const COLUMNS: usize = 32;

/// A map's expressions as the CPU runs them: made once.
struct MapTapes {
    value: (Tape, usize),
    /// The derivatives by operands that show values, and which operation each is; `None`: 0, or a parameter's.
    slopes: (Tape, Vec<Option<usize>>),
    /// Those by operands that show parameters.
    of_params: Vec<Option<(Tape, usize)>>,
}

impl MapTapes {
    fn new(expr: &Expr, operands: &[Operand]) -> Self {
        let tape = |expr: &Expr| {
            let mut tape = Tape::default();
            let node = tape.add(expr);
            (tape, node)
        };
        let mut slopes = (Tape::default(), Vec::new());
        let mut of_params = Vec::new();
        for (n, operand) in operands.iter().enumerate() {
            let slope = Some(expr.derivative(n)).filter(|e| e.constant() != Some(0.0));
            let is_value = matches!(operand.source, Source::Value(_));
            slopes.1.push(slope.as_ref().filter(|_| is_value).map(|e| slopes.0.add(e)));
            of_params.push(slope.as_ref().filter(|_| !is_value).map(tape));
        }
        Self { value: tape(expr), slopes, of_params }
    }
}

struct MapTwin {
    operands: Vec<Operand>,
    tapes: MapTapes,
}

impl<T: Real> HasTwin<T> for Map {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        let tapes = MapTapes::new(&self.expr, &self.operands);
        Ok(Box::new(MapTwin { operands: self.operands.clone(), tapes }))
    }
}

impl<T: Real> Twin<T> for MapTwin {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, (&self.tapes, &self.operands), slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        backward(c, (&self.tapes, &self.operands), slots, dy, d_params);
        Ok(())
    }
}

/// What operands show of some rows: read where it lies, or, repeated or of chosen columns, gathered.
struct Shown<'a, T: Real> {
    c: &'a Context<'a, T>,
    operands: &'a [Operand],
    slots: &'a [Aligned<T>],
    width: usize,
    /// Where every operand's gathered columns and values begin; `usize::MAX`: it is read where it lies.
    places: Scratch<usize>,
    /// Columns of the sources, `width` per gathered operand.
    columns: Scratch<usize>,
    values: Scratch<T>,
    at_once: usize,
}

impl<'a, T: Real> Shown<'a, T> {
    /// `chosen`: which of the operands' columns; `None`: all.
    fn new(c: &'a Context<'a, T>, operands: &'a [Operand], slots: &'a [Aligned<T>], chosen: Option<&[usize]>) -> Self {
        let width = chosen.map_or_else(|| operands[0].width(), <[usize]>::len);
        let at_once = (AT_ONCE / width).clamp(1, 64);
        let mut places = Scratch::any(operands.len());
        let mut gathered = 0;
        for (place, operand) in places.iter_mut().zip(operands) {
            let lies = chosen.is_none() && operand.repeat == 1;
            *place = if lies { usize::MAX } else { gathered };
            gathered += usize::from(!lies);
        }
        let mut columns = Scratch::any(gathered * width);
        let mut values = Scratch::any(gathered * width * at_once);
        for (&place, operand) in places.iter().zip(operands).filter(|(place, _)| **place != usize::MAX) {
            let columns = &mut columns[place * width..][..width];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = operand.column(chosen.map_or(n, |chosen| chosen[n]));
            }
            if let Source::Param { param, first, width: elements } = operand.source {
                let source = &c.param(param)[first..][..elements];
                let values = &mut values[place * width * at_once..][..width];
                values.iter_mut().zip(&*columns).for_each(|(v, &at)| *v = source[at]);
            }
        }
        Self { c, operands, slots, width, places, columns, values, at_once }
    }

    /// Gathers so many rows from one on.
    fn load(&mut self, first: usize, count: usize) {
        for (&place, operand) in self.places.iter().zip(self.operands).filter(|(place, _)| **place != usize::MAX) {
            let Source::Value(part) = operand.source else { continue };
            let (stride, source) = (self.c.stride(part), &self.slots[self.c.plan.values[part.value]]);
            let columns = &self.columns[place * self.width..][..self.width];
            let values = &mut self.values[place * self.width * self.at_once..][..count * self.width];
            for (row, values) in values.chunks_exact_mut(self.width).enumerate() {
                let source = &source[(first + row) * stride + part.first..][..part.width];
                values.iter_mut().zip(columns).for_each(|(v, &at)| *v = source[at]);
            }
        }
    }

    /// An operand's rows from one on, the first that is loaded.
    fn block(&self, n: usize, first: usize) -> Block<'_, T> {
        let (place, width, operand) = (self.places[n], self.width, &self.operands[n]);
        let size = [1, width];
        if place != usize::MAX {
            let step = if matches!(operand.source, Source::Value(_)) { width } else { 0 };
            return Block { values: &self.values[place * width * self.at_once..], step, size };
        }
        match operand.source {
            Source::Value(part) => {
                let (step, source) = (self.c.stride(part), &self.slots[self.c.plan.values[part.value]]);
                Block { values: &source[first * step + part.first..], step, size }
            }
            Source::Param { param, first, .. } => {
                Block { values: &self.c.param(param)[first..][..width], step: 0, size }
            }
        }
    }
}

fn forward<T: Real>(c: &Context<'_, T>, (tapes, operands): (&MapTapes, &[Operand]), slots: &[Aligned<T>], y: &mut [T]) {
    let (width, elements) = (operands[0].width(), y.len());
    let ((tape, node), y) = (&tapes.value, Shared::new(y));
    for_pieces(elements / width, 8, elements * (1 + tape.work()), |rows| {
        let mut shown = Shown::new(c, operands, slots, None);
        let mut run = Run::new(tape, shown.at_once, &|n| shown.block(n, 0));
        for first in rows.clone().step_by(shown.at_once) {
            let count = shown.at_once.min(rows.end - first);
            shown.load(first, count);
            let inputs = |n: usize| shown.block(n, first);
            run.steps(count, &inputs);
            let block = run.block(*node, &inputs);
            // SAFETY: rows of this piece alone.
            let out = unsafe { y.part(first * width, count * width) };
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                match block.row(row, 0) {
                    values if values.len() == width => out.copy_from_slice(values),
                    values => out.fill(values[0]),
                }
            }
        }
    });
}

fn backward<T: Real>(
    c: &Context<'_, T>,
    (tapes, operands): (&MapTapes, &[Operand]),
    slots: &mut [Aligned<T>],
    dy: &[T],
    d_params: &mut [T],
) {
    by_values(c, (tapes, operands), slots, dy);
    for (n, operand) in operands.iter().enumerate() {
        if let (Some(slope), Source::Param { .. }) = (&tapes.of_params[n], operand.source) {
            by_param(c, (slope, operands, n), slots, dy, d_params);
        }
    }
}

/// Gradients of values: a row's are that row's alone.
fn by_values<T: Real>(
    c: &Context<'_, T>,
    (tapes, operands): (&MapTapes, &[Operand]),
    slots: &mut [Aligned<T>],
    dy: &[T],
) {
    let (tape, nodes) = &tapes.slopes;
    let width = operands[0].width();
    // Several operands may show one value: each gradient is taken once.
    let mut taken: Vec<(usize, Aligned<T>)> = Vec::new();
    let mut routes = Vec::new();
    for (operand, node) in operands.iter().zip(nodes) {
        if let (Source::Value(part), Some(node)) = (operand.source, node) {
            let id = c.plan.gradients[part.value];
            let at = taken.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
                taken.push((id, std::mem::take(&mut slots[id])));
                taken.len() - 1
            });
            routes.push((operand, part, *node, at));
        }
    }
    {
        let to: Vec<Shared<'_, T>> = taken.iter_mut().map(|(_, values)| Shared::new(values)).collect();
        let slots: &[Aligned<T>] = slots;
        for_pieces(dy.len() / width, 8, dy.len() * (routes.len() + tape.work()), |rows| {
            let mut shown = Shown::new(c, operands, slots, None);
            let mut run = Run::new(tape, shown.at_once, &|n| shown.block(n, 0));
            for first in rows.clone().step_by(shown.at_once) {
                let count = shown.at_once.min(rows.end - first);
                shown.load(first, count);
                let inputs = |n: usize| shown.block(n, first);
                run.steps(count, &inputs);
                for &(operand, part, node, at) in &routes {
                    let (block, stride) = (run.block(node, &inputs), c.stride(part));
                    for row in (first..first + count).filter(|&row| !c.is_padding(row)) {
                        // SAFETY: rows of this piece alone.
                        let to = unsafe { to[at].part(row * stride + part.first, part.width) };
                        add(operand, block.row(row - first, 0), &dy[row * width..][..width], to);
                    }
                }
            }
        });
    }
    taken.into_iter().for_each(|(id, values)| slots[id] = values);
}

/// to += slope · dy, at the operand's columns.
fn add<T: Real>(operand: &Operand, slope: &[T], dy: &[T], to: &mut [T]) {
    let sum = |to: &mut [T], slope: &[T], dy: &[T]| match slope {
        &[slope] => to.iter_mut().zip(dy).for_each(|(t, d)| *t = *t + slope * *d),
        slope => to.iter_mut().zip(slope).zip(dy).for_each(|((t, s), d)| *t = *t + *s * *d),
    };
    if operand.repeat == 1 {
        return sum(to, slope, dy);
    }
    // Groups of columns, each so many times in a row.
    let inner = operand.inner;
    for (n, dy) in dy.chunks_exact(inner).enumerate() {
        let slope = if slope.len() == 1 { slope } else { &slope[n * inner..][..inner] };
        sum(&mut to[n / operand.repeat * inner..][..inner], slope, dy);
    }
}

/// The gradient of a parameter: a thread adds up the rows of some of its columns, the first row first.
fn by_param<T: Real>(
    c: &Context<'_, T>,
    ((tape, node), operands, n): (&(Tape, usize), &[Operand], usize),
    slots: &[Aligned<T>],
    dy: &[T],
    d_params: &mut [T],
) {
    let Source::Param { param, first: begin, width: elements } = operands[n].source else { return };
    let (width, operand) = (operands[n].width(), &operands[n]);
    let place = c.plan.network.param_offset(param) + begin;
    let d_params = Shared::new(d_params);
    for_pieces(elements, COLUMNS, dy.len() * (1 + tape.work()), |own| {
        // SAFETY: columns of this piece alone.
        let to = unsafe { d_params.part(place + own.start, own.len()) };
        let mut chosen = Scratch::<usize>::any(own.len() * operand.repeat);
        let columns = (0..width).filter(|&column| own.contains(&operand.column(column)));
        chosen.iter_mut().zip(columns).for_each(|(to, column)| *to = column);
        let mut shown = Shown::new(c, operands, slots, Some(&chosen));
        let mut run = Run::new(tape, shown.at_once, &|n| shown.block(n, 0));
        for first in (0..dy.len() / width).step_by(shown.at_once) {
            let count = shown.at_once.min(dy.len() / width - first);
            shown.load(first, count);
            let inputs = |n: usize| shown.block(n, first);
            run.steps(count, &inputs);
            let block = run.block(*node, &inputs);
            for row in (first..first + count).filter(|&row| !c.is_padding(row)) {
                let (slope, dy) = (block.row(row - first, 0), &dy[row * width..][..width]);
                for (at, &column) in chosen.iter().enumerate() {
                    let slope = if slope.len() == 1 { slope[0] } else { slope[at] };
                    let to = &mut to[operand.column(column) - own.start];
                    *to = *to + slope * dy[column];
                }
            }
        }
    });
}
