//! The plan: every size, every choice and why, as pure data. No GPU is needed to make, print, compare or test one.
//!
//! ```text
//! clear y                         its padding is 0                  if the batch is ragged
//! load_state                      h0, c0 -> operand, state          once
//! dropout                         x -> x.dropped, or embedded x     training with dropout of the input
//! for each layer, each block of steps
//!     project                     x·Wᵀ + b -> pre                   one matrix product, both directions; skip_input without W
//!     normalise_input             its row statistic, in place       per normalising stage that sees x
//!     Step:     step_forward      per step and stage: the dispatch boundary is the grid barrier
//!               step_product, step_normalise                        instead, of a normalising stage
//!     Sequence: sequence_forward  the block's steps inside the kernel
//!     dropout                     over the layer's y, in place      training with dropout, not after the last layer
//! store_state                     operand, state -> hn, cn          once
//! ```
//!
//! An embedding in front and a dense head with its loss behind are in `ends.rs`.
//!
//! A training plan (`Options::train`) has a second list, `backward`, explained in `backward.rs`; one with an optimiser a third,
//! `update`, explained in `update.rs`.
//!
//! Both executors walk `steps` over the same `slots`. What decides the order of additions (strategy, stages) depends on
//! (config, device) or is forced, never on T, B or lengths; tiles and blocks follow T and B but change no bits.

mod activations;
mod backward;
mod build;
mod choices;
mod display;
mod empty;
mod ends;
mod floor;
mod limits;
pub(crate) mod network;
mod origin;
mod recompute;
mod resets;
pub(crate) mod schedule;
mod shaders;
mod tiles;
mod traffic;
pub(crate) mod tuning;
mod update;
mod wavefront;
mod work;

use crate::error::{Error, Result};
use crate::kernels::{Flat, GRADIENT_BLOCK, Kernel, Pack, Table, Tiles};
use crate::model::activation_format::ActivationFormat;
use crate::model::optimiser::Optimiser;
pub use crate::model::stack::{Empty, Reset};
use crate::model::stack::{RnnConfig, Shape};
use crate::model::weights::WeightFormat;
use crate::num::Real;
use build::Builder;
pub(crate) use build::cell_dim;
use choices::choose_stretches;
pub(crate) use choices::seconds_of;
use ends::head_products;
pub use ends::{EmbeddingGradientIds, EmbeddingIds, HeadGradientIds, HeadIds, LossIds};
pub use floor::{Floor, Rates};
use limits::check_sizes;
use origin::Chosen;
pub use origin::{Choices, Origin};
use recompute::recompute_segment;
use schedule::Schedule;
pub use shaders::Shader;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tuning::Tuning;
pub use wavefront::Wavefront;
use wavefront::{choose_wavefront, stacks_weights};
pub use work::{Amount, DispatchWork, KernelWork, PassWork, Work};

/// What the planner must know of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// What kind of machine runs the plan.
    pub class: DeviceClass,
    /// Bytes of one storage binding.
    pub max_binding: u64,
    /// Bytes of one buffer; of all slots together on the CPU executor.
    pub max_buffer: u64,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: usize,
    /// Invocations of one workgroup.
    pub max_invocations: usize,
    /// Workgroups along one dimension.
    pub max_workgroups: usize,
    /// Workgroups that keep the device busy.
    pub parallel_groups: usize,
    /// Whether shaders may store f16 (wgpu's `Features::SHADER_F16`): what [`ActivationFormat::F16`] needs.
    pub f16: bool,
    /// Lanes of a subgroup, where it is known to have always as many in the order of their index; else 1.
    pub subgroup: usize,
    /// Rounds of all loops of an invocation together, past which the device ends them without a word; `usize::MAX`: it never does.
    pub max_rounds: usize,
}

/// What Mesa's llvmpipe up to 22.3 lets loops go round (LP_MAX_TGSI_LOOP_ITERATIONS): taken of software rasterisers that could not be
/// asked.
pub(crate) const FEW_ROUNDS: usize = 65_535;

