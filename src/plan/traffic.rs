//! What a dispatch must move between device memory and the processor at least.
//!
//! The model. Within a dispatch caches are perfect: of every buffer it binds, a value that the kernel reads counts as read once
//! and a value that it writes as written once, however many lanes or workgroups do; of a value that it adds to, both. Between
//! dispatches nothing is kept: weights that a dispatch per step needs are read at every step. (A cache that holds R from step to
//! step beats this count; [`super::PassWork::slot_bytes`] is the count for a cache that holds everything.) Values are as large as
//! the slot's elements; packed weights count with their padding, the other slots without. The sequences are all T steps long.
//! Not counted: the schedule's table, uniform blocks, dropout masks (they are computed), and the rows that episodes begin from.

use super::{Dispatch, Plan};
use crate::kernels::{HistoryLayout, KeptLayout, Kernel, transposed_offsets, weight_offsets};
use crate::model::stack::{RnnConfig, StageShape};
use crate::model::weights::WeightFormat;

/// Bytes read and written.
type Traffic = (u64, u64);

/// Sizes that the counts of a dispatch are made of.
struct Sizes<'a> {
    plan: &'a Plan,
    d: &'a Dispatch,
    config: &'a RnnConfig,
    stages: &'a [StageShape],
    /// D·B: sequences of a layer, times the layers that run side by side.
    sequences: usize,
    /// D·B times the steps of the block, of all layers.
    rows: usize,
    /// How often R is read.
    loads: usize,
}

impl Plan {
    /// Bytes that all runs of a dispatch read and write: of one that runs once per step, over its block.
    pub(super) fn dispatch_traffic(&self, d: &Dispatch) -> Traffic {
        let head = self.config.head_layer().filter(|_| d.head);
        let config = head.as_ref().unwrap_or(&self.config);
        let (batch, steps, stages) = (self.shape.batch, self.layer_steps(d), config.stages());
        let layers = d.groups.2 / config.directions();
        let loads = if d.kernel.is_per_step() { steps } else { layers.max(1) };
        let rows = config.directions() * batch * steps;
        Sizes { plan: self, d, config, stages: &stages, sequences: d.groups.2 * batch, rows, loads }.traffic()
    }
}

