//! Chunks of steps side by side (Blelloch 1990, reduce then scan).
//!
//! ```text
//! 1  every chunk from an empty state: what it adds, N; and from unit states without values: what it does to a state, M
//! 2  one chunk after the other:       S = M S + N, the states before all chunks
//! 3  every chunk from its state:      outputs
//! ```
//!
//! Without a correction M is diagonal: one column of ones becomes the product of the decays. Nothing is divided by a decay.

use super::scan::{Outputs, Scan, State};
use super::scan_ports::Heads;
use crate::exec::cpu::threads::for_each;
use crate::num::Aligned;
use crate::num::Real;
use std::sync::{Mutex, PoisonError};

pub(super) fn forward<T: Real>(
    scan: &Scan<'_, T>,
    tasks: &[Heads],
    (initial, size): (&[T], usize),
    threads: usize,
    slots: &[Aligned<T>],
    outputs: &Outputs<'_, T>,
) {
    let pieces: Vec<(usize, usize, std::ops::Range<usize>)> = tasks
        .iter()
        .enumerate()
        .flat_map(|(n, t)| scan.chunks(t.b).enumerate().map(move |(c, steps)| (n, c, steps)))
        .collect();
    let mut before: Vec<State<T>> = Vec::new();
    for heads in tasks {
        let mut state = scan.state(*heads);
        state.load(heads.first, &initial[heads.b * size..][..size], scan.shape.heads);
        let mut stretch = scan.form.stabiliser.as_ref().map(|_| scan.stretch(*heads));
        // m before every chunk, one step after the other: it is no more than a maximum.
        for steps in scan.chunks(heads.b) {
            before.push(state.clone());
            if let Some(stretch) = &mut stretch {
                let first = steps.start;
                scan.load(stretch, steps, slots);
                stretch.maxima(&mut state.maxima, &|n| scan.is_reset(*heads, first + n));
            }
        }
    }
    let results: Vec<Mutex<Option<State<T>>>> = pieces.iter().map(|_| Mutex::new(None)).collect();
    for_each(pieces.len(), threads, |n| {
        let (task, _, steps) = &pieces[n];
        let mut state = summary(scan, tasks[*task]);
        state.maxima.copy_from_slice(&before[n].maxima);
        scan.run(&mut scan.stretch(tasks[*task]), steps.clone(), &mut state, slots, None);
        *results[n].lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    });
    for n in 1..pieces.len() {
        if pieces[n].1 > 0 {
            let result = results[n - 1].lock().unwrap_or_else(PoisonError::into_inner).take();
            let (earlier, later) = before.split_at_mut(n);
            if let (Some(result), Some(from), Some(to)) = (result, earlier.last(), later.first_mut()) {
                carry(&result, from, to, scan.form.erase.is_some());
            }
        }
    }
    for_each(pieces.len(), threads, |n| {
        let (task, chunk, steps) = &pieces[n];
        let heads = tasks[*task];
        let mut state = before[n].clone();
        scan.checkpoint(heads, *chunk, &state, outputs);
        scan.run(&mut scan.stretch(heads), steps.clone(), &mut state, slots, Some(outputs));
        if steps.end == scan.c.times.lengths[heads.b] {
            scan.finish(heads, &state, size, outputs);
        }
    });
}

/// An empty state, and behind its columns unit states.
fn summary<T: Real>(scan: &Scan<'_, T>, heads: Heads) -> State<T> {
    let (keys, columns) = (scan.shape.key_size, scan.shape.columns());
    let units = if scan.form.erase.is_some() { keys } else { 1 };
    let mut state = State::empty(keys, columns + units, heads.count);
    for key in 0..keys {
        let column = columns + if units == 1 { 0 } else { key };
        state.values[(key * state.columns + column) * heads.count..][..heads.count].fill(T::from_f64(1.0));
    }
    state
}

/// The state after a chunk from that before it.
fn carry<T: Real>(result: &State<T>, from: &State<T>, to: &mut State<T>, full: bool) {
    let (heads, columns) = (from.heads, from.columns);
    let at = |state: &State<T>, key: usize, column: usize| (key * state.columns + column) * heads;
    for key in 0..from.keys {
        for column in 0..columns {
            for head in 0..heads {
                let mut sum = result.values[at(result, key, column) + head];
                let terms = if full { 0..from.keys } else { key..key + 1 };
                for term in terms {
                    let unit = columns + if full { term } else { 0 };
                    let passes = result.values[at(result, key, unit) + head];
                    // 0 lets nothing pass, not even what is no number.
                    if passes != T::default() {
                        sum = sum + passes * from.values[at(from, term, column) + head];
                    }
                }
                to.values[at(from, key, column) + head] = sum;
            }
        }
    }
}