impl Caps {
    /// A GPU with no more than WebGPU promises of every one: what a plan for devices that are not there yet is made for.
    pub fn webgpu() -> Self {
        let l = wgpu::Limits::default();
        Self {
            class: DeviceClass::Gpu,
            max_binding: l.max_storage_buffer_binding_size,
            max_buffer: l.max_buffer_size,
            max_workgroup_memory: l.max_compute_workgroup_storage_size as usize,
            max_invocations: l.max_compute_invocations_per_workgroup as usize,
            max_workgroups: l.max_compute_workgroups_per_dimension as usize,
            parallel_groups: 64,
            f16: false,
            subgroup: 1,
            max_rounds: usize::MAX,
        }
    }
}

/// Device classes that the planner's choices differ for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// The CPU executor.
    Cpu,
    /// A GPU.
    Gpu,
    /// A software rasteriser (lavapipe, WARP, SwiftShader) behind the GPU API.
    SoftwareGpu,
}

/// How the time loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One dispatch per time step (and stage); any H.
    Step,
    /// The time loop inside the kernel; small H on a GPU, any H on the CPU executor.
    Sequence,
}

/// The element type of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits, CPU executor only.
    F64,
}

impl Precision {
    /// That of plans for sessions over `T`.
    pub(crate) fn of<T: crate::num::Real>() -> Self {
        if T::NAME == "f64" { Self::F64 } else { Self::F32 }
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 8 }
    }
}

/// What a training plan keeps from the forward pass for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Memory {
    /// Everything: pre-activations and states of every step. Nothing is computed twice.
    #[default]
    Save,
    /// h, and c where the cell has one, of every step. The backward pass makes pre-activations and operands between stages again
    /// from them, by matrix products over many steps at once. On the CPU executor, where these add in another order than the
    /// recurrence, gradients may differ from those of `Save` by roundings.
    Recompute,
    /// The states before every stretch of so many steps (rounded up to a multiple of 64); the backward pass runs each
    /// stretch again. The same bits as `Save`.
    Checkpoint(usize),
    /// `Save` if the plan then fits so many bytes, else the longest stretches that do; an error if none do.
    Auto(u64),
}

/// What the user may force.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Forces the strategy.
    pub strategy: Option<Strategy>,
    /// Whether layers of a stack run side by side, each some steps behind the one below it. The bits are the same either way.
    pub wavefront: Wavefront,
    /// Element type.
    pub precision: Precision,
    /// How the matrices of the parameters are stored. All arithmetic stays in `precision`; with an optimiser so do the parameters
    /// that it updates, and what is computed with is rounded from them after every update (beyond the format's range: infinite).
    pub weights: WeightFormat,
    /// How x, the x parts of the gates and y of every layer are stored, what grows with T. All arithmetic, h, states, hn and cn stay
    /// in `precision`. y is then what a value of 16 bits can hold (its last step is not hn's bits), an x beyond 65504 is infinite.
    /// Inference only; on a GPU only where [`Caps::f16`].
    pub activations: ActivationFormat,
    /// Whether y is given (and, in training, its gradient taken). Without it long sequences need no memory for y: only the last
    /// states are given.
    pub keep_y: bool,
    /// What training keeps.
    pub memory: Memory,
    /// Plans the backward pass too: the forward pass keeps what it needs ([`crate::Session::backward`]).
    pub train: bool,
    /// Plans updates of the parameters on the device ([`crate::Session::update`]); only for plans that train.
    pub optimiser: Option<Optimiser>,
    /// Clips the gradient of all parameters together to this L2 norm before every update, as PyTorch's
    /// `torch.nn.utils.clip_grad_norm_`: gradients are multiplied by min(1, `clip_norm` / (norm + 1e-6)).
    pub clip_norm: Option<f32>,
    /// Whether the gradients of the parameters add up over backward passes until [`crate::Session::clear_gradients`] or the next
    /// update. Those of x, h0 and c0 never do.
    pub accumulate: bool,
    /// Whether episodes may begin inside a run ([`crate::Input::resets`]), and from which state. Without it kernels know nothing
    /// of them.
    pub resets: Option<Reset>,
    /// What hn and cn of a sequence of length 0 are: zeros (the default), or its initial state.
    pub empty: Empty,
    /// Chooses tiles, and whether layers run side by side, as for so many steps and sequences instead of the plan's own: plans of all
    /// shapes then run the same kernels, and a GPU compiles nothing for another one. The same bits; slower the further a shape is
    /// from this one. `None` (the default): as for the plan's own shape.
    pub nominal: Option<Shape>,
    /// Steps per block at most: the longest stretch of time one `sequence_forward` dispatch covers and `pre` is held for.
    pub max_block: Option<usize>,
    /// Chooses kernels and tiles as for another class of device than the one that runs the plan, which must be a GPU of some class:
    /// with `Gpu` a software rasteriser runs what a real GPU would, so that it can be tested without one. The same bits, slower; for
    /// small sizes only, as Mesa's llvmpipe ends long loops of large tiles early.
    pub kernels: Option<DeviceClass>,
    /// Estimated time that one submit, and one dispatch, may take before the plan splits it into several (watchdogs kill long
    /// ones); [`Plan::estimate`] says what cannot be split.
    pub submit_budget: Duration,
    /// What was measured on the device that the plan is for ([`crate::Tuning::load`], `wgpu-rnn tune`): goes before the table by
    /// device class, behind what is forced. `None`: nothing is looked up anywhere.
    pub tuning: Option<Arc<Tuning>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: None,
            wavefront: Wavefront::Auto,
            precision: Precision::F32,
            weights: WeightFormat::F32,
            activations: ActivationFormat::F32,
            keep_y: true,
            memory: Memory::Save,
            train: false,
            optimiser: None,
            clip_norm: None,
            accumulate: false,
            resets: None,
            empty: Empty::Zero,
            nominal: None,
            max_block: None,
            kernels: None,
            submit_budget: Duration::from_millis(500),
            tuning: None,
        }
    }
}

