//! Slots and steps of the backward pass.
//!
//! ```text
//! head_backward            d_outputs -> dy                        where there is a head (ends.rs)
//! for each layer, last first
//!     load_gradient        dhn, dcn -> d_hidden, d_state
//!     for each segment, last first (one where everything was kept)
//!         load_checkpoint, begin_segment, project, step or sequence_forward      the segment again, keeping everything
//!         or, from kept h and c (recompute.rs): load_history, project, rebuild
//!         Step:     step_backward       per step and stage, last first: d_pre in place over pre
//!                   step_normalise_backward                         then, of a normalising stage
//!         Sequence: sequence_backward   a block's steps inside the kernel
//!         weight_backward  d_preᵀ · x, d_preᵀ · h, with the biases as a last column of ones: onto the running sum
//!         input_backward   d_pre · W, added to dx, or to dy of the layer below; skip_backward without W
//!         carry_gradient   Rᵀ · d_pre of the first step -> d_hidden
//!     dropout              the masks of what the layer read, onto that gradient
//!     store_gradient       d_hidden, d_state -> dh0, dc0
//!     unit_backward        the cell's unit parameters
//! ```

use super::build::{Builder, Dim, ELEMENTWISE_GROUPS, Memory, UNUSED, once};
use super::{Dims, Dispatch, Extent, GradientIds, Role, SlotId, SlotIds, Step, Strategy};
use crate::cell::Product;
use crate::kernels::{GRADIENT_BLOCK, Kernel, transposed_offsets};
use std::ops::Range;

/// Working memory of the backward pass.
pub(super) struct GradientMemory {
    d_hidden: SlotId,
    d_state: SlotId,
    d_unit: SlotId,
    /// Gradient of each layer's output: the caller's for the last one.
    dy: Vec<SlotId>,
}

