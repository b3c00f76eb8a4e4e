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

use super::build::{Builder, Dim, ELEMENTWISE_GROUPS, Memory, UNUSED, once, only};
use super::{Dims, Dispatch, Extent, GradientIds, Role, SlotId, SlotIds, Step, Strategy};
use crate::kernels::{Kernel, transposed_offsets};
use crate::model::cell::Product;
use std::ops::Range;

/// Working memory of the backward pass.
pub(super) struct GradientMemory {
    d_hidden: SlotId,
    d_state: SlotId,
    d_unit: SlotId,
    /// Gradient of each layer's output: the caller's for the last one, or one slot for all where layers run side by side.
    pub dy: Vec<SlotId>,
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
        let dcn = has_cell.then(|| self.slot("dcn", Role::Input, &self.stacked(self.cell())));
        let dx = self.slot("dx", Role::Output, &[outer, inner, ("I", config.input_size)]);
        let dh0 = self.slot("dh0", Role::Output, &self.stacked(self.output()));
        let dc0 = match has_cell {
            true => self.slot("dc0", Role::Output, &self.stacked(self.cell())),
            false => self.slot("dc0", Role::Scratch, &UNUSED),
        };
        let planes = self.planes();
        let per_sequence = |n: usize| [planes, ("B", self.shape.batch), ("S", n), ("H", config.hidden_size)];
        // Behind the sums, with strategy Step, what step_backward leaves for step_normalise_backward.
        let waiting = if self.strategy == Strategy::Step { config.cell.normal_gates() } else { 0 };
        let sums = config.cell.unit_sums();
        let (states, params) = (per_sequence(config.states().len()), per_sequence(sums + waiting));
        let d_hidden = self.doubled("d_hidden", &[planes, ("B", self.shape.batch), self.output()]);
        let d_state = match states[2].1 {
            0 => self.slot("d_state", Role::Scratch, &UNUSED),
            _ => self.doubled("d_state", &states),
        };
        let d_unit = self.slot("d_unit", Role::Scratch, sized(&params));
        let all_dy = if self.chunk.is_some() {
            vec![self.slot("dy.layers", Role::Scratch, &[("L", layers), outer, inner, features]); layers]
        } else {
            let hidden: Vec<SlotId> = (0..(layers - 1).min(2))
                .map(|n| self.slot(format!("dy.{}", ["even", "odd"][n]), Role::Scratch, &[outer, inner, features]))
                .collect();
            (0..layers).map(|l| if l + 1 == layers { dy } else { hidden[l % 2] }).collect()
        };

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
            ids.rt.push(match (self.stacks_weights, ids.rt.first()) {
                (true, Some(&all)) => all,
                (true, None) => self.weight_slot("rt", &[("L", layers), packed, ("k", 4)]),
                (false, _) => self.weight_slot(format!("rt.l{l}"), &[directions, packed, ("k", 4)]),
            });
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
        let time = self.shape.time;
        let sequences = self.sequences(&(0..1));
        let head = ids.head.as_ref();
        let mut steps = head.map_or(Vec::new(), |head| self.head_backward(head, ids.y, g.dy, ids.schedule));
        if let Some(chunk) = self.chunk {
            self.waves_back(chunk, ids, g, m, b, &mut steps);
        }
        let layers = if self.chunk.is_some() { 0 } else { config.num_layers };
        for layer in (0..layers).rev() {
            steps.push(self.load_gradients(layer..layer + 1, ids, g, b));
            let dx = if layer == 0 { g.dx } else { b.dy[layer - 1] };
            steps.push(self.cleared(Some(layer), dx));
            for first in (0..time).step_by(self.segment).collect::<Vec<_>>().into_iter().rev() {
                let segment = first..(first + self.segment).min(time);
                let dims = self.dims(layer, segment.clone());
                if let Some(checkpoints) = m.checkpoints {
                    let slots = vec![m.operands[0], m.state, checkpoints];
                    steps.push(once(Kernel::LoadCheckpoint, Some(layer), dims, slots, sequences));
                    steps.push(self.begin_segment(layer..layer + 1, dims, ids, m));
                    self.run_segment(layer, segment.clone(), true, ids, m, &mut steps);
                } else if self.recompute {
                    self.rebuild_segment(layer, segment.clone(), ids, m, &mut steps);
                }
                for first in segment.clone().step_by(self.block).collect::<Vec<_>>().into_iter().rev() {
                    let range = first..(first + self.block).min(segment.end);
                    let dims = self.dims(layer, range.clone());
                    steps.push(self.adjoint(layer..layer + 1, (range, dims), ids, g, m, b));
                }
                self.weight_gradients(layer, segment.clone(), ids, g, m, &mut steps);
                self.input_gradient(layer, segment.clone(), dx, ids, g, m, &mut steps);
                self.carry_gradients(layer, segment, ids, g, m, b, &mut steps);
            }
            if config.drops_input(layer, true) {
                steps.push(self.dropout(layer, dx, None, ids.schedule));
            }
            steps.push(self.store_gradients(layer..layer + 1, ids, g, b));
            steps.extend(self.unit_gradients(layer, g, b));
        }
        steps.extend(ids.embedding.as_ref().and_then(|e| self.embed_backward(e, g.dx)));
        steps
    }

    /// A slot set to 0.
    pub fn cleared(&mut self, layer: Option<usize>, slot: SlotId) -> Step {
        let dims = self.dims(layer.unwrap_or(0), 0..self.shape.time);
        let groups = (self.slots[slot].len().div_ceil(self.tiles.width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
        once(Kernel::Clear, layer, dims, vec![slot], groups)
    }

    /// Workgroups of kernels with an invocation per unit and sequence.
    fn sequences(&self, layers: &Range<usize>) -> (usize, Extent, usize) {
        let wide = self.config.hidden_size.max(self.config.state_size()).div_ceil(self.tiles.width);
        (wide, Extent::Batch, layers.len() * self.config.directions())
    }

    /// Where the adjoint of the recurrence of one or more layers starts from.
    pub fn load_gradients(&mut self, layers: Range<usize>, ids: &SlotIds, g: &GradientIds, b: &GradientMemory) -> Step {
        let dims = self.dims(layers.start, 0..self.shape.time);
        let slots = vec![g.dhn, g.dcn.unwrap_or(g.dhn), b.d_hidden, b.d_state, b.d_unit, ids.schedule];
        once(Kernel::LoadGradient, only(&layers), dims, slots, self.sequences(&layers))
    }

    /// The gradients of h0 and c0 of one or more layers.
    pub fn store_gradients(
        &mut self,
        layers: Range<usize>,
        ids: &SlotIds,
        g: &GradientIds,
        b: &GradientMemory,
    ) -> Step {
        let dims = self.dims(layers.start, 0..self.shape.time);
        let slots = vec![b.d_hidden, b.d_state, g.dh0, g.dc0, ids.schedule];
        once(Kernel::StoreGradient, only(&layers), dims, slots, self.sequences(&layers))
    }

    /// Those of a layer's unit parameters, if it has any.
    pub fn unit_gradients(&mut self, layer: usize, g: &GradientIds, b: &GradientMemory) -> Option<Step> {
        let (du, config) = (g.du[layer]?, self.config);
        let dims = self.dims(layer, 0..self.shape.time);
        let wide = config.hidden_size.div_ceil(self.tiles.width);
        let grid = (wide, Extent::Fixed(config.cell.unit_sums()), config.directions());
        Some(once(Kernel::UnitBackward, Some(layer), dims, vec![b.d_unit, du], grid))
    }

    /// Those of a layer's W, R and biases over a segment.
    pub fn weight_gradients(
        &mut self,
        layer: usize,
        segment: Range<usize>,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        steps: &mut Vec<Step>,
    ) {
        // Cut so that no dispatch takes longer than its budget, or a block of the recurrence.
        let stretch = self.stretches.weights;
        for first in segment.clone().step_by(stretch).collect::<Vec<_>>().into_iter().rev() {
            let dims = self.dims(layer, first..(first + stretch).min(segment.end));
            let of_input = self.dims_of_weights(layer, dims);
            self.weights(layer, (dims, of_input), ids, g, m, steps);
        }
    }

    /// That of what a layer read over a stretch of steps, added to what is there.
    #[expect(clippy::too_many_arguments, reason = "the groups of slots, the stretch and where to push")]
    pub fn input_gradient(
        &mut self,
        layer: usize,
        stretch: Range<usize>,
        dx: SlotId,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        steps: &mut Vec<Step>,
    ) {
        let (config, most) = (self.config, self.stretches.input);
        // Both directions at once where both have every row of x in the stretch.
        let both = config.directions() == 2 && stretch.len() == self.shape.time && stretch.len() <= most / 2;
        for direction in if both { 2..3 } else { 0..config.directions() } {
            for first in stretch.clone().step_by(most) {
                let dims = self.dims_of(layer, first..first.saturating_add(most).min(stretch.end), direction);
                let (kernel, slots, groups) = match config.skips_input(layer) {
                    true => {
                        let wide = config.hidden_size.div_ceil(self.tiles.width);
                        let groups = (wide, Extent::Rows(self.tiles.project.1), 1);
                        (Kernel::SkipBackward, vec![m.pre[layer], dx, ids.schedule], groups)
                    }
                    false => {
                        let groups = self.input_grid(config.layer_input_size(layer));
                        (Kernel::InputBackward, vec![g.wt[layer], m.pre[layer], dx, ids.schedule], groups)
                    }
                };
                steps.push(once(kernel, Some(layer), dims, slots, groups));
            }
        }
    }

    /// That of h before a layer's segment.
    #[expect(clippy::too_many_arguments, reason = "the groups of slots, the stretch and where to push")]
    pub fn carry_gradients(
        &mut self,
        layer: usize,
        segment: Range<usize>,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        b: &GradientMemory,
        steps: &mut Vec<Step>,
    ) {
        let groups = self.sequences(&(layer..layer + 1));
        // Where episodes begin, gone through block by block, as the recurrence is.
        let stretch = if self.resets { self.stretch } else { segment.len() };
        for first in segment.clone().step_by(stretch).collect::<Vec<_>>().into_iter().rev() {
            let dims = self.dims(layer, first..(first + stretch).min(segment.end));
            let slots = vec![g.rt[layer], m.pre[layer], b.d_hidden, ids.schedule];
            steps.push(once(Kernel::CarryGradient, Some(layer), dims, slots, groups));
        }
    }

    /// The adjoint of the recurrence over a block of steps, of layers that run side by side or of one.
    pub fn adjoint(
        &self,
        layers: Range<usize>,
        (range, dims): (Range<usize>, usize),
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        b: &GradientMemory,
    ) -> Step {
        let (layer, planes) = (layers.start, layers.len() * self.config.directions());
        let (pre, rt, past, dy) = (m.pre[layer], g.rt[layer], m.history[layer], b.dy[layer]);
        let write_y = self.write_y(layer);
        let dispatch = |kernel, stage, slots, groups| Dispatch {
            kernel,
            stage,
            layer: only(&layers),
            dims,
            write_y,
            head: false,
            slots,
            odd: None,
            groups,
        };
        if self.strategy == Strategy::Sequence {
            let slots = vec![rt, pre, past, b.d_state, dy, b.d_hidden, b.d_unit, ids.schedule];
            let groups = (1, Extent::Active(self.tiles.back_tile()), planes);
            return Step::Once(dispatch(Kernel::SequenceBackward, 0, slots, groups));
        }
        let slots = vec![pre, rt, past, b.d_state, dy, b.d_hidden, b.d_unit, ids.schedule];
        let mut body = Vec::new();
        for (n, shape) in self.stages.iter().enumerate().rev() {
            let wide = shape.units.div_ceil(self.tiles.back_units).div_ceil(self.tiles.width);
            let groups = (wide, Extent::Active(self.tiles.back_tile()), planes);
            body.push(dispatch(Kernel::StepBackward, n, slots.clone(), groups));
            if shape.stage.normalise {
                let slots = vec![pre, b.d_unit, ids.schedule];
                body.push(dispatch(Kernel::StepNormaliseBackward, n, slots, (1, Extent::Active(1), planes)));
            }
        }
        Step::EachStepBack(range, body)
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