/// Index into [`PlanData::slots`].
pub type SlotId = usize;

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written by the caller.
    Input,
    /// Read by the caller.
    Output,
    /// Parameters, packed by the executor.
    Weights,
    /// The schedule's table (u32).
    Schedule,
    /// Token ids, classes and their index tables (u32), from the caller.
    Index,
    /// Working memory.
    Scratch,
    /// Parameters as the optimiser sees them, and its memory: what lives from update to update.
    Parameters,
    /// An index table of the update (u32; the CPU executor keeps none).
    Table,
}

/// A named, sized piece of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Named dimensions, outermost first.
    pub dims: Vec<(&'static str, usize)>,
    /// What it is for.
    pub role: Role,
    /// Bytes per element.
    pub element: usize,
}

impl Slot {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().map(|d| d.1).product()
    }
    /// Never: every dimension is at least 1.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether its elements are f16: an activation's. (Weights are words, whatever their format.)
    pub(crate) fn is_half(&self) -> bool {
        self.element == 2 && self.role != Role::Weights
    }
    /// Size in bytes (of an absurd request, at most `u64::MAX`).
    pub fn bytes(&self) -> u64 {
        self.dims.iter().fold(self.element as u64, |bytes, d| bytes.saturating_mul(d.1 as u64))
    }
}

/// Workgroups along y, known once the lengths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Tiles of so many of the block's packed rows.
    Rows(usize),
    /// Tiles of so many of the sequences running at the step (or at the block's first).
    Active(usize),
    /// One per sequence.
    Batch,
    /// So many.
    Fixed(usize),
    /// Tiles of so many of the segment's packed rows.
    SegmentRows(usize),
}

/// One kernel run.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: Kernel,
    /// The stage, for per-stage kernels.
    pub stage: usize,
    /// The layer, or `None` for all.
    pub layer: Option<usize>,
    /// Index into [`PlanData::dims`].
    pub dims: usize,
    /// Whether y, or its gradient, exists for this dispatch.
    pub write_y: bool,
    /// Whether it works on the head, as a layer of its own.
    pub head: bool,
    /// One slot per storage binding, in the kernel table's order.
    pub slots: Vec<SlotId>,
    /// The same for odd steps, where buffers swap.
    pub odd: Option<Vec<SlotId>>,
    /// Workgroups along x, y, z.
    pub groups: (usize, Extent, usize),
}

/// One entry of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Zero a whole sequence slot (y) when the batch is ragged: y is 0 past a sequence's end.
    ClearPadding(SlotId),
    /// A dispatch.
    Once(Dispatch),
    /// The body once per time step.
    EachStep(Range<usize>, Vec<Dispatch>),
    /// The body once per time step, last step first.
    EachStepBack(Range<usize>, Vec<Dispatch>),
}

