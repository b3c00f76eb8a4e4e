//! Sums of groups of columns.

use super::Context;
use crate::expr::Element;
use crate::network::Part;

pub(super) fn forward<T: Element>(c: &Context<'_, T>, (x, groups): (Part, usize), slots: &[Vec<T>], y: &mut [T]) {
    let size = x.width / groups;
    let rows = slots[c.plan.values[x.value]].chunks_exact(c.stride(x));
    for (row, y) in rows.zip(y.chunks_exact_mut(groups)) {
        let sums = row[x.first..][..x.width].chunks_exact(size).map(|g| g.iter().fold(T::default(), |a, v| a + *v));
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum);
    }
}

pub(super) fn backward<T: Element>(c: &Context<'_, T>, (x, groups): (Part, usize), slots: &mut [Vec<T>], dy: &[T]) {
    let size = x.width / groups;
    let rows = slots[c.plan.gradients[x.value]].chunks_exact_mut(c.stride(x));
    for (row, dy) in rows.zip(dy.chunks_exact(groups)) {
        for (group, d) in row[x.first..][..x.width].chunks_exact_mut(size).zip(dy) {
            group.iter_mut().for_each(|v| *v = *v + *d);
        }
    }
}
