//! Rows, or columns, over threads. Which thread takes what is left to chance: pieces share nothing, and every sum is within one.

use crate::exec::cpu::threads::for_each;
use std::ops::Range;

/// Elements of work from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 15;

/// Runs `run` for pieces of `0..count`, each of at least so many unless there are no more; `work`: elements in all, each counted
/// as often as something is computed of it.
pub(super) fn for_pieces(count: usize, least: usize, work: usize, run: impl Fn(Range<usize>) + Sync) {
    let threads = if work < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    // Several per thread: one that comes late leaves some to the others.
    let piece = if threads == 1 { count.max(1) } else { count.div_ceil(4 * threads).max(least) };
    for_each(count.div_ceil(piece), threads, |n| run(n * piece..count.min((n + 1) * piece)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_row_is_in_one_piece() {
        for (count, least, work) in [(0, 1, 0), (5, 8, 1 << 20), (100, 8, 1 << 20), (100, 1, 10), (7, 2, 1 << 20)] {
            let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for_pieces(count, least, work, |rows| {
                rows.for_each(|n| {
                    seen[n].fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{count} {least} {work}");
        }
    }
}