/// Which part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Forward,
    Backward,
    Update,
}

/// The uniform block of `shaders/lib/schedule.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Dims {
    /// B
    pub batch: u32,
    /// T
    pub time: u32,
    /// The layer.
    pub layer: u32,
    /// First step of the block.
    pub first: u32,
    /// One past the last step of the block.
    pub end: u32,
    /// Rows of `pre` per direction.
    pub pre_rows: u32,
    /// Features of the layer's input.
    pub input_size: u32,
    /// First step of the segment.
    pub segment: u32,
    /// One past the last step of the segment.
    pub segment_end: u32,
    /// The direction, for kernels that run one at a time; as many as there are: all of them, one after the other.
    pub direction: u32,
    /// Which checkpoint.
    pub checkpoint: u32,
    /// 1 where h alternates between two operand buffers.
    pub alternating: u32,
    /// 1 where the gradients of parameters are added to those that are there.
    pub accumulate: u32,
    /// In a wave, how many steps a layer is behind the one below it; else 0.
    pub chunk: u32,
    /// The dispatch's first (layer, direction) in slots that layers share one behind the other (a wave plan); else 0.
    pub plane: u32,
    /// How many those slots hold; else the directions.
    pub planes: u32,
    /// The dispatch's first (layer, direction) in packed recurrent weights.
    pub weights_plane: u32,
    /// The first row of the layer's input, and its gradient, in its slot.
    pub input_rows: u32,
}

/// The slots by what they are; see [`PlanData::slots`].
#[derive(Clone, Debug, PartialEq)]
pub struct SlotIds {
    /// x
    pub x: SlotId,
    /// h0
    pub h0: SlotId,
    /// c0, if the cell has a cell state.
    pub c0: Option<SlotId>,
    /// The output of the last layer.
    pub y: SlotId,
    /// hn
    pub hn: SlotId,
    /// cn (a single unused element if the cell has no cell state).
    pub cn: SlotId,
    /// The schedule's table.
    pub schedule: SlotId,
    /// W and b per layer.
    pub w: Vec<SlotId>,
    /// R and unit parameters per layer.
    pub r: Vec<SlotId>,
    /// The embedding, if there is one: x is then its output.
    pub embedding: Option<EmbeddingIds>,
    /// The head, if there is one.
    pub head: Option<HeadIds>,
    /// x, `pre` and y of every layer: what [`Options::activations`] is about.
    pub activations: Vec<SlotId>,
    /// The backward pass's slots, in training plans.
    pub grad: Option<GradientIds>,
    /// The update's slots, in plans with an optimiser.
    pub update: Option<UpdateIds>,
}

/// Slots of the update. P: values of all parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateIds {
    /// All parameters `[P]`, in canonical order ([`crate::weights::parameters`]).
    pub parameters: SlotId,
    /// Their gradient `[P]`.
    pub gradient: SlotId,
    /// The first moment, or the momentum `[P]`, where the rule has one.
    pub m: Option<SlotId>,
    /// The second moment `[P]`, where the rule has one.
    pub v: Option<SlotId>,
    /// What the host writes before every update.
    pub hyper: SlotId,
    /// Sums of squares, and the gradient's norm, where gradients are clipped.
    pub norm: Option<(SlotId, SlotId)>,
    /// Index tables, each with the slot that it is about.
    pub tables: Vec<(SlotId, SlotId, Table)>,
}

/// Slots of the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientIds {
    /// Gradient of y, from the caller.
    pub dy: SlotId,
    /// Gradient of hn, from the caller.
    pub dhn: SlotId,
    /// Gradient of cn, from the caller, if the cell has a cell state.
    pub dcn: Option<SlotId>,
    /// Gradient of x.
    pub dx: SlotId,
    /// Gradient of h0.
    pub dh0: SlotId,
    /// Gradient of c0 (a single unused element if the cell has no cell state).
    pub dc0: SlotId,
    /// Rᵀ and unit parameters per layer.
    pub rt: Vec<SlotId>,
    /// Wᵀ per layer.
    pub wt: Vec<SlotId>,
    /// Gradient of W and, in the last column, of the bias, `[D, Gx·H, I + 1]`, per layer.
    pub dw: Vec<SlotId>,
    /// Gradient of each stage's R and, in the last column, of the recurrent bias, `[D, gates·N, K/n + 1]`, per layer and stage
    /// that has a matrix.
    pub dr: Vec<Vec<Option<SlotId>>>,
    /// Gradient of the cell's unit parameters, then of gains and biases of its normalising stages, `[D, params, H]`, per layer.
    pub du: Vec<Option<SlotId>>,
}

