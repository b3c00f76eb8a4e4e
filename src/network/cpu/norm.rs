//! Norms over groups of columns (Ba et al. 2016, arXiv 1607.06450; Zhang and Sennrich 2019, arXiv 1910.07467).

use super::Context;
use crate::expr::Element;
use crate::network::{Norm, Op, Part};

/// Of one group: the values less what is subtracted, and one over what they are divided by.
fn statistics<T: Element>(kind: Norm, epsilon: f64, values: &[T], centred: &mut Vec<T>) -> T {
    let count = T::from_f64(values.len() as f64);
    let sum = |values: &mut dyn Iterator<Item = T>| values.fold(T::default(), |a, b| a + b);
    let mean = match kind {
        Norm::Layer => sum(&mut values.iter().copied()).over(count),
        Norm::Rms | Norm::L2 => T::default(),
    };
    centred.clear();
    centred.extend(values.iter().map(|v| v.minus(mean)));
    let squares = sum(&mut centred.iter().map(|v| *v * *v));
    let (one, epsilon) = (T::from_f64(1.0), T::from_f64(epsilon));
    match kind {
        Norm::Rms | Norm::Layer => one.over((squares.over(count) + epsilon).sqrt()),
        Norm::L2 => {
            let length = squares.sqrt();
            one.over(if length > epsilon { length } else { epsilon })
        }
    }
}

struct Settings {
    x: Part,
    kind: Norm,
    groups: usize,
    epsilon: f64,
    gain: Option<usize>,
    bias: Option<usize>,
}

fn settings(op: &Op) -> Settings {
    match *op {
        Op::Norm { x, kind, groups, epsilon, gain, bias } => Settings { x, kind, groups, epsilon, gain, bias },
        _ => unreachable!("a norm"),
    }
}

pub(super) fn forward<T: Element>(c: &Context<'_, T>, op: &Op, slots: &[Vec<T>], y: &mut [T]) {
    let s = settings(op);
    let (stride, size) = (c.stride(s.x), s.x.width / s.groups);
    let x = &slots[c.plan.values[s.x.value]];
    let (gain, bias) = (s.gain.map(|p| c.param(p)), s.bias.map(|p| c.param(p)));
    let mut centred = Vec::new();
    for (row, y) in x.chunks_exact(stride).zip(y.chunks_exact_mut(s.x.width)) {
        for (group, y) in y.chunks_exact_mut(size).enumerate() {
            let first = group * size;
            let scale = statistics(s.kind, s.epsilon, &row[s.x.first + first..][..size], &mut centred);
            for (n, (y, v)) in y.iter_mut().zip(&centred).enumerate() {
                let normal = *v * scale;
                let normal = gain.map_or(normal, |g| normal * g[first + n]);
                *y = bias.map_or(normal, |b| normal + b[first + n]);
            }
        }
    }
}

pub(super) fn backward<T: Element>(c: &Context<'_, T>, op: &Op, slots: &mut [Vec<T>], dy: &[T], d_params: &mut [T]) {
    let s = settings(op);
    let (stride, size, width) = (c.stride(s.x), s.x.width / s.groups, s.x.width);
    let mut dx = std::mem::take(&mut slots[c.plan.gradients[s.x.value]]);
    let x = &slots[c.plan.values[s.x.value]];
    let gain = s.gain.map(|p| c.param(p));
    let place = |param: Option<usize>| param.map(|p| c.plan.network.param_offset(p));
    let (gain_at, bias_at) = (place(s.gain), place(s.bias));
    let (mut centred, mut d_normal) = (Vec::new(), vec![T::default(); size]);
    let rows = x.chunks_exact(stride).zip(dx.chunks_exact_mut(stride)).zip(dy.chunks_exact(width));
    for (_, ((row, dx), dy)) in rows.enumerate().filter(|(row, _)| !c.is_padding(*row)) {
        for group in 0..s.groups {
            let first = group * size;
            let values = &row[s.x.first + first..][..size];
            let scale = statistics(s.kind, s.epsilon, values, &mut centred);
            for (n, d) in d_normal.iter_mut().enumerate() {
                let dy = dy[first + n];
                if let Some(at) = bias_at {
                    d_params[at + first + n] = d_params[at + first + n] + dy;
                }
                if let Some(at) = gain_at {
                    d_params[at + first + n] = d_params[at + first + n] + dy * centred[n] * scale;
                }
                *d = gain.map_or(dy, |g| dy * g[first + n]);
            }
            let to = &mut dx[s.x.first + first..][..size];
            adjoint(s.kind, T::from_f64(s.epsilon), (&centred, scale), &d_normal, to);
        }
    }
    slots[c.plan.gradients[s.x.value]] = dx;
}

/// dx += (d − mean d − n · mean(d·n)) · scale with n = centred · scale; without what the kind does not have.
fn adjoint<T: Element>(kind: Norm, epsilon: T, (centred, scale): (&[T], T), d: &[T], dx: &mut [T]) {
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
