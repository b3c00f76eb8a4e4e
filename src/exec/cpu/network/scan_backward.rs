//! Linear recurrences backward: chunk by chunk from the last, each run again from the state that was kept before it. See
//! [`crate::rule`] for the equations. All ways of going over time come back this way.

use super::Context;
use super::scan::{Scan, State, divisor, scale, step, times};
use super::scan_ports::{Coefficients, Heads, ScanTapes, Stretch, tasks};
use crate::exec::cpu::scratch::Scratch;
use crate::exec::cpu::threads::for_each;
use crate::model::network::{Operand, Part, ScanShape, Source};
use crate::model::rule::{EMPTY_MAXIMUM, Read};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use pulp::{Simd, WithSimd};
use std::sync::{Mutex, PoisonError};

/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 15;

/// Gradients of what several heads or sequences share, of one task: per port, per chunk.
struct Shares<T> {
    /// Which port, and the rows of the chunk it is about (none of a parameter).
    port: usize,
    rows: Vec<usize>,
    /// `[row][source column]`
    values: Vec<T>,
}

pub(super) fn backward<T: Real>(
    c: &Context<'_, T>,
    (node, shape, tapes): (usize, &ScanShape, &ScanTapes),
    slots: &mut [Aligned<T>],
    dy: &[T],
    d_params: &mut [T],
) {
    let scan = Scan::new(c, (shape, tapes));
    let Some(states) = c.plan.states.iter().find(|s| s.node == node) else { return };
    let (Some(d_initial), Some(d_last)) = (states.d_initial, states.d_last) else { return };
    let mut first_gradient = std::mem::take(&mut slots[d_initial]);
    first_gradient.fill(T::default());
    let tasks = tasks(shape, c.times.batch);
    let shares: Vec<Mutex<Vec<Shares<T>>>> = tasks.iter().map(|_| Mutex::new(Vec::new())).collect();
    // Values that a head has for itself get their gradients at once; each its own columns.
    let mut own: Vec<(usize, Aligned<T>)> = Vec::new();
    for operand in &shape.operands {
        if let Some(part) = alone(shape, operand) {
            let id = c.plan.gradients[part.value];
            if own.iter().all(|(other, _)| *other != id) {
                own.push((id, std::mem::take(&mut slots[id])));
            }
        }
    }
    let ids: Vec<usize> = own.iter().map(|(id, _)| *id).collect();
    let work = c.plan.rows() * shape.heads * shape.key_size * shape.columns();
    let threads = if work < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    {
        let to: Vec<Shared<'_, T>> = own.iter_mut().map(|(_, values)| Shared::new(values)).collect();
        let (initial, size) = (Shared::new(&mut first_gradient), states.size);
        let slots: &[Aligned<T>] = slots;
        for_each(tasks.len(), threads, |n| {
            let heads = tasks[n];
            let states = vec![scan.state(heads); c.plan.chunk(shape) + 1];
            let (lambda, zeros) = (scan.state(heads), scan.state(heads));
            let mut back = Back { scan: &scan, node, heads, slots, dy, lambda, zeros, states, shares: Vec::new() };
            back.lambda.load(heads.first, &slots[d_last][heads.b * size..][..size], shape.heads);
            let mut stretch = scan.stretch(heads);
            for (chunk, steps) in scan.chunks(heads.b).enumerate().rev() {
                back.chunk(&mut stretch, chunk, steps, (&ids, &to));
            }
            let (lambda, own) = (&back.lambda, heads.first * back.lambda.columns * back.lambda.keys);
            // SAFETY: this task's heads of this sequence alone.
            let out = unsafe { initial.part(heads.b * size + own, lambda.values.len()) };
            lambda.each(heads.first, |n, v| out[n - own] = v);
            *shares[n].lock().unwrap_or_else(PoisonError::into_inner) = back.shares;
        });
    }
    slots[d_initial] = first_gradient;
    own.into_iter().for_each(|(id, values)| slots[id] = values);
    for share in shares.into_iter().flat_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        add_share(c, shape, &share, slots, d_params);
    }
}

