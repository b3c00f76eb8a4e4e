//! Where the time of a run goes.

use super::Session;
use crate::error::Result;
use crate::exec::Element;
use crate::plan::{Half, Plan, Step};
use std::time::{Duration, Instant};

/// What one kernel took in a run, from [`Session::profile`] and [`Session::profile_backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel's name; kernels that take turns within a step are one entry, joined by `+`.
    pub kernel: String,
    /// Its dispatches.
    pub dispatches: usize,
    /// Time, waiting for the device included.
    pub time: Duration,
    /// The longest of its dispatches; of those that run once per step, which are waited for together, the mean of a block of
    /// steps at most.
    pub longest: Duration,
    /// Multiply-adds of its matrix products, times two, as if no sequence were shorter than T; 0 for one that has none.
    pub flops: u64,
}

impl<T: Element> Session<T> {
    /// Runs what was written entry by entry of the plan, each waited for, and tells what every kernel took, longest first. The
    /// sum is more than a run takes, which waits once.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(&mut self) -> Result<Vec<KernelTime>> {
        self.check_written()?;
        let changes = self.changes();
        self.draw()?;
        let times = self.profile_pass(Half::Forward)?;
        self.has_ended(changes);
        Ok(times)
    }

    /// The same for the way back through the last run.
    ///
    /// # Errors
    /// As [`Session::run_back`].
    pub fn profile_backward(&mut self) -> Result<Vec<KernelTime>> {
        self.tape_ids()?;
        self.begin_backward()?;
        self.profile_pass(Half::Backward)
    }

    fn profile_pass(&mut self, half: Half) -> Result<Vec<KernelTime>> {
        let mut times: Vec<KernelTime> = Vec::new();
        for n in 0..self.plan.half(half).0.len() {
            let start = Instant::now();
            self.stack.executor.run_entry(&self.stack.schedule, half, n)?;
            let time = start.elapsed();
            let Some((kernel, dispatches, flops)) = entry(&self.plan, &self.plan.half(half).0[n]) else { continue };
            let longest = time / u32::try_from(dispatches).unwrap_or(u32::MAX).max(1);
            match times.iter_mut().find(|t| t.kernel == kernel) {
                Some(t) => {
                    t.dispatches += dispatches;
                    t.time += time;
                    t.longest = t.longest.max(longest);
                    t.flops += flops;
                }
                None => times.push(KernelTime { kernel, dispatches, time, longest, flops }),
            }
        }
        times.sort_by_key(|time| std::cmp::Reverse(time.time));
        Ok(times)
    }
}

/// Kernels, dispatches and work of an entry.
fn entry(plan: &Plan, step: &Step) -> Option<(String, usize, u64)> {
    let (body, count) = step.body();
    if body.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = body.iter().map(|d| d.kernel.name()).collect();
    names.dedup();
    Some((names.join("+"), count * body.len(), body.iter().map(|d| plan.dispatch_flops(d)).sum()))
}
