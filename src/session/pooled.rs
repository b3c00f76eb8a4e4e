//! Runs of a batch of streams whose states lie in the slots of a store: what a [`crate::StreamPool`] is made of.

use super::{Phase, Session};
use crate::error::Result;
use crate::exec::Element;
use crate::exec::gpu::{RowsAt, StreamEncoder};
use crate::exec::states::{Piece, Places, Streams};
use crate::model::stack::Shape;
use crate::plan::{Empty, Plan, SlotId};
use std::borrow::Cow;

/// A batch of streams: the first sequences of it, in falling order of their lengths.
pub(crate) struct Batch<'a, T: Element> {
    /// B of them; those behind the streams' own are 0.
    pub lengths: &'a [usize],
    pub streams: Streams<'a, T>,
    /// Puts the rows of an input, by its number, in their places `[T, B, width]`. What else is there is valid, and stays.
    pub values: &'a mut dyn FnMut(usize, &mut [T]),
    /// The same of token ids, for a configuration with a vocabulary.
    pub ids: &'a mut dyn FnMut(&mut [u32]),
}

impl<T: Element> Session<T> {
    /// Where states are.
    pub(crate) fn places(&self) -> Places {
        let ids = &self.plan.ids;
        let pieces = |slots: [Option<SlotId>; 2]| {
            let dims = |slot: SlotId| {
                let dims = &self.plan.slots[slot].dims;
                (dims[0].1, dims[1].1, dims[2].1)
            };
            let of_slot = |slot: SlotId| {
                let (planes, batch, width) = dims(slot);
                (0..planes).map(move |plane| Piece { slot, first: plane * batch * width, width })
            };
            slots.into_iter().flatten().flat_map(of_slot).collect()
        };
        let cell = self.plan.config.cell.has_cell_state();
        Places {
            before: pieces([Some(ids.h0), ids.c0.filter(|_| cell)]),
            after: pieces([Some(ids.hn), cell.then_some(ids.cn)]),
        }
    }

    /// The plan of another shape over the same weights.
    pub(crate) fn beside(&self, shape: Shape) -> Result<Plan> {
        let plan = &self.plan;
        Plan::new(&plan.config, shape, &plan.caps, &plan.options)
    }

    /// The empty state of a stream.
    pub(crate) fn empty_stream(&self) -> Vec<T> {
        let config = &self.plan.config;
        vec![T::default(); config.num_layers * config.directions() * (config.state_size() + config.cell_size())]
    }

    /// Runs a batch of streams.
    pub(crate) fn run_streams(&mut self, batch: &mut Batch<'_, T>) -> Result<()> {
        self.write_streams(batch)?;
        let read = self.streamed();
        self.stack.run_streams(&mut batch.streams, &read)
    }

    /// What encodes runs of a batch of streams on a GPU, its inputs uploaded.
    pub(crate) fn stream_encoder<'b>(&'b mut self, batch: &'b mut Batch<'_, T>) -> Result<StreamEncoder<'b>> {
        self.write_streams(batch)?;
        self.stack.stream_encoder(&mut batch.streams)
    }

    /// Where a GPU has the ids that it reads; `None` where it reads none.
    pub(crate) fn ids_port(&self) -> Option<RowsAt> {
        let buffer = self.stack.executor.gpu()?.buffer(self.plan.ids.embedding.as_ref()?.ids).clone();
        Some(RowsAt { buffer, first: 0, stride: 1 })
    }

    /// Where a GPU has what it gives.
    pub(crate) fn streamed_port(&self) -> Option<RowsAt> {
        let ([slot], config) = (self.streamed(), &self.plan.config);
        let stride = config.head.map_or(config.output_size(), |head| head.size);
        Some(RowsAt { buffer: self.stack.executor.gpu()?.buffer(slot).clone(), first: 0, stride })
    }

    /// Lengths and inputs of a run of streams.
    fn write_streams(&mut self, batch: &mut Batch<'_, T>) -> Result<()> {
        let time = self.plan.shape.time;
        let ragged = batch.lengths.iter().any(|&length| length < time);
        (self.phase, self.has_state) = (Phase::Empty, false);
        self.stack.set_schedule_where(ragged.then_some(batch.lengths), None, Empty::Initial)?;
        match &self.plan.ids.embedding {
            Some(embedding) => self.stack.executor.write_indices_with(embedding.ids, &mut *batch.ids),
            None => self.stack.executor.write_with(self.plan.ids.x, |x| (batch.values)(0, x)),
        }
    }

    /// What a stream gives: the head's outputs, packed, or y.
    fn streamed(&self) -> [SlotId; 1] {
        [self.plan.ids.head.as_ref().map_or(self.plan.ids.y, |head| head.outputs)]
    }

    /// What the last run of streams gave, as it lies there.
    pub(crate) async fn streamed_rows(&self) -> Result<Vec<Cow<'_, [T]>>> {
        let slots = self.streamed();
        if self.device.kind() == "cpu" {
            return Ok(slots.iter().map(|&slot| Cow::Borrowed(self.stack.executor.cpu_slot(slot))).collect());
        }
        Ok(self.stack.executor.read(&slots).await?.into_iter().map(Cow::Owned).collect())
    }

    /// The row of [`Session::streamed_rows`] that step `t` of sequence 0 has; those of the others follow it.
    pub(crate) fn streamed_row(&self, t: usize) -> usize {
        match self.plan.ids.head {
            // Sequences are in falling order of their lengths already, and sorting changes none.
            Some(_) => self.stack.schedule.row_offset(t),
            None => t * self.plan.shape.batch,
        }
    }
}
