//! For tests: NaN-filled memory, and what every operation wrote.

use super::NetworkSession;
use crate::error::Result;
use crate::exec::Element;

#[cfg(not(target_family = "wasm"))]
use {
    super::{NetworkInput, NetworkUpstream},
    crate::model::network::ValueId,
    crate::plan::Half,
    crate::plan::network::SlotId,
    crate::session::Snapshot,
};

impl<T: Element> NetworkSession<T> {
    /// Fills all working memory with NaN: nothing may read what the run did not write. For tests.
    ///
    /// # Errors
    /// Errors of the device.
    #[doc(hidden)]
    pub fn poison(&mut self) -> Result<()> {
        self.executor.poison()
    }

    /// Runs `input` operation by operation and returns what each wrote, under its name: its value, `state.last` of one over time,
    /// `maxima` and `sums` of a scan that keeps them. To find the first place where two executors differ. Rows past a sequence's end
    /// are 0; a stack of layers counts as one operation ([`crate::Session::trace`] looks into it).
    ///
    /// # Errors
    /// As [`NetworkSession::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn trace(&mut self, input: &NetworkInput<'_, T>) -> Result<Vec<Snapshot<T>>> {
        self.write(input)?;
        self.begin()?;
        let plan = self.plan.clone();
        let mut snapshots = Vec::new();
        for n in plan.order(Half::Forward) {
            self.executor.run_operation(&self.times, Half::Forward, n)?;
            let (node, scan) = (&plan.network.nodes[n], &plan.scans[n]);
            snapshots.push(self.snapshot_of_value(n, node.value, plan.values[node.value])?);
            let state = plan.states.iter().find(|s| s.node == n).map(|s| s.last);
            snapshots.extend(state.map(|slot| self.snapshot(n, slot)).transpose()?);
            for slot in [scan.maxima, scan.sums].into_iter().flatten() {
                let mut snapshot = self.snapshot(n, slot)?;
                let width = snapshot.values.len() / plan.rows();
                Self::mask(&self.times, &mut snapshot.values, width);
                snapshots.push(snapshot);
            }
        }
        self.ended();
        Ok(snapshots)
    }

    /// The same for the way back through the last run: the gradient of every operation's value once all who read it have added to it,
    /// then what the operation gives the state before its first step; last of all the gradients of the inputs.
    ///
    /// # Errors
    /// As [`NetworkSession::backward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn trace_backward(&mut self, upstream: &NetworkUpstream<'_, T>) -> Result<Vec<Snapshot<T>>> {
        self.write_upstream(upstream)?;
        self.begin_back()?;
        let plan = self.plan.clone();
        let mut snapshots = Vec::new();
        for n in plan.order(Half::Backward) {
            let value = plan.network.nodes[n].value;
            snapshots.push(self.snapshot_of_value(n, value, plan.gradients[value])?);
            self.executor.run_operation(&self.times, Half::Backward, n)?;
            let state = plan.states.iter().find(|s| s.node == n).and_then(|s| s.d_initial);
            snapshots.extend(state.map(|slot| self.snapshot(n, slot)).transpose()?);
        }
        for &value in &plan.network.inputs {
            let mut snapshot = self.snapshot_of_value(0, value, plan.gradients[value])?;
            snapshot.dispatch.clone_from(&plan.network.values[value].name);
            snapshots.push(snapshot);
        }
        Ok(snapshots)
    }

    #[cfg(not(target_family = "wasm"))]
    fn snapshot_of_value(&self, node: usize, value: ValueId, slot: SlotId) -> Result<Snapshot<T>> {
        let mut snapshot = self.snapshot(node, slot)?;
        if self.plan.network.values[value].rows == crate::model::network::Rows::Steps {
            Self::mask(&self.times, &mut snapshot.values, self.plan.network.values[value].width);
        }
        Ok(snapshot)
    }

    #[cfg(not(target_family = "wasm"))]
    fn snapshot(&self, node: usize, slot: SlotId) -> Result<Snapshot<T>> {
        Ok(Snapshot {
            dispatch: self.plan.network.nodes[node].name.clone(),
            slot: self.plan.slots[slot].name.clone(),
            values: self.device.block(self.executor.download(slot))?,
        })
    }
}
