//! Depthwise convolutions over time, and the shift by one step, which is one with a single tap of 1.

use super::pieces::for_pieces;
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::cpu::scratch::Scratch;
use crate::model::network::{Conv, Part, Shift};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;

struct Settings<'a, T> {
    x: Part,
    /// `[width, taps]`; `None`: a tap of 1 at the step before.
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    low: usize,
    high: usize,
    /// Whether the inputs before the first step are those of the state `[low, width]`.
    carries: bool,
}

/// Which operation it is.
enum Of {
    Conv(Conv),
    Shift(Shift),
}

/// A convolution or a shift.
struct Convolution {
    node: usize,
    of: Of,
}

impl<T: Real> HasTwin<T> for Conv {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(Convolution { node: binding.node, of: Of::Conv(self.clone()) }))
    }
}

impl<T: Real> HasTwin<T> for Shift {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(Convolution { node: binding.node, of: Of::Shift(self.clone()) }))
    }
}

impl<T: Real> Twin<T> for Convolution {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, self.node, &settings(c, &self.of), slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        let places = match &self.of {
            Of::Conv(of) => {
                let at = |p: usize| c.plan.network.param_offset(p);
                (Some(at(of.weight)), of.bias.map(at))
            }
            Of::Shift(_) => (None, None),
        };
        backward(c, self.node, &settings(c, &self.of), places, slots, (dy, d_params));
        Ok(())
    }
}

fn settings<'a, T>(c: &'a Context<'_, T>, of: &Of) -> Settings<'a, T> {
    match *of {
        Of::Conv(Conv { x, weight, bias, low, high }) => {
            let (weight, bias) = (Some(c.param(weight)), bias.map(|b| c.param(b)));
            Settings { x, weight, bias, low, high, carries: high == 0 && low > 0 }
        }
        Of::Shift(Shift { x }) => Settings { x, weight: None, bias: None, low: 1, high: 0, carries: true },
    }
}

/// Where a tap reads.
enum Tap {
    Row(usize),
    State(usize),
    Nothing,
}

impl<T: Real> Settings<'_, T> {
    fn taps(&self) -> usize {
        if self.weight.is_some() { self.low + 1 + self.high } else { 1 }
    }

    /// What tap `k` of step `t` of sequence `b` reads.
    fn tap(&self, c: &Context<'_, T>, b: usize, t: usize, k: usize) -> Tap {
        let times = c.times;
        let begins = |t: usize| !times.resets.is_empty() && times.resets[t * times.batch + b];
        let crosses = |from: usize, to: usize| (from + 1..=to).any(begins);
        match (t + k).checked_sub(self.low) {
            Some(at) if at >= times.lengths[b] => Tap::Nothing,
            Some(at) if crosses(at.min(t), at.max(t)) => Tap::Nothing,
            Some(at) => Tap::Row(at * times.batch + b),
            None if !self.carries || (0..=t).any(begins) => Tap::Nothing,
            None => Tap::State(t + k),
        }
    }
}

fn state_slots(c: &Context<'_, impl Sized>, node: usize) -> Option<usize> {
    c.plan.states.iter().position(|s| s.node == node)
}

fn forward<T: Real>(c: &Context<'_, T>, node: usize, s: &Settings<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) {
    let (width, stride, taps) = (s.x.width, c.stride(s.x), s.taps());
    let state = state_slots(c, node).map(|n| &c.plan.states[n]);
    // A tap's weights side by side.
    let weights = s.weight.map(|w| by_tap(w, taps));
    let (elements, slots_read, out) = (y.len(), &*slots, Shared::new(y));
    for_pieces(elements / width, 8, elements * (1 + taps), |rows| {
        for row in rows {
            // SAFETY: a row of this piece alone.
            let out = unsafe { out.part(row * width, width) };
            let (b, t) = (row % c.times.batch, row / c.times.batch);
            match s.bias {
                Some(bias) if t < c.times.lengths[b] => out.copy_from_slice(bias),
                _ => out.fill(T::default()),
            }
            for k in 0..if t < c.times.lengths[b] { taps } else { 0 } {
                let from = match s.tap(c, b, t, k) {
                    Tap::Row(row) => &slots_read[c.plan.values[s.x.value]][row * stride + s.x.first..][..width],
                    Tap::State(at) => match state {
                        Some(state) => &slots_read[state.initial][(b * s.low + at) * width..][..width],
                        None => continue,
                    },
                    Tap::Nothing => continue,
                };
                match &weights {
                    Some(w) => {
                        let terms = w[k * width..][..width].iter().zip(from);
                        out.iter_mut().zip(terms).for_each(|(o, (w, v))| *o = *o + *w * *v);
                    }
                    None => out.iter_mut().zip(from).for_each(|(o, v)| *o = *o + *v),
                }
            }
        }
    });
    if let Some(state) = state {
        let mut last = std::mem::take(&mut slots[state.last]);
        for b in 0..c.times.batch {
            for at in 0..s.low {
                let to = &mut last[(b * s.low + at) * width..][..width];
                // What a step at the sequence's end would read.
                match last_tap(c, s, b, at) {
                    Tap::Row(row) => {
                        to.copy_from_slice(&slots[c.plan.values[s.x.value]][row * stride + s.x.first..][..width]);
                    }
                    Tap::State(at) => to.copy_from_slice(&slots[state.initial][(b * s.low + at) * width..][..width]),
                    Tap::Nothing => to.fill(T::default()),
                }
            }
        }
        slots[state.last] = last;
    }
}

