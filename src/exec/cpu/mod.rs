//! The CPU executor: one twin per kernel, same names as `shaders/kernels/*`, over the same slots. In f64 it is the oracle of
//! the tests, in f32 what a user gets where there is no GPU.

mod collect;
mod dropout;
mod ends;
mod gemm;
mod heads;
pub(crate) mod network;
mod normalise;
mod optimise;
mod outer;
pub(crate) mod packed;
pub(crate) mod project;
mod rebuild;
mod recur;
mod retrace;
mod scratch;
mod sequence_backward;
mod sequence_forward;
mod skip;
mod state;
mod step_forward;
mod stored;
mod team;
pub(crate) mod threads;
pub(crate) mod tile;
mod weights;
mod zoneout;

use super::states::Ported;
use super::{Common, Element};
use crate::kernels::{HistoryLayout, Kernel};
use crate::model::cell::Functions;
use crate::model::stack::{RowLayout, StageShape};
use crate::model::weights::Weights;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::memory;
use crate::num::random::Masks;
use crate::plan::schedule::Schedule;
use crate::plan::{Caps, DeviceClass, Dims, Dispatch, Plan, Role, Slot, SlotId, Step};
use weights::{PackedLayer, PackedWeights};

/// What the CPU executor offers: memory is the only limit.
pub(crate) fn caps() -> Caps {
    Caps {
        class: DeviceClass::Cpu,
        max_binding: memory(),
        max_buffer: memory(),
        max_workgroup_memory: usize::MAX,
        max_invocations: usize::MAX,
        max_workgroups: usize::MAX >> 8,
        parallel_groups: rayon::current_num_threads(),
        f16: true,
        subgroup: 1,
        max_rounds: usize::MAX,
    }
}

/// The head's sizes as a layer of its own.
struct HeadShape {
    stages: Vec<StageShape>,
    rows: RowLayout,
}

/// A plan bound to memory of this process.
pub(crate) struct Executor<T: Real> {
    slots: Vec<Aligned<T>>,
    /// The values of index slots, under the same ids.
    indices: Vec<Vec<u32>>,
    weights: Common<PackedWeights<T>>,
    head: Option<HeadShape>,
    stages: Vec<StageShape>,
    rows: RowLayout,
    past: HistoryLayout,
    /// What the cell calls, per direction.
    act: Vec<Functions>,
    masks: Masks,
    /// Per slot of y's rows, those that may hold something else than zeros; `None`: any.
    written: Vec<Option<Vec<bool>>>,
}

/// Sees a dispatch after it ran, its step if it runs once per step, and all slots.
pub(crate) type Watch<'a, T> = dyn FnMut(&Dispatch, Option<usize>, &[Aligned<T>]) + 'a;

/// One (layer, direction) of a dispatch that runs once per step.
struct Pair {
    /// Its index along z.
    z: usize,
    direction: usize,
    /// layer · D + direction
    entry: usize,
    /// Its step.
    s: usize,
}

/// What every twin needs besides its slots.
struct Context<'a, T: Real> {
    plan: &'a Plan,
    schedule: &'a Schedule,
    indices: &'a [Vec<u32>],
    embedding: &'a [T],
    layers: &'a [PackedLayer<T>],
    /// Directions of the layer: those of the stack, or 1 for the head.
    directions: usize,
    stages: &'a [StageShape],
    rows: &'a RowLayout,
    past: &'a HistoryLayout,
    act: &'a [Functions],
    masks: Masks,
}

