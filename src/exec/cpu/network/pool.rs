//! One row per sequence of the rows of its steps.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::model::network::{Pool, Pooling};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

impl<T: Real> HasTwin<T> for Pool {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Twin<T> for Pool {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        let (x, width, stride) = (self.x, self.x.width, c.stride(self.x));
        let (values, work) = (&slots[c.plan.values[x.value]], c.plan.rows() * width);
        let y = Shared::new(y);
        for_pieces(c.times.batch, 1, work, |sequences| {
            for b in sequences {
                // SAFETY: a sequence of this piece alone.
                let y = unsafe { y.part(b * width, width) };
                let row = |t: usize| &values[(t * c.times.batch + b) * stride + x.first..][..width];
                let Some(last) = c.times.lengths[b].checked_sub(1) else {
                    y.fill(T::default());
                    continue;
                };
                match self.kind {
                    Pooling::Last => y.copy_from_slice(row(last)),
                    Pooling::First => y.copy_from_slice(row(0)),
                    Pooling::Mean => {
                        y.copy_from_slice(row(0));
                        (1..=last).for_each(|t| y.iter_mut().zip(row(t)).for_each(|(y, v)| *y = *y + *v));
                        let steps = T::from_f64((last + 1) as f64);
                        y.iter_mut().for_each(|y| *y = y.over(steps));
                    }
                    Pooling::Max => {
                        y.copy_from_slice(row(0));
                        for t in 1..=last {
                            y.iter_mut().zip(row(t)).filter(|(y, v)| **v > **y).for_each(|(y, v)| *y = *v);
                        }
                    }
                }
            }
        });
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], _: &mut [T]) -> Result<()> {
        let (x, width, stride) = (self.x, self.x.width, c.stride(self.x));
        let mut gradient = std::mem::take(&mut slots[c.plan.gradients[x.value]]);
        let (values, work) = (&slots[c.plan.values[x.value]], c.plan.rows() * width);
        {
            let dx = Shared::new(&mut gradient);
            for_pieces(c.times.batch, 1, work, |sequences| {
                for b in sequences.filter(|&b| c.times.lengths[b] > 0) {
                    let (steps, dy) = (c.times.lengths[b], &dy[b * width..][..width]);
                    let at = |t: usize| (t * c.times.batch + b) * stride + x.first;
                    // SAFETY: the steps of a sequence of this piece alone.
                    let row = |t: usize| unsafe { dx.part(at(t), width) };
                    let add = |t: usize| row(t).iter_mut().zip(dy).for_each(|(d, v)| *d = *d + *v);
                    match self.kind {
                        Pooling::Last => add(steps - 1),
                        Pooling::First => add(0),
                        Pooling::Mean => {
                            let count = T::from_f64(steps as f64);
                            for t in 0..steps {
                                row(t).iter_mut().zip(dy).for_each(|(d, v)| *d = *d + v.over(count));
                            }
                        }
                        Pooling::Max => {
                            for (column, d) in dy.iter().enumerate() {
                                let mut first = 0;
                                for t in 1..steps {
                                    if values[at(t) + column] > values[at(first) + column] {
                                        first = t;
                                    }
                                }
                                // SAFETY: as above.
                                let to = unsafe { dx.part(at(first) + column, 1) };
                                to[0] = to[0] + *d;
                            }
                        }
                    }
                }
            });
        }
        slots[c.plan.gradients[x.value]] = gradient;
        Ok(())
    }
}
