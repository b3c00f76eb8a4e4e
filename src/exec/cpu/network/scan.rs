//! Linear recurrences forward: step after step, in chunks side by side, or by products.

use super::scan_ports::{Coefficients, HEADS, Heads, ScanTapes, Stretch, tasks};
use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::cpu::scratch::Scratch;
use crate::exec::cpu::threads::for_each;
use crate::model::network::ScanShape;
use crate::model::rule::{Divisor, EMPTY_MAXIMUM, Form, Read};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::network::Parallel;
use pulp::{Simd, WithSimd};

/// The states of some heads while a scan goes on: `[K][column][head]`, and m `[head]`.
#[derive(Clone)]
pub(super) struct State<T> {
    pub values: Vec<T>,
    pub maxima: Vec<T>,
    pub keys: usize,
    pub columns: usize,
    pub heads: usize,
}

impl<T: Real> State<T> {
    /// Zeros.
    pub fn empty(keys: usize, columns: usize, heads: usize) -> Self {
        let maxima = vec![T::from_f64(EMPTY_MAXIMUM); heads];
        Self { values: vec![T::default(); keys * columns * heads], maxima, keys, columns, heads }
    }

    /// From `[heads][column][K]` of all heads (and m behind, where `from` has it).
    pub fn load(&mut self, first: usize, from: &[T], all_heads: usize) {
        let (keys, columns, heads) = (self.keys, self.columns, self.heads);
        for (key, own) in self.values.chunks_exact_mut(columns * heads).enumerate() {
            for (column, own) in own.chunks_exact_mut(heads).enumerate() {
                let place = |head: usize| ((first + head) * columns + column) * keys + key;
                own.iter_mut().enumerate().for_each(|(head, v)| *v = from[place(head)]);
            }
        }
        let at = all_heads * self.columns * self.keys + first;
        if let Some(maxima) = from.get(at..at + self.heads) {
            self.maxima.copy_from_slice(maxima);
        }
    }

    /// The opposite.
    pub fn each(&self, first: usize, mut to: impl FnMut(usize, T)) {
        let (keys, columns, heads) = (self.keys, self.columns, self.heads);
        for (key, own) in self.values.chunks_exact(columns * heads).enumerate() {
            for (column, own) in own.chunks_exact(heads).enumerate() {
                let place = |head: usize| ((first + head) * columns + column) * keys + key;
                own.iter().enumerate().for_each(|(head, v)| to(place(head), *v));
            }
        }
    }

    /// Becomes another of the same sizes.
    pub fn copy(&mut self, other: &Self) {
        self.values.copy_from_slice(&other.values);
        self.maxima.copy_from_slice(&other.maxima);
    }
}

/// One step: the state after it, and where `y` is given what it reads. For the widest registers that the machine has; every value is
/// computed by itself, so that its bits do not depend on them.
pub(super) fn step<T: Real>(c: &Coefficients<T>, read: Read, n: usize, s: &mut State<T>, y: &mut [T], u: &mut [T]) {
    T::dispatch(Step { c, read, n, s, y, u });
}

struct Step<'a, T> {
    c: &'a Coefficients<T>,
    read: Read,
    n: usize,
    s: &'a mut State<T>,
    y: &'a mut [T],
    u: &'a mut [T],
}

impl<T: Real> WithSimd for Step<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { c, read, n, s, y, u } = self;
        let (keys, width, heads) = (s.keys, s.columns * s.heads, s.heads);
        let of = |key: usize| (n * keys + key) * heads..(n * keys + key + 1) * heads;
        let value = &c.value[n * y.len()..][..y.len()];
        if let Some((a, _)) = &c.erase {
            u.fill(T::default());
            for key in 0..keys {
                times(u, &s.values[key * width..][..width], &a[of(key)]);
            }
        }
        y.fill(T::default());
        if let Some(r) = &c.through {
            times(y, value, &r[n * heads..][..heads]);
        }
        let one = [T::from_f64(1.0); HEADS];
        for key in 0..keys {
            // `width` may be wider than the values: virtual columns have none.
            let (row, rest) = s.values[key * width..][..width].split_at_mut(y.len());
            let decay = c.decay.as_ref().map_or(&one[..heads], |d| &d[of(key)]);
            let correct = c.erase.as_ref().map(|(_, b)| &b[of(key)]);
            scale(rest, decay);
            if let Some(b) = correct {
                times(rest, &u[y.len()..], b);
            }
            let factors = [decay, correct.unwrap_or(decay), &c.write[of(key)], &c.query[of(key)]];
            match (correct.is_some(), read) {
                (false, Read::After) => update::<T, false, false>(row, value, u, y, factors),
                (false, Read::Before) => update::<T, false, true>(row, value, u, y, factors),
                (true, Read::After) => update::<T, true, false>(row, value, u, y, factors),
                (true, Read::Before) => update::<T, true, true>(row, value, u, y, factors),
            }
        }
    }
}

