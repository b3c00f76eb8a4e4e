//! Pieces of work on several threads.
//!
//! Threads that have helped stay for a moment and look for more: a run is a chain of short jobs, and to wake a thread can take longer
//! than one of them. (One step of an LSTM of 128 units for 16 streams took 0.053 ms with threads that were woken for every job, and
//! 0.038 ms with this: `wgpu-rnn bench --cell lstm --time 1 --batch 16 --input 128 --hidden 128` of both.)

use crate::num::{InstructionSet, instructions};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Looks for a new job before a helper goes back to the pool, and at what others do before a thread that waits for them lets others run.
/// On an AMD EPYC they take 0.1 ms; how long a processor pauses between two looks is its own affair.
pub(super) const PATIENCE: u32 = 1 << 12;

/// Runs `run` once for each of `0..count`, on this thread and on others of rayon's pool, `threads` in all, with the instructions of
/// this one. Which thread takes what is left to chance: results must not depend on it. This thread works from the start and waits for no
/// one that has not begun: where the others never come, it does everything. A piece that calls this on the thread that gave its job out does its own pieces in place.
pub(crate) fn for_each(count: usize, threads: usize, run: impl Fn(usize) + Sync) {
    let threads = threads.min(count);
    if threads <= 1 {
        (0..count).for_each(run);
        return;
    }
    let Some(crew) = Crew::take() else {
        (0..count).for_each(run);
        return;
    };
    let job = Job {
        run: &run,
        count,
        next: AtomicUsize::new(0),
        threads,
        members: AtomicUsize::new(1),
        set: instructions::current(),
        panic: Mutex::new(None),
    };
    crew.call(threads - 1);
    let open = crew.open(&job);
    job.work();
    drop(open);
    drop(crew);
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

/// Pieces under way.
struct Job<'a> {
    run: &'a (dyn Fn(usize) + Sync),
    count: usize,
    next: AtomicUsize,
    /// Threads that may take part, and that have come.
    threads: usize,
    members: AtomicUsize,
    set: InstructionSet,
    /// Of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Takes pieces until there are none.
    fn work(&self) {
        // Relaxed: the number alone is shared; `Crew` orders everything else.
        while let Some(n) = Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < self.count) {
            (self.run)(n);
        }
    }

    /// The same on a thread that helps.
    fn help(&self) {
        if self.members.fetch_add(1, Ordering::Relaxed) >= self.threads {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| instructions::with(self.set, || self.work()))) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

/// A thread that gives out jobs, one after the other, and those that help it.
#[derive(Default)]
struct Helpers {
    /// The job that is open, or null. It lies in the frame of the thread that gave it out, which does not go on before `inside` is 0.
    job: AtomicPtr<Job<'static>>,
    /// Jobs given out.
    given: AtomicUsize,
    /// Helpers that may hold the job.
    inside: AtomicUsize,
    /// Helpers that look for jobs.
    here: AtomicUsize,
}

impl Helpers {
    /// Helps until there was nothing to do for a while.
    fn serve(&self) {
        let (mut seen, mut looks) = (0, 0);
        while looks < PATIENCE {
            let given = self.given.load(Ordering::Acquire);
            if given == seen {
                looks += 1;
                std::hint::spin_loop();
                continue;
            }
            (seen, looks) = (given, 0);
            // All four in one order, here and in `Open::drop`: either this thread finds no job any more, or the other one finds it
            // inside.
            self.inside.fetch_add(1, Ordering::SeqCst);
            let job = self.job.load(Ordering::SeqCst);
            // SAFETY: not null, and not freed before `inside` is 0 again.
            if let Some(job) = unsafe { job.as_ref() } {
                job.help();
            }
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

thread_local! {
    /// Of this thread; empty while it gives out a job.
    static CREW: Cell<Option<Arc<Helpers>>> = Cell::new(Some(Arc::default()));
}

/// [`Helpers`], taken from the thread that owns them for as long as it gives out a job.
struct Crew(Arc<Helpers>);

impl Crew {
    /// `None` within a job of this thread, and where it ends.
    fn take() -> Option<Self> {
        CREW.try_with(Cell::take).ok().flatten().map(Self)
    }

    /// Asks the pool for helpers, up to `count` of them.
    fn call(&self, count: usize) {
        for _ in self.0.here.load(Ordering::Relaxed)..count {
            self.0.here.fetch_add(1, Ordering::Relaxed);
            let helpers = Arc::clone(&self.0);
            rayon::spawn(move || {
                helpers.serve();
                helpers.here.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Gives out a job, until what this returns is dropped.
    fn open<'a>(&'a self, job: &'a Job<'_>) -> Open<'a> {
        self.0.job.store(ptr::from_ref(job).cast_mut().cast(), Ordering::SeqCst);
        self.0.given.fetch_add(1, Ordering::Release);
        Open(&self.0)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = CREW.try_with(|crew| crew.set(Some(Arc::clone(&self.0))));
    }
}

/// A job that is given out. Dropped, also by a panic, it waits for all who have begun.
struct Open<'a>(&'a Helpers);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.job.store(ptr::null_mut(), Ordering::SeqCst);
        let mut looks = 0;
        while self.0.inside.load(Ordering::SeqCst) > 0 {
            looks += 1;
            if looks % PATIENCE == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
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

    /// Jobs in quick succession, from several threads at once, and one within another.
    #[test]
    fn jobs_do_not_mix() {
        let give = |seed: usize| {
            for job in 0..2000 {
                let (count, threads) = (1 + (job + seed) % 9, 1 + job % 4);
                let sum = AtomicUsize::new(0);
                for_each(count, threads, |n| {
                    let inner = AtomicUsize::new(0);
                    for_each(3, 2, |m| {
                        inner.fetch_add(m, Ordering::Relaxed);
                    });
                    sum.fetch_add(n + inner.into_inner(), Ordering::Relaxed);
                });
                assert_eq!(sum.into_inner(), count * (count - 1) / 2 + 3 * count);
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|seed| {
                scope.spawn(move || give(seed));
            });
        });
    }

    /// A panic in a piece comes out where the job was given out, and the next job is none the worse.
    #[test]
    fn a_panic_comes_out() {
        for failing in [0, 5, 63] {
            let run = || for_each(64, 4, |n| assert!(n != failing, "piece {failing} fails"));
            assert!(catch_unwind(run).is_err(), "{failing}");
            let runs = AtomicUsize::new(0);
            for_each(64, 4, |_| {
                runs.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(runs.into_inner(), 64);
        }
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
