//! Parts side by side.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::model::network::{Concat, Part};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

impl<T: Real> HasTwin<T> for Concat {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Twin<T> for Concat {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, &self.parts, slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], _: &mut [T]) -> Result<()> {
        backward(c, &self.parts, slots, dy);
        Ok(())
    }
}

fn forward<T: Real>(c: &Context<'_, T>, parts: &[Part], slots: &[Aligned<T>], y: &mut [T]) {
    let (width, elements) = (parts.iter().map(|p| p.width).sum::<usize>(), y.len());
    let y = Shared::new(y);
    for_pieces(elements / width, 8, elements, |rows| {
        for row in rows {
            // SAFETY: a row of this piece alone.
            let mut y = unsafe { y.part(row * width, width) };
            for part in parts {
                let x = &slots[c.plan.values[part.value]][row * c.stride(*part) + part.first..][..part.width];
                let (own, rest) = y.split_at_mut(part.width);
                own.copy_from_slice(x);
                y = rest;
            }
        }
    });
}

fn backward<T: Real>(c: &Context<'_, T>, parts: &[Part], slots: &mut [Aligned<T>], dy: &[T]) {
    let width: usize = parts.iter().map(|p| p.width).sum();
    let mut first = 0;
    for part in parts {
        let (stride, rows) = (c.stride(*part), dy.len() / width);
        let dx = Shared::new(&mut slots[c.plan.gradients[part.value]]);
        for_pieces(rows, 8, rows * part.width, |rows| {
            for row in rows.filter(|&row| !c.is_padding(row)) {
                // SAFETY: a row of this piece alone.
                let dx = unsafe { dx.part(row * stride + part.first, part.width) };
                dx.iter_mut().zip(&dy[row * width + first..]).for_each(|(to, d)| *to = *to + *d);
            }
        });
        first += part.width;
    }
}
