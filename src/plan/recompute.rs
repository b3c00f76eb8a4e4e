//! `Memory::Recompute`: h, and c where the cell has one, of every step are kept; everything else is made again from them.
//!
//! ```text
//! forward, per layer and segment
//!     begin_segment, project, step or sequence_forward       as ever, over pre and a history of a segment's length
//!     save_history       the segment's c and h -> kept.l<layer>
//! backward, per layer and segment, last first
//!     load_history       kept.l<layer> -> the history
//!     per block of steps
//!         project        x·Wᵀ + b -> pre
//!         normalise_input                where a stage normalises, as ever
//!         rebuild        per stage: + R · operand, over all rows at once: nothing waits for the step before
//!         rebuild_normalise              then, of a normalising stage: its statistic
//!     then as without
//! ```
//!
//! So the way back has no second recurrence, as checkpoints have: one matrix product for each operand of a stage instead
//! (x; h; r∘h of the reset-before GRU).

use super::build::{Builder, Memory, once};
use super::{Caps, Dispatch, Extent, Role, SlotId, SlotIds, Step};
use crate::kernels::{GRADIENT_BLOCK, HistoryLayout, KeptLayout, Kernel};
use crate::model::stack::{RnnConfig, Shape, StageShape};
use std::ops::Range;

/// `pre` and the history of a segment take at most this share of what is kept of all steps, unless 64 steps are more.
const SEGMENT_SHARE: usize = 8;

/// Steps per segment: a multiple of [`GRADIENT_BLOCK`] whose `pre` and history are small beside what is kept, and fit a
/// binding.
pub(super) fn recompute_segment(config: &RnnConfig, shape: Shape, caps: &Caps, element: usize) -> usize {
    let widest = config.row_layout(true).width.max(HistoryLayout::new(config, &config.stages()).width);
    let row = config.row_layout(true).width + HistoryLayout::new(config, &config.stages()).width;
    let kept = shape.time.saturating_mul(config.num_layers * KeptLayout::new(config).width);
    let step = (config.directions() * shape.batch * widest * element) as u64;
    let bound = (caps.max_binding.min(caps.max_buffer) / step.max(1)).saturating_sub(1);
    let steps = (kept / (SEGMENT_SHARE * row)).min(usize::try_from(bound).unwrap_or(usize::MAX));
    (steps / GRADIENT_BLOCK * GRADIENT_BLOCK).max(GRADIENT_BLOCK).min(shape.time)
}

impl Builder<'_> {
    /// The kept rows of each layer.
    pub fn kept_slots(&mut self) -> Vec<SlotId> {
        let (d, b, t) = (self.config.directions(), self.shape.batch, self.shape.time);
        let row = ("kept", KeptLayout::new(self.config).width);
        let layers = 0..self.config.num_layers;
        layers.map(|l| self.slot(format!("kept.l{l}"), Role::Scratch, &[("D", d), ("B+T·B", b + t * b), row])).collect()
    }

    /// A segment's history into the layer's kept rows.
    pub fn save_history(&self, layer: usize, dims: usize, ids: &SlotIds, m: &Memory) -> Step {
        self.copy_history(Kernel::SaveHistory, layer, dims, ids, m)
    }

    fn copy_history(&self, kernel: Kernel, layer: usize, dims: usize, ids: &SlotIds, m: &Memory) -> Step {
        let wide = self.config.hidden_size.max(self.config.state_size()).div_ceil(self.tiles.width);
        let slots = vec![m.history[layer], m.kept[layer], ids.schedule];
        let rows = Extent::SegmentRows(self.tiles.project.1);
        once(kernel, Some(layer), dims, slots, (wide, rows, self.config.directions()))
    }

    /// `pre` and the history of a segment as the forward pass had them, from the kept rows.
    pub fn rebuild_segment(
        &mut self,
        layer: usize,
        segment: Range<usize>,
        ids: &SlotIds,
        m: &Memory,
        out: &mut Vec<Step>,
    ) {
        let dims = self.dims(layer, segment.clone());
        if self.resets {
            // The rows that episodes begin from; the others are written next.
            out.push(self.begin_segment(layer..layer + 1, dims, ids, m));
        }
        out.push(self.copy_history(Kernel::LoadHistory, layer, dims, ids, m));
        for first in segment.clone().step_by(self.block) {
            let dims = self.dims(layer, first..(first + self.block).min(segment.end));
            out.push(self.project(layer, dims, ids, m));
            out.extend(self.normalise_input(layer, dims, ids, m));
            let rebuild = |(stage, shape): (usize, &StageShape)| {
                let wide = (Kernel::Rebuild, stage, shape.units.div_ceil(self.tiles.width));
                [Some(wide), shape.stage.normalise.then_some((Kernel::RebuildNormalise, stage, 1))]
            };
            for (kernel, stage, wide) in self.stages.iter().enumerate().flat_map(rebuild).flatten() {
                let rows = Extent::Rows(self.tiles.project.1);
                out.push(Step::Once(Dispatch {
                    kernel,
                    stage,
                    layer: Some(layer),
                    dims,
                    write_y: true,
                    head: false,
                    slots: vec![ids.r[layer], m.pre[layer], m.history[layer], ids.schedule],
                    odd: None,
                    groups: (wide, rows, self.config.directions()),
                }));
            }
        }
    }
}
