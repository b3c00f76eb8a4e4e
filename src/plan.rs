//! The plan: every size, every choice and why, as pure data. No GPU is needed to make, print, compare or test one.
//!
//! ```text
//! clear y                         its padding is 0                  if the batch is ragged
//! load_state                      h0, c0 -> operand, state          once
//! for each layer, each block of steps
//!     project                     x·Wᵀ + b -> pre                   one matrix product, both directions
//!     Step:     step_forward      per step and stage: the dispatch boundary is the grid barrier
//!     Sequence: sequence_forward  the block's steps inside the kernel
//! store_state                     operand, state -> hn, cn          once
//! ```
//!
//! Both executors walk `steps` over the same `slots`. What decides the order of additions (strategy, stages) depends on
//! (config, device) or is forced, never on T, B or lengths; tiles and blocks follow T and B but change no bits.

use crate::config::{RnnConfig, Shape, StageShape};
use crate::error::{Error, Result};
use crate::kernels::{Kernel, Tiles, sequence_workgroup_bytes, weight_offsets};
use crate::schedule::Schedule;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

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
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 8 }
    }
}

/// What the user may force.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Forces the strategy.
    pub strategy: Option<Strategy>,
    /// Element type.
    pub precision: Precision,
    /// Steps per block at most: the longest stretch of time one `sequence_forward` dispatch covers and `pre` is held for.
    pub max_block: Option<usize>,
    /// Estimated time that one submit may take before the plan splits into several (watchdogs kill long ones).
    pub submit_budget: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { strategy: None, precision: Precision::F32, max_block: None, submit_budget: Duration::from_millis(500) }
    }
}

/// Index into [`Plan::slots`].
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
    /// Working memory.
    Scratch,
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
    /// Index into [`Plan::dims`].
    pub dims: usize,
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
    /// 1 where h alternates between two operand buffers.
    pub alternating: u32,
}

/// The slots by what they are; see [`Plan::slots`].
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
}

/// How a configuration runs on a device for one shape. `Display` prints it for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was asked for.
    pub config: RnnConfig,
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
    /// Workgroup and register tile sizes.
    pub tiles: Tiles,
    /// Steps per block: `pre` holds this many, and one `sequence_forward` covers them.
    pub block: usize,
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
}

/// Largest hidden size (padded) for which the time loop runs inside the kernel on a GPU. Not measured on a GPU: one
/// workgroup re-reads R (4·H²·gates bytes) from cache every step, so beyond this `Step`, which spreads the units over the whole
/// device, is expected to win.
const SEQUENCE_UNITS_GPU: usize = 128;
/// The same for a software rasteriser, where a workgroup's invocations share one thread. Measured on lavapipe (2 cores,
/// `wgpu-rnn bench --device gpu --strategy ..`, T = 100, I = H, 3 rounds in turn, median of `Sequence` time / `Step` time):
///
/// | H | LSTM B=1 | LSTM B=16 | GRU B=1 | GRU B=16 |
/// |---|---|---|---|---|
/// | 64 | 0.57 | 0.79 | 0.65 | 1.14 |
/// | 128 | 1.05 | 1.12 | 0.96 | 1.16 |
/// | 192 | 1.77 | 1.24 | 1.77 | 1.29 |
/// | 256 | 1.86 | 1.29 | 1.77 | 1.40 |
const SEQUENCE_UNITS_SOFTWARE: usize = 64;

