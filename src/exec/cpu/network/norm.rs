//! Norms over groups of columns (Ba et al. 2016, arXiv 1607.06450; Zhang and Sennrich 2019, arXiv 1910.07467).

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::cpu::scratch::Scratch;
use crate::model::network::{Norm, Normalise};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

/// Of one group: what is subtracted, and one over what the rest is divided by, which `centred` gets.
fn statistics<T: Real>(kind: Norm, epsilon: f64, values: &[T], centred: &mut [T]) -> (T, T) {
    let count = T::from_f64(values.len() as f64);
    let mean = match kind {
        Norm::Layer => values.iter().fold(T::default(), |a, v| a + *v).over(count),
        Norm::Rms | Norm::L2 => T::default(),
    };
    centre(values, mean, centred);
    let squares = centred.iter().fold(T::default(), |a, v| a + *v * *v);
    let (one, epsilon) = (T::from_f64(1.0), T::from_f64(epsilon));
    let scale = match kind {
        Norm::Rms | Norm::Layer => one.over((squares.over(count) + epsilon).sqrt()),
        Norm::L2 => {
            let length = squares.sqrt();
            one.over(if length > epsilon { length } else { epsilon })
        }
    };
    (mean, scale)
}

fn centre<T: Real>(values: &[T], mean: T, centred: &mut [T]) {
    centred.iter_mut().zip(values).for_each(|(c, v)| *c = v.minus(mean));
}

/// Columns of gains and biases whose gradients a thread adds up at least.
const COLUMNS: usize = 32;

