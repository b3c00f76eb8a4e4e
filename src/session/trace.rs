//! For tests: NaN-filled memory, and every slot after every dispatch.

use super::Session;
use crate::error::Result;
use crate::exec::Element;

#[cfg(not(target_family = "wasm"))]
use {
    super::{Input, Upstream},
    crate::plan::{Dispatch, Half, SlotId},
};

/// A slot's values after a dispatch, from [`Session::trace`].
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<T> {
    /// Which dispatch: `step_forward stage 0 layer 1 step 3`.
    pub dispatch: String,
    /// Which slot it wrote.
    pub slot: String,
    /// Its values.
    pub values: Vec<T>,
}

impl<T: Element> Session<T> {
    /// Fills all working memory and outputs with NaN: nothing may read what the run did not write. For tests.
    ///
    /// # Errors
    /// From the device.
    pub fn poison(&mut self) -> Result<()> {
        self.stack.poison()
    }

    /// Runs `input` dispatch by dispatch and returns every slot after every dispatch that wrote it: to find the first place
    /// where two executors differ.
    ///
    /// # Errors
    /// As [`Session::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn trace(&mut self, input: &Input<'_, T>) -> Result<Vec<Snapshot<T>>> {
        self.write(input)?;
        let changes = self.changes();
        self.draw()?;
        let snapshots = self.trace_pass(Half::Forward)?;
        self.has_ended(changes);
        Ok(snapshots)
    }

    /// The same for the backward pass of the last run.
    ///
    /// # Errors
    /// As [`Session::backward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn trace_backward(&mut self, upstream: &Upstream<'_, T>) -> Result<Vec<Snapshot<T>>> {
        self.tape_ids()?;
        self.write_upstream(upstream)?;
        self.begin_backward()?;
        self.trace_pass(Half::Backward)
    }

    #[cfg(not(target_family = "wasm"))]
    fn trace_pass(&mut self, half: Half) -> Result<Vec<Snapshot<T>>> {
        let mut snapshots = Vec::new();
        let plan = &self.plan;
        let name = |d: &Dispatch, step: Option<usize>| {
            let stage = if d.kernel.is_per_stage() { format!(" stage {}", d.stage) } else { String::new() };
            let layer = d.layer.map_or(String::new(), |l| format!(" layer {l} from step {}", plan.dims[d.dims].first));
            format!("{}{stage}{layer}{}", d.kernel.name(), step.map_or(String::new(), |s| format!(" step {s}")))
        };
        let mut record = |d: &Dispatch, step, slot: SlotId, values: Vec<T>| {
            snapshots.push(Snapshot { dispatch: name(d, step), slot: plan.slots[slot].name.clone(), values });
        };
        self.stack.executor.trace(&self.stack.schedule, half, &mut record)?;
        Ok(snapshots)
    }
}