fn add_share<T: Real>(
    c: &Context<'_, T>,
    shape: &ScanShape,
    share: &Shares<T>,
    slots: &mut [Aligned<T>],
    d_params: &mut [T],
) {
    let operand = &shape.operands[share.port];
    let width = operand.source_width();
    match operand.source {
        Source::Value(part) => {
            let (stride, to) = (c.stride(part), &mut slots[c.plan.gradients[part.value]]);
            for (row, values) in share.rows.iter().zip(share.values.chunks_exact(width)) {
                let to = &mut to[row * stride + part.first..][..width];
                to.iter_mut().zip(values).for_each(|(t, v)| *t = *t + *v);
            }
        }
        Source::Param { param, first, .. } => {
            let at = c.plan.network.param_offset(param) + first;
            d_params[at..][..width].iter_mut().zip(&share.values).for_each(|(t, v)| *t = *t + *v);
        }
    }
}

/// What an operand shows, if no head reads what another one's is.
fn alone(shape: &ScanShape, operand: &Operand) -> Option<Part> {
    match operand.source {
        Source::Value(part) if operand.repeat == 1 && !shape.operands.iter().any(|o| o.overlaps(part)) => Some(part),
        _ => None,
    }
}

/// The way back of one task.
struct Back<'a, T: Real> {
    scan: &'a Scan<'a, T>,
    node: usize,
    heads: Heads,
    slots: &'a [Aligned<T>],
    dy: &'a [T],
    /// The gradient of the state after the step that comes next.
    lambda: State<T>,
    zeros: State<T>,
    /// The states before every step of a chunk, and after its last.
    states: Vec<State<T>>,
    shares: Vec<Shares<T>>,
}

