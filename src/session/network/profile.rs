//! Where the time of a network's run goes.

use super::NetworkSession;
use crate::error::Result;
use crate::exec::Element;
use crate::plan::Half;
use std::time::{Duration, Instant};

/// What one operation of a network took in a run, from [`NetworkSession::profile`] and [`NetworkSession::profile_backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct OperationTime {
    /// The operation's name.
    pub operation: String,
    /// Its dispatches on a GPU, those of a stack of layers included; 1 on the CPU executor.
    pub dispatches: usize,
    /// Time, waiting for the device included.
    pub time: Duration,
    /// Multiply-adds of its products, times two, as if no sequence were shorter than T; 0 for one that has none.
    pub flops: u64,
}

impl<T: Element> NetworkSession<T> {
    /// Runs what was written operation by operation, each waited for, and tells what every one took, longest first. The sum is more
    /// than a run takes, which waits once.
    ///
    /// # Errors
    /// As [`NetworkSession::run`].
    pub fn profile(&mut self) -> Result<Vec<OperationTime>> {
        self.begin()?;
        let times = self.profile_pass(Half::Forward)?;
        self.ended();
        Ok(times)
    }

    /// The same for the way back through the last run, from the gradients of outputs written last or the network's losses.
    ///
    /// # Errors
    /// As [`NetworkSession::run_back`].
    pub fn profile_backward(&mut self) -> Result<Vec<OperationTime>> {
        self.begin_back()?;
        self.profile_pass(Half::Backward)
    }

    fn profile_pass(&mut self, half: Half) -> Result<Vec<OperationTime>> {
        let plan = self.plan.clone();
        let mut all = Vec::new();
        for n in plan.order(half) {
            let start = Instant::now();
            self.executor.run_operation(&self.times, half, n)?;
            let (operation, time) = (plan.network.nodes[n].name.clone(), start.elapsed());
            let (dispatches, flops) = (plan.dispatches_of(half, n), plan.flops_of(half, n));
            all.push(OperationTime { operation, dispatches, time, flops });
        }
        all.sort_by_key(|of| std::cmp::Reverse(of.time));
        Ok(all)
    }
}
