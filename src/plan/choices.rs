//! The planner's choices: strategy, blocks of steps, submits; each constant with its reason.

use super::limits::MEMORY;
use super::{Caps, DeviceClass, Dims, Options, Step, Strategy};
use crate::config::{RnnConfig, Shape, StageShape};
use crate::error::{Error, Result};
use crate::kernels::{GRADIENT_BLOCK, Kernel, Tiles, sequence_workgroup_bytes};
use std::ops::Range;

/// Largest hidden size (padded) for which the time loop runs inside the kernel on a GPU. Not measured on a GPU: up to 64 units
/// R stays in registers (`tiles.rs`); beyond, one workgroup re-reads R (4·H²·gates bytes) from cache every step, so that past
/// this `Step`, which spreads the units over the whole device, is expected to win.
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
pub(super) fn choose_strategy(config: &RnnConfig, caps: &Caps, options: &Options) -> Result<(Strategy, String)> {
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
    let limit = match options.kernels.unwrap_or(caps.class) {
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

/// Rough time of one time step of a layer, for watchdogs only: products at a cautious rate, plus the dispatches.
fn step_seconds(config: &RnnConfig, shape: Shape, caps: &Caps) -> f64 {
    let (flops_per_second, dispatch) = match caps.class {
        DeviceClass::Cpu => return 0.0,
        DeviceClass::Gpu => (2e11, 1e-5),
        DeviceClass::SoftwareGpu => (4e9, 6e-5),
    };
    let stages = config.stages();
    let products: usize = stages.iter().map(|s| s.matrix_rows() * s.depth()).sum();
    let input = config.cell.input_gates() * config.hidden_size * config.input_size.max(config.output_size());
    2.0 * (products + input) as f64 * (shape.batch * config.directions()) as f64 / flops_per_second
        + dispatch * stages.iter().map(|s| if s.stage.normalise { 2.0 } else { 1.0 }).sum::<f64>()
}

pub(super) fn choose_block(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    strategy: Strategy,
    tiles: &Tiles,
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
    if caps.class == DeviceClass::SoftwareGpu {
        block = block.min(software_block(config, shape, options, strategy, tiles)?);
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

/// Mesa's llvmpipe ends all loops of an invocation, without a word, once together they have gone round so often
/// (LP_MAX_TGSI_LOOP_ITERATIONS): `sequence_forward` of an LSTM with H = 64 stopped after 3640 of its block's steps.
const SOFTWARE_ITERATIONS: usize = 65535;

/// The longest block whose kernels stay below that, counting every loop but those over gates, which compilers unroll.
fn software_block(
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
        let product = s.stage.recurrent_gates() * (1 + s.head_units().div_ceil(4) * (1 + tiles.tile));
        product + tiles.tile * (8 + statistics + draws)
    };
    let sum = |of: &dyn Fn(&StageShape) -> usize| 2 + config.stages().iter().map(of).sum::<usize>();
    let loops = SOFTWARE_ITERATIONS / sum(&forward).max(if options.train { sum(&backward) } else { 0 });
    // With a dispatch per step no invocation sees more than one.
    let block = if strategy == Strategy::Step { usize::MAX } else { loops };
    if !options.train {
        return Ok(block);
    }
    // weight_backward goes over every row of a stretch of steps, a block rounded up to a multiple of GRADIENT_BLOCK.
    // Through workgroup memory it goes round about 170 times for every 8 rows.
    let row = if tiles.shared { 24 } else { 1 };
    let stretch = SOFTWARE_ITERATIONS / (row * (2 + shape.batch)) / GRADIENT_BLOCK * GRADIENT_BLOCK;
    if stretch == 0 {
        return Err(Error::Limit {
            what: format!("training with B = {} on a software rasteriser", shape.batch),
            needs: (GRADIENT_BLOCK * row * (2 + shape.batch)) as u64,
            limit: SOFTWARE_ITERATIONS as u64,
            unit: "iterations",
            limit_name: "llvmpipe's loops",
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

/// Puts steps into submits so that none is estimated beyond the budget.
pub(super) fn split_submits(
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
            Step::EachStep(range, _) | Step::EachStepBack(range, _) => {
                range.len() as f64 * step_seconds(config, shape, caps)
            }
            Step::Once(d)
                if matches!(
                    d.kernel,
                    Kernel::SequenceForward | Kernel::SequenceForwardTrain | Kernel::SequenceBackward | Kernel::Rebuild
                ) =>
            {
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
    if start < steps.len() {
        submits.push(start..steps.len());
    }
    submits
}