impl Sizes<'_> {
    fn traffic(&self) -> Traffic {
        match self.d.kernel {
            Kernel::ProjectVec4 | Kernel::ProjectScalar | Kernel::SkipInput => {
                (self.input_rows() + self.slot(1), self.values(2, self.rows * self.inputs()))
            }
            Kernel::NormaliseInput => {
                let columns = self.rows * self.stage().stage.input_gates() * self.stage().units;
                let scales = if self.plan.train { self.rows } else { 0 };
                (self.values(0, columns), self.values(0, columns + scales))
            }
            Kernel::StepForward
            | Kernel::StepForwardTrain
            | Kernel::StepProduct
            | Kernel::StepNormalise
            | Kernel::StepNormaliseTrain => self.step_forward(),
            Kernel::SequenceForward | Kernel::SequenceForwardTrain => self.sequence_forward(),
            Kernel::Rebuild | Kernel::RebuildNormalise => self.rebuild(),
            Kernel::StepBackward | Kernel::StepNormaliseBackward => self.step_backward(),
            Kernel::SequenceBackward => self.sequence_backward(),
            Kernel::WeightBackwardInput | Kernel::WeightBackwardRecurrent => self.weight_backward(),
            Kernel::InputBackward | Kernel::SkipBackward => self.input_backward(),
            Kernel::CarryGradient => {
                let first = &self.stages[0];
                let pre = self.sequences * first.stage.recurrent_gates() * first.units;
                let read = self.transposed(0).0 + self.values(1, pre);
                (read, self.values(2, self.sequences * self.config.state_size()))
            }
            _ => self.copies(),
        }
    }

    fn stage(&self) -> &StageShape {
        &self.stages[self.d.stage]
    }

    fn is_last(&self) -> bool {
        self.d.stage + 1 == self.stages.len()
    }

    /// Bytes of so many values of the slot at a binding.
    fn values(&self, binding: usize, count: usize) -> u64 {
        count as u64 * self.plan.slots[self.d.slots[binding]].element as u64
    }

    /// Bytes of all of it.
    fn slot(&self, binding: usize) -> u64 {
        self.plan.slots[self.d.slots[binding]].bytes()
    }

    /// Columns of `pre` that see x.
    fn inputs(&self) -> usize {
        self.config.row_layout(false).inputs
    }

    /// The rows of x that a block of steps reads, both directions, each once.
    fn input_rows(&self) -> u64 {
        let binding = usize::from(self.d.kernel == Kernel::WeightBackwardInput);
        let dims = &self.plan.dims[self.d.dims];
        let (first, end, time) = (dims.first as usize, dims.end as usize, dims.time as usize);
        // The reverse direction reads the times T - end .. T - first.
        let both = end.min(time - first).saturating_sub(first.max(time - end));
        let times = if self.config.directions() == 2 { 2 * (end - first) - both } else { end - first };
        self.values(binding, times * self.plan.shape.batch * dims.input_size as usize)
    }

    /// Bytes of a stage's matrix, all directions, and of its unit parameters (and scales).
    fn packed(&self, starts: &[(usize, usize)], total: usize, stage: usize, binding: usize) -> (u64, u64) {
        let (matrix, params) = starts[stage];
        let end = starts.get(stage + 1).map_or(total, |next| next.0);
        let bytes = |entries: usize| self.values(binding, entries * 4 * self.config.directions() * self.loads);
        // An empty pack is one entry that nothing reads.
        (bytes(params - matrix), bytes(end.max(params) - params))
    }

    fn format(&self) -> WeightFormat {
        self.plan.weight_storage()
    }

    /// The same of R, at the binding of the weights.
    fn recurrent(&self, stage: usize) -> (u64, u64) {
        let offsets = weight_offsets(self.stages, self.format());
        self.packed(&offsets.stages, offsets.total, stage, self.binding("weights"))
    }

    /// Those of all stages, as a pack of so many entries.
    fn whole(&self, entries: usize) -> u64 {
        self.named("weights", entries * 4 * self.config.directions() * self.loads)
    }

    /// The same of Rᵀ.
    fn transposed(&self, stage: usize) -> (u64, u64) {
        let offsets = transposed_offsets(self.stages, self.format());
        self.packed(&offsets.stages, offsets.total, stage, self.binding("weights"))
    }

    /// Which storage binding has a name.
    fn binding(&self, name: &str) -> usize {
        use crate::kernels::Access::Uniform;
        let mut storage = self.d.kernel.bindings().iter().filter(|b| b.1 != Uniform);
        storage.position(|b| b.0 == name).unwrap_or_else(|| unreachable!("{name} is bound"))
    }

    /// `count` values of a named binding.
    fn named(&self, name: &str, count: usize) -> u64 {
        self.values(self.binding(name), count)
    }

    /// h of every row, twice where recurrent dropout keeps it beside what products see.
    fn out_values(&self, stage: &StageShape) -> usize {
        let twice = if self.is_last() && self.config.drops_recurrent(self.plan.train) { 2 } else { 1 };
        self.rows * stage.units * twice
    }

    fn step_forward(&self) -> Traffic {
        let (stage, rows, kernel) = (self.stage(), self.rows, self.d.kernel);
        let (matrix, params) = self.recurrent(self.d.stage);
        let product = rows * stage.stage.recurrent_gates() * stage.units;
        if kernel == Kernel::StepProduct {
            let scales = if self.format().scaled() { params } else { 0 };
            return (matrix + scales + self.named("operand", rows * stage.operand), self.named("product", product));
        }
        let states = rows * stage.states * stage.units;
        let mut read =
            params + self.named("pre", rows * stage.stage.input_gates() * stage.units) + self.named("state", states);
        read += match kernel {
            Kernel::StepForward | Kernel::StepForwardTrain => matrix + self.named("operand", rows * stage.operand),
            _ => self.named("product", product),
        };
        let mut write = self.named("out", self.out_values(stage)) + self.named("state", states);
        if self.is_last() && self.d.write_y {
            write += self.named("y", rows * stage.units);
        }
        if matches!(kernel, Kernel::StepForwardTrain | Kernel::StepNormaliseTrain) {
            write += self.named("pre", self.kept_gates(stage)) + self.named("history", rows * stage.units + states);
        }
        (read, write)
    }

    /// Values of `pre` that a stage leaves in training; of a normalising stage its product and the statistic, W x being there.
    fn kept_gates(&self, stage: &StageShape) -> usize {
        match stage.stage.normalise {
            true => self.rows * (stage.stage.recurrent_gates() * stage.units + 1),
            false => self.rows * stage.stage.gates.len() * stage.units,
        }
    }

    fn sequence_forward(&self) -> Traffic {
        let (rows, config) = (self.rows, self.config);
        let carried = self.named("operand", self.sequences * config.operand_row(self.plan.train))
            + self.named("state", self.sequences * config.states().len() * config.hidden_size);
        let weights = self.whole(weight_offsets(self.stages, self.format()).total);
        let read = weights + self.named("pre", rows * self.inputs()) + carried;
        let mut write = carried;
        if self.d.write_y {
            write += self.named("y", rows * config.state_size());
        }
        if self.d.kernel == Kernel::SequenceForwardTrain {
            let kept: usize = self.stages.iter().map(|s| self.kept_gates(s)).sum();
            write += self.named("pre", kept);
            write += self.named("history", rows * HistoryLayout::new(config, self.stages).width);
        }
        (read, write)
    }

    fn rebuild(&self) -> Traffic {
        let (stage, rows) = (self.stage(), self.rows);
        let (matrix, params) = self.recurrent(self.d.stage);
        let product = rows * stage.stage.recurrent_gates() * stage.units;
        let inputs = rows * stage.stage.input_gates() * stage.units;
        let states = rows * stage.states * stage.units;
        // The `out` of a stage that another follows is made again too.
        let makes_out = !self.is_last() && (self.d.kernel == Kernel::RebuildNormalise || !stage.stage.normalise);
        let (more, out) = match makes_out {
            true => (self.named("history", states), self.named("history", rows * stage.units)),
            false => (0, 0),
        };
        if self.d.kernel == Kernel::RebuildNormalise {
            let of_out = if makes_out { params + self.named("pre", inputs) } else { 0 };
            return (self.named("pre", product) + of_out + more, self.named("pre", product + rows) + out);
        }
        let operand = matrix + self.named("history", rows * stage.operand);
        match stage.stage.normalise {
            true => (operand, self.named("pre", product)),
            false => {
                let gates = self.named("pre", self.kept_gates(stage));
                (operand + params + self.named("pre", inputs) + more, gates + out)
            }
        }
    }

    fn step_backward(&self) -> Traffic {
        let (stage, rows) = (self.stage(), self.rows);
        let gates = rows * stage.stage.gates.len() * stage.units;
        if self.d.kernel == Kernel::StepNormaliseBackward {
            let scales = rows * (1 + usize::from(stage.stage.normalises_input()));
            return (self.named("d_unit", gates) + self.named("pre", gates + scales), self.named("pre", gates));
        }
        // `out` of this stage is what the next one multiplies: the following one, or the first at the next step.
        let following = if self.is_last() { 0 } else { self.d.stage + 1 };
        let next = &self.stages[following];
        let gathered = rows * next.stage.recurrent_gates() * next.units;
        let states = rows * stage.states * stage.units;
        let mut read = self.transposed(following).0
            + self.transposed(self.d.stage).1
            + self.named("pre", gathered + gates)
            + self.named("history", states)
            + self.named("d_state", states);
        if self.is_last() && self.d.write_y {
            read += self.named("dy", rows * stage.units);
        }
        let sums = rows * (stage.params + 2 * stage.stage.gains()) * stage.units;
        let waiting = rows * stage.stage.gains() * stage.units;
        read += self.named("d_unit", sums);
        let own = if stage.stage.normalise { 0 } else { self.named("pre", gates) };
        (read, own + self.named("d_state", states) + self.named("d_unit", sums + waiting))
    }

    fn sequence_backward(&self) -> Traffic {
        let (config, rows) = (self.config, self.rows);
        let row = config.row_layout(true);
        let gates: usize = self.stages.iter().map(|s| s.stage.gates.len() * s.units).sum();
        let states = config.states().len() * config.hidden_size;
        let carried = self.named("d_state", self.sequences * states)
            + self.named("d_unit", self.sequences * config.cell.unit_sums() * config.hidden_size);
        let mut read = self.whole(transposed_offsets(self.stages, self.format()).total)
            + self.named("pre", rows * row.width)
            + self.named("history", rows * states)
            + self.named("d_hidden", self.sequences * config.state_size())
            + carried;
        if self.d.write_y {
            read += self.named("dy", rows * config.state_size());
        }
        (read, self.named("pre", rows * gates) + carried)
    }

    /// The running sums of the gradient are read, but by the first stretch: the last in time.
    fn weight_backward(&self) -> Traffic {
        let dims = &self.plan.dims[self.d.dims];
        let gradient = self.slot(self.binding("gradient"));
        let sums = if dims.end < dims.time || dims.accumulate == 1 { gradient } else { 0 };
        let operands = if self.d.kernel == Kernel::WeightBackwardInput {
            self.named("pre", self.rows * self.inputs()) + self.input_rows()
        } else {
            let stage = self.stage();
            self.named("pre", self.rows * stage.stage.recurrent_gates() * stage.units)
                + self.named("operand", self.rows * stage.operand)
        };
        (operands + sums, gradient)
    }

    /// One direction over a stretch of steps, or both over all of time, added to what is there.
    fn input_backward(&self) -> Traffic {
        let dims = &self.plan.dims[self.d.dims];
        let rows = (dims.end - dims.first) as usize * self.plan.shape.batch;
        let dx = self.named("dx", rows * dims.input_size as usize);
        let weights = match self.d.kernel {
            Kernel::InputBackward => self.slot(self.binding("weights")) / self.config.directions() as u64,
            _ => 0,
        };
        let directions = if dims.direction as usize == self.config.directions() { dims.direction } else { 1 };
        (u64::from(directions) * (weights + self.named("pre", rows * self.inputs())) + dx, dx)
    }

    /// Kernels that copy and add element by element: what they bind, or the part of it that belongs to the layer and segment.
    fn copies(&self) -> Traffic {
        let (config, plan) = (self.config, self.plan);
        let dims = &plan.dims[self.d.dims];
        let (h, p, states) = (config.hidden_size, config.state_size(), config.states().len());
        let given = p + config.cell_size();
        let own = self.sequences;
        let bytes = |count: usize| (count * plan.precision.bytes()) as u64;
        let (row, kept) = (config.operand_row(plan.train), KeptLayout::new(config).width);
        let segment = (dims.segment_end - dims.segment) as usize * own;
        let sums = config.cell.unit_sums() * h;
        match self.d.kernel {
            Kernel::LoadState => (bytes(own * given), bytes(own * (row + states * h))),
            Kernel::StoreState => (bytes(own * given), bytes(own * given)),
            // Flags only, where no episode begins.
            Kernel::ResetState => (0, 0),
            Kernel::BeginSegment => (bytes(own * (p + states * h)), bytes(own * (p + states * h))),
            Kernel::SaveCheckpoint | Kernel::LoadCheckpoint => {
                (bytes(own * (row + states * h)), bytes(own * (row + states * h)))
            }
            Kernel::SaveHistory | Kernel::LoadHistory => (bytes(segment * kept), bytes(segment * kept)),
            Kernel::LoadGradient => (bytes(own * given), bytes(own * (p + states * h + sums))),
            Kernel::StoreGradient => (bytes(own * given), bytes(own * given)),
            Kernel::UnitBackward => (bytes(own * sums), self.named("gradient", config.directions() * sums)),
            Kernel::Embed => {
                let rows = plan.shape.time * plan.shape.batch;
                let table = self.named("table", rows.min(config.vocabulary.unwrap_or(rows)) * config.input_size);
                (self.slot(self.binding("ids")) + table, self.slot(self.binding("x")))
            }
            Kernel::Dropout => (self.slot(0), self.slot(0)),
            // The last layer's part of a slot of all layers.
            Kernel::StoreY | Kernel::LoadDy => (self.slot(0).min(self.slot(1)), self.slot(0).min(self.slot(1))),
            // As many values as are gathered or packed.
            Kernel::GatherGradient => (2 * self.slot(self.binding("values")), self.slot(self.binding("values"))),
            Kernel::Pack => (self.slot(self.binding("table")) + self.slot(self.binding("parameters")), self.slot(2)),
            Kernel::UpdateSgd | Kernel::UpdateMomentum | Kernel::UpdateAdam => {
                let (read, written) = self.bound();
                (read + written, written)
            }
            _ => self.bound(),
        }
    }

    /// Every slot that the dispatch binds, whole.
    fn bound(&self) -> Traffic {
        use crate::kernels::Access::{Read, ReadWrite, Uniform};
        let storage = self.d.kernel.bindings().iter().filter(|b| b.1 != Uniform);
        let sum = |access| {
            let bound = storage.clone().enumerate().filter(|(_, b)| b.1 == access && b.0 != "schedule");
            bound.map(|(binding, _)| self.slot(binding)).sum()
        };
        (sum(Read), sum(ReadWrite))
    }
}
