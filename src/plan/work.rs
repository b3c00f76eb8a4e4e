//! The work of a plan: multiply-adds of its matrix products, bytes that they move (`traffic.rs` says which), dispatches.

use super::{Dispatch, Plan, Step};
use crate::kernels::Kernel;

/// How much work: of one run of a dispatch, or a sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Multiply-adds of matrix products, times two. Pointwise parts are not counted.
    pub flops: u64,
    /// Bytes that must come from device memory.
    pub read: u64,
    /// Bytes that must go there.
    pub written: u64,
}

/// A dispatch of a plan and how often it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchWork {
    /// The kernel.
    pub kernel: Kernel,
    /// Runs: the steps of its block for a dispatch that runs once per step, else 1.
    pub runs: u64,
    /// Of every one of them (on average, where layers run side by side).
    pub each: Amount,
}

/// What one kernel does in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWork {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its dispatches.
    pub dispatches: u64,
    /// Of all of them.
    pub amount: Amount,
}

/// The work of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassWork {
    /// Its dispatches, in order.
    pub dispatches: Vec<DispatchWork>,
    /// Bytes of every slot that the pass touches, once each: what would be moved if a cache held all of it.
    pub slot_bytes: u64,
}

/// The work of a run in which no sequence is shorter than T, from [`Plan::work`].
///
/// The model of bytes: within a dispatch caches are perfect, so a value that a kernel reads counts as read once and one that it
/// writes as written once, however many lanes do; of a value that it adds to, both. Between dispatches nothing is kept: a dispatch
/// per step reads R at every step. A device whose cache holds R from step to step may therefore move fewer;
/// [`PassWork::slot_bytes`] is the count for one whose cache holds everything. Weights count as packed, other slots without padding,
/// each value in the size its slot has. Not counted: the schedule's table, uniforms, and the rows that episodes begin from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The forward pass.
    pub forward: PassWork,
    /// The backward pass; nothing unless the plan trains.
    pub backward: PassWork,
    /// The update; nothing without an optimiser.
    pub update: PassWork,
}

impl Amount {
    fn add(&mut self, each: Self, runs: u64) {
        self.flops += runs * each.flops;
        self.read += runs * each.read;
        self.written += runs * each.written;
    }
}

impl PassWork {
    /// Runs of all dispatches, and their sum.
    pub fn total(&self) -> (u64, Amount) {
        self.dispatches.iter().fold((0, Amount::default()), |(count, mut sum), d| {
            sum.add(d.each, d.runs);
            (count + d.runs, sum)
        })
    }

    /// The same kernel by kernel, in the order of their first dispatch.
    pub fn kernels(&self) -> Vec<KernelWork> {
        let mut list: Vec<KernelWork> = Vec::new();
        for d in &self.dispatches {
            let known = list.iter().position(|k| k.kernel == d.kernel.name()).unwrap_or_else(|| {
                list.push(KernelWork { kernel: d.kernel.name(), dispatches: 0, amount: Amount::default() });
                list.len() - 1
            });
            list[known].dispatches += d.runs;
            list[known].amount.add(d.each, d.runs);
        }
        list
    }
}

impl Plan {
    /// What a run does at least, dispatch by dispatch.
    pub fn work(&self) -> Work {
        Work {
            forward: self.pass_work(&self.steps),
            backward: self.pass_work(&self.backward),
            update: self.pass_work(&self.update),
        }
    }

    /// Steps of a dispatch's block, over all layers of a wave.
    pub(super) fn layer_steps(&self, d: &Dispatch) -> usize {
        let dims = &self.dims[d.dims];
        let layers = if dims.chunk > 0 { d.groups.2 / self.config.directions() } else { 1 } as u32;
        // A layer that a wave has not come to yet has none.
        let of = |step: u32, layer: u32| step.saturating_sub(layer * dims.chunk);
        let steps_of = |layer: u32| of(dims.end, layer).min(dims.time).saturating_sub(of(dims.first, layer));
        (dims.layer..dims.layer + layers).map(steps_of).sum::<u32>() as usize
    }

    fn pass_work(&self, steps: &[Step]) -> PassWork {
        let mut touched = vec![false; self.slots.len()];
        let mut dispatches = Vec::new();
        for step in steps {
            let (body, runs) = step.body();
            for d in body {
                d.slots.iter().chain(d.odd.iter().flatten()).for_each(|&slot| touched[slot] = true);
                // Of a wave, whose first and last steps are not of all layers, the mean.
                let ((read, written), all) = (self.dispatch_traffic(d), runs as u64);
                let each = Amount { flops: self.dispatch_flops(d) / all, read: read / all, written: written / all };
                dispatches.push(DispatchWork { kernel: d.kernel, runs: all, each });
            }
        }
        let bound = touched.iter().zip(&self.slots).filter(|(touched, _)| **touched);
        PassWork { dispatches, slot_bytes: bound.map(|(_, slot)| slot.bytes()).sum() }
    }

    /// Multiply-adds of the matrix products of a dispatch, times two, as if no sequence were shorter than T; of one that runs
    /// once per step, for all steps of its block.
    pub fn dispatch_flops(&self, d: &Dispatch) -> u64 {
        let dims = &self.dims[d.dims];
        let head = self.config.head_layer().filter(|_| d.head);
        let config = head.as_ref().unwrap_or(&self.config);
        let stages = config.stages();
        let input = config.row_layout(false).inputs * dims.input_size as usize;
        let of = |n: usize| stages[n].matrix_rows() * stages[n].depth();
        let all: usize = (0..stages.len()).map(of).sum();
        let (directions, block) = (config.directions(), self.layer_steps(d));
        let (steps, directions, products) = match d.kernel {
            Kernel::ProjectVec4 | Kernel::ProjectScalar | Kernel::WeightBackwardInput => (block, directions, input),
            // One direction at a time, or all.
            Kernel::InputBackward => (block, if dims.direction as usize == directions { directions } else { 1 }, input),
            Kernel::StepForward
            | Kernel::StepForwardTrain
            | Kernel::StepProduct
            | Kernel::StepBackward
            | Kernel::Rebuild
            | Kernel::WeightBackwardRecurrent => (block, directions, of(d.stage)),
            Kernel::SequenceForward | Kernel::SequenceForwardTrain | Kernel::SequenceBackward => {
                (block, directions, all)
            }
            _ => return 0,
        };
        2 * (steps * self.shape.batch * directions) as u64 * products as u64
    }
}
