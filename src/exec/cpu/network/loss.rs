//! How far a value is from what it should have been. A row's sums are made in f64 and rounded once.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::model::network::{Compared, Part};
use crate::model::stack::Loss;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

impl<T: Real> HasTwin<T> for Compared {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

/// What a part shows of a row.
fn row_of<'a, T: Real>(c: &Context<'_, T>, slots: &'a [Aligned<T>], part: Part, row: usize) -> &'a [T] {
    &slots[c.plan.values[part.value]][row * c.stride(part) + part.first..][..part.width]
}

/// The largest of a row, and the sum of the exponentials of how far all are below it.
fn exponents<T: Real>(x: &[T]) -> (f64, f64) {
    let largest = x.iter().fold(f64::NEG_INFINITY, |a, v| a.max(v.to_f64()));
    (largest, x.iter().map(|v| (v.to_f64() - largest).exp()).sum())
}

/// A class, as kernels read it.
fn class<T: Real>(target: &[T], width: usize) -> usize {
    (target[0].to_f64() as usize).min(width - 1)
}

impl<T: Real> Twin<T> for Compared {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        let (rows, slots, width) = (y.len(), &*slots, self.x.width);
        let y = Shared::new(y);
        for_pieces(rows, 8, 8 * rows * width, |rows| {
            // SAFETY: rows of this piece alone.
            let y = unsafe { y.part(rows.start, rows.len()) };
            for (row, y) in rows.zip(y) {
                let (x, target) = (row_of(c, slots, self.x, row), row_of(c, slots, self.targets, row));
                let weight = self.weights.map_or(1.0, |w| row_of(c, slots, w, row)[0].to_f64());
                let loss = match self.loss {
                    _ if c.is_padding(row) => 0.0,
                    Loss::CrossEntropy => {
                        let (largest, sum) = exponents(x);
                        weight * (sum.ln() + largest - x[class(target, width)].to_f64())
                    }
                    Loss::MeanSquared => {
                        let square = |(x, t): (&T, &T)| (x.to_f64() - t.to_f64()).powi(2);
                        weight * x.iter().zip(target).map(square).sum::<f64>() / width as f64
                    }
                };
                *y = T::from_f64(loss);
            }
        });
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], _: &mut [T]) -> Result<()> {
        let (width, stride, id) = (self.x.width, c.stride(self.x), c.plan.gradients[self.x.value]);
        let mut gradient = std::mem::take(&mut slots[id]);
        {
            let (slots, dx) = (&*slots, Shared::new(&mut gradient));
            for_pieces(dy.len(), 8, 8 * dy.len() * width, |rows| {
                for row in rows.filter(|&row| !c.is_padding(row)) {
                    // SAFETY: a row of this piece alone.
                    let dx = unsafe { dx.part(row * stride + self.x.first, width) };
                    let (x, target) = (row_of(c, slots, self.x, row), row_of(c, slots, self.targets, row));
                    let weight = self.weights.map_or(1.0, |w| row_of(c, slots, w, row)[0].to_f64());
                    let d = dy[row].to_f64() * weight;
                    let (largest, sum) = exponents(x);
                    for (n, (to, x)) in dx.iter_mut().zip(x).enumerate() {
                        let slope = match self.loss {
                            Loss::CrossEntropy => {
                                let share = (x.to_f64() - largest).exp() / sum;
                                share - f64::from(u8::from(n == class(target, width)))
                            }
                            Loss::MeanSquared => 2.0 * (x.to_f64() - target[n].to_f64()) / width as f64,
                        };
                        *to = *to + T::from_f64(d * slope);
                    }
                }
            });
        }
        slots[id] = gradient;
        Ok(())
    }
}