impl<T: Real> HasTwin<T> for Normalise {
    fn twin(&self, _: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Twin<T> for Normalise {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, self, slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        backward(c, self, slots, dy, d_params);
        Ok(())
    }
}

fn forward<T: Real>(c: &Context<'_, T>, s: &Normalise, slots: &[Aligned<T>], y: &mut [T]) {
    let (stride, size, width, elements) = (c.stride(s.x), s.x.width / s.groups, s.x.width, y.len());
    let x = &slots[c.plan.values[s.x.value]];
    let (gain, bias) = (s.gain.map(|p| c.param(p)), s.bias.map(|p| c.param(p)));
    let y = Shared::new(y);
    for_pieces(elements / width, 8, 4 * elements, |rows| {
        let mut centred = Scratch::any(size);
        for row in rows {
            let x = &x[row * stride + s.x.first..][..width];
            // SAFETY: a row of this piece alone.
            let y = unsafe { y.part(row * width, width) };
            for (group, y) in y.chunks_exact_mut(size).enumerate() {
                let first = group * size;
                let (_, scale) = statistics(s.kind, s.epsilon, &x[first..][..size], &mut centred);
                y.iter_mut().zip(&*centred).for_each(|(y, v)| *y = *v * scale);
                if let Some(gain) = gain {
                    y.iter_mut().zip(&gain[first..]).for_each(|(y, g)| *y = *y * *g);
                }
                if let Some(bias) = bias {
                    y.iter_mut().zip(&bias[first..]).for_each(|(y, b)| *y = *y + *b);
                }
            }
        }
    });
}

fn backward<T: Real>(c: &Context<'_, T>, s: &Normalise, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) {
    let (stride, size, width) = (c.stride(s.x), s.x.width / s.groups, s.x.width);
    let mut dx = std::mem::take(&mut slots[c.plan.gradients[s.x.value]]);
    let x = &slots[c.plan.values[s.x.value]];
    let gain = s.gain.map(|p| c.param(p));
    let rows = dy.len() / width;
    // Of every group what was subtracted, and the scale: the gradients of gains and biases read them again.
    let mut kept = Scratch::any(rows * s.groups * 2);
    {
        let (dx, kept) = (Shared::new(&mut dx), Shared::new(&mut kept));
        for_pieces(rows, 8, 8 * dy.len(), |rows| {
            let (mut centred, mut d_normal) = (Scratch::any(size), Scratch::any(size));
            for row in rows.filter(|&row| !c.is_padding(row)) {
                // SAFETY: a row of this piece alone.
                let (dx, kept) = unsafe {
                    let dx = dx.part(row * stride + s.x.first, width);
                    (dx, kept.part(row * s.groups * 2, s.groups * 2))
                };
                let (x, dy) = (&x[row * stride + s.x.first..][..width], &dy[row * width..][..width]);
                for group in 0..s.groups {
                    let own = group * size..(group + 1) * size;
                    let (mean, scale) = statistics(s.kind, s.epsilon, &x[own.clone()], &mut centred);
                    kept[2 * group..][..2].copy_from_slice(&[mean, scale]);
                    match gain {
                        Some(gain) => {
                            let products = dy[own.clone()].iter().zip(&gain[own.clone()]);
                            d_normal.iter_mut().zip(products).for_each(|(d, (dy, g))| *d = *dy * *g);
                        }
                        None => d_normal.copy_from_slice(&dy[own.clone()]),
                    }
                    adjoint(s.kind, T::from_f64(s.epsilon), (&centred, scale), &d_normal, &mut dx[own]);
                }
            }
        });
    }
    // A thread adds up the rows of some columns, the first row first.
    let place = |param: Option<usize>| param.map(|p| c.plan.network.param_offset(p));
    let places = [place(s.gain), place(s.bias)];
    if places.iter().any(Option::is_some) {
        let d_params = Shared::new(d_params);
        for_pieces(width, COLUMNS, 4 * dy.len(), |columns| {
            for row in (0..rows).filter(|&row| !c.is_padding(row)) {
                let x = &x[row * stride + s.x.first..][..width];
                let dy = &dy[row * width..][..width];
                if let Some(at) = places[1] {
                    // SAFETY: columns of this piece alone.
                    let d = unsafe { d_params.part(at + columns.start, columns.len()) };
                    d.iter_mut().zip(&dy[columns.clone()]).for_each(|(d, dy)| *d = *d + *dy);
                }
                if let Some(at) = places[0] {
                    // SAFETY: the same; gains and biases are two parameters, or one after the other.
                    let d = unsafe { d_params.part(at + columns.start, columns.len()) };
                    // Group by group.
                    let mut first = columns.start;
                    while first < columns.end {
                        let (group, end) = (first / size, columns.end.min((first / size + 1) * size));
                        let kept = &kept[(row * s.groups + group) * 2..][..2];
                        let (mean, scale) = (kept[0], kept[1]);
                        let d = &mut d[first - columns.start..end - columns.start];
                        for ((d, dy), v) in d.iter_mut().zip(&dy[first..end]).zip(&x[first..end]) {
                            *d = *d + *dy * v.minus(mean) * scale;
                        }
                        first = end;
                    }
                }
            }
        });
    }
    slots[c.plan.gradients[s.x.value]] = dx;
}

/// dx += (d − mean d − n · mean(d·n)) · scale with n = centred · scale; without what the kind does not have.
fn adjoint<T: Real>(kind: Norm, epsilon: T, (centred, scale): (&[T], T), d: &[T], dx: &mut [T]) {
    let count = T::from_f64(d.len() as f64);
    let along = d.iter().zip(centred).fold(T::default(), |a, (d, v)| a + *d * *v) * scale;
    let (mean, along) = match kind {
        Norm::Layer => (d.iter().fold(T::default(), |a, d| a + *d).over(count), along.over(count)),
        Norm::Rms => (T::default(), along.over(count)),
        // Below ε the divisor is a constant.
        Norm::L2 if scale * epsilon < T::from_f64(1.0) => (T::default(), along),
        Norm::L2 => (T::default(), T::default()),
    };
    for ((dx, d), v) in dx.iter_mut().zip(d).zip(centred) {
        *dx = *dx + d.minus(mean).minus(*v * scale * along) * scale;
    }
}