/// A row of states: s = d s + b u + k v, y += q s (of the one before, BEFORE). Factors are `[head]`.
#[inline(always)]
fn update<T: Real, const ERASE: bool, const BEFORE: bool>(
    row: &mut [T],
    value: &[T],
    u: &[T],
    y: &mut [T],
    [d, b, k, q]: [&[T]; 4],
) {
    let len = row.len();
    let (value, y, u) = (&value[..len], &mut y[..len], if ERASE { &u[..len] } else { &value[..len] });
    let next = |s: T, v: T, u: T, y: &mut T, [d, b, k, q]: [T; 4]| {
        if BEFORE {
            *y = *y + q * s;
        }
        let mut s = d * s;
        if ERASE {
            s = s + b * u;
        }
        s = s + k * v;
        if !BEFORE {
            *y = *y + q * s;
        }
        s
    };
    let heads = d.len();
    if heads == 1 {
        let factors = [d[0], b[0], k[0], q[0]];
        for n in 0..len {
            row[n] = next(row[n], value[n], u[n], &mut y[n], factors);
        }
        return;
    }
    let (b, k, q) = (&b[..heads], &k[..heads], &q[..heads]);
    for first in (0..len).step_by(heads) {
        let own = first..first + heads;
        let (row, y, value, u) = (&mut row[own.clone()], &mut y[own.clone()], &value[own.clone()], &u[own]);
        for n in 0..heads {
            row[n] = next(row[n], value[n], u[n], &mut y[n], [d[n], b[n], k[n], q[n]]);
        }
    }
}

/// out += of each head its factor times its values; `[column][head]`.
#[inline(always)]
pub(super) fn times<T: Real>(out: &mut [T], values: &[T], factors: &[T]) {
    if let [factor] = factors {
        out.iter_mut().zip(values).for_each(|(o, v)| *o = *o + *factor * *v);
        return;
    }
    for (out, values) in out.chunks_exact_mut(factors.len()).zip(values.chunks_exact(factors.len())) {
        out.iter_mut().zip(values).zip(factors).for_each(|((o, v), f)| *o = *o + *f * *v);
    }
}

/// Every head's values times its factor.
#[inline(always)]
pub(super) fn scale<T: Real>(values: &mut [T], factors: &[T]) {
    if let [factor] = factors {
        values.iter_mut().for_each(|v| *v = *factor * *v);
        return;
    }
    for values in values.chunks_exact_mut(factors.len()) {
        values.iter_mut().zip(factors).for_each(|(v, f)| *v = *f * *v);
    }
}

/// A scan's rule and where it runs.
pub(super) struct Scan<'a, T: Real> {
    pub c: &'a Context<'a, T>,
    pub shape: &'a ScanShape,
    pub form: &'a Form,
    tapes: &'a ScanTapes,
}

impl<'a, T: Real> Scan<'a, T> {
    pub fn new(c: &'a Context<'a, T>, (shape, tapes): (&'a ScanShape, &'a ScanTapes)) -> Self {
        Self { c, shape, form: shape.form(), tapes }
    }

    /// Stretches of some heads' steps, a chunk at most.
    pub fn stretch(&self, heads: Heads) -> Stretch<'a, T> {
        Stretch::new(self.c, (self.shape, self.tapes), heads, self.c.plan.chunk(self.shape))
    }

    /// Reads what some steps read, but for m.
    pub fn load(&self, stretch: &mut Stretch<'_, T>, steps: std::ops::Range<usize>, slots: &[Aligned<T>]) {
        let b = stretch.heads.b;
        stretch.load(self.c, steps.map(|s| self.c.times.row(b, s, self.shape.reverse)), slots);
    }

    pub fn is_reset(&self, heads: Heads, s: usize) -> bool {
        self.c.times.is_reset(heads.b, s, self.shape.reverse)
    }

    /// The chunks of a sequence.
    pub fn chunks(&self, b: usize) -> impl DoubleEndedIterator<Item = std::ops::Range<usize>> + ExactSizeIterator {
        let (length, chunk) = (self.c.times.lengths[b], self.c.plan.chunk(self.shape));
        (0..length.div_ceil(chunk)).map(move |n| n * chunk..((n + 1) * chunk).min(length))
    }

    pub fn state(&self, heads: Heads) -> State<T> {
        State::empty(self.shape.key_size, self.shape.columns(), heads.count)
    }
}