impl<T: Real> Context<'_, T> {
    /// Values of x, `pre` or y as they are stored ([`crate::Options::activations`]).
    fn store(&self, values: &mut [T]) {
        self.plan.options.activations.round(values);
    }

    /// Row of `pre` of packed row `r`; `direction` is the index along z of a dispatch, which in a wave counts layers too.
    fn pre_row(&self, dims: &Dims, direction: usize, r: usize) -> usize {
        // The first step that `pre` holds: in inference each layer of a wave has its own.
        let behind = if self.plan.train { 0 } else { self.lag(dims, direction) };
        let first = self.schedule.row_offset(dims.segment as usize - behind);
        (dims.plane as usize + direction) * dims.pre_rows as usize + r - first
    }

    /// The directions that a kernel which adds to the gradient of x goes through: `Dims::direction`.
    fn input_directions(&self, dims: &Dims) -> std::ops::Range<usize> {
        match dims.direction as usize {
            all if all == self.directions => 0..all,
            one => one..one + 1,
        }
    }

    /// How many steps the layer of index `z` along z is behind the wave's own count.
    fn lag(&self, dims: &Dims, z: usize) -> usize {
        (dims.layer as usize + z / self.directions) * dims.chunk as usize
    }

    /// Where sequence `b` lies in a slot that layers may share one behind the other.
    fn place(&self, dims: &Dims, z: usize, b: usize) -> usize {
        (dims.plane as usize + z) * self.plan.shape.batch + b
    }

    /// The (layer, direction) pairs of a dispatch that runs once per step, those that have steps left.
    fn pairs(&self, d: &Dispatch, step: usize) -> Vec<Pair> {
        let dims = &self.plan.dims[d.dims];
        let pair = |z: usize| Pair {
            z,
            direction: z % self.directions,
            entry: dims.layer as usize * self.directions + z,
            s: step - self.lag(dims, z),
        };
        (0..d.groups.2).map(pair).filter(|pair| pair.s < self.schedule.steps()).collect()
    }

    /// Where the direction's part of the rows of the layer's y, or its gradient, begins, for packed rows from `r` on.
    fn output_rows(&self, dims: &Dims, z: usize, r: usize) -> impl Iterator<Item = usize> {
        let layer = (dims.plane as usize + z) / self.directions;
        let before = layer * self.plan.shape.time * self.plan.shape.batch;
        let (directions, direction) = (self.directions, z % self.directions);
        let rows = self.schedule.rows(direction)[r..].iter();
        rows.map(move |&row| (before + row as usize) * directions + direction)
    }

    /// Rows per sequence that come first in the history: what it had before the segment and, with resets, what its episodes
    /// begin from.
    fn history_heads(&self) -> usize {
        if self.plan.options.resets.is_some() { 2 } else { 1 }
    }

    /// Row of the history that holds what sequence `b` had before the segment's first step, if it goes on there.
    fn history_start(&self, dims: &Dims, direction: usize, b: usize) -> usize {
        let plane = dims.plane as usize + direction;
        plane * (self.history_heads() * dims.batch as usize + dims.pre_rows as usize) + b
    }

    /// Row of the history that holds what an episode of sequence `b` begins from.
    fn history_initial(&self, dims: &Dims, direction: usize, b: usize) -> usize {
        self.history_start(dims, direction, dims.batch as usize + b)
    }

    /// Whether an episode of sequence `b` begins at step `s`.
    fn is_reset(&self, direction: usize, s: usize, b: usize) -> bool {
        let direction = direction % self.directions;
        self.plan.options.resets.is_some() && self.schedule.is_reset(direction, self.schedule.row_offset(s) + b)
    }

    /// Row of the history that holds what sequence `b` had before step `s`.
    fn history_before(&self, dims: &Dims, direction: usize, s: usize, b: usize) -> usize {
        match s > dims.segment as usize {
            _ if self.is_reset(direction, s, b) => self.history_initial(dims, direction, b),
            true => self.history_after(dims, direction, s - 1, b),
            false => self.history_start(dims, direction, b),
        }
    }

    /// Row of the history that holds what sequence `b` has after step `s`.
    fn history_after(&self, dims: &Dims, direction: usize, s: usize, b: usize) -> usize {
        let row = self.schedule.row_offset(s) - self.schedule.row_offset(dims.segment as usize) + b;
        self.history_start(dims, direction, self.history_heads() * dims.batch as usize + row)
    }
}

/// By way of the entries, which are compiled once.
impl<T: Element> Executor<T> {
    pub(crate) fn new(plan: &Plan, weights: &Weights<T>) -> Self {
        T::bind(plan, weights)
    }

    /// Other parameters in the place of those it was made with.
    pub(crate) fn set_weights(&mut self, plan: &Plan, weights: &Weights<T>) {
        T::set_weights(self, plan, weights);
    }

    /// Runs steps of the plan; `watch` sees every dispatch after it ran.
    pub(crate) fn run(&mut self, plan: &Plan, schedule: &Schedule, steps: &[Step], watch: &mut Watch<'_, T>) {
        T::run(self, plan, schedule, steps, (watch, None));
    }

    /// Runs the update of the plan.
    pub(crate) fn update(&mut self, plan: &Plan) {
        T::update(self, plan);
    }
}

impl<T: Real> Executor<T> {
    pub(crate) fn bind(plan: &Plan, weights: &Weights<T>) -> Self {
        let mut executor = Self::with_weights(plan, Common::new(PackedWeights::new(plan, weights)));
        if let Some(update) = &plan.ids.update {
            executor.slots[update.parameters] = Aligned::of(&weights.flat(&plan.config));
        }
        executor
    }

    pub(crate) fn repack(&mut self, plan: &Plan, weights: &Weights<T>) {
        self.weights.put(PackedWeights::new(plan, weights));
        if let Some(update) = &plan.ids.update {
            self.slots[update.parameters] = Aligned::of(&weights.flat(&plan.config));
        }
    }

    /// The same weights for another shape.
    pub(crate) fn sibling(&self, plan: &Plan) -> Self {
        Self::with_weights(plan, self.weights.sibling())
    }

