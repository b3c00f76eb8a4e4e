//! The planner's choice of workgroups and register tiles.

use super::{Caps, DeviceClass, Options, Strategy};
use crate::cell::Product;
use crate::config::{RnnConfig, Shape, StageShape};
use crate::kernels::{TILE_LANES, Tiles, sequence_workgroup_bytes};

/// Workgroups and register tiles; for GPUs see [`gpu_tiles`]. A software rasteriser pays for every load of a lane, whatever its
/// address, and little for registers that spill: the larger the tile the better, until its compiler takes longer than the kernel. GFLOP/s on lavapipe by `wgpu-rnn bench --device gpu --train --profile --cell lstm --time 100 --batch 16
/// --input 256 --hidden 256`, this function edited between runs, other work running beside them:
///
/// | kernel | tile | | tile | | tile | |
/// |---|---|---|---|---|---|---|
/// | `project` (columns, rows) | 4, 8 | 6.0 | 8, 8 | 9.9 | 8, 16 | 11.1 |
/// | `weight_backward` (rows, columns) | 8, 4 | 2.6 | 8, 8 | 4.0 | 8, 16 | 5.0 |
/// | `input_backward` (features of 8 rows) | 4 | 4.7 | 8 | 8.5 | 16 | 9.1 |
/// | `step_backward` (units of 8 sequences) | 4 | 4.1 | 8 | 5.0 | 16 | not in 100 s |
pub(super) fn choose_tiles(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    strategy: Strategy,
) -> Tiles {
    let class = options.kernels.unwrap_or(caps.class);
    let units = config.stages().iter().map(StageShape::padded_units).max().unwrap_or(4);
    let sequence_width = units.next_multiple_of(8);
    let split = if class == DeviceClass::Gpu { split(config, strategy) } else { 1 };
    // As many sequences per invocation as still leave every core a workgroup: R is loaded once per tile.
    let mut tile = if class == DeviceClass::SoftwareGpu && is_small(config) { 4 } else { 8 };
    let fills = |tile: usize| match strategy {
        Strategy::Sequence => shape.batch.div_ceil(tile) * config.directions() >= caps.parallel_groups,
        Strategy::Step => {
            shape.batch.div_ceil(tile) * units.div_ceil(64 / split) * config.directions() >= caps.parallel_groups
        }
    };
    while tile > 1 && (tile >= 2 * shape.batch || !fills(tile)) {
        tile /= 2;
    }
    let fits = |tile: usize| {
        strategy == Strategy::Step
            || sequence_workgroup_bytes(config, tile, sequence_width) <= caps.max_workgroup_memory
    };
    while tile > 1 && !fits(tile) {
        tile /= 2;
    }
    let base = Tiles {
        width: 64,
        tile,
        split,
        back_units: 1,
        unroll: true,
        sequence_width,
        project: (4, 8),
        weight: (8, 4),
        input: 4,
        shared: false,
        rows: false,
    };
    match class {
        DeviceClass::SoftwareGpu => {
            Tiles { back_units: 4, unroll: false, project: (8, 8), weight: (8, 8), input: 8, ..base }
        }
        DeviceClass::Gpu if caps.max_workgroup_memory < SHARED_BYTES => base,
        DeviceClass::Gpu => gpu_tiles(config, shape, caps, strategy, base),
        DeviceClass::Cpu => base,
    }
}

/// More workgroup memory than any kernel takes for what lanes share, beside what `sequence_workgroup_bytes` counts. WebGPU promises
/// twice as much.
const SHARED_BYTES: usize = 8192;

