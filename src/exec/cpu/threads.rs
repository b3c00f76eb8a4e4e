//! Pieces of work on several threads.

use crate::num::instructions;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `run` once for each of `0..count`, on this thread and on others of rayon's pool, `threads` in all, with the instructions of
/// this one. Which thread takes what is left to chance: results must not depend on it.
pub(crate) fn for_each(count: usize, threads: usize, run: impl Fn(usize) + Sync) {
    let threads = threads.min(count);
    if threads <= 1 {
        (0..count).for_each(run);
        return;
    }
    let (next, set) = (AtomicUsize::new(0), instructions::current());
    let work = || {
        // Relaxed: the number alone is shared; the scope's end orders everything else.
        while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < count) {
            run(n);
        }
    };
    // In place: this thread works instead of waiting for one that would have to wake first.
    rayon::in_place_scope(|scope| {
        (1..threads).for_each(|_| scope.spawn(|_| instructions::with(set, work)));
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::InstructionSet;

    #[test]
    fn other_threads_use_the_same_instructions() {
        let set = InstructionSet::Portable;
        instructions::with(set, || for_each(64, 2, |_| assert_eq!(instructions::current(), set)));
    }

    #[test]
    fn every_piece_runs_once() {
        for (count, threads) in [(0, 1), (0, 4), (1, 4), (7, 1), (100, 3), (5, 8)] {
            let runs: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for_each(count, threads, |n| {
                runs[n].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|r| r.load(Ordering::Relaxed) == 1), "{count} on {threads}");
        }
    }
}
