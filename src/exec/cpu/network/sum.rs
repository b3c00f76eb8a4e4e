//! Sums of groups of columns.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::model::network::{Part, Sum};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

impl<T: Real> HasTwin<T> for Sum {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Twin<T> for Sum {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, (self.x, self.groups), slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], _: &mut [T]) -> Result<()> {
        backward(c, (self.x, self.groups), slots, dy);
        Ok(())
    }
}

fn forward<T: Real>(c: &Context<'_, T>, (x, groups): (Part, usize), slots: &[Aligned<T>], y: &mut [T]) {
    let (size, stride, rows) = (x.width / groups, c.stride(x), y.len() / groups);
    let (values, y) = (&slots[c.plan.values[x.value]], Shared::new(y));
    for_pieces(rows, 8, rows * x.width, |rows| {
        // SAFETY: rows of this piece alone.
        let y = unsafe { y.part(rows.start * groups, rows.len() * groups) };
        for (row, y) in rows.zip(y.chunks_exact_mut(groups)) {
            let groups = values[row * stride + x.first..][..x.width].chunks_exact(size);
            y.iter_mut().zip(groups).for_each(|(y, g)| *y = g.iter().fold(T::default(), |a, v| a + *v));
        }
    });
}

fn backward<T: Real>(c: &Context<'_, T>, (x, groups): (Part, usize), slots: &mut [Aligned<T>], dy: &[T]) {
    let (size, stride, rows) = (x.width / groups, c.stride(x), dy.len() / groups);
    let dx = Shared::new(&mut slots[c.plan.gradients[x.value]]);
    for_pieces(rows, 8, rows * x.width, |rows| {
        for row in rows {
            // SAFETY: rows of this piece alone.
            let dx = unsafe { dx.part(row * stride + x.first, x.width) };
            for (group, d) in dx.chunks_exact_mut(size).zip(&dy[row * groups..][..groups]) {
                group.iter_mut().for_each(|v| *v = *v + *d);
            }
        }
    });
}