impl<T: Real> Back<'_, T> {
    fn chunk(
        &mut self,
        stretch: &mut Stretch<'_, T>,
        chunk: usize,
        steps: std::ops::Range<usize>,
        own: (&[usize], &[Shared<'_, T>]),
    ) {
        let (scan, heads) = (self.scan, self.heads);
        scan.load(stretch, steps.clone(), self.slots);
        if scan.form.stabiliser.is_some() {
            let (before, now) = self.maxima(stretch, steps.start);
            stretch.set_maxima(&before, &now);
        }
        let coefficients = stretch.coefficients();
        let own_slots = &scan.c.plan.scans[self.node];
        let size = scan.shape.heads * scan.shape.columns() * scan.shape.key_size;
        if let Some(id) = own_slots.checkpoints {
            let at = (chunk * scan.c.times.batch + heads.b) * size;
            self.states[0].load(heads.first, &self.slots[id][at..][..size], scan.shape.heads);
        }
        let width = scan.shape.columns() * heads.count;
        let mut y = Scratch::any(width);
        let mut erased = Scratch::filled(steps.len() * width, T::default());
        for n in 0..steps.len() {
            // The state after the step before is still read.
            let (before, after) = self.states.split_at_mut(n + 1);
            let (before, next) = (&before[n], &mut after[0]);
            next.copy(if scan.is_reset(heads, steps.start + n) { &self.zeros } else { before });
            step(&coefficients, scan.form.read, n, next, &mut y, &mut erased[n * width..][..width]);
        }
        let mut d = coefficients.zeros();
        let mut d_sums = Scratch::any(width);
        for n in (0..steps.len()).rev() {
            self.d_sums(stretch, n, &mut d_sums);
            let (c, u) = (&coefficients, &erased[n * width..][..width]);
            let reset = scan.is_reset(heads, steps.start + n);
            let before = if reset { &self.zeros } else { &self.states[n] };
            let (after, read) = (&self.states[n + 1], scan.form.read);
            T::dispatch(Adjoint { c, d: &mut d, n, before, after, dy: &d_sums, u, read, lambda: &mut self.lambda });
            if reset {
                self.lambda.values.fill(T::default());
            }
        }
        let gradients = stretch.port_gradients(&d);
        for (port, gradient) in gradients.iter().enumerate() {
            self.give(stretch, port, gradient, own);
        }
    }

    /// m before and after every step of a stretch.
    fn maxima(&self, stretch: &Stretch<'_, T>, first: usize) -> (Vec<T>, Vec<T>) {
        let (scan, heads) = (self.scan, self.heads);
        let (mut before, mut now) = (Vec::new(), Vec::new());
        let Some(slot) = scan.c.plan.scans[self.node].maxima else { return (before, now) };
        let at = |row: usize| &self.slots[slot][row * scan.shape.heads + heads.first..][..heads.count];
        for (n, &row) in stretch.rows.iter().enumerate() {
            let s = first + n;
            if scan.is_reset(heads, s) {
                before.extend(std::iter::repeat_n(T::from_f64(EMPTY_MAXIMUM), heads.count));
            } else if s > 0 {
                before.extend_from_slice(at(scan.c.times.row(heads.b, s - 1, scan.shape.reverse)));
            } else if let Some(states) = scan.c.plan.states.iter().find(|s| s.node == self.node) {
                let end = (heads.b + 1) * states.size;
                before.extend_from_slice(
                    &self.slots[states.initial][end - scan.shape.heads + heads.first..][..heads.count],
                );
            }
            now.extend_from_slice(at(row));
        }
        (before, now)
    }

    /// The gradient of a step's sums, `[column][head]`, from that of its outputs.
    fn d_sums(&self, stretch: &Stretch<'_, T>, n: usize, d: &mut [T]) {
        let (shape, heads, row) = (self.scan.shape, self.heads, stretch.rows[n]);
        let (columns, values) = (shape.columns(), shape.value_size);
        let dy = &self.dy[(row * shape.heads + heads.first) * values..][..heads.count * values];
        d.fill(T::default());
        let sums = self.scan.c.plan.scans[self.node].sums.map(|id| &self.slots[id]);
        for head in 0..heads.count {
            let dy = &dy[head * values..][..values];
            let (Some(s), Some(sums)) = (&self.scan.form.stabiliser, sums) else {
                dy.iter().enumerate().for_each(|(j, v)| d[j * heads.count + head] = *v);
                continue;
            };
            let sums = &sums[(row * shape.heads + heads.first + head) * columns..][..columns];
            let m = stretch.m(n)[head];
            let (by, slope) = divisor(s.divisor, sums[values], m);
            let mut along = T::default();
            for (j, v) in dy.iter().enumerate() {
                d[j * heads.count + head] = v.over(by);
                along = along + *v * sums[j].over(by);
            }
            d[values * heads.count + head] = T::default().minus(along.over(by)) * slope;
        }
    }

    /// A port's gradients of a stretch: to the operand's own, or to what it shares.
    fn give(&mut self, stretch: &Stretch<'_, T>, port: usize, gradient: &[T], (ids, to): (&[usize], &[Shared<'_, T>])) {
        let operand = &self.scan.shape.operands[port];
        match operand.source {
            Source::Value(part) if alone(self.scan.shape, operand).is_some() => {
                let stride = self.scan.c.stride(part);
                let id = self.scan.c.plan.gradients[part.value];
                let Some(to) = ids.iter().position(|other| *other == id).map(|n| &to[n]) else { return };
                stretch.scatter(port, gradient, |step, column, g| {
                    // SAFETY: columns of this task's heads.
                    let to = unsafe { to.part(stretch.rows[step] * stride + part.first + column, g.len()) };
                    to.iter_mut().zip(g).for_each(|(t, g)| *t = *t + *g);
                });
            }
            Source::Value(_) => {
                let width = operand.source_width();
                let mut values = vec![T::default(); stretch.rows.len() * width];
                stretch.scatter(port, gradient, |step, column, g| {
                    let to = &mut values[step * width + column..][..g.len()];
                    to.iter_mut().zip(g).for_each(|(t, g)| *t = *t + *g);
                });
                self.shares.push(Shares { port, rows: stretch.rows.clone(), values });
            }
            Source::Param { .. } => {
                let width = operand.source_width();
                let place = self.shares.iter().position(|s| s.port == port).unwrap_or_else(|| {
                    self.shares.push(Shares { port, rows: Vec::new(), values: vec![T::default(); width] });
                    self.shares.len() - 1
                });
                let values = &mut self.shares[place].values;
                stretch.scatter(port, gradient, |_, column, g| {
                    values[column..][..g.len()].iter_mut().zip(g).for_each(|(t, g)| *t = *t + *g);
                });
            }
        }
    }
}

