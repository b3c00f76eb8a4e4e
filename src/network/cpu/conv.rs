//! Depthwise convolutions over time, and the shift by one step, which is one with a single tap of 1.

use super::Context;
use crate::expr::Element;
use crate::network::{Op, Part};

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

fn settings<'a, T>(c: &'a Context<'_, T>, op: &Op) -> Settings<'a, T> {
    match *op {
        Op::Conv { x, weight, bias, low, high } => {
            let (weight, bias) = (Some(c.param(weight)), bias.map(|b| c.param(b)));
            Settings { x, weight, bias, low, high, carries: high == 0 && low > 0 }
        }
        Op::Shift { x } => Settings { x, weight: None, bias: None, low: 1, high: 0, carries: true },
        _ => unreachable!("a convolution"),
    }
}

/// Where a tap reads.
enum Tap {
    Row(usize),
    State(usize),
    Nothing,
}

impl<T: Element> Settings<'_, T> {
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

pub(super) fn forward<T: Element>(c: &Context<'_, T>, node: usize, slots: &mut [Vec<T>], y: &mut [T]) {
    let s = settings(c, &c.plan.network.nodes[node].op);
    let (width, stride, taps) = (s.x.width, c.stride(s.x), s.taps());
    let state = state_slots(c, node).map(|n| &c.plan.states[n]);
    y.fill(T::default());
    for b in 0..c.times.batch {
        for t in 0..c.times.lengths[b] {
            let out = &mut y[(t * c.times.batch + b) * width..][..width];
            if let Some(bias) = s.bias {
                out.copy_from_slice(bias);
            }
            for k in 0..taps {
                let from = match s.tap(c, b, t, k) {
                    Tap::Row(row) => &slots[c.plan.values[s.x.value]][row * stride + s.x.first..][..width],
                    Tap::State(at) => match state {
                        Some(state) => &slots[state.initial][(b * s.low + at) * width..][..width],
                        None => continue,
                    },
                    Tap::Nothing => continue,
                };
                match s.weight {
                    Some(w) => {
                        out.iter_mut().zip(from).enumerate().for_each(|(n, (o, v))| *o = *o + w[n * taps + k] * *v);
                    }
                    None => out.iter_mut().zip(from).for_each(|(o, v)| *o = *o + *v),
                }
            }
        }
    }
    if let Some(state) = state {
        let mut last = std::mem::take(&mut slots[state.last]);
        for b in 0..c.times.batch {
            for at in 0..s.low {
                let to = &mut last[(b * s.low + at) * width..][..width];
                // What a step at the sequence's end would read.
                match last_tap(c, &s, b, at) {
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

/// What the state's row `at` after the last step is.
fn last_tap<T: Element>(c: &Context<'_, T>, s: &Settings<'_, T>, b: usize, at: usize) -> Tap {
    let (times, length) = (c.times, c.times.lengths[b]);
    let begins = |t: usize| !times.resets.is_empty() && times.resets[t * times.batch + b];
    match (length + at).checked_sub(s.low) {
        Some(t) if (t + 1..length).any(begins) => Tap::Nothing,
        Some(t) => Tap::Row(t * times.batch + b),
        None if (0..length).any(begins) => Tap::Nothing,
        None => Tap::State(length + at),
    }
}

pub(super) fn backward<T: Element>(
    c: &Context<'_, T>,
    node: usize,
    slots: &mut [Vec<T>],
    dy: &[T],
    d_params: &mut [T],
) {
    let op = &c.plan.network.nodes[node].op;
    let s = settings(c, op);
    let places = match *op {
        Op::Conv { weight, bias, .. } => {
            let at = |p: usize| c.plan.network.param_offset(p);
            (Some(at(weight)), bias.map(at))
        }
        _ => (None, None),
    };
    let (width, stride, taps) = (s.x.width, c.stride(s.x), s.taps());
    let mut dx = std::mem::take(&mut slots[c.plan.gradients[s.x.value]]);
    let state = state_slots(c, node).map(|n| c.plan.states[n].clone());
    let mut d_state = vec![T::default(); state.as_ref().map_or(0, |st| c.times.batch * st.size)];
    let x = &slots[c.plan.values[s.x.value]];
    for b in 0..c.times.batch {
        for t in 0..c.times.lengths[b] {
            let dy = &dy[(t * c.times.batch + b) * width..][..width];
            if let Some(at) = places.1 {
                d_params[at..][..width].iter_mut().zip(dy).for_each(|(d, v)| *d = *d + *v);
            }
            for k in 0..taps {
                let (from, to) = match s.tap(c, b, t, k) {
                    Tap::Row(row) => {
                        let at = row * stride + s.x.first;
                        (&x[at..][..width], &mut dx[at..][..width])
                    }
                    Tap::State(at) => match &state {
                        Some(state) => {
                            let at = (b * s.low + at) * width;
                            (&slots[state.initial][at..][..width], &mut d_state[at..][..width])
                        }
                        None => continue,
                    },
                    Tap::Nothing => continue,
                };
                for n in 0..width {
                    match (s.weight, places.0) {
                        (Some(w), Some(at)) => {
                            to[n] = to[n] + w[n * taps + k] * dy[n];
                            d_params[at + n * taps + k] = d_params[at + n * taps + k] + from[n] * dy[n];
                        }
                        _ => to[n] = to[n] + dy[n],
                    }
                }
            }
        }
    }
    if let Some((Some(d_last), Some(d_initial))) = state.as_ref().map(|s| (s.d_last, s.d_initial)) {
        for b in 0..c.times.batch {
            for at in 0..s.low {
                let from = &slots[d_last][(b * s.low + at) * width..][..width];
                let to = match last_tap(c, &s, b, at) {
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
