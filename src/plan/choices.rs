//! The planner's choices: strategy, blocks of steps, stretches, submits; each constant with its reason.

use super::ends::head_products;
use super::limits::MEMORY;
use super::{Caps, DeviceClass, Dispatch, Half, Options, Origin, Plan, Step, Strategy};
use crate::error::{Error, Result};
use crate::kernels::{GRADIENT_BLOCK, Kernel, Tiles, sequence_workgroup_bytes};
use crate::model::stack::{RnnConfig, Shape, StageShape};
use std::ops::Range;
use std::time::Duration;

/// What the planner knows of a class of devices.
struct Row {
    class: DeviceClass,
    /// Largest hidden size (padded) for which the time loop runs inside the kernel.
    sequence_units: usize,
    /// Floating-point operations per second in matrix products, for watchdogs only: a cautious rate. Infinite where there is no
    /// watchdog.
    flops: f64,
    /// Seconds of a dispatch beside its work; of a step inside a kernel too.
    dispatch: f64,
}

/// The table of choices by device class. Tiles, which depend on the configuration too, are in `tiles.rs`; what was measured
/// on the very device ([`crate::Tuning`]) and what the caller forces goes before both.
const TABLE: [Row; 3] = [
    // Threads own sequences and wait for no one: the loop runs inside whatever the size. No watchdog.
    Row { class: DeviceClass::Cpu, sequence_units: usize::MAX, flops: f64::INFINITY, dispatch: 0.0 },
    // Not measured on a GPU: up to 64 units R stays in registers (`tiles.rs`); beyond, one workgroup re-reads R (4·H²·gates bytes)
    // from cache every step, so that past this `Step`, which spreads the units over the whole device, is expected to win. Rates: a small integrated GPU's.
    Row { class: DeviceClass::Gpu, sequence_units: 128, flops: 2e11, dispatch: 1e-5 },
    // A workgroup's invocations share one thread; up to 128 units R stays in their registers (`tiles.rs`). Measured on lavapipe 22.3
    // (2 cores, `wgpu-rnn bench --device gpu --strategy ..`, T = 100, I = H, least of 7 runs), `Sequence` time / `Step` time:
    //
    // | H | LSTM B=1 | LSTM B=16 | GRU B=1 | GRU B=16 | with the way back: LSTM B=1 | B=16 | GRU B=1 | B=16 |
    // |---|---|---|---|---|---|---|---|---|
    // | 32 | 0.12 | 0.36 | 0.13 | 0.30 | 0.30 | 0.45 | 0.28 | 0.41 |
    // | 64 | 0.10 | 0.40 | 0.11 | 0.43 | 0.55 | 0.72 | 0.51 | 0.71 |
    // | 96 | 0.22 | 0.54 | 0.26 | 0.54 | 0.64 | 0.84 | 0.60 | 0.83 |
    // | 128 | 0.17 | 0.64 | 0.24 | 0.61 | 0.81 | 1.00 | 0.71 | 0.94 |
    // | 192 | 2.1 | 2.1 | 2.0 | 2.2 | 1.6 | 1.6 | 1.5 | 1.5 |
    // | 256 | 2.1 | 2.3 | 1.9 | 2.6 | 1.5 | 1.6 | 1.4 | 1.6 |
    //
    // Rates: its slower kernels (2.6 to 11 GFLOP/s, see `tiles.rs`); a dispatch takes 30 to 60 microseconds there.
    Row { class: DeviceClass::SoftwareGpu, sequence_units: 128, flops: 4e9, dispatch: 6e-5 },
];

fn row(class: DeviceClass) -> &'static Row {
    TABLE.iter().find(|row| row.class == class).unwrap_or(&TABLE[0])
}

