//! Slots and steps of the backward pass.
//!
//! ```text
//! for each layer, last first
//!     load_gradient        dcn -> d_state
//!     Step:     step_backward       per step and stage, last first: d_pre in place over pre
//!     Sequence: sequence_backward   the block's steps inside the kernel
//!     store_gradient       d_pre, d_state -> dh0, dc0
//!     weight_backward      d_preᵀ · x, d_preᵀ · h, with the biases as a last column of ones
//!     unit_backward        the cell's unit parameters
//!     input_backward       d_pre · W -> dx, or dy of the layer below
//! ```

use super::build::{Builder, Dim, Memory, UNUSED, once};
use super::{Dispatch, Extent, GradientIds, Role, SlotId, SlotIds, Step, Strategy};
use crate::cell::Product;
use crate::kernels::{Kernel, WEIGHT_ROWS, transposed_offsets};

/// Working memory of the backward pass.
pub(super) struct GradientMemory {
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
        let dy = self.slot("dy", Role::Input, &[outer, inner, features]);
        let dhn = self.slot("dhn", Role::Input, &self.stacked(self.output()));
        let dcn = has_cell.then(|| self.slot("dcn", Role::Input, &self.stacked(self.hidden())));
        let dx = self.slot("dx", Role::Output, &[outer, inner, ("I", config.input_size)]);
        let dh0 = self.slot("dh0", Role::Output, &self.stacked(self.output()));
        let dc0 = match has_cell {
            true => self.slot("dc0", Role::Output, &self.stacked(self.hidden())),
            false => self.slot("dc0", Role::Scratch, &UNUSED),
        };
        let per_sequence = |n: usize| [directions, ("B", self.shape.batch), ("S", n), ("H", config.hidden_size)];
        let (states, params) = (per_sequence(config.cell.states.len()), per_sequence(config.cell.params.len()));
        let d_state = self.slot("d_state", Role::Scratch, sized(&states));
        let d_unit = self.slot("d_unit", Role::Scratch, sized(&params));
        let hidden: Vec<SlotId> = (0..(layers - 1).min(2))
            .map(|n| self.slot(format!("dy.{}", ["even", "odd"][n]), Role::Scratch, &[outer, inner, features]))
            .collect();
        let all_dy = (0..layers).map(|l| if l + 1 == layers { dy } else { hidden[l % 2] }).collect();