    fn with_weights(plan: &Plan, weights: Common<PackedWeights<T>>) -> Self {
        let memory = |role| !matches!(role, Role::Weights | Role::Schedule | Role::Index | Role::Table);
        let slots = plan.slots.iter().map(|s| Aligned::zeros(if memory(s.role) { s.len() } else { 0 })).collect();
        let indices = |s: &Slot| if s.role == Role::Index { vec![0; s.len()] } else { Vec::new() };
        Self {
            slots,
            indices: plan.slots.iter().map(indices).collect(),
            weights,
            head: plan.config.head_layer().map(|h| HeadShape { stages: h.stages(), rows: h.row_layout(false) }),
            stages: plan.config.stages(),
            rows: plan.config.row_layout(plan.train),
            past: HistoryLayout::new(&plan.config, &plan.config.stages()),
            act: (0..plan.config.directions()).map(|d| Functions::new(&plan.config, d)).collect(),
            masks: Masks::none(),
            written: vec![Some(Vec::new()); plan.slots.len()],
        }
    }

    /// Runs to come take the weights of now, and until it is said otherwise no others; for runs that are made of several.
    pub(crate) fn hold_weights(&mut self, held: bool) {
        if held { self.weights.hold() } else { self.weights.release() }
    }

    pub(crate) fn slot(&self, id: SlotId) -> &[T] {
        &self.slots[id]
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> &mut [T] {
        self.written[id] = None;
        &mut self.slots[id]
    }

    pub(crate) fn indices_mut(&mut self, id: SlotId) -> &mut [u32] {
        &mut self.indices[id]
    }

    pub(crate) fn slot_memory(&mut self, id: SlotId) -> &mut Aligned<T> {
        self.written[id] = None;
        &mut self.slots[id]
    }

    /// Zeros in the rows of y past sequences' ends, where there are not zeros already: only what earlier runs wrote there.
    fn clear_padding(&mut self, plan: &Plan, schedule: &Schedule, slot: SlotId) {
        if !schedule.is_ragged() {
            self.written[slot] = None;
            return;
        }
        let (time, rows) = (plan.shape.time, plan.shape.time * plan.shape.batch);
        let width = plan.config.directions() * plan.config.state_size();
        let mut now = vec![false; rows];
        schedule.rows(0)[..schedule.row_offset(time)].iter().for_each(|&row| now[row as usize] = true);
        match self.written[slot].take() {
            None => self.slots[slot].fill(T::default()),
            Some(before) => {
                let stale = |row: usize| !now[row] && before.get(row) == Some(&true);
                for layer in self.slots[slot].chunks_exact_mut(rows * width) {
                    for (_, values) in layer.chunks_exact_mut(width).enumerate().filter(|(row, _)| stale(*row)) {
                        values.fill(T::default());
                    }
                }
            }
        }
        self.written[slot] = Some(now);
    }

    /// Sets the masks of the runs to come.
    pub(crate) fn set_masks(&mut self, masks: Masks) {
        self.masks = masks;
    }

    pub(crate) fn walk(
        &mut self,
        plan: &Plan,
        schedule: &Schedule,
        steps: &[Step],
        watch: &mut Watch<'_, T>,
        mut streams: Option<&mut Ported<'_, T>>,
    ) {
        let weights: &PackedWeights<T> = &self.weights.get();
        for step in steps {
            match step {
                Step::ClearPadding(slot) => {
                    self.clear_padding(plan, schedule, *slot);
                }
                Step::Once(d) => {
                    if plan.groups_y(d, schedule, None) > 0 {
                        self.dispatch(plan, schedule, d, None, (weights, streams.as_deref_mut()));
                        watch(d, None, &self.slots);
                    }
                }
                Step::EachStep(range, body) => {
                    for s in plan.steps_of(range, body, schedule) {
                        for d in body {
                            self.dispatch(plan, schedule, d, Some(s), (weights, None));
                            watch(d, Some(s), &self.slots);
                        }
                    }
                }
                Step::EachStepBack(range, body) => {
                    for s in plan.steps_of(range, body, schedule).rev() {
                        for d in body {
                            self.dispatch(plan, schedule, d, Some(s), (weights, None));
                            watch(d, Some(s), &self.slots);
                        }
                    }
                }
            }
        }
    }

    fn dispatch(
        &mut self,
        plan: &Plan,
        schedule: &Schedule,
        d: &Dispatch,
        step: Option<usize>,
        (weights, streams): (&PackedWeights<T>, Option<&mut Ported<'_, T>>),
    ) {
        let ids = match (&d.odd, step) {
            (Some(odd), Some(s)) if s % 2 == 1 => odd,
            _ => &d.slots,
        };
        // Taken out of the table so that several can be borrowed at once; a slot bound twice is taken once.
        let mut taken: Vec<Aligned<T>> = ids.iter().map(|&id| std::mem::take(&mut self.slots[id])).collect();
        let (layers, stages, rows, directions) = match self.head.as_ref().filter(|_| d.head) {
            Some(head) => (&weights.head, &head.stages, &head.rows, 1),
            None => (&weights.layers, &self.stages, &self.rows, plan.config.directions()),
        };
        let (indices, embedding) = (&self.indices, &weights.embedding);
        let (past, act) = (&self.past, &self.act);
        let masks = self.masks;
        let context =
            Context { plan, schedule, indices, embedding, layers, directions, stages, rows, past, act, masks };
        match d.kernel {
            Kernel::LoadState => match streams {
                Some(streams) => state::load_streams(&context, &mut taken, streams),
                None => state::load_state(&context, &mut taken),
            },
            Kernel::StoreState => match streams {
                Some(streams) => state::store_streams(&context, &taken, ids, streams),
                None => state::store_state(&context, &mut taken, ids),
            },
            Kernel::ProjectVec4 | Kernel::ProjectScalar => project::project(&context, d, &mut taken),
            Kernel::SkipInput => skip::skip_input(&context, d, &mut taken),
            Kernel::SequenceForward | Kernel::SequenceForwardTrain => {
                sequence_forward::sequence_forward(&context, d, &mut taken);
            }
            Kernel::StepForward | Kernel::StepForwardTrain | Kernel::StepNormalise | Kernel::StepNormaliseTrain => {
                step_forward::step_forward(&context, d, step.unwrap_or(0), &mut taken);
            }
            Kernel::NormaliseInput => normalise::normalise_input(&context, d, &mut taken),
            Kernel::RebuildNormalise => rebuild::rebuild_normalise(&context, d, &mut taken),
            Kernel::StepNormaliseBackward => {
                normalise::step_normalise_backward(&context, d, step.unwrap_or(0), &mut taken);
            }
            Kernel::StepProduct => step_forward::step_product(&context, d, step.unwrap_or(0), &mut taken),
            Kernel::BeginSegment => state::begin_segment(&context, d, &mut taken),
            Kernel::SaveCheckpoint => state::save_checkpoint(&context, d, &mut taken),
            Kernel::LoadCheckpoint => state::load_checkpoint(&context, d, &mut taken),
            Kernel::ResetState => state::reset_state(&context, d, step.unwrap_or(0), &mut taken),
            Kernel::SaveHistory => rebuild::save_history(&context, d, &mut taken),
            Kernel::LoadHistory => rebuild::load_history(&context, d, &mut taken),
            Kernel::Rebuild => rebuild::rebuild(&context, d, &mut taken),
            Kernel::Clear => state::clear(&mut taken),
            Kernel::StoreY => state::store_y(&context, d, &mut taken),
            Kernel::LoadDy => state::load_dy(&context, d, &mut taken),
            Kernel::CarryGradient => sequence_backward::carry_gradient(&context, d, &mut taken),
            Kernel::LoadGradient => sequence_backward::load_gradient(&context, d, &mut taken),
            Kernel::SequenceBackward => sequence_backward::sequence_backward(&context, d, &mut taken),
            Kernel::StepBackward => sequence_backward::step_backward(&context, d, step.unwrap_or(0), &mut taken),
            Kernel::StoreGradient => sequence_backward::store_gradient(&context, d, &mut taken),
            Kernel::InputBackward => collect::input_backward(&context, d, &mut taken),
            Kernel::SkipBackward => skip::skip_backward(&context, d, &mut taken),
            Kernel::WeightBackwardInput | Kernel::WeightBackwardRecurrent => {
                collect::weight_backward(&context, d, &mut taken);
            }
            Kernel::UnitBackward => collect::unit_backward(&context, d, &mut taken),
            Kernel::Embed => ends::embed(&context, d, &mut taken),
            Kernel::EmbedBackward => ends::embed_backward(&context, d, &mut taken),
            Kernel::LossMeanSquared => ends::loss_mean_squared(&context, &mut taken),
            Kernel::LossCrossEntropy => ends::loss_cross_entropy(&context, d, &mut taken),
            Kernel::LossSum => ends::loss_sum(&context, &mut taken),
            Kernel::Dropout | Kernel::DropoutCopy => dropout::dropout(&context, d, &mut taken),
            Kernel::GatherGradient
            | Kernel::SquareSum
            | Kernel::Clip
            | Kernel::UpdateSgd
            | Kernel::UpdateMomentum
            | Kernel::UpdateAdam
            | Kernel::Pack => unreachable!("part of the update: optimise.rs"),
        }
        for (&id, slot) in ids.iter().zip(taken).rev() {
            if !slot.is_empty() {
                self.slots[id] = slot;
            }
        }
        for (slot, values) in plan.cleared_after(d, schedule) {
            self.slots[slot][values].fill(T::default());
        }
    }
}