/// What a GPU runs. No GPU has been measured: these are the figures of AMD's compiler for navi21 (benches/isa; gfx1100 is alike), an
/// LSTM with I = H = 256, B = 64. Multiply-adds: their share of the hot block's instructions; waves: per SIMD unit.
///
/// | kernel | in registers alone: multiply-adds | waves | what is chosen: | multiply-adds | waves |
/// |---|---|---|---|---|---|
/// | `project` | 71 % | 12 | operands through workgroup memory, 8 by 8 values to a lane | 89 % | 8 |
/// | `weight_backward` | 33 % | 10 | the same | 88 % | 8 |
/// | `input_backward` | 50 % | 12 | the same | 88 % | 8 |
/// | `step_backward` | 14 % | 32 | d_pre through workgroup memory, 2 units of 4 sequences | 65 % | 16 |
///
/// A matrix that gives too few tiles of 8 by 8 values to a lane to keep the device busy gets 4 by 4 (78 %, 20 waves).
fn gpu_tiles(config: &RnnConfig, shape: Shape, caps: &Caps, strategy: Strategy, base: Tiles) -> Tiles {
    let groups = |rows: usize, columns: usize| rows.div_ceil(8 * TILE_LANES) * columns.div_ceil(8 * TILE_LANES);
    let rows = shape.time.saturating_mul(shape.batch);
    let gates = config.cell.input_gates() * config.hidden_size;
    let width = config.input_size.max(config.state_size());
    let side = |groups: usize| if groups * config.directions() >= caps.parallel_groups { 8 } else { 4 };
    let (project, weight) = (side(groups(rows, gates)), side(groups(gates, width)));
    let tiles = Tiles { shared: true, project: (project, project), weight: (weight, weight), input: project, ..base };
    match strategy {
        Strategy::Sequence => row_tiles(config, caps, tiles),
        // Two units to a lane read what is shared once for both; of few sequences the lanes are needed side by side.
        Strategy::Step if tiles.back_tile() >= 4 && config.hidden_size >= 2 * tiles.width => {
            Tiles { back_units: 2, ..tiles }
        }
        Strategy::Step => tiles,
    }
}

/// Units from which on lanes of `step_forward` share a unit, and how many do. A guess, not measured on a GPU: a step of one sequence
/// of 512 units is 8 workgroups without and 32 with, each lane with a quarter of R's loads one after the other. It decides an
/// order of additions, so neither the batch nor the time have a say.
const SPLIT_FROM: usize = 256;
const SPLIT: usize = 4;

fn split(config: &RnnConfig, strategy: Strategy) -> usize {
    let deep = config.stages().iter().any(|s| s.depth() >= SPLIT_FROM);
    if strategy == Strategy::Step && deep { SPLIT } else { 1 }
}

/// Four k each of a row of R that a lane keeps in registers: 64 of them, beside which 8 waves still fit a SIMD unit (benches/isa).
const ROW_DEPTH: usize = 16;

/// R in registers, a row to a lane, where that fits: without it every step reads R from cache once per tile.
fn row_tiles(config: &RnnConfig, caps: &Caps, tiles: Tiles) -> Tiles {
    let stages = config.stages();
    let [stage] = stages.as_slice() else { return tiles };
    let width = stage.matrix_rows().next_multiple_of(8).max(tiles.sequence_width);
    let dense = stage.stage.product == Product::Dense && !stage.stage.normalise && stage.heads == 1;
    let fits = width <= caps.max_invocations && stage.depth().div_ceil(4) <= ROW_DEPTH;
    let with = |tile| Tiles { rows: true, sequence_width: width, tile, ..tiles };
    let small = |tile: &usize| sequence_bytes(config, &with(*tile)) <= caps.max_workgroup_memory;
    let halves = std::iter::successors(Some(tiles.tile), |tile| Some(tile / 2)).take_while(|tile| *tile > 0);
    match halves.into_iter().find(small) {
        Some(tile) if dense && fits => with(tile),
        _ => tiles,
    }
}

/// Bytes of workgroup memory that strategy `Sequence` takes with such tiles.
pub(super) fn sequence_bytes(config: &RnnConfig, tiles: &Tiles) -> usize {
    let rows: usize = if tiles.rows { config.stages().iter().map(StageShape::matrix_rows).sum() } else { 0 };
    sequence_workgroup_bytes(config, tiles.tile, tiles.sequence_width) + 4 * tiles.tile * rows
}

/// Whether a layer is too small for large tiles to pay on a software rasteriser, whose compiler takes longer the larger they are. The
/// limit is a guess.
fn is_small(config: &RnnConfig) -> bool {
    config.cell.input_gates() * config.hidden_size < 128
}