/// `[taps, width]` of weights `[width, taps]`.
fn by_tap<T: Real>(weights: &[T], taps: usize) -> Scratch<T> {
    let width = weights.len() / taps;
    let mut turned = Scratch::any(weights.len());
    for (k, turned) in turned.chunks_exact_mut(width).enumerate() {
        turned.iter_mut().zip(weights[k..].iter().step_by(taps)).for_each(|(t, w)| *t = *w);
    }
    turned
}

/// Columns whose gradients a thread adds up at least.
const COLUMNS: usize = 32;

/// What the state's row `at` after the last step is.
fn last_tap<T: Real>(c: &Context<'_, T>, s: &Settings<'_, T>, b: usize, at: usize) -> Tap {
    let (times, length) = (c.times, c.times.lengths[b]);
    let begins = |t: usize| !times.resets.is_empty() && times.resets[t * times.batch + b];
    match (length + at).checked_sub(s.low) {
        Some(t) if (t + 1..length).any(begins) => Tap::Nothing,
        Some(t) => Tap::Row(t * times.batch + b),
        None if (0..length).any(begins) => Tap::Nothing,
        None => Tap::State(length + at),
    }
}

fn backward<T: Real>(
    c: &Context<'_, T>,
    node: usize,
    s: &Settings<'_, T>,
    places: (Option<usize>, Option<usize>),
    slots: &mut [Aligned<T>],
    (dy, d_params): (&[T], &mut [T]),
) {
    let (width, stride, taps) = (s.x.width, c.stride(s.x), s.taps());
    let mut dx = std::mem::take(&mut slots[c.plan.gradients[s.x.value]]);
    let state = state_slots(c, node).map(|n| &c.plan.states[n]);
    let d_initial = state.and_then(|st| st.d_initial);
    let mut d_state = d_initial.map_or_else(Aligned::default, |id| std::mem::take(&mut slots[id]));
    d_state.fill(T::default());
    let x = &slots[c.plan.values[s.x.value]];
    let weights = s.weight.map(|w| by_tap(w, taps));
    {
        let (to, to_state) = (Shared::new(&mut dx), Shared::new(&mut d_state));
        let d_params = Shared::new(d_params);
        // Every column is by itself: a thread goes over all steps of some of them, in one order.
        for_pieces(width, COLUMNS, dy.len() * (1 + 2 * taps), |columns| {
            let (first, count) = (columns.start, columns.len());
            // The gradient of the weights, a tap's side by side.
            let mut d_weights = places.0.map(|at| {
                // SAFETY: columns of this piece alone.
                by_tap(unsafe { d_params.part(at + first * taps, count * taps) }, taps)
            });
            for b in 0..c.times.batch {
                for t in 0..c.times.lengths[b] {
                    let dy = &dy[(t * c.times.batch + b) * width + first..][..count];
                    if let Some(at) = places.1 {
                        let d = match &mut d_weights {
                            // A single tap's weights may be the bias too.
                            Some(weights) if places.0 == places.1 => &mut weights[..count],
                            // SAFETY: columns of this piece alone.
                            _ => unsafe { d_params.part(at + first, count) },
                        };
                        d.iter_mut().zip(dy).for_each(|(d, v)| *d = *d + *v);
                    }
                    for k in 0..taps {
                        let (from, to) = match s.tap(c, b, t, k) {
                            Tap::Row(row) => {
                                let at = row * stride + s.x.first + first;
                                // SAFETY: columns of this piece alone.
                                (&x[at..][..count], unsafe { to.part(at, count) })
                            }
                            Tap::State(at) => match state {
                                Some(state) => {
                                    let at = (b * s.low + at) * width + first;
                                    // SAFETY: the same.
                                    (&slots[state.initial][at..][..count], unsafe { to_state.part(at, count) })
                                }
                                None => continue,
                            },
                            Tap::Nothing => continue,
                        };
                        match (&weights, &mut d_weights) {
                            (Some(w), Some(d)) => {
                                let w = &w[k * width + first..][..count];
                                to.iter_mut().zip(w).zip(dy).for_each(|((t, w), d)| *t = *t + *w * *d);
                                let d = &mut d[k * count..][..count];
                                d.iter_mut().zip(from).zip(dy).for_each(|((d, v), dy)| *d = *d + *v * *dy);
                            }
                            _ => to.iter_mut().zip(dy).for_each(|(t, d)| *t = *t + *d),
                        }
                    }
                }
            }
            if let (Some(at), Some(d_weights)) = (places.0, &d_weights) {
                // SAFETY: columns of this piece alone.
                let to = unsafe { d_params.part(at + first * taps, count * taps) };
                for (n, to) in to.chunks_exact_mut(taps).enumerate() {
                    to.iter_mut().zip(d_weights[n..].iter().step_by(count)).for_each(|(t, d)| *t = *d);
                }
            }
        });
    }
    if let Some((Some(d_last), Some(d_initial))) = state.map(|s| (s.d_last, s.d_initial)) {
        for b in 0..c.times.batch {
            for at in 0..s.low {
                let from = &slots[d_last][(b * s.low + at) * width..][..width];
                let to = match last_tap(c, s, b, at) {
                    Tap::Row(row) => &mut dx[row * stride + s.x.first..][..width],
                    Tap::State(at) => &mut d_state[(b * s.low + at) * width..][..width],
                    Tap::Nothing => continue,
                };
                to.iter_mut().zip(from).for_each(|(t, f)| *t = *t + *f);
            }
        }
        slots[d_initial] = d_state;
    }
    slots[c.plan.gradients[s.x.value]] = dx;
}