impl Builder<'_> {
    pub fn backward_slots(&mut self) -> (GradientIds, GradientMemory) {
        let (config, [outer, inner]) = (self.config, self.outer());
        let (layers, directions) = (config.num_layers, ("D", config.directions()));
        let has_cell = config.cell.has_cell_state();
        let features = ("D·P", config.directions() * config.state_size());
        let dy = match (config.head, self.keep_y) {
            (Some(_), _) => self.slot("dy", Role::Scratch, &[outer, inner, features]),
            (None, true) => self.slot("dy", Role::Input, &[outer, inner, features]),
            (None, false) => self.slot("dy", Role::Scratch, &UNUSED),
        };
        let dhn = self.slot("dhn", Role::Input, &self.stacked(self.output()));
        let dcn = has_cell.then(|| self.slot("dcn", Role::Input, &self.stacked(self.hidden())));
        let dx = self.slot("dx", Role::Output, &[outer, inner, ("I", config.input_size)]);
        let dh0 = self.slot("dh0", Role::Output, &self.stacked(self.output()));
        let dc0 = match has_cell {
            true => self.slot("dc0", Role::Output, &self.stacked(self.hidden())),
            false => self.slot("dc0", Role::Scratch, &UNUSED),
        };
        let per_sequence = |n: usize| [directions, ("B", self.shape.batch), ("S", n), ("H", config.hidden_size)];
        // Behind the sums, with strategy Step, what step_backward leaves for step_normalise_backward.
        let waiting = if self.strategy == Strategy::Step { config.cell.normal_gates() } else { 0 };
        let sums = config.cell.unit_sums();
        let (states, params) = (per_sequence(config.states().len()), per_sequence(sums + waiting));
        let d_hidden = self.doubled("d_hidden", &[directions, ("B", self.shape.batch), self.output()]);
        let d_state = match states[2].1 {
            0 => self.slot("d_state", Role::Scratch, &UNUSED),
            _ => self.doubled("d_state", &states),
        };
        let d_unit = self.slot("d_unit", Role::Scratch, sized(&params));
        let hidden: Vec<SlotId> = (0..(layers - 1).min(2))
            .map(|n| self.slot(format!("dy.{}", ["even", "odd"][n]), Role::Scratch, &[outer, inner, features]))
            .collect();
        let all_dy = (0..layers).map(|l| if l + 1 == layers { dy } else { hidden[l % 2] }).collect();

        let inputs = config.cell.input_gates() * config.hidden_size;
        let packed = ("packed", transposed_offsets(&self.stages, self.weights).total);
        let mut ids = GradientIds {
            dy,
            dhn,
            dcn,
            dx,
            dh0,
            dc0,
            rt: Vec::new(),
            wt: Vec::new(),
            dw: Vec::new(),
            dr: Vec::new(),
            du: Vec::new(),
        };
        for l in 0..layers {
            let width = config.weight_columns(l);
            ids.rt.push(self.weight_slot(format!("rt.l{l}"), &[directions, packed, ("k", 4)]));
            let depth = ("G·H/4", inputs.div_ceil(4));
            let dims = [directions, depth, ("I", width), ("k", 4)];
            ids.wt.push(self.weight_slot(format!("wt.l{l}"), sized(&dims)));
            let dims = [directions, ("G·H", inputs), ("I+1", width + 1)];
            ids.dw.push(self.slot(format!("dw.l{l}"), Role::Output, &dims));
            let mut stages = Vec::new();
            for (n, s) in self.stages.clone().iter().enumerate() {
                let dims = [directions, ("G·N", s.matrix_rows()), ("K+1", s.depth() + 1)];
                let dense = s.stage.product == Product::Dense;
                stages.push(dense.then(|| self.slot(format!("dr.l{l}.{n}"), Role::Output, &dims)));
            }
            ids.dr.push(stages);
            let dims = [directions, ("params", sums), ("H", config.hidden_size)];
            ids.du.push((dims[1].1 > 0).then(|| self.slot(format!("du.l{l}"), Role::Output, &dims)));
        }
        (ids, GradientMemory { d_hidden, d_state, d_unit, dy: all_dy })
    }

    pub fn backward_steps(&mut self, ids: &SlotIds, g: &GradientIds, m: &Memory, b: &GradientMemory) -> Vec<Step> {
        let config = self.config;
        let (time, directions, width) = (self.shape.time, config.directions(), self.tiles.width);
        let wide = config.hidden_size.max(config.state_size()).div_ceil(width);
        let sequences = (wide, Extent::Batch, directions);
        let head = ids.head.as_ref();
        let mut steps = head.map_or(Vec::new(), |head| self.head_backward(head, ids.y, g.dy, ids.schedule));
        for layer in (0..config.num_layers).rev() {
            let at = Some(layer);
            let whole = self.dims(layer, 0..time);
            let slots = vec![g.dhn, g.dcn.unwrap_or(g.dhn), b.d_hidden, b.d_state, b.d_unit, ids.schedule];
            steps.push(once(Kernel::LoadGradient, at, whole, slots, sequences));
            let dx = if layer == 0 { g.dx } else { b.dy[layer - 1] };
            let groups = (self.slots[dx].len().div_ceil(width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
            steps.push(once(Kernel::Clear, at, whole, vec![dx], groups));
            for first in (0..time).step_by(self.segment).collect::<Vec<_>>().into_iter().rev() {
                let segment = first..(first + self.segment).min(time);
                let dims = self.dims(layer, segment.clone());
                if let Some(checkpoints) = m.checkpoints {
                    let slots = vec![m.operands[0], m.state, checkpoints];
                    steps.push(once(Kernel::LoadCheckpoint, at, dims, slots, sequences));
                    steps.push(self.begin_segment(layer, dims, ids, m));
                    self.run_segment(layer, segment.clone(), true, ids, m, &mut steps);
                } else if self.recompute {
                    self.rebuild_segment(layer, segment.clone(), ids, m, &mut steps);
                }
                self.recurrence(layer, segment.clone(), ids, g, m, b, &mut steps);
                // Cut so that no dispatch takes longer than a block of the recurrence.
                let stretch = self.block.next_multiple_of(GRADIENT_BLOCK);
                for first in segment.clone().step_by(stretch).collect::<Vec<_>>().into_iter().rev() {
                    let dims = self.dims(layer, first..(first + stretch).min(segment.end));
                    let of_input = self.dims_of_weights(layer, dims);
                    self.weights(layer, (dims, of_input), ids, g, m, &mut steps);
                }
                for direction in 0..directions {
                    let dims = self.dims_of(layer, segment.clone(), direction);
                    let (kernel, slots, groups) = match config.skips_input(layer) {
                        true => {
                            let wide = config.hidden_size.div_ceil(width);
                            let groups = (wide, Extent::SegmentRows(self.tiles.project.1), 1);
                            (Kernel::SkipBackward, vec![m.pre[layer], dx, ids.schedule], groups)
                        }
                        false => {
                            let groups = self.input_grid(config.layer_input_size(layer));
                            (Kernel::InputBackward, vec![g.wt[layer], m.pre[layer], dx, ids.schedule], groups)
                        }
                    };
                    steps.push(once(kernel, at, dims, slots, groups));
                }
                // Where episodes begin, gone through block by block, as the recurrence is.
                let stretch = if self.resets { self.block } else { segment.len() };
                for first in segment.clone().step_by(stretch).collect::<Vec<_>>().into_iter().rev() {
                    let dims = self.dims(layer, first..(first + stretch).min(segment.end));
                    let slots = vec![g.rt[layer], m.pre[layer], b.d_hidden, ids.schedule];
                    steps.push(once(Kernel::CarryGradient, at, dims, slots, sequences));
                }
            }
            if config.drops_input(layer, true) {
                steps.push(self.dropout(layer, dx, None, ids.schedule));
            }
            let slots = vec![b.d_hidden, b.d_state, g.dh0, g.dc0, ids.schedule];
            steps.push(once(Kernel::StoreGradient, at, whole, slots, sequences));
            if let Some(du) = g.du[layer] {
                let grid = (config.hidden_size.div_ceil(width), Extent::Fixed(config.cell.unit_sums()), directions);
                steps.push(once(Kernel::UnitBackward, at, whole, vec![b.d_unit, du], grid));
            }
        }
        steps.extend(ids.embedding.as_ref().and_then(|e| self.embed_backward(e, g.dx)));
        steps
    }

    /// The adjoint of the recurrence over a segment, in blocks, last first.
    #[expect(clippy::too_many_arguments, reason = "the groups of slots, the stretch and where to push")]
    fn recurrence(
        &mut self,
        layer: usize,
        segment: Range<usize>,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        b: &GradientMemory,
        steps: &mut Vec<Step>,
    ) {
        let directions = self.config.directions();
        let (pre, rt, past, dy) = (m.pre[layer], g.rt[layer], m.history[layer], b.dy[layer]);
        let write_y = self.write_y(layer);
        for first in segment.clone().step_by(self.block).collect::<Vec<_>>().into_iter().rev() {
            let range = first..(first + self.block).min(segment.end);
            let dims = self.dims(layer, range.clone());
            let dispatch = |kernel, stage, slots, groups| Dispatch {
                kernel,
                stage,
                layer: Some(layer),
                dims,
                write_y,
                head: false,
                slots,
                odd: None,
                groups,
            };
            steps.push(match self.strategy {
                Strategy::Sequence => {
                    let slots = vec![rt, pre, past, b.d_state, dy, b.d_hidden, b.d_unit, ids.schedule];
                    Step::Once(dispatch(
                        Kernel::SequenceBackward,
                        0,
                        slots,
                        (1, Extent::Active(self.tiles.tile), directions),
                    ))
                }
                Strategy::Step => {
                    let slots = vec![pre, rt, past, b.d_state, dy, b.d_hidden, b.d_unit, ids.schedule];
                    let mut body = Vec::new();
                    for (n, shape) in self.stages.iter().enumerate().rev() {
                        let wide = shape.units.div_ceil(self.tiles.back_units).div_ceil(self.tiles.width);
                        let groups = (wide, Extent::Active(self.tiles.tile), directions);
                        body.push(dispatch(Kernel::StepBackward, n, slots.clone(), groups));
                        if shape.stage.normalise {
                            let slots = vec![pre, b.d_unit, ids.schedule];
                            let groups = (1, Extent::Active(1), directions);
                            body.push(dispatch(Kernel::StepNormaliseBackward, n, slots, groups));
                        }
                    }
                    Step::EachStepBack(range, body)
                }
            });
        }
    }

    /// `dims` as the gradient of W reads them: of a layer without W there is only the bias, the column after no features.
    fn dims_of_weights(&mut self, layer: usize, dims: usize) -> usize {
        if !self.config.skips_input(layer) {
            return dims;
        }
        self.dims.push(Dims { input_size: 0, ..self.dims[dims] });
        self.dims.len() - 1
    }

    /// A stretch's share of the gradients of W (by dims of its own), R and their biases.
    fn weights(
        &self,
        layer: usize,
        (dims, of_input): (usize, usize),
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        steps: &mut Vec<Step>,
    ) {
        let config = self.config;
        let (pre, directions) = (m.pre[layer], config.directions());
        let input = self.layer_input(layer, ids, m);
        let slots = vec![pre, input, g.dw[layer], ids.schedule];
        let rows = config.row_layout(true).inputs;
        let groups = self.weight_grid(config.weight_columns(layer), rows, 1, directions);
        steps.push(once(Kernel::WeightBackwardInput, Some(layer), of_input, slots, groups));
        for (n, shape) in self.stages.iter().enumerate() {
            let Some(gradient) = g.dr[layer][n] else { continue };
            steps.push(Step::Once(Dispatch {
                kernel: Kernel::WeightBackwardRecurrent,
                stage: n,
                layer: Some(layer),
                dims,
                write_y: true,
                head: false,
                slots: vec![pre, m.history[layer], gradient, ids.schedule],
                odd: None,
                groups: self.weight_grid(shape.depth(), shape.matrix_rows(), shape.heads, directions),
            }));
        }
    }
}

/// `dims`, or [`UNUSED`] if one of them is 0.
fn sized(dims: &[Dim]) -> &[Dim] {
    if dims.iter().any(|d| d.1 == 0) { &UNUSED } else { dims }
}