impl Plan {
    /// Plans `config` for `shape` on a device with `caps`.
    pub fn new(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Result<Self> {
        config.validate()?;
        shape.validate()?;
        if options.precision == Precision::F64 && caps.class != DeviceClass::Cpu {
            return Err(Error::Unsupported {
                what: "f64 on a GPU".into(),
                reason: "WGSL has no f64; use the CPU executor".into(),
            });
        }
        check_sizes(config, shape, caps, options.precision)?;
        let (strategy, reason) = choose_strategy(config, caps, options)?;
        let tiles = choose_tiles(config, shape, caps, strategy);
        let block = choose_block(config, shape, caps, options, strategy, &tiles)?;
        let mut builder = Builder::new(config, shape, options.precision, strategy, tiles, block);
        builder.build();
        let submits = split_submits(config, shape, caps, options, &builder.steps, &builder.dims);
        let plan = Self {
            config: config.clone(),
            shape,
            caps: caps.clone(),
            precision: options.precision,
            strategy,
            reason,
            tiles,
            block,
            ids: builder.ids.expect("build() sets the ids"),
            slots: builder.slots,
            dims: builder.dims,
            steps: builder.steps,
            submits,
        };
        plan.check_limits()?;
        Ok(plan)
    }

    /// Dispatches of a run in which all sequences have `steps` steps.
    pub fn dispatches(&self) -> usize {
        self.steps
            .iter()
            .map(|s| match s {
                Step::ClearPadding(_) => 0,
                Step::Once(_) => 1,
                Step::EachStep(range, body) => range.len() * body.len(),
            })
            .sum()
    }

    /// Multiply-adds of all matrix products, times two.
    pub fn flops(&self) -> u64 {
        let config = &self.config;
        let steps = self.shape.time as u64 * self.shape.batch as u64 * config.directions() as u64;
        let recurrent: usize = config.stages().iter().map(|s| s.matrix_rows() * s.operand).sum();
        (0..config.num_layers)
            .map(|l| {
                let input = config.cell.input_gates() * config.hidden_size * config.layer_input_size(l);
                2 * steps * (input + recurrent) as u64
            })
            .sum()
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(Slot::bytes).sum()
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
            Extent::Active(_) if first >= schedule.steps() => 0,
            Extent::Active(per) => schedule.active(first).div_ceil(per),
            Extent::Batch => self.shape.batch,
        }
    }

    /// Every slot within a binding and a buffer, every grid within the workgroup limit.
    fn check_limits(&self) -> Result<()> {
        self.slots.iter().try_for_each(|slot| check_slot(slot, &self.caps))?;
        let rows = self.shape.time as u64 * self.shape.batch as u64;
        if rows >= u64::from(u32::MAX) / 2 {
            return Err(Error::Limit {
                what: "T·B rows".into(),
                needs: rows,
                limit: u64::from(u32::MAX) / 2,
                unit: "rows",
                limit_name: "the 32-bit row index",
                hint: String::new(),
            });
        }
        if self.shape.batch > self.caps.max_workgroups {
            return Err(Error::Limit {
                what: format!("B = {}", self.shape.batch),
                needs: self.shape.batch as u64,
                limit: self.caps.max_workgroups as u64,
                unit: "workgroups",
                limit_name: "the device's max_compute_workgroups_per_dimension",
                hint: "; split the batch".into(),
            });
        }
        // Memory is one for all slots on the CPU; what a GPU has in all, no API tells.
        if self.caps.class == DeviceClass::Cpu && self.bytes() > self.caps.max_buffer {
            return Err(Error::Limit {
                what: format!("all slots for T = {}, B = {}", self.shape.time, self.shape.batch),
                needs: self.bytes(),
                limit: self.caps.max_buffer,
                unit: "bytes",
                limit_name: MEMORY,
                hint: SMALLER.into(),
            });
        }
        Ok(())
    }
}

/// Name of the one limit of the CPU executor.
const MEMORY: &str = "this machine's memory";
/// What helps where x, y or `pre` is too large.
const SMALLER: &str = "; run fewer steps per call (carry the state) or fewer sequences";

/// A slot within a binding and a buffer.
fn check_slot(slot: &Slot, caps: &Caps) -> Result<()> {
    let (limit, limit_name) = if caps.class == DeviceClass::Cpu {
        (caps.max_buffer, MEMORY)
    } else if slot.bytes() > caps.max_binding {
        (caps.max_binding, "the device's max_storage_buffer_binding_size")
    } else {
        (caps.max_buffer, "the device's max_buffer_size")
    };
    if slot.bytes() <= limit {
        return Ok(());
    }
    let hint = match slot.role {
        Role::Weights => String::new(),
        _ => SMALLER.into(),
    };
    let what = format!("slot {} {}", slot.name, dims_text(slot));
    Err(Error::Limit { what, needs: slot.bytes(), limit, unit: "bytes", limit_name, hint })
}

