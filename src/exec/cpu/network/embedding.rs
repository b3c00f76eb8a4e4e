//! Rows of a table by their numbers.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::model::network::Embedding;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

/// Columns whose gradients a thread adds up at least.
const COLUMNS: usize = 32;

impl<T: Real> HasTwin<T> for Embedding {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

impl Embedding {
    /// The number of a row; whatever it is, one of the table's.
    fn id<T: Real>(&self, c: &Context<'_, T>, slots: &[Aligned<T>], row: usize) -> usize {
        let id = slots[c.plan.values[self.ids.value]][row * c.stride(self.ids) + self.ids.first];
        (id.to_f64() as usize).min(c.plan.network.params[self.table].shape[0] - 1)
    }
}

impl<T: Real> Twin<T> for Embedding {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        let (table, width) = (c.param(self.table), c.plan.network.params[self.table].shape[1]);
        let (values, slots, y) = (y.len(), &*slots, Shared::new(y));
        for_pieces(values / width, 8, values, |rows| {
            for row in rows {
                // SAFETY: a row of this piece alone.
                let y = unsafe { y.part(row * width, width) };
                match c.is_padding(row) {
                    true => y.fill(T::default()),
                    false => y.copy_from_slice(&table[self.id(c, slots, row) * width..][..width]),
                }
            }
        });
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        let (width, at) = (c.plan.network.params[self.table].shape[1], c.plan.network.param_offset(self.table));
        let (slots, d_params) = (&*slots, Shared::new(d_params));
        // Every column is by itself: a thread goes over all rows of some of them, in one order.
        for_pieces(width, COLUMNS, dy.len(), |columns| {
            for (row, dy) in dy.chunks_exact(width).enumerate().filter(|(row, _)| !c.is_padding(*row)) {
                let first = at + self.id(c, slots, row) * width + columns.start;
                // SAFETY: columns of this piece alone.
                let to = unsafe { d_params.part(first, columns.len()) };
                to.iter_mut().zip(&dy[columns.clone()]).for_each(|(t, d)| *t = *t + *d);
            }
        });
        Ok(())
    }
}