/// The strategy, why, and where that comes from; what was measured but does not fit is told to `refused`.
pub(super) fn choose_strategy(
    config: &RnnConfig,
    caps: &Caps,
    options: &Options,
    refused: &mut Vec<String>,
) -> Result<(Strategy, String, Origin)> {
    let measured = options.tuning.as_ref().and_then(|t| t.strategy(config));
    let from_cache = |s: Strategy| (s, "measured on this device for this configuration".into(), Origin::Cache);
    let forced = |s: Strategy| (s, "forced".into(), Origin::Forced);
    if caps.class == DeviceClass::Cpu {
        let table = "CPU executor: threads own sequences, no synchronisation per step";
        let table = || (Strategy::Sequence, table.into(), Origin::Table);
        return Ok(options.strategy.map(forced).or_else(|| measured.map(from_cache)).unwrap_or_else(table));
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
    let limit = row(options.kernels.unwrap_or(caps.class)).sequence_units;
    let table = |strategy, reason| Ok((strategy, reason, Origin::Table));
    match (options.strategy, measured, fits) {
        (Some(Strategy::Step), ..) => Ok(forced(Strategy::Step)),
        (Some(Strategy::Sequence), _, Ok(())) => Ok(forced(Strategy::Sequence)),
        (Some(Strategy::Sequence), _, Err(why)) => {
            Err(Error::Unsupported { what: "strategy sequence".into(), reason: format!("it needs {why}; use step") })
        }
        (None, Some(Strategy::Step), _) => Ok(from_cache(Strategy::Step)),
        (None, Some(Strategy::Sequence), Ok(())) => Ok(from_cache(Strategy::Sequence)),
        (None, measured, Err(why)) => {
            refused.extend(measured.map(|s| format!("strategy {s}: it needs {why}")));
            table(Strategy::Step, format!("sequence would need {why}"))
        }
        (None, None, Ok(())) if units > limit => {
            table(Strategy::Step, format!("{units} units are more than {limit}, up to which one workgroup keeps up"))
        }
        (None, None, Ok(())) => table(Strategy::Sequence, format!("{units} units fit one workgroup (limit {limit})")),
    }
}

/// Rough time of one time step of a layer, for watchdogs only: products at a cautious rate, plus the dispatches. Not less than the
/// sum of what [`Plan::estimate`] says of the step's share of the dispatches over its block.
pub(super) fn step_seconds(config: &RnnConfig, shape: Shape, caps: &Caps) -> f64 {
    let products: usize = config.stages().iter().map(|s| s.matrix_rows() * s.depth()).sum();
    let rows = (shape.batch * config.directions()) as f64;
    2.0 * (products + widest_input(config)) as f64 * rows / row(caps.class).flops
        + row(caps.class).dispatch * waits(config) as f64
}

/// Multiply-adds per row of the product with x of the layer that has most of them.
fn widest_input(config: &RnnConfig) -> usize {
    config.cell.input_gates() * config.hidden_size * config.input_size.max(config.output_size())
}

/// Dispatches of one step; inside a kernel, barriers.
fn waits(config: &RnnConfig) -> usize {
    config.stages().iter().map(|s| if s.stage.normalise { 2 } else { 1 }).sum()
}

impl Plan {
    /// Seconds that one run of a dispatch is estimated to take, for watchdogs: its products at the cautious rate of the device's
    /// class, and a fixed time for the dispatch or, where the time loop is inside, for each of its steps. Zero on the CPU
    /// executor, which has no watchdog. [`Options::submit_budget`] bounds it, as far as work can be cut: not below one step of
    /// all sequences, nor below 64 steps of a weight's gradient, whose order of additions must not depend on the budget.
    pub fn estimate(&self, d: &Dispatch) -> Duration {
        let (row, dims) = (row(self.caps.class), &self.dims[d.dims]);
        let products = self.dispatch_flops(d) as f64 / row.flops;
        let starts = row.dispatch * waits(&self.config) as f64;
        let seconds = match d.kernel {
            Kernel::SequenceForward | Kernel::SequenceForwardTrain | Kernel::SequenceBackward => {
                products + f64::from(dims.end - dims.first) * starts
            }
            // In a wave, of a step that all its layers have.
            kernel if kernel.is_per_step() => {
                let layers = (d.groups.2 / self.config.directions()).max(1);
                products * layers as f64 / self.layer_steps(d).max(1) as f64 + row.dispatch
            }
            _ => products + row.dispatch,
        };
        Duration::from_secs_f64(seconds)
    }

    /// The dispatch that is estimated to take longest, of all passes.
    pub fn longest_estimate(&self) -> Option<(Kernel, Duration)> {
        let all = self.steps.iter().chain(&self.backward).chain(&self.update);
        let dispatches = all.flat_map(|step| step.body().0);
        dispatches.map(|d| (d.kernel, self.estimate(d))).max_by_key(|(_, time)| *time)
    }

    /// Puts steps into submits so that none is estimated beyond the budget.
    pub(super) fn split_submits(&self, steps: &[Step]) -> Vec<Range<usize>> {
        let (mut submits, mut start, mut spent) = (Vec::new(), 0, 0.0);
        for (n, step) in steps.iter().enumerate() {
            let seconds = self.entry_seconds(step);
            if n > start && spent + seconds > self.options.submit_budget.as_secs_f64() * 1.01 {
                submits.push(start..n);
                (start, spent) = (n, 0.0);
            }
            spent += seconds;
        }
        if start < steps.len() {
            submits.push(start..steps.len());
        }
        submits
    }

    /// What one of a pass's submits is estimated to take.
    pub(crate) fn submit_seconds(&self, half: Half, part: usize) -> f64 {
        let (steps, submits) = self.half(half);
        steps[submits[part].clone()].iter().map(|step| self.entry_seconds(step)).sum()
    }

    fn entry_seconds(&self, step: &Step) -> f64 {
        let (body, runs) = step.body();
        body.iter().map(|d| self.estimate(d).as_secs_f64()).sum::<f64>() * runs as f64
    }
}

/// Seconds that a dispatch is estimated to take, for watchdogs: so many operations at the cautious rate of the device's class, and no
/// less than a wait for memory in each of the rounds of its loops. 0 on the CPU executor.
pub(crate) fn seconds_of(class: DeviceClass, flops: f64, rounds: usize) -> f64 {
    let row = row(class);
    match class {
        DeviceClass::Cpu => 0.0,
        _ => (flops / row.flops).max(WAIT * rounds as f64) + row.dispatch,
    }
}

/// Seconds in which any GPU's memory answers.
const WAIT: f64 = 1e-6;

/// Steps that one dispatch of a product over many steps covers, where it could cover all.
pub(super) struct Stretches {
    /// Sums of weight gradients: a multiple of `GRADIENT_BLOCK`, so that their order is the same however long.
    pub weights: usize,
    /// Gradients of x, one direction at a time.
    pub input: usize,
    /// The head's outputs, and what it passes back.
    pub head: usize,
    /// Sums of the head's weight gradients.
    pub head_weights: usize,
}

/// As long as the budget and the device's workgroups allow; sums of weights also not longer than a block of the recurrence.
pub(super) fn choose_stretches(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    tiles: &Tiles,
    block: usize,
) -> Stretches {
    let row = row(caps.class);
    let left = (options.submit_budget.as_secs_f64() - row.dispatch).max(0.0);
    // Steps whose product, of so many multiply-adds a row, stays within the budget.
    let steps = |products: usize, directions: usize| {
        let step = 2.0 * products as f64 * (shape.batch * directions) as f64 / row.flops;
        if step > 0.0 { (left / step) as usize } else { usize::MAX }
    };
    let sums = |products, directions| {
        let most = steps(products, directions) / GRADIENT_BLOCK * GRADIENT_BLOCK;
        block.next_multiple_of(GRADIENT_BLOCK).min(most.max(GRADIENT_BLOCK))
    };
    let grid = caps.max_workgroups.saturating_mul(tiles.project.1) / shape.batch;
    let rows = |products| steps(products, 1).min(grid).max(1);
    let recurrent = config.stages().iter().map(|s| s.matrix_rows() * s.depth()).max().unwrap_or(0);
    let head = head_products(config);
    Stretches {
        weights: sums(widest_input(config).max(recurrent), config.directions()),
        input: rows(widest_input(config)),
        head: rows(head),
        head_weights: sums(head, 1),
    }
}

/// Steps per block; `measured`: what is fastest on this very device, within what it can do.
pub(super) fn choose_block(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    strategy: Strategy,
    tiles: &Tiles,
    measured: Option<usize>,
) -> Result<usize> {
    let pre_step = (shape.batch * config.directions() * config.cell.input_gates() * config.hidden_size) as u64
        * options.activation_bytes(caps) as u64;
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
    if caps.max_rounds < usize::MAX {
        block = block.min(block_within(caps.max_rounds, config, shape, options, strategy, tiles)?);
    }
    let seconds = step_seconds(config, shape, caps);
    if seconds > 0.0 {
        block = block.min(((options.submit_budget.as_secs_f64() / seconds) as usize).max(1));
    }
    if caps.class == DeviceClass::Cpu && measured.is_none() {
        // `pre` of a block stays in the second-level cache between the product and the recurrence; where so few steps fit that this
        // would not pay, longer blocks.
        let fit = (CPU_PRE_BYTES / pre_step) as usize;
        block = block.min(if fit < CPU_MIN_BLOCK { CPU_LONG_BLOCK } else { fit });
    }
    let block = block.min(measured.unwrap_or(usize::MAX)).min(options.max_block.unwrap_or(usize::MAX)).max(1);
    check_blocks(config, shape, caps, block)?;
    Ok(block)
}

/// The longest block whose kernels stay within [`Caps::max_rounds`], counting every loop but those over gates, which compilers unroll:
/// with Mesa 22.3's llvmpipe `sequence_forward` of an LSTM with H = 64 stopped after 3640 of its block's steps.
fn block_within(
    rounds: usize,
    config: &RnnConfig,
    shape: Shape,
    options: &Options,
    strategy: Strategy,
    tiles: &Tiles,
) -> Result<usize> {
    // The rounds of two draws per unit and stage.
    let draws = if options.train && config.zones() { 2 * 10 } else { 0 };
    let forward = |s: &StageShape| {
        let statistics = if s.stage.normalise { 2 * s.units + 4 } else { 0 };
        s.depth().div_ceil(4) * (1 + tiles.tile) + tiles.tile * (2 + statistics + draws)
    };
    let backward = |s: &StageShape| {
        let statistics = if s.stage.normalise { tiles.sequence_width + 4 } else { 0 };
        let fours = s.head_units().div_ceil(4);
        // Where lanes load together, a loop over what they load at once, too.
        let product = s.stage.recurrent_gates() * (1 + fours * (1 + tiles.tile) + fours * usize::from(tiles.lanes));
        product + tiles.tile * (8 + statistics + draws)
    };
    let sum = |of: &dyn Fn(&StageShape) -> usize| 2 + config.stages().iter().map(of).sum::<usize>();
    let loops = rounds / sum(&forward).max(if options.train { sum(&backward) } else { 0 });
    // With a dispatch per step no invocation sees more than one.
    let block = if strategy == Strategy::Step { usize::MAX } else { loops };
    if !options.train {
        return Ok(block);
    }
    // weight_backward goes over every row of a stretch of steps, a block rounded up to a multiple of GRADIENT_BLOCK.
    // Through workgroup memory it goes round about 170 times for every 8 rows.
    let row = if tiles.shared { 24 } else { 1 };
    let stretch = rounds / (row * (2 + shape.batch)) / GRADIENT_BLOCK * GRADIENT_BLOCK;
    if stretch == 0 {
        return Err(Error::Limit {
            what: format!("training with B = {}", shape.batch),
            needs: (GRADIENT_BLOCK * row * (2 + shape.batch)) as u64,
            limit: rounds as u64,
            unit: "iterations",
            limit_name: "the device's loops",
            hint: "; split the batch, or use the CPU executor".into(),
        });
    }
    Ok(block.min(stretch))
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
/// Steps of a block that does not fit. Measured with T = 100, B = 64, I = H = 256 (`cargo bench --bench ratios -- cpu`, medians of 5 runs
/// in turn): blocks of 16 steps take an LSTM 21.9 ms and ragged 8.05, a GRU 18.6 and 6.4; of 25 steps 21.4, 7.83, 16.1, 5.79.
const CPU_LONG_BLOCK: usize = 25;
