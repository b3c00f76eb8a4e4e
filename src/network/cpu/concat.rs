//! Parts side by side.

use super::Context;
use crate::expr::Element;
use crate::network::Part;

pub(super) fn forward<T: Element>(c: &Context<'_, T>, parts: &[Part], slots: &[Vec<T>], y: &mut [T]) {
    let width: usize = parts.iter().map(|p| p.width).sum();
    let mut first = 0;
    for part in parts {
        let rows = slots[c.plan.values[part.value]].chunks_exact(c.stride(*part));
        for (y, x) in y.chunks_exact_mut(width).zip(rows) {
            y[first..][..part.width].copy_from_slice(&x[part.first..][..part.width]);
        }
        first += part.width;
    }
}

pub(super) fn backward<T: Element>(c: &Context<'_, T>, parts: &[Part], slots: &mut [Vec<T>], dy: &[T]) {
    let width: usize = parts.iter().map(|p| p.width).sum();
    let mut first = 0;
    for part in parts {
        let rows = slots[c.plan.gradients[part.value]].chunks_exact_mut(c.stride(*part));
        for (row, (dx, dy)) in rows.zip(dy.chunks_exact(width)).enumerate() {
            if c.is_padding(row) {
                continue;
            }
            dx[part.first..][..part.width].iter_mut().zip(&dy[first..]).for_each(|(to, d)| *to = *to + *d);
        }
        first += part.width;
    }
}
