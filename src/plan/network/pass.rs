//! A pass over a network as a GPU runs it: what runs one after the other, and which stretches of it go into one submit each.

use super::kernel::LANES;
use super::{Job, NetworkPlanData};
use crate::plan::{Half, seconds_of};
use std::ops::Range;

/// One entry of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The operation that it belongs to.
    pub node: usize,
    pub work: Work,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Zeros in the gradients of the parameters of the network's own operations: first of all on the way back.
    Clear,
    /// A dispatch, of [`super::Program::jobs`].
    Job(usize),
    /// What a stack of recurrent layers reads goes from the arena to its own memory.
    Enter,
    /// One of the stretches of steps that the stack's own plan runs in a submit each.
    Stack(usize),
    /// What it gave goes to the arena; `dx`: back, where the gradient of its x goes, for the job behind it.
    Leave { dx: usize },
}

/// A pass, there or back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pass {
    /// In order; those of an operation lie together.
    pub entries: Vec<Entry>,
    /// Stretches of `entries`.
    pub submits: Vec<Range<usize>>,
}

/// Multiply-adds of a lane in a round of its loop, at most: a tile of 4 x 4.
const ROUND: usize = 16;

impl Pass {
    /// Puts entries into submits so that none is estimated beyond [`super::NetworkOptions::submit_budget`].
    pub fn new(plan: &NetworkPlanData, jobs: &[Job], entries: Vec<Entry>, half: Half) -> Self {
        let budget = plan.options.submit_budget.as_secs_f64() * 1.01;
        let (mut submits, mut start, mut spent) = (Vec::new(), 0, 0.0);
        for (n, entry) in entries.iter().enumerate() {
            let seconds = match entry.work {
                Work::Job(job) => plan.job_seconds(&jobs[job]),
                Work::Stack(part) => plan.layers[plan.layers_at(entry.node)].1.submit_seconds(half, part),
                Work::Clear | Work::Enter | Work::Leave { .. } => 0.0,
            };
            if n > start && spent + seconds > budget {
                submits.push(start..n);
                (start, spent) = (n, 0.0);
            }
            spent += seconds;
        }
        if start < entries.len() {
            submits.push(start..entries.len());
        }
        Self { entries, submits }
    }

    /// Where the entries of an operation are.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "what runs operations one by one waits for them"))]
    pub fn of(&self, node: usize) -> Range<usize> {
        let first = self.entries.iter().position(|e| e.node == node).unwrap_or(0);
        first..first + self.entries.iter().filter(|e| e.node == node).count()
    }
}

impl NetworkPlanData {
    /// Rough time of a dispatch, for watchdogs only, as [`crate::Plan::estimate`]: no loop is longer than [`super::program::STRETCH`]
    /// rounds, so that none takes long.
    fn job_seconds(&self, job: &Job) -> f64 {
        let lanes = job.groups[0] as usize * job.groups[1] as usize * LANES;
        let products = lanes as f64 * (job.rounds.max(1) * ROUND) as f64;
        seconds_of(self.caps.class, 2.0 * products, job.rounds)
    }
}