/// Refuses what no choice can make fit, before anything is counted or made: past this, products of sizes stay within their
/// types, and the lists of slots and steps within memory.
fn check_sizes(config: &RnnConfig, shape: Shape, caps: &Caps, precision: Precision) -> Result<()> {
    let (d, stacked) = (config.directions(), config.num_layers * config.directions());
    if stacked > caps.max_workgroups {
        return Err(Error::Limit {
            what: format!("L·D = {stacked}"),
            needs: stacked as u64,
            limit: caps.max_workgroups as u64,
            unit: "workgroups",
            limit_name: "the device's max_compute_workgroups_per_dimension",
            hint: "; use fewer layers".into(),
        });
    }
    let (outer, inner) = match config.layout {
        crate::config::Layout::TimeMajor => (("T", shape.time), ("B", shape.batch)),
        crate::config::Layout::BatchFirst => (("B", shape.batch), ("T", shape.time)),
    };
    let (b, d, stacked) = (("B", shape.batch), ("D", d), ("L·D", stacked));
    let (hidden, output) = (config.hidden_size, config.state_size());
    let (depth, width) = (config.input_size.div_ceil(4) + 1, config.cell.input_gates() * hidden);
    let packed = weight_offsets(&config.stages()).total;
    let check = |name: &str, role, dims: &[(&'static str, usize)]| {
        check_slot(&Slot { name: name.into(), dims: dims.to_vec(), role, element: precision.bytes() }, caps)
    };
    check("x", Role::Input, &[outer, inner, ("I", config.input_size)])?;
    check("y", Role::Output, &[outer, inner, ("D·P", d.1 * output)])?;
    check("h0", Role::Input, &[stacked, b, ("P", output)])?;
    if config.cell.has_cell_state() {
        check("c0", Role::Input, &[stacked, b, ("H", hidden)])?;
    }
    check("w.l0", Role::Weights, &[d, ("I/4+1", depth), ("G·H", width), ("k", 4)])?;
    check("r.l0", Role::Weights, &[d, ("packed", packed), ("k", 4)])
}

fn choose_strategy(config: &RnnConfig, caps: &Caps, options: &Options) -> Result<(Strategy, String)> {
    if caps.class == DeviceClass::Cpu {
        return Ok(match options.strategy {
            Some(forced) => (forced, "forced".into()),
            None => (Strategy::Sequence, "CPU executor: threads own sequences, no synchronisation per step".into()),
        });
    }
    let units = config.stages().iter().map(StageShape::padded_units).max().unwrap_or(4);
    let width = units.next_multiple_of(8);
    let bytes = sequence_workgroup_bytes(config, 1, width);
    let fits = if width > caps.max_invocations {
        Err(format!("{units} units, but a workgroup has at most {} invocations", caps.max_invocations))
    } else if bytes > caps.max_workgroup_memory {
        Err(format!("{bytes} bytes of workgroup memory, but the device has {}", caps.max_workgroup_memory))
    } else {
        Ok(())
    };
    let limit = match caps.class {
        DeviceClass::SoftwareGpu => SEQUENCE_UNITS_SOFTWARE,
        _ => SEQUENCE_UNITS_GPU,
    };
    match (options.strategy, fits) {
        (Some(Strategy::Step), _) => Ok((Strategy::Step, "forced".into())),
        (Some(Strategy::Sequence), Ok(())) => Ok((Strategy::Sequence, "forced".into())),
        (Some(Strategy::Sequence), Err(why)) => {
            Err(Error::Unsupported { what: "strategy sequence".into(), reason: format!("it needs {why}; use step") })
        }
        (None, Err(why)) => Ok((Strategy::Step, format!("sequence would need {why}"))),
        (None, Ok(())) if units > limit => {
            Ok((Strategy::Step, format!("{units} units are more than {limit}, up to which one workgroup keeps up")))
        }
        (None, Ok(())) => Ok((Strategy::Sequence, format!("{units} units fit one workgroup (limit {limit})"))),
    }
}

fn choose_tiles(config: &RnnConfig, shape: Shape, caps: &Caps, strategy: Strategy) -> Tiles {
    let units = config.stages().iter().map(StageShape::padded_units).max().unwrap_or(4);
    let sequence_width = units.next_multiple_of(8);
    // As many sequences per invocation as still leave every core a workgroup: R is loaded once per tile.
    let mut tile = 8;
    let fills = |tile: usize| match strategy {
        Strategy::Sequence => shape.batch.div_ceil(tile) * config.directions() >= caps.parallel_groups,
        Strategy::Step => shape.batch.div_ceil(tile) * units.div_ceil(64) * config.directions() >= caps.parallel_groups,
    };
    while tile > 1 && (tile >= 2 * shape.batch || !fills(tile)) {
        tile /= 2;
    }
    while tile > 1 && sequence_workgroup_bytes(config, tile, sequence_width) > caps.max_workgroup_memory {
        tile /= 2;
    }
    Tiles { width: 64, tile, sequence_width, project: (4, 8) }
}

/// Rough time of one time step of a layer, for watchdogs only: products at a cautious rate, plus the dispatches.
fn step_seconds(config: &RnnConfig, shape: Shape, caps: &Caps) -> f64 {
    let (flops_per_second, dispatch) = match caps.class {
        DeviceClass::Cpu => return 0.0,
        DeviceClass::Gpu => (2e11, 1e-5),
        DeviceClass::SoftwareGpu => (4e9, 6e-5),
    };
    let stages = config.stages();
    let products: usize = stages.iter().map(|s| s.matrix_rows() * s.operand).sum();
    let input = config.cell.input_gates() * config.hidden_size * config.input_size.max(config.output_size());
    2.0 * (products + input) as f64 * (shape.batch * config.directions()) as f64 / flops_per_second
        + dispatch * stages.len() as f64
}

fn choose_block(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    strategy: Strategy,
    tiles: &Tiles,
) -> Result<usize> {
    let pre_step = (shape.batch * config.directions() * config.cell.input_gates() * config.hidden_size) as u64
        * options.precision.bytes() as u64;
    let pre_limit = caps.max_binding.min(caps.max_buffer);
    if pre_step > pre_limit {
        return Err(Error::Limit {
            what: format!("slot pre for a single step of {} sequences", shape.batch),
            needs: pre_step,
            limit: pre_limit,
            unit: "bytes",
            limit_name: match caps.class {
                DeviceClass::Cpu => MEMORY,
                _ if caps.max_binding <= caps.max_buffer => "the device's max_storage_buffer_binding_size",
                _ => "the device's max_buffer_size",
            },
            hint: "; split the batch".into(),
        });
    }
    let mut block = shape.time.min((pre_limit / pre_step) as usize);
    // The project kernel's rows and the step table stay within bounds.
    block = block.min((caps.max_workgroups * tiles.project.1 / shape.batch).max(1));
    if strategy == Strategy::Step {
        block = block.min(4096);
    }
    let seconds = step_seconds(config, shape, caps);
    if seconds > 0.0 {
        block = block.min(((options.submit_budget.as_secs_f64() / seconds) as usize).max(1));
    }
    if caps.class == DeviceClass::Cpu {
        // `pre` of a block stays in the second-level cache between the product and the recurrence.
        block = block.min(((CPU_PRE_BYTES / pre_step) as usize).max(CPU_MIN_BLOCK));
    }
    let block = block.min(options.max_block.unwrap_or(usize::MAX)).max(1);
    check_blocks(config, shape, caps, block)?;
    Ok(block)
}

/// Refuses short blocks of a long sequence: the list of steps, and on a GPU the bind groups, grow with their number.
fn check_blocks(config: &RnnConfig, shape: Shape, caps: &Caps, block: usize) -> Result<()> {
    // A GPU keeps every block's `Dims` in one buffer, at the largest distance that WebGPU lets a device ask for.
    let buffer = if caps.class == DeviceClass::Cpu { u64::MAX } else { caps.max_buffer };
    let (limit, limit_name) = match (buffer / 256).saturating_sub(1) {
        most if most < MAX_BLOCKS => (most, "the device's max_buffer_size over 256 bytes"),
        _ => (MAX_BLOCKS, "this crate's limit"),
    };
    let needs = shape.time.div_ceil(block) as u64 * config.num_layers as u64;
    if needs <= limit {
        return Ok(());
    }
    let what = format!("{} steps in blocks of {block}, layers: {}", shape.time, config.num_layers);
    let hint = "; run fewer steps per call (carry the state), or allow longer blocks and submits".into();
    Err(Error::Limit { what, needs, limit, unit: "blocks", limit_name, hint })
}

/// Blocks of all layers.
const MAX_BLOCKS: u64 = 1 << 20;

/// Bytes of `pre` per block that the CPU executor aims at.
const CPU_PRE_BYTES: u64 = 1 << 20;
/// Fewer steps than this per block are not worth a matrix product's set-up.
const CPU_MIN_BLOCK: usize = 16;

/// Puts steps into submits so that none is estimated beyond the budget.
fn split_submits(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    steps: &[Step],
    dims: &[Dims],
) -> Vec<Range<usize>> {
    let (mut submits, mut start, mut spent) = (Vec::new(), 0, 0.0);
    for (n, step) in steps.iter().enumerate() {
        let seconds = match step {
            Step::EachStep(range, _) => range.len() as f64 * step_seconds(config, shape, caps),
            Step::Once(d) if d.kernel == Kernel::SequenceForward => {
                let block = dims[d.dims];
                f64::from(block.end - block.first) * step_seconds(config, shape, caps)
            }
            _ => 0.0,
        };
        if n > start && spent + seconds > options.submit_budget.as_secs_f64() * 1.01 {
            submits.push(start..n);
            (start, spent) = (n, 0.0);
        }
        spent += seconds;
    }
    submits.push(start..steps.len());
    submits
}

/// Collects slots, uniform blocks and steps.
struct Builder<'a> {
    config: &'a RnnConfig,
    shape: Shape,
    precision: Precision,
    strategy: Strategy,
    tiles: Tiles,
    block: usize,
    slots: Vec<Slot>,
    dims: Vec<Dims>,
    steps: Vec<Step>,
    ids: Option<SlotIds>,
}