/// What a scan writes, beside its state.
pub(super) struct Outputs<'a, T> {
    /// Whether states before chunks are kept.
    keeps: bool,
    y: Shared<'a, T>,
    sums: Shared<'a, T>,
    maxima: Shared<'a, T>,
    checkpoints: Shared<'a, T>,
    last: Shared<'a, T>,
}

/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 16;

struct ScanTwin {
    node: usize,
    shape: ScanShape,
    tapes: ScanTapes,
}

impl<T: Real> HasTwin<T> for ScanShape {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(ScanTwin { node: binding.node, shape: self.clone(), tapes: ScanTapes::new(self) }))
    }
}

impl<T: Real> Twin<T> for ScanTwin {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, (self.node, &self.shape, &self.tapes), slots, y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        super::scan_backward::backward(c, (self.node, &self.shape, &self.tapes), slots, dy, d_params);
        Ok(())
    }
}

fn forward<T: Real>(
    c: &Context<'_, T>,
    (node, shape, tapes): (usize, &ScanShape, &ScanTapes),
    slots: &mut [Aligned<T>],
    y: &mut [T],
) {
    let scan = Scan::new(c, (shape, tapes));
    let Some(states) = c.plan.states.iter().find(|s| s.node == node) else { return };
    let own = &c.plan.scans[node];
    let mut take = |id: Option<usize>| id.map_or_else(Aligned::default, |id| std::mem::take(&mut slots[id]));
    let (mut sums, mut maxima, mut checkpoints) = (take(own.sums), take(own.maxima), take(own.checkpoints));
    let mut last = take(Some(states.last));
    y.fill(T::default());
    sums.fill(T::default());
    let slots_read: &[Aligned<T>] = slots;
    let outputs = Outputs {
        keeps: own.checkpoints.is_some(),
        y: Shared::new(y),
        sums: Shared::new(&mut sums),
        maxima: Shared::new(&mut maxima),
        checkpoints: Shared::new(&mut checkpoints),
        last: Shared::new(&mut last),
    };
    let tasks = tasks(shape, c.times.batch);
    let work = c.plan.rows() * shape.heads * shape.key_size * shape.columns();
    let threads = if work < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let initial = &slots_read[states.initial];
    match c.plan.parallel {
        way if way == Parallel::Recurrent || c.plan.products(shape) => for_each(tasks.len(), threads, |n| {
            let heads = tasks[n];
            let mut state = scan.state(heads);
            state.load(heads.first, &initial[heads.b * states.size..][..states.size], shape.heads);
            let mut stretch = scan.stretch(heads);
            for (chunk, steps) in scan.chunks(heads.b).enumerate() {
                scan.checkpoint(heads, chunk, &state, &outputs);
                match way {
                    Parallel::Products => scan.run_products(&mut stretch, steps, &mut state, slots_read, &outputs),
                    _ => scan.run(&mut stretch, steps, &mut state, slots_read, Some(&outputs)),
                }
            }
            scan.finish(heads, &state, states.size, &outputs);
        }),
        _ => super::scan_chunked::forward(&scan, &tasks, (initial, states.size), threads, slots_read, &outputs),
    }
    let mut put = |id: Option<usize>, values: Aligned<T>| {
        if let Some(id) = id {
            slots[id] = values;
        }
    };
    put(own.sums, sums);
    put(own.maxima, maxima);
    put(own.checkpoints, checkpoints);
    put(Some(states.last), last);
}