/// A step back, for the widest registers that the machine has; sums run in a fixed order whatever they are.
struct Adjoint<'a, T> {
    c: &'a Coefficients<T>,
    d: &'a mut Coefficients<T>,
    n: usize,
    before: &'a State<T>,
    after: &'a State<T>,
    dy: &'a [T],
    u: &'a [T],
    read: Read,
    lambda: &'a mut State<T>,
}

impl<T: Real> WithSimd for Adjoint<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { c, d, n, before, after, dy, u, read, lambda } = self;
        let (keys, heads, width) = (before.keys, before.heads, dy.len());
        let of = |key: usize| (n * keys + key) * heads..(n * keys + key + 1) * heads;
        let value = &c.value[n * width..][..width];
        let lambda = &mut lambda.values;
        let d_value = &mut d.value[n * width..][..width];
        if let (Some(r), Some(dr)) = (&c.through, &mut d.through) {
            times(d_value, dy, &r[n * heads..][..heads]);
            dots(&mut dr[n * heads..][..heads], dy, value);
        }
        let mut g = Scratch::filled(if c.erase.is_some() { width } else { 0 }, T::default());
        for key in 0..keys {
            let row = &mut lambda[key * width..][..width];
            if read == Read::After {
                dots(&mut d.query[of(key)], dy, &after.values[key * width..][..width]);
                times(row, dy, &c.query[of(key)]);
            }
            dots(&mut d.write[of(key)], row, value);
            times(d_value, row, &c.write[of(key)]);
            if let Some((_, b)) = &c.erase {
                times(&mut g, row, &b[of(key)]);
            }
        }
        for key in 0..keys {
            let row = &mut lambda[key * width..][..width];
            let state = &before.values[key * width..][..width];
            if let (Some((a, _)), Some((da, db))) = (&c.erase, &mut d.erase) {
                dots(&mut db[of(key)], row, u);
                dots(&mut da[of(key)], state, &g);
                if let (Some(decay), Some(dd)) = (&c.decay, &mut d.decay) {
                    dots(&mut dd[of(key)], row, state);
                    scale(row, &decay[of(key)]);
                }
                times(row, &g, &a[of(key)]);
            } else if let (Some(decay), Some(dd)) = (&c.decay, &mut d.decay) {
                dots(&mut dd[of(key)], row, state);
                scale(row, &decay[of(key)]);
            }
            if read == Read::Before {
                dots(&mut d.query[of(key)], dy, state);
                times(row, dy, &c.query[of(key)]);
            }
        }
    }
}

/// Neighbouring columns that are summed apart.
const APART: usize = 16;

/// Of each head += the sum over its columns of a · b; `[column][head]`. Of a single head, sums of every sixteenth column first.
#[inline(always)]
fn dots<T: Real>(out: &mut [T], a: &[T], b: &[T]) {
    if let ([out], true) = (&mut *out, a.len() >= APART) {
        let mut sums = [T::default(); APART];
        let (a, b) = (a.chunks_exact(APART), b.chunks_exact(APART));
        let rest = a.remainder().iter().zip(b.remainder());
        for (a, b) in a.zip(b) {
            for n in 0..APART {
                sums[n] = sums[n] + a[n] * b[n];
            }
        }
        sums.iter_mut().zip(rest).for_each(|(sum, (a, b))| *sum = *sum + *a * *b);
        let mut half = APART / 2;
        while half > 0 {
            for n in 0..half {
                sums[n] = sums[n] + sums[n + half];
            }
            half /= 2;
        }
        *out = *out + sums[0];
        return;
    }
    for (a, b) in a.chunks_exact(out.len()).zip(b.chunks_exact(out.len())) {
        out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o = *o + *a * *b);
    }
}