        let inputs = config.cell.input_gates() * config.hidden_size;
        let packed = ("packed", transposed_offsets(&self.stages).total);
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
            let width = config.layer_input_size(l);
            ids.rt.push(self.slot(format!("rt.l{l}"), Role::Weights, &[directions, packed, ("k", 4)]));
            let depth = ("G·H/4", inputs.div_ceil(4));
            ids.wt.push(self.slot(format!("wt.l{l}"), Role::Weights, &[directions, depth, ("I", width), ("k", 4)]));
            let dims = [directions, ("G·H", inputs), ("I+1", width + 1)];
            ids.dw.push(self.slot(format!("dw.l{l}"), Role::Output, &dims));
            let mut stages = Vec::new();
            for (n, s) in self.stages.clone().iter().enumerate() {
                let dims = [directions, ("G·N", s.matrix_rows()), ("K+1", s.operand + 1)];
                let dense = s.stage.product == Product::Dense;
                stages.push(dense.then(|| self.slot(format!("dr.l{l}.{n}"), Role::Output, &dims)));
            }
            ids.dr.push(stages);
            let dims = [directions, ("params", config.cell.params.len()), ("H", config.hidden_size)];
            ids.du.push((dims[1].1 > 0).then(|| self.slot(format!("du.l{l}"), Role::Output, &dims)));
        }
        (ids, GradientMemory { d_state, d_unit, dy: all_dy })
    }

    pub fn backward_steps(&mut self, ids: &SlotIds, g: &GradientIds, m: &Memory, b: &GradientMemory) -> Vec<Step> {
        let config = self.config;
        let time = self.shape.time;
        let directions = config.directions();
        let wide = config.hidden_size.max(config.state_size()).div_ceil(self.tiles.width);
        let mut steps = Vec::new();
        for layer in (0..config.num_layers).rev() {
            let at = Some(layer);
            let whole = self.dims(layer, 0..time);
            let sequences = (wide, Extent::Batch, directions);
            let slots = vec![g.dcn.unwrap_or(g.dhn), b.d_state, b.d_unit, ids.schedule];
            steps.push(once(Kernel::LoadGradient, at, whole, slots, sequences));
            for first in (0..time).step_by(self.block).collect::<Vec<_>>().into_iter().rev() {
                let range = first..(first + self.block).min(time);
                let dims = self.dims(layer, range.clone());
                let (pre, rt, dy) = (m.pre[layer], g.rt[layer], b.dy[layer]);
                steps.push(match self.strategy {
                    Strategy::Sequence => {
                        let slots = vec![rt, pre, m.state, b.d_state, dy, g.dhn, b.d_unit, ids.schedule];
                        once(Kernel::SequenceBackward, at, dims, slots, (1, Extent::Active(1), directions))
                    }
                    Strategy::Step => {
                        let slots = vec![pre, rt, m.state, b.d_state, dy, g.dhn, b.d_unit, ids.schedule];
                        let stage = |n: usize| Dispatch {
                            kernel: Kernel::StepBackward,
                            stage: n,
                            layer: at,
                            dims,
                            slots: slots.clone(),
                            odd: None,
                            groups: (self.stages[n].units.div_ceil(self.tiles.width), Extent::Active(1), directions),
                        };
                        Step::EachStepBack(range, (0..self.stages.len()).rev().map(stage).collect())
                    }
                });
            }
            let slots = vec![g.rt[layer], m.pre[layer], b.d_state, g.dh0, g.dc0, ids.schedule];
            steps.push(once(Kernel::StoreGradient, at, whole, slots, sequences));
            self.collect(layer, whole, ids, g, m, b, &mut steps);
        }
        steps
    }

    /// Gradients that are sums over all rows, and that of the layer's input.
    #[expect(clippy::too_many_arguments, reason = "the four groups of slots, the layer and where to push")]
    fn collect(
        &self,
        layer: usize,
        dims: usize,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        b: &GradientMemory,
        steps: &mut Vec<Step>,
    ) {
        let config = self.config;
        let directions = config.directions();
        let (pre, width) = (m.pre[layer], self.tiles.width);
        let input = if layer == 0 { ids.x } else { m.y[layer - 1] };
        let inputs = config.layer_input_size(layer);
        let grid =
            |k: usize, rows: usize| ((k + 1).div_ceil(width), Extent::Fixed(rows.div_ceil(WEIGHT_ROWS)), directions);
        let slots = vec![pre, input, ids.h0, g.dw[layer], ids.schedule];
        let rows = config.row_layout(true).inputs;
        steps.push(once(Kernel::WeightBackwardInput, Some(layer), dims, slots, grid(inputs, rows)));
        for (n, shape) in self.stages.iter().enumerate() {
            let Some(gradient) = g.dr[layer][n] else { continue };
            let operand = if n == 0 { m.y[layer] } else { m.links[n - 1] };
            steps.push(Step::Once(Dispatch {
                kernel: Kernel::WeightBackwardRecurrent,
                stage: n,
                layer: Some(layer),
                dims,
                slots: vec![pre, operand, ids.h0, gradient, ids.schedule],
                odd: None,
                groups: grid(shape.operand, shape.matrix_rows()),
            }));
        }
        if let Some(du) = g.du[layer] {
            let grid = (config.hidden_size.div_ceil(width), Extent::Fixed(config.cell.params.len()), directions);
            let slots = vec![b.d_unit, du, ids.schedule];
            steps.push(once(Kernel::UnitBackward, Some(layer), dims, slots, grid));
        }
        let dx = if layer == 0 { g.dx } else { b.dy[layer - 1] };
        let rows = (self.shape.time * self.shape.batch).div_ceil(self.tiles.project.1);
        let slots = vec![g.wt[layer], pre, dx, ids.schedule];
        steps.push(once(
            Kernel::InputBackward,
            Some(layer),
            dims,
            slots,
            (inputs.div_ceil(width), Extent::Fixed(rows), 1),
        ));
    }
}

/// `dims`, or [`UNUSED`] if one of them is 0.
fn sized(dims: &[Dim]) -> &[Dim] {
    if dims.iter().any(|d| d.1 == 0) { &UNUSED } else { dims }
}