impl<'a> Builder<'a> {
    fn new(
        config: &'a RnnConfig,
        shape: Shape,
        precision: Precision,
        strategy: Strategy,
        tiles: Tiles,
        block: usize,
    ) -> Self {
        let (slots, dims, steps) = (Vec::new(), Vec::new(), Vec::new());
        Self { config, shape, precision, strategy, tiles, block, slots, dims, steps, ids: None }
    }

    fn slot(&mut self, name: impl Into<String>, role: Role, dims: &[(&'static str, usize)]) -> SlotId {
        let element = match role {
            Role::Schedule => 4,
            _ => self.precision.bytes(),
        };
        self.slots.push(Slot { name: name.into(), dims: dims.to_vec(), role, element });
        self.slots.len() - 1
    }

    /// The uniform block of (layer, steps); reused where it exists.
    fn dims(&mut self, layer: usize, steps: Range<usize>) -> usize {
        self.dims.push(Dims {
            batch: self.shape.batch as u32,
            time: self.shape.time as u32,
            layer: layer as u32,
            first: steps.start as u32,
            end: steps.end as u32,
            pre_rows: (self.block * self.shape.batch) as u32,
            input_size: self.config.layer_input_size(layer) as u32,
            alternating: u32::from(self.strategy == Strategy::Step),
        });
        self.dims.len() - 1
    }

    fn build(&mut self) {
        let (config, Shape { time, batch }) = (self.config, self.shape);
        let (layers, directions) = (config.num_layers, config.directions());
        let (hidden, output) = (config.hidden_size, config.state_size());
        let stacked = ("L·D", layers * directions);
        let (outer, inner) = match config.layout {
            crate::config::Layout::TimeMajor => (("T", time), ("B", batch)),
            crate::config::Layout::BatchFirst => (("B", batch), ("T", time)),
        };

        let x = self.slot("x", Role::Input, &[outer, inner, ("I", config.input_size)]);
        let h0 = self.slot("h0", Role::Input, &[stacked, ("B", batch), ("P", output)]);
        let has_cell = config.cell.has_cell_state();
        let c0 = has_cell.then(|| self.slot("c0", Role::Input, &[stacked, ("B", batch), ("H", hidden)]));
        let table = 2 * batch + time + 1 + directions * time * batch;
        let schedule = self.slot("schedule", Role::Schedule, &[("table", table)]);
        let stages = config.stages();
        let pre_width = config.cell.input_gates() * hidden;
        let r_size = weight_offsets(&stages).total;
        let (mut w, mut r) = (Vec::new(), Vec::new());
        for layer in 0..layers {
            let depth = config.layer_input_size(layer).div_ceil(4) + 1;
            let d = ("D", directions);
            w.push(self.slot(
                format!("w.l{layer}"),
                Role::Weights,
                &[d, ("I/4+1", depth), ("G·H", pre_width), ("k", 4)],
            ));
            r.push(self.slot(format!("r.l{layer}"), Role::Weights, &[d, ("packed", r_size), ("k", 4)]));
        }
        let padded = output.next_multiple_of(4);
        let states = if config.cell.states.is_empty() {
            self.slot("state", Role::Scratch, &[("unused", 1)])
        } else {
            self.slot("state", Role::Scratch, &[stacked, ("B", batch), ("S", config.cell.states.len()), ("H", hidden)])
        };
        let even = self.slot("operand.even", Role::Scratch, &[stacked, ("B", batch), ("K", padded)]);
        let odd = match self.strategy {
            Strategy::Step => self.slot("operand.odd", Role::Scratch, &[stacked, ("B", batch), ("K", padded)]),
            Strategy::Sequence => even,
        };
        let (mut links, mut product) = (Vec::new(), None);
        if self.strategy == Strategy::Step {
            for (n, stage) in stages.iter().enumerate().take(stages.len() - 1) {
                let k = ("K", stage.padded_units());
                links.push(self.slot(format!("link.{n}"), Role::Scratch, &[stacked, ("B", batch), k]));
            }
            let widest = stages.iter().filter(|s| s.stage.normalise).map(|s| s.stage.recurrent_gates() * s.units).max();
            product =
                widest.map(|n| self.slot("product", Role::Scratch, &[("D", directions), ("B", batch), ("G·N", n)]));
        }
        let pre =
            self.slot("pre", Role::Scratch, &[("D", directions), ("rows", self.block * batch), ("G·H", pre_width)]);
        let features = ("D·P", directions * output);
        let hidden_y: Vec<SlotId> = (0..(layers - 1).min(2))
            .map(|n| self.slot(format!("y.{}", ["even", "odd"][n]), Role::Scratch, &[outer, inner, features]))
            .collect();
        let y = self.slot("y", Role::Output, &[outer, inner, features]);
        let hn = self.slot("hn", Role::Output, &[stacked, ("B", batch), ("P", output)]);
        let cn = if has_cell {
            self.slot("cn", Role::Output, &[stacked, ("B", batch), ("H", hidden)])
        } else {
            self.slot("cn", Role::Scratch, &[("unused", 1)])
        };

        // Layers that share a slot write the same rows of it, so clearing once is enough.
        self.steps.extend(hidden_y.iter().chain([&y]).map(|&slot| Step::ClearPadding(slot)));
        let whole = self.dims(0, 0..time);
        let wide = hidden.max(padded).div_ceil(self.tiles.width);
        let all = (wide, Extent::Batch, layers * directions);
        let once = |kernel, layer, dims, slots, groups| {
            Step::Once(Dispatch { kernel, stage: 0, layer, dims, slots, odd: None, groups })
        };
        let load = vec![h0, c0.unwrap_or(h0), even, states, schedule];
        self.steps.push(once(Kernel::LoadState, None, whole, load, all));
        for layer in 0..layers {
            let input = if layer == 0 { x } else { hidden_y[(layer - 1) % 2] };
            let out = if layer + 1 == layers { y } else { hidden_y[layer % 2] };
            for first in (0..time).step_by(self.block) {
                let range = first..(first + self.block).min(time);
                let dims = self.dims(layer, range.clone());
                let aligned = config.layer_input_size(layer).is_multiple_of(4);
                let kernel = if aligned { Kernel::ProjectVec4 } else { Kernel::ProjectScalar };
                let (columns, rows) = self.tiles.project;
                let grid = (pre_width.div_ceil(columns * self.tiles.width), Extent::Rows(rows), directions);
                self.steps.push(once(kernel, Some(layer), dims, vec![input, w[layer], pre, schedule], grid));
                match self.strategy {
                    Strategy::Sequence => {
                        let slots = vec![pre, r[layer], even, states, out, schedule];
                        let grid = (1, Extent::Active(self.tiles.tile), directions);
                        self.steps.push(once(Kernel::SequenceForward, Some(layer), dims, slots, grid));
                    }
                    Strategy::Step => {
                        let body = self.step_body(layer, dims, [even, odd], &links, product, |from, to| StepSlots {
                            pre,
                            weights: r[layer],
                            from,
                            to,
                            state: states,
                            y: out,
                            schedule,
                        });
                        self.steps.push(Step::EachStep(range, body));
                    }
                }
            }
        }
        let store = vec![even, odd, states, hn, cn, schedule];
        self.steps.push(once(Kernel::StoreState, None, whole, store, all));
        self.ids = Some(SlotIds { x, h0, c0, y, hn, cn, schedule, w, r });
    }

    /// The dispatches of one time step: one per stage, two where a stage normalises.
    fn step_body(
        &self,
        layer: usize,
        dims: usize,
        operands: [SlotId; 2],
        links: &[SlotId],
        product: Option<SlotId>,
        slots: impl Fn(SlotId, SlotId) -> StepSlots,
    ) -> Vec<Dispatch> {
        let stages = self.config.stages();
        let directions = self.config.directions();
        let mut body = Vec::new();
        for (n, stage) in stages.iter().enumerate() {
            // What this stage reads and writes at an even or odd step.
            let ends = |odd: usize| {
                let from = if n == 0 { operands[odd] } else { links[n - 1] };
                let to = if n + 1 == stages.len() { operands[1 - odd] } else { links[n] };
                slots(from, to)
            };
            let mut push = |kernel, list: fn(&StepSlots, SlotId) -> Vec<SlotId>, groups| {
                let product = product.unwrap_or(0);
                body.push(Dispatch {
                    kernel,
                    stage: n,
                    layer: Some(layer),
                    dims,
                    slots: list(&ends(0), product),
                    odd: Some(list(&ends(1), product)),
                    groups,
                });
            };
            let tiles = Extent::Active(self.tiles.tile);
            let wide = stage.padded_units().div_ceil(self.tiles.width);
            if stage.stage.normalise {
                push(Kernel::StepProduct, |s, p| vec![s.weights, s.from, p, s.schedule], (wide, tiles, directions));
                push(
                    Kernel::StepNormalise,
                    |s, p| vec![s.pre, s.weights, p, s.to, s.state, s.y, s.schedule],
                    (1, Extent::Active(1), directions),
                );
            } else {
                push(
                    Kernel::StepForward,
                    |s, _| vec![s.pre, s.weights, s.from, s.to, s.state, s.y, s.schedule],
                    (wide, tiles, directions),
                );
            }
        }
        body
    }
}

struct StepSlots {
    pre: SlotId,
    weights: SlotId,
    from: SlotId,
    to: SlotId,
    state: SlotId,
    y: SlotId,
    schedule: SlotId,
}

fn dims_text(slot: &Slot) -> String {
    let names: Vec<_> = slot.dims.iter().map(|d| d.0).collect();
    let sizes: Vec<_> = slot.dims.iter().map(|d| d.1.to_string()).collect();
    format!("[{}] = [{}]", names.join(", "), sizes.join(", "))
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Sequence => "sequence",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.config;
        writeln!(
            f,
            "{} T={} B={} I={} H={}{} layers={} directions={} {:?}",
            c.cell.name,
            self.shape.time,
            self.shape.batch,
            c.input_size,
            c.hidden_size,
            if c.proj_size > 0 { format!(" P={}", c.proj_size) } else { String::new() },
            c.num_layers,
            c.directions(),
            self.precision,
        )?;
        writeln!(f, "strategy: {} ({})", self.strategy, self.reason)?;
        writeln!(f, "block: {} steps; tile: {} sequences per invocation", self.block, self.tiles.tile)?;
        writeln!(f, "dispatches: {} in {} submit(s)", self.dispatches(), self.submits.len())?;
        writeln!(f, "work: {:.3} GFLOP in matrix products", self.flops() as f64 / 1e9)?;
        writeln!(f, "slots:")?;
        for slot in &self.slots {
            writeln!(f, "  {:>12} B  {:<12} {:<8?} {}", slot.bytes(), slot.name, slot.role, dims_text(slot))?;
        }
        writeln!(f, "  {:>12} B  total", self.bytes())?;
        writeln!(f, "steps:")?;
        for step in &self.steps {
            match step {
                Step::ClearPadding(slot) => writeln!(f, "  clear {} if the batch is ragged", self.slots[*slot].name)?,
                Step::Once(d) => writeln!(f, "  {}", self.dispatch_text(d))?,
                Step::EachStep(range, body) => {
                    writeln!(f, "  for each step of {range:?}")?;
                    for d in body {
                        writeln!(f, "    {}", self.dispatch_text(d))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    fn dispatch_text(&self, d: &Dispatch) -> String {
        let names: Vec<_> = d.slots.iter().map(|&s| self.slots[s].name.as_str()).collect();
        let dims = &self.dims[d.dims];
        let stage = if d.kernel.is_per_stage() { format!(" stage {}", d.stage) } else { String::new() };
        let layer = d.layer.map_or(String::new(), |l| format!(" layer {l} steps {}..{}", dims.first, dims.end));
        format!("{}{stage}{layer} ({})", d.kernel.name(), names.join(", "))
    }
}