impl<T: Real> Scan<'_, T> {
    /// Runs steps of some heads from a state, which becomes that after them; writes what they give where there is a place for it.
    pub(super) fn run(
        &self,
        stretch: &mut Stretch<'_, T>,
        steps: std::ops::Range<usize>,
        state: &mut State<T>,
        slots: &[Aligned<T>],
        outputs: Option<&Outputs<'_, T>>,
    ) {
        self.load(stretch, steps.clone(), slots);
        let (heads, first) = (stretch.heads, steps.start);
        stretch.maxima(&mut state.maxima, &|n| self.is_reset(heads, first + n));
        let (at_once, width) = (stretch.at_once(), self.shape.columns() * heads.count);
        let mut coefficients = stretch.room(at_once);
        let (mut y, mut u) = (Scratch::any(width), Scratch::any(state.columns * heads.count));
        for first in steps.clone().step_by(at_once) {
            let block = first..steps.end.min(first + at_once);
            stretch.fill(block.start - steps.start..block.end - steps.start, &mut coefficients);
            for (n, s) in block.enumerate() {
                if self.is_reset(heads, s) {
                    state.values.fill(T::default());
                }
                step(&coefficients, self.form.read, n, state, &mut y, &mut u);
                if let Some(outputs) = outputs {
                    self.write(stretch, s - steps.start, &y, outputs);
                }
            }
        }
    }

    pub(super) fn write(&self, stretch: &Stretch<'_, T>, n: usize, y: &[T], outputs: &Outputs<'_, T>) {
        let (heads, shape) = (stretch.heads, self.shape);
        let (columns, values, row) = (shape.columns(), shape.value_size, stretch.rows[n]);
        // SAFETY: this task's heads of this row alone.
        let out = unsafe { outputs.y.part((row * shape.heads + heads.first) * values, heads.count * values) };
        let Some(s) = &self.form.stabiliser else {
            return by_head(y, values, out);
        };
        let m = stretch.m(n);
        // SAFETY: the same.
        let (sums, maxima) = unsafe {
            let sums = outputs.sums.part((row * shape.heads + heads.first) * columns, heads.count * columns);
            (sums, outputs.maxima.part(row * shape.heads + heads.first, heads.count))
        };
        maxima.copy_from_slice(m);
        by_head(y, columns, sums);
        for (head, (out, sums)) in out.chunks_exact_mut(values).zip(sums.chunks_exact(columns)).enumerate() {
            let divisor = divisor(s.divisor, sums[values], m[head]).0;
            out.iter_mut().zip(sums).for_each(|(o, v)| *o = v.over(divisor));
        }
    }

    pub(super) fn checkpoint(&self, heads: Heads, chunk: usize, state: &State<T>, outputs: &Outputs<'_, T>) {
        if !outputs.keeps {
            return;
        }
        let size = self.shape.heads * state.columns * state.keys;
        let at = (chunk * self.c.times.batch + heads.b) * size;
        let own = heads.first * state.columns * state.keys;
        // SAFETY: this task's heads of this sequence's chunk alone.
        let to = unsafe { outputs.checkpoints.part(at + own, heads.count * state.columns * state.keys) };
        state.each(heads.first, |n, v| to[n - own] = v);
    }

    pub(super) fn finish(&self, heads: Heads, state: &State<T>, size: usize, outputs: &Outputs<'_, T>) {
        let (at, own) = (heads.b * size, heads.first * state.columns * state.keys);
        // SAFETY: this task's heads of this sequence alone.
        let to = unsafe { outputs.last.part(at + own, heads.count * state.columns * state.keys) };
        state.each(heads.first, |n, v| to[n - own] = v);
        if self.form.stabiliser.is_some() {
            let behind = at + self.shape.heads * state.columns * state.keys + heads.first;
            // SAFETY: the same.
            unsafe { outputs.last.part(behind, heads.count) }.copy_from_slice(&state.maxima);
        }
    }
}

/// `[head][column]` of `[column][head]`.
fn by_head<T: Real>(values: &[T], columns: usize, out: &mut [T]) {
    let heads = out.len() / columns;
    if heads == 1 || columns == 1 {
        return out.copy_from_slice(values);
    }
    for (head, out) in out.chunks_exact_mut(columns).enumerate() {
        out.iter_mut().zip(values[head..].iter().step_by(heads)).for_each(|(o, v)| *o = *v);
    }
}

/// What sums are divided by, and its derivative with respect to the divisor's sum.
pub(super) fn divisor<T: Real>(divisor: Divisor, sum: T, m: T) -> (T, T) {
    let (zero, one) = (T::default(), T::from_f64(1.0));
    match divisor {
        Divisor::Sum => (sum, one),
        Divisor::AtLeastOne => {
            let (size, sign) = if sum < zero { (zero.minus(sum), zero.minus(one)) } else { (sum, one) };
            // As the GPU has it: never 0.
            let most = T::from_f64(80.0);
            let least = zero.minus(if m > most { most } else { m }).exp();
            if size > least { (size, sign) } else { (least, zero) }
        }
    }
}
