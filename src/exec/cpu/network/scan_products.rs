//! Chunks by matrix products (the same sums as `network::gpu::products`): a state before the chunk, so no need of what a chunk does
//! to any.
//!
//! ```text
//! pairs      what step t reads of the write of step s: (q_t ∘ decays between) · k_s; with a correction also of b_s, and a_t of both
//! u_t      = (a_t ∘ decays so far) S + Σ_{s<t} …                   by substitution, one step after the other
//! y_t      = (q_t ∘ decays so far) S + Σ_s pairs[t, s] v_s + …
//! S        = decays ∘ S + Σ_s (k_s ∘ decays to the end) v_sᵀ + …
//! ```

use super::scan::{Outputs, Scan, State, times};
use super::scan_ports::{Coefficients, Stretch};
use crate::exec::cpu::project::one_thread;
use crate::exec::cpu::scratch::Scratch;
use crate::model::rule::Read;
use crate::num::Aligned;
use crate::num::Real;
use std::ops::Range;

/// What the steps of a chunk write, by key index: `[K][steps]`, decaying as the chunk goes on; and what steps read of it.
struct Stream<T> {
    writes: Vec<T>,
    /// `[steps][steps]`: a row per reading step.
    reads: Vec<T>,
    crossing: Vec<T>,
}

impl<T: Real> Stream<T> {
    /// `corrects`: whether there are crossings.
    fn new(factors: &[T], keys: usize, corrects: bool) -> Self {
        let steps = factors.len() / keys;
        let writes = (0..keys).flat_map(|n| factors[n..].iter().step_by(keys).copied()).collect();
        let crossing = vec![T::default(); if corrects { steps * steps } else { 0 }];
        Self { writes, reads: vec![T::default(); steps * steps], crossing }
    }

    /// Goes on to step `t`: what it crosses, the decay, and what it reads.
    fn step(&mut self, t: usize, steps: usize, read: Read, [decay, query, cross]: [Option<&[T]>; 3]) {
        let upto = |read: Read| if read == Read::After { t + 1 } else { t };
        for (n, row) in self.writes.chunks_exact_mut(steps).enumerate() {
            if let Some(a) = cross {
                add(&mut self.crossing[t * steps..][..t], &row[..t], a[n]);
            }
            let q = query.map_or(T::default(), |q| q[n]);
            if read == Read::Before {
                add(&mut self.reads[t * steps..][..t], &row[..t], q);
            }
            if let Some(d) = decay {
                row[..t].iter_mut().for_each(|w| *w = if d[n] == T::default() { d[n] } else { d[n] * *w });
            }
            if read == Read::After {
                add(&mut self.reads[t * steps..][..upto(read)], &row[..upto(read)], q);
            }
        }
    }
}

/// out += factor · values; a factor of 0 lets nothing pass.
fn add<T: Real>(out: &mut [T], values: &[T], factor: T) {
    if factor != T::default() {
        times(out, values, &[factor]);
    }
}

/// out += Σ_s factors[s] · the s-th row of values.
fn add_rows<T: Real>(out: &mut [T], factors: &[T], values: &[T]) {
    for (factor, row) in factors.iter().zip(values.chunks_exact(out.len())) {
        add(out, row, *factor);
    }
}

