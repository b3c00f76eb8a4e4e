//! Pointwise expressions, row by row.

use super::Context;
use crate::expr::{Element, Expr};
use crate::network::{Operand, Source};

/// Rows that are evaluated at once.
const ROWS: usize = 32;

/// The operand's values of rows `first..first + count`, `[count, width]`.
pub(super) fn gather<T: Element>(
    c: &Context<'_, T>,
    slots: &[Vec<T>],
    operand: &Operand,
    first: usize,
    count: usize,
) -> Vec<T> {
    let width = operand.width();
    let row = |from: &[T]| (0..width).map(|column| from[operand.column(column)]).collect::<Vec<T>>();
    match operand.source {
        Source::Value(part) => {
            let stride = c.stride(part);
            let values = &slots[c.plan.values[part.value]];
            let rows = (first..first + count).map(|r| &values[r * stride + part.first..][..part.width]);
            if operand.repeat == 1 { rows.flatten().copied().collect() } else { rows.flat_map(row).collect() }
        }
        Source::Param { param, first: at, width: elements } => {
            let values = row(&c.param(param)[at..][..elements]);
            values.repeat(count)
        }
    }
}

pub(super) fn forward<T: Element>(
    c: &Context<'_, T>,
    (expr, operands): (&Expr, &[Operand]),
    slots: &[Vec<T>],
    y: &mut [T],
) {
    let width = operands[0].width();
    for (block, out) in y.chunks_mut(ROWS * width).enumerate() {
        let count = out.len() / width;
        let inputs: Vec<Vec<T>> = operands.iter().map(|o| gather(c, slots, o, block * ROWS, count)).collect();
        let inputs: Vec<&[T]> = inputs.iter().map(Vec::as_slice).collect();
        expr.evaluate(&inputs, out);
    }
}

pub(super) fn backward<T: Element>(
    c: &Context<'_, T>,
    (expr, operands): (&Expr, &[Operand]),
    slots: &mut [Vec<T>],
    dy: &[T],
    d_params: &mut [T],
) {
    let width = operands[0].width();
    for (n, operand) in operands.iter().enumerate() {
        let slope = expr.derivative(n);
        if slope.constant() == Some(0.0) {
            continue;
        }
        for (block, dy) in dy.chunks(ROWS * width).enumerate() {
            let count = dy.len() / width;
            let inputs: Vec<Vec<T>> = operands.iter().map(|o| gather(c, slots, o, block * ROWS, count)).collect();
            let inputs: Vec<&[T]> = inputs.iter().map(Vec::as_slice).collect();
            let mut gradient = vec![T::default(); dy.len()];
            slope.evaluate(&inputs, &mut gradient);
            gradient.iter_mut().zip(dy).for_each(|(g, d)| *g = *g * *d);
            for (n, row) in gradient.chunks_exact_mut(width).enumerate() {
                if c.is_padding(block * ROWS + n) {
                    row.fill(T::default());
                }
            }
            scatter(c, slots, operand, block * ROWS, &gradient, d_params);
        }
    }
}

/// Adds gradients of an operand's columns, rows `first..`, to those of its source.
pub(super) fn scatter<T: Element>(
    c: &Context<'_, T>,
    slots: &mut [Vec<T>],
    operand: &Operand,
    first: usize,
    gradient: &[T],
    d_params: &mut [T],
) {
    let width = operand.width();
    let add = |to: &mut [T], row: &[T]| {
        for (column, &g) in row.iter().enumerate() {
            let to = &mut to[operand.column(column)];
            *to = *to + g;
        }
    };
    match operand.source {
        Source::Value(part) => {
            let stride = c.stride(part);
            let values = &mut slots[c.plan.gradients[part.value]];
            for (n, row) in gradient.chunks_exact(width).enumerate() {
                add(&mut values[(first + n) * stride + part.first..][..part.width], row);
            }
        }
        Source::Param { param, first: at, width: elements } => {
            let at = c.plan.network.param_offset(param) + at;
            gradient.chunks_exact(width).for_each(|row| add(&mut d_params[at..][..elements], row));
        }
    }
}
