//! Runs of a batch of streams whose states lie in the slots of a store: what a [`crate::StreamPool`] is made of.

use super::NetworkSession;
use crate::error::Result;
use crate::exec::Element;
use crate::exec::gpu::{RowsAt, StreamEncoder};
use crate::exec::states::{Piece, Places};
use crate::model::network::Op;
use crate::model::stack::Shape;
use crate::plan::network::{NetworkPlan, SlotId};
use crate::session::phase::Phase;
use crate::session::pooled::Batch;
use std::borrow::Cow;

impl<T: Element> NetworkSession<T> {
    /// Where states are.
    pub(crate) fn places(&self) -> Places {
        let batch = self.plan.shape.batch;
        let mut places = Places { before: Vec::new(), after: Vec::new() };
        for s in &self.plan.states {
            // Of the first sequence; the others' follow it.
            let pieces: Vec<(usize, usize)> = match &self.plan.network.nodes[s.node].op {
                Op::Layers(shape) => shape.state_pieces(batch, 0).map(|piece| (piece.start, piece.len())).collect(),
                _ => vec![(0, s.size)],
            };
            for (slot, all) in [(s.initial, &mut places.before), (s.last, &mut places.after)] {
                all.extend(pieces.iter().map(|&(first, width)| Piece { slot, first, width }));
            }
        }
        places
    }

    /// The plan of another shape over the same parameters.
    pub(crate) fn beside(&self, shape: Shape) -> Result<NetworkPlan> {
        let plan = &self.plan;
        NetworkPlan::new(&plan.network, shape, &plan.caps, &plan.options)
    }

    /// The empty state of a stream.
    pub(crate) fn empty_stream(&self) -> Vec<T> {
        self.plan.states.iter().flat_map(|s| self.empty_state_of(s.node, s.size)).collect()
    }

    /// Before the first batch of streams: lengths are not those of a run before it.
    pub(crate) fn begin_streams(&mut self) {
        self.times.lengths.clear();
    }

    /// Runs a batch of streams.
    pub(crate) fn run_streams(&mut self, batch: &mut Batch<'_, T>) -> Result<()> {
        self.write_streams(batch)?;
        self.executor.run_streams(&self.times, &mut batch.streams)
    }

    /// What encodes runs of a batch of streams on a GPU, its inputs uploaded.
    pub(crate) fn stream_encoder<'b>(&'b mut self, batch: &'b mut Batch<'_, T>) -> Result<StreamEncoder<'b>> {
        self.write_streams(batch)?;
        self.executor.stream_encoder(&mut batch.streams)
    }

    /// Where a GPU has a value of one step.
    pub(crate) fn port(&self, value: usize) -> Option<RowsAt> {
        let on_gpu = self.device.kind() == "gpu";
        on_gpu.then(|| self.executor.on_gpu(|e, plan| Ok(e.port(plan, value))).ok()).flatten()
    }

    /// Lengths and inputs of a run of streams.
    fn write_streams(&mut self, batch: &mut Batch<'_, T>) -> Result<()> {
        (self.phase, self.upstream, self.has_state, self.ran) = (Phase::Empty, false, false, None);
        if self.times.lengths != batch.lengths {
            self.times.lengths.clear();
            self.times.lengths.extend_from_slice(batch.lengths);
            self.executor.write_times(&self.times)?;
        }
        for (n, &value) in self.plan.network.inputs.iter().enumerate() {
            self.executor.write_with(self.plan.values[value], |x| (batch.values)(n, x))?;
        }
        Ok(())
    }

    /// What the last run of streams gave, as it lies there: the values that outputs show, in the order of the outputs.
    pub(crate) async fn streamed_rows(&self) -> Result<Vec<Cow<'_, [T]>>> {
        let outputs = self.plan.network.outputs.iter();
        let slots: Vec<SlotId> = outputs.map(|(_, part)| self.plan.values[part.value]).collect();
        if let Some(rows) = slots.iter().map(|&slot| self.executor.cpu_slot(slot).map(Cow::Borrowed)).collect() {
            return Ok(rows);
        }
        // Outputs may show parts of one value, which is read once.
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let read = self.executor.read(&distinct, false).await?;
        let of = |slot: &SlotId| distinct.binary_search(slot).map_or_else(|_| Vec::new(), |n| read[n].clone());
        Ok(slots.iter().map(|slot| Cow::Owned(of(slot))).collect())
    }
}