impl<T: Real> Scan<'_, T> {
    /// Runs the steps of one head's chunk from a state, which becomes that after them.
    pub(super) fn run_products(
        &self,
        stretch: &mut Stretch<'_, T>,
        steps: Range<usize>,
        state: &mut State<T>,
        slots: &[Aligned<T>],
        outputs: &Outputs<'_, T>,
    ) {
        self.load(stretch, steps.clone(), slots);
        let (heads, first) = (stretch.heads, steps.start);
        stretch.maxima(&mut state.maxima, &|n| self.is_reset(heads, first + n));
        let resets: Vec<usize> = (0..steps.len()).filter(|n| self.is_reset(heads, first + n)).collect();
        let mut c = stretch.coefficients();
        self.cut(&mut c, &resets);
        let (keys, columns, count) = (state.keys, state.columns, steps.len());
        let key = |t: usize| t * keys..(t + 1) * keys;
        let read = self.form.read;

        let mut write = Stream::new(&c.write, keys, c.erase.is_some());
        let mut correct = c.erase.as_ref().map(|(_, b)| Stream::new(b, keys, true));
        // What reads have of the state before the chunk.
        let mut left = vec![T::from_f64(1.0); keys];
        let mut cross = c.erase.as_ref().map(|(a, _)| a.to_vec());
        let mut query = c.query.to_vec();
        for t in 0..count {
            let decay = c.decay.as_ref().map(|d| &d[key(t)]);
            let a = c.erase.as_ref().map(|(a, _)| &a[key(t)]);
            for stream in [Some(&mut write), correct.as_mut()].into_iter().flatten() {
                stream.step(t, count, read, [decay, Some(&c.query[key(t)]), a]);
            }
            let through = |factors: &mut [T], left: &[T]| {
                factors.iter_mut().zip(left).for_each(|(f, l)| *f = if *l == T::default() { *l } else { *f * *l });
            };
            if let Some(cross) = &mut cross {
                through(&mut cross[key(t)], &left);
            }
            if read == Read::Before {
                through(&mut query[key(t)], &left);
            }
            if let Some(d) = decay {
                left.iter_mut().zip(d).for_each(|(l, d)| *l = *l * *d);
            }
            if read == Read::After {
                through(&mut query[key(t)], &left);
            }
        }

        // Steps from an episode's first on see nothing of that state.
        let seen = resets.first().copied().unwrap_or(count);
        let of_state = |mut factors: Vec<T>| {
            // A single row would be another algorithm's.
            let rows = count.max(2);
            factors.resize(rows * keys, T::default());
            let mut out = vec![T::default(); rows * columns];
            one_thread(&factors, &state.values, &mut out, (rows, keys, columns), (columns, None));
            out.truncate(count * columns);
            out[seen * columns..].fill(T::default());
            out
        };
        let mut u = cross.map_or_else(Vec::new, of_state);
        if let Some(correct) = &correct {
            for t in 0..count {
                let (earlier, now) = u.split_at_mut(t * columns);
                add_rows(&mut now[..columns], &write.crossing[t * count..][..t], &c.value);
                add_rows(&mut now[..columns], &correct.crossing[t * count..][..t], earlier);
            }
        }
        let mut y = of_state(query);
        for (t, y) in y.chunks_exact_mut(columns).enumerate() {
            let upto = if read == Read::After { t + 1 } else { t };
            add_rows(y, &write.reads[t * count..][..upto], &c.value);
            if let Some(correct) = &correct {
                add_rows(y, &correct.reads[t * count..][..upto], &u);
            }
            if let Some(r) = &c.through {
                add(y, &c.value[t * columns..][..columns], r[t]);
            }
            self.write(stretch, t, y, outputs);
        }
        for (row, &l) in state.values.chunks_exact_mut(columns).zip(&left) {
            if l == T::default() { row.fill(l) } else { row.iter_mut().for_each(|s| *s = l * *s) }
        }
        // Of steps before the last episode's first nothing is left.
        let from = resets.last().copied().unwrap_or(0);
        let mut add_writes = |stream: &Stream<T>, values: &[T]| {
            let own = |row: &[T]| row[from..].to_vec();
            let lhs: Vec<T> = stream.writes.chunks_exact(count).flat_map(own).collect();
            let values = &values[from * columns..];
            one_thread(&lhs, values, &mut state.values, (keys, count - from, columns), (columns, None));
        };
        add_writes(&write, &c.value);
        if let Some(correct) = &correct {
            add_writes(correct, &u);
        }
    }

    /// Coefficients of episodes' first steps that let nothing through from before.
    fn cut(&self, c: &mut Coefficients<T>, resets: &[usize]) {
        if resets.is_empty() {
            return;
        }
        let keys = self.shape.key_size;
        let steps = c.write.len() / keys;
        let decay = c.decay.get_or_insert_with(|| Scratch::filled(steps * keys, T::from_f64(1.0)));
        for &t in resets {
            let own = t * keys..(t + 1) * keys;
            decay[own.clone()].fill(T::default());
            if let Some((a, _)) = &mut c.erase {
                a[own.clone()].fill(T::default());
            }
            if self.form.read == Read::Before {
                c.query[own].fill(T::default());
            }
        }
    }
}
