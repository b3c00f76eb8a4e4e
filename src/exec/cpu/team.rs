//! Phases that several threads go through together: each begins when all pieces of the one before are done.

use super::threads::{PATIENCE, for_each};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs `run` once for every piece of every phase, on this thread and on others of rayon's pool, `threads` in all; `context` is made once
/// per thread. A piece is taken by whoever is free, its usual thread first, so that what it reads stays in that core's caches. No thread
/// waits for one that has not begun: where the others never come, this one does everything.
pub(crate) fn in_step<C>(
    (phases, pieces, threads): (usize, usize, usize),
    context: impl Fn() -> C + Sync,
    run: impl Fn(&mut C, usize, usize) + Sync,
) {
    let threads = threads.min(pieces);
    if threads <= 1 {
        let mut context = context();
        for phase in 0..phases {
            (0..pieces).for_each(|piece| run(&mut context, phase, piece));
        }
        return;
    }
    // How many phases of a piece somebody has taken, and how many pieces of all phases are done.
    let taken: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
    let (done, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let member = |member: usize| {
        let (mut context, first) = (context(), member * pieces / threads);
        // Acquire, here and below: what earlier phases wrote is seen.
        let mut phase = done.load(Ordering::Acquire) / pieces;
        while phase < phases {
            for piece in (0..pieces).map(|n| (first + n) % pieces) {
                // Relaxed: the number alone decides whose it is.
                let free = taken[piece].compare_exchange(phase, phase + 1, Ordering::Relaxed, Ordering::Relaxed);
                if free.is_ok() {
                    let failure = Failure(&failed);
                    run(&mut context, phase, piece);
                    std::mem::forget(failure);
                    done.fetch_add(1, Ordering::Release);
                }
            }
            let mut looks = 0;
            while done.load(Ordering::Acquire) < (phase + 1) * pieces {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                looks += 1;
                if looks % PATIENCE == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
            phase += 1;
        }
    };
    for_each(threads, threads, member);
}

/// Tells the others where a piece panics (a cell from outside the crate may): what they would wait for never comes. The panic itself goes
/// on when all have ended.
struct Failure<'a>(&'a AtomicBool);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each phase sees all of the one before, whatever the threads do.
    #[test]
    fn phases_follow_each_other() {
        for (phases, pieces, threads) in [(0, 3, 2), (50, 1, 4), (200, 4, 2), (97, 7, 3), (60, 2, 8)] {
            let cells: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            in_step(
                (phases, pieces, threads),
                || 0usize,
                |own, phase, piece| {
                    *own += 1;
                    let counts = || cells.iter().map(|c| c.load(Ordering::Relaxed));
                    assert!(counts().all(|n| n == phase || n == phase + 1), "{phases} {pieces} {threads}");
                    assert_eq!(cells[piece].fetch_add(1, Ordering::Relaxed), phase);
                },
            );
            assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == phases));
        }
    }

    /// Nobody waits for a piece that panicked, and the panic is not lost.
    #[test]
    fn a_panic_ends_it() {
        let piece = |(): &mut (), phase: usize, piece: usize| assert!((phase, piece) != (3, 2), "a piece that fails");
        let run = || in_step((50, 4, 2), || (), piece);
        assert!(std::panic::catch_unwind(run).is_err());
    }

    /// Two teams in a pool of one thread: neither waits for the other.
    #[test]
    fn nobody_waits_for_who_has_not_begun() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let count = AtomicUsize::new(0);
        let team = || {
            in_step(
                (20, 4, 2),
                || (),
                |(), _, _| {
                    count.fetch_add(1, Ordering::Relaxed);
                },
            );
        };
        pool.install(|| rayon::join(team, team));
        assert_eq!(count.load(Ordering::Relaxed), 2 * 20 * 4);
    }
}