/// How a configuration runs on a device for one shape. `Display` prints it for people. Everything in it can be read
/// ([`PlanData`]) and nothing changed: kernels without checks of their indices trust its sizes. Cheap to clone.
///
/// ```compile_fail,E0594
/// # use wgpu_rnn::{Device, Options, Plan, RnnConfig, Shape, cells};
/// let config = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 5, ..Default::default() };
/// let mut plan = Plan::new(&config, Shape { time: 4, batch: 2 }, &Device::cpu().caps(), &Options::default()).unwrap();
/// plan.slots[0].dims[0].1 = 1; // cannot assign to data in dereference of `Plan`
/// ```
///
/// ```compile_fail,E0423
/// # use wgpu_rnn::{Device, Options, Plan, RnnConfig, Shape, cells};
/// # use std::sync::Arc;
/// let config = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 5, ..Default::default() };
/// let plan = Plan::new(&config, Shape { time: 4, batch: 2 }, &Device::cpu().caps(), &Options::default()).unwrap();
/// let mine = Plan(Arc::new((*plan).clone())); // a plan is made by `Plan::new` alone
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(Arc<PlanData>);

impl std::ops::Deref for Plan {
    type Target = PlanData;
    fn deref(&self) -> &PlanData {
        &self.0
    }
}

impl PlanData {
    /// All parameters' gradients in canonical order, of those of the slots that hold them.
    pub(crate) fn flat_gradients<T: Real>(&self, values: &HashMap<SlotId, Vec<T>>) -> Vec<T> {
        let places = Flat::new(&self.config);
        let mut flat = vec![T::default(); places.len];
        for (slot, of) in self.ids.parameter_gradients() {
            let values = &values[&slot];
            of.for_each(&self.config, &places, &mut |at, parameter| flat[parameter] = values[at]);
        }
        flat
    }
}

/// What a [`Plan`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanData {
    /// What was asked for.
    pub config: RnnConfig,
    /// What was forced, and what else was asked for.
    pub options: Options,
    /// T and B.
    pub shape: Shape,
    /// The device it was made for.
    pub caps: Caps,
    /// The element type.
    pub precision: Precision,
    /// The strategy.
    pub strategy: Strategy,
    /// Why that strategy.
    pub reason: String,
    /// Where strategy, tiles and block come from.
    pub choices: Choices,
    /// In a wave plan, how many steps a layer is behind the one below it ([`Options::wavefront`]).
    pub chunk: Option<usize>,
    /// Why, or why there is none.
    pub wavefront_reason: String,
    /// Workgroup and register tile sizes.
    pub tiles: Tiles,
    /// Steps per block: `pre` holds this many, and one `sequence_forward` covers them.
    pub block: usize,
    /// Whether it has a backward pass.
    pub train: bool,
    /// What the forward pass keeps for it.
    pub memory: Memory,
    /// Whether y is given.
    pub keep_y: bool,
    /// Steps per segment: what `pre` and the history hold in training.
    pub segment: usize,
    /// All memory.
    pub slots: Vec<Slot>,
    /// Where things are among them.
    pub ids: SlotIds,
    /// Uniform blocks.
    pub dims: Vec<Dims>,
    /// The work, in order.
    pub steps: Vec<Step>,
    /// Which stretches of `steps` go into one submit each.
    pub submits: Vec<Range<usize>>,
    /// The backward pass; empty unless the plan trains.
    pub backward: Vec<Step>,
    /// Which stretches of `backward` go into one submit each.
    pub backward_submits: Vec<Range<usize>>,
    /// The update; empty without an optimiser.
    pub update: Vec<Step>,
    /// Which stretches of `update` go into one submit each.
    pub update_submits: Vec<Range<usize>>,
}

impl Plan {
    /// Plans `config` for `shape` on a device with `caps`.
    pub fn new(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Result<Self> {
        config.validate()?;
        shape.validate()?;
        options.nominal.map_or(Ok(()), |nominal| nominal.validate())?;
        options.validate()?;
        options.check_activations(caps)?;
        if options.train && config.head.is_some_and(|head| head.loss.is_none()) {
            let expected = "one, to train for (Head { loss: Some(..), .. })";
            return Err(Error::mismatch("loss of the head", expected, "none"));
        }
        if options.precision == Precision::F64 && caps.class != DeviceClass::Cpu {
            return Err(Error::Unsupported {
                what: "f64 on a GPU".into(),
                reason: "WGSL has no f64; use the CPU executor".into(),
            });
        }
        if options.kernels.is_some_and(|kernels| DeviceClass::Cpu == kernels || caps.class == DeviceClass::Cpu) {
            return Err(Error::Unsupported {
                what: "choosing kernels as for another class".into(),
                reason: "the CPU executor has kernels of its own".into(),
            });
        }
        if let (Memory::Auto(budget), true) = (options.memory, options.train) {
            return Self::within(budget, config, shape, caps, options);
        }
        check_sizes(config, shape, caps, options)?;
        let Chosen { strategy, reason, tiles, block: stretch, choices } = Chosen::new(config, shape, caps, options)?;
        let (chunk, wavefront_reason) = choose_wavefront(config, shape, caps, options, (strategy, &tiles, stretch))?;
        let block = chunk.unwrap_or(stretch);
        let mut builder = Builder {
            config,
            shape,
            precision: options.precision,
            weights: options.weight_storage(caps),
            activation_bytes: options.activation_bytes(caps),
            strategy,
            tiles,
            block,
            stretches: choose_stretches(config, shape, caps, options, &tiles, stretch),
            stretch,
            chunk,
            stacks_weights: stacks_weights(config, caps, options),
            train: options.train,
            keep_y: options.keep_y,
            accumulate: options.accumulate,
            resets: options.resets.is_some(),
            segment: match options.memory {
                Memory::Checkpoint(k) if options.train => k.max(1).next_multiple_of(GRADIENT_BLOCK).min(shape.time),
                Memory::Recompute if options.train => recompute_segment(config, shape, caps, options.precision.bytes()),
                _ => shape.time,
            },
            recompute: options.train && options.memory == Memory::Recompute,
            stages: config.stages(),
            slots: Vec::new(),
            activations: Vec::new(),
            dims: Vec::new(),
        };
        let (mut ids, memory) = builder.forward_slots();
        let steps = builder.forward_steps(&ids, &memory);
        let segment = builder.segment;
        let mut backward = Vec::new();
        if options.train {
            let (gradients, working) = builder.backward_slots();
            backward = builder.backward_steps(&ids, &gradients, &memory, &working);
            ids.grad = Some(gradients);
        }
        let mut update = Vec::new();
        if let Some(optimiser) = options.optimiser {
            let slots = builder.update_slots(&ids, optimiser, options.clip_norm.is_some())?;
            update = builder.update_steps(&slots);
            ids.update = Some(slots);
        }
        let plan = Self(Arc::new(PlanData {
            config: config.clone(),
            options: options.clone(),
            shape,
            caps: caps.clone(),
            precision: options.precision,
            strategy,
            reason,
            choices,
            chunk,
            wavefront_reason,
            tiles,
            block,
            train: options.train,
            memory: options.memory,
            keep_y: options.keep_y,
            segment,
            ids,
            slots: builder.slots,
            dims: builder.dims,
            steps,
            submits: Vec::new(),
            backward,
            backward_submits: Vec::new(),
            update,
            update_submits: Vec::new(),
        }));
        let submits = [&plan.steps, &plan.backward, &plan.update].map(|steps| plan.split_submits(steps));
        let plan = plan.with(|plan| [plan.submits, plan.backward_submits, plan.update_submits] = submits);
        plan.check_limits()?;
        Ok(plan)
    }

    /// The same but for what `change` changes: for this crate, which made it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut PlanData)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The fastest memory policy whose plan takes at most `budget` bytes: `Save`, then `Recompute`, then `Checkpoint` of ever
    /// shorter stretches. Measured on the CPU executor (LSTM, T = 1000, B = 8, I = H = 64, one thread, median of 5 in turn): 50 ms
    /// of processor time for `Save`, 54 for `Recompute`, 56 to 58 for `Checkpoint` of 64, 128 and 512 steps.
    fn within(budget: u64, config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Result<Self> {
        let mut smallest = u64::MAX;
        let mut k = shape.time.next_power_of_two();
        let mut memory = Memory::Save;
        loop {
            let last = k <= GRADIENT_BLOCK && memory != Memory::Save;
            match Self::new(config, shape, caps, &Options { memory, ..options.clone() }) {
                Ok(plan) if plan.bytes() <= budget => return Ok(plan.with(|plan| plan.options = options.clone())),
                // Layers side by side take more memory.
                Ok(plan) if plan.chunk.is_some() && options.wavefront == Wavefront::Auto => {
                    let plain = Options { memory, wavefront: Wavefront::Off, ..options.clone() };
                    let plan = Self::new(config, shape, caps, &plain)?;
                    if plan.bytes() <= budget {
                        return Ok(plan.with(|plan| plan.options = options.clone()));
                    }
                    smallest = smallest.min(plan.bytes());
                }
                Ok(plan) => smallest = smallest.min(plan.bytes()),
                // A slot beyond a binding: shorter segments may do.
                Err(e) if last => return Err(e),
                Err(_) => {}
            }
            if last {
                return Err(Error::Limit {
                    what: format!("training T={} B={} (smallest plan tried)", shape.time, shape.batch),
                    needs: smallest,
                    limit: budget,
                    unit: "bytes",
                    limit_name: "the memory budget",
                    hint: "; raise the budget, shorten the sequences or leave out y".into(),
                });
            }
            memory = match memory {
                Memory::Save => Memory::Recompute,
                _ => {
                    k /= 2;
                    Memory::Checkpoint(k)
                }
            };
        }
    }

    /// Dispatches, backward pass and update included, of a run in which all sequences have `steps` steps.
    pub fn dispatches(&self) -> usize {
        self.forward_dispatches() + self.backward_dispatches() + self.update_dispatches()
    }

    /// Those of the forward pass.
    pub fn forward_dispatches(&self) -> usize {
        count(&self.steps)
    }

    /// Those of the backward pass; 0 unless the plan trains.
    pub fn backward_dispatches(&self) -> usize {
        count(&self.backward)
    }

    /// Those of the update; 0 without an optimiser.
    pub fn update_dispatches(&self) -> usize {
        count(&self.update)
    }

    /// Bytes that every step (of all B sequences) adds, where no block or segment of steps is shorter than T.
    pub(crate) fn bytes_per_step(&self) -> u64 {
        let Shape { time, batch } = self.shape;
        let of = |s: &Slot| {
            let grows = s.dims.iter().find(|(name, n)| match *name {
                "T" | "segments" => true,
                // Of a block or segment that is all of them.
                "rows" | "B+rows" => *n >= time * batch,
                _ => false,
            });
            match grows {
                Some(("rows" | "B+rows", n)) => s.bytes() / *n as u64 * batch as u64,
                Some(_) => s.bytes() / time as u64,
                None if s.role == Role::Schedule => s.bytes() / time as u64,
                None => 0,
            }
        };
        self.slots.iter().map(of).sum()
    }

    /// Multiply-adds of all matrix products, times two. The way back has two for each of the forward pass: the gradient of
    /// the matrix and that of what it is multiplied by.
    pub fn flops(&self) -> u64 {
        self.forward_flops() * if self.train { 3 } else { 1 }
    }

    /// Those of the forward pass.
    pub(crate) fn forward_flops(&self) -> u64 {
        let config = &self.config;
        let steps = self.shape.time as u64 * self.shape.batch as u64 * config.directions() as u64;
        let recurrent: usize = config.stages().iter().map(|s| s.matrix_rows() * s.depth()).sum();
        (0..config.num_layers)
            .map(|l| {
                let input = config.cell.input_gates() * config.hidden_size * config.weight_columns(l);
                2 * steps * (input + recurrent) as u64
            })
            .sum::<u64>()
            + 2 * self.shape.time as u64 * self.shape.batch as u64 * head_products(config) as u64
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(Slot::bytes).sum()
    }

    /// Bytes that a sibling takes: all slots but the weights; on a GPU outputs have a second buffer, through which they are read.
    pub(crate) fn session_bytes(&self) -> u64 {
        let copies = |s: &Slot| if self.caps.class != DeviceClass::Cpu && s.role == Role::Output { 2 } else { 1 };
        self.slots.iter().filter(|s| s.role != Role::Weights).map(|s| s.bytes().saturating_mul(copies(s))).sum()
    }

    /// How weights lie in the device's memory: as [`Options::weights`] says on a GPU; the CPU executor holds the rounded values in
    /// its own element type.
    pub fn weight_storage(&self) -> WeightFormat {
        self.options.weight_storage(&self.caps)
    }

    /// Bytes of the packed weight buffers, and what they would be in 32 bits.
    pub fn weight_bytes(&self) -> (u64, u64) {
        let packs = self.ids.packs();
        let words = |(_, pack): &(SlotId, Pack)| pack.words(&self.config, WeightFormat::F32) as u64;
        (packs.iter().map(|p| self.slots[p.0].bytes()).sum(), packs.iter().map(words).sum::<u64>() * 4)
    }

    /// How activations lie in the device's memory: as [`Options::activations`] says on a GPU; the CPU executor holds the rounded
    /// values in its own element type.
    pub fn activation_storage(&self) -> ActivationFormat {
        self.options.activation_storage(&self.caps)
    }

    /// Bytes of x, `pre` and y of every layer, and what they would be in the plan's precision, in blocks of as many steps.
    pub fn activation_bytes(&self) -> (u64, u64) {
        let slots = || self.ids.activations.iter().map(|&id| &self.slots[id]);
        (slots().map(Slot::bytes).sum(), slots().map(|s| s.len() as u64).sum::<u64>() * self.precision.bytes() as u64)
    }

    /// The steps of a part and which stretches of them go into one submit each.
    pub(crate) fn half(&self, half: Half) -> (&[Step], &[Range<usize>]) {
        match half {
            Half::Forward => (&self.steps, &self.submits),
            Half::Backward => (&self.backward, &self.backward_submits),
            Half::Update => (&self.update, &self.update_submits),
        }
    }

    /// Number of submits of a run.
    pub fn submit_count(&self) -> usize {
        self.submits.len()
    }

    /// y extent of a dispatch for a schedule; 0 where nothing runs any more.
    pub(crate) fn groups_y(&self, dispatch: &Dispatch, schedule: &Schedule, step: Option<usize>) -> usize {
        let dims = &self.dims[dispatch.dims];
        let first = step.unwrap_or(dims.first as usize);
        match dispatch.groups.1 {
            Extent::Rows(per) => {
                let end = (dims.end as usize).min(schedule.steps());
                let first = first.min(end);
                (schedule.row_offset(end) - schedule.row_offset(first)).div_ceil(per)
            }
            // Of a wave's layers the uppermost is at the earliest step, where most sequences run.
            Extent::Active(per) => match first - self.lag(dispatch) {
                step if step >= schedule.steps() => 0,
                step => schedule.active(step).div_ceil(per),
            },
            Extent::Batch => self.shape.batch,
            Extent::Fixed(n) => n,
            Extent::SegmentRows(per) => {
                let row = |step: u32| schedule.row_offset((step as usize).min(schedule.steps()));
                (row(dims.segment_end) - row(dims.segment)).div_ceil(per)
            }
        }
    }
}

fn count(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.body()).map(|(body, runs)| body.len() * runs).sum()
}

impl Step {
    /// Its dispatches, and how often each runs where all sequences have T steps.
    pub(crate) fn body(&self) -> (&[Dispatch], usize) {
        match self {
            Self::ClearPadding(_) => (&[], 0),
            Self::Once(d) => (std::slice::from_ref(d), 1),
            Self::EachStep(range, body) | Self::EachStepBack(range, body) => (body, range.len()),
        }
    }
}
