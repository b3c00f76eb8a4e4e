//! The planner's choice of workgroups and register tiles.

use super::{Caps, DeviceClass, Options, Strategy};
use crate::kernels::{RPlace, SUBGROUP, TILE_LANES, Tiles, sequence_workgroup_bytes};
use crate::model::cell::Product;
use crate::model::stack::{RnnConfig, Shape, StageShape};

/// Workgroups and register tiles; of real GPUs see [`gpu_tiles`], of software rasterisers [`software_tiles`].
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
        r: RPlace::Cache,
        fours: false,
        lanes: false,
    };
    match class {
        DeviceClass::SoftwareGpu => software_tiles(config, shape, caps, strategy, base),
        DeviceClass::Gpu if caps.max_workgroup_memory < SHARED_BYTES => base,
        DeviceClass::Gpu => gpu_tiles(config, shape, caps, strategy, base),
        DeviceClass::Cpu => base,
    }
}

/// What a software rasteriser runs. It pays for every load of a lane, whatever its address (a loop over the lanes, of some 20
/// instructions for one value and 40 for four neighbouring ones), and little for registers that spill: the larger the tile the better, as
/// long as every core has lanes. What took its compiler long were the tile's loads and stores, not its product: kernels go through those
/// a row at a time (with all of them unrolled, 16 by 16 values of `weight_backward` made the pipelines of a training LSTM take 8 s, and take
/// 2.6 s so, as 8 by 8 did). GFLOP/s on lavapipe 22.3 by `wgpu-rnn bench --device gpu --train --profile --cell lstm --time 100 --batch 16
/// --input 256 --hidden 256`, least of two runs each, in turn with the version before, two cores that others used, too:
///
/// | kernel | before | | now | | times as fast |
/// |---|---|---|---|---|---|
/// | `project` (columns of 8 rows) | 8 | 15.3 | 16 | 19.2 | 1.3 |
/// | `weight_backward` (rows, columns) | 8, 8 | 6.6 | 16, 16, in fours | 17.7 | 2.7 |
/// | `input_backward` (features of 8 rows) | 8 | 12.7 | 16, in fours | 19.5 | 1.5 |
/// | `step_backward` (units of 8 sequences) | 4 | 5.9 | 8 | 7.8 | 1.3 |
///
/// Where lanes of a subgroup can give each other what they load ([`Caps::subgroup`]: llvmpipe), what all of them read is loaded once
/// ([`Tiles::lanes`]), and what a lane reads at every step it keeps ([`RPlace::Units`]). Median ms with both and without either (the commit before), in
/// turn, nothing else running, `wgpu-rnn bench --device gpu --cell lstm --time 100`, with `--train` forward and backward:
///
/// | B, I, H | forward, without | with | forward and backward, without | with |
/// |---|---|---|---|---|
/// | 1, 64, 64 | 3.2 | 0.86 | 11.4 | 5.7 |
/// | 16, 64, 64 | 13.3 | 5.5 | 58 | 28 |
/// | 16, 256, 256 | 114 | 73 | 299 | 239 |
/// | 32, 512, 512 (T = 50) | 419 | 290 | 1212 | 997 |
fn software_tiles(config: &RnnConfig, shape: Shape, caps: &Caps, strategy: Strategy, base: Tiles) -> Tiles {
    let fours = is_in_fours(config);
    let rows = shape.time.saturating_mul(shape.batch).div_ceil(8);
    let busy = |lanes: usize| lanes.saturating_mul(config.directions()) >= caps.parallel_groups * base.width;
    let side = |columns: usize| if busy(rows.saturating_mul(columns.div_ceil(16))) { 16 } else { 8 };
    let columns = side(config.cell.input_gates() * config.hidden_size);
    let groups = shape.batch.div_ceil(base.back_tile()) * config.hidden_size.div_ceil(8 * base.width);
    let back_units = if groups * config.directions() >= caps.parallel_groups { 8 } else { 4 };
    let weight = if fours { (16, 16) } else { (8, 8) };
    let input = side(config.input_size);
    let r = match strategy {
        Strategy::Sequence if keeps_units(config) => RPlace::Units,
        _ => base.r,
    };
    let lanes = caps.subgroup == SUBGROUP;
    Tiles { back_units, unroll: false, project: (columns, 8), weight, input, fours, r, lanes, ..base }
}

/// Whether a lane can keep R's rows of its unit: 512 values, in loops of 32 fours of k, which llvmpipe's compiler still unrolls.
fn keeps_units(config: &RnnConfig) -> bool {
    let fours = |s: &StageShape| s.depth().div_ceil(4);
    let stages = config.stages();
    let values: usize = stages.iter().map(|s| 4 * fours(s) * s.stage.recurrent_gates()).sum();
    values <= 512 && stages.iter().all(|s| fours(s) <= 32)
}

/// Whether rows of everything that training reads are made of whole vec4s, the head's, too.
fn is_in_fours(config: &RnnConfig) -> bool {
    let heads = config.stages().iter().map(|stage| stage.heads).max().unwrap_or(1);
    let inputs = (0..config.num_layers).map(|layer| config.layer_input_size(layer));
    let mut widths = inputs.chain([config.hidden_size, config.state_size(), config.row_layout(true).width]);
    heads == 1 && widths.all(|n| n.is_multiple_of(4)) && config.head_layer().is_none_or(|head| is_in_fours(&head))
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
    let with = |tile| Tiles { r: RPlace::Rows, sequence_width: width, tile, ..tiles };
    let small = |tile: &usize| sequence_bytes(config, &with(*tile)) <= caps.max_workgroup_memory;
    let halves = std::iter::successors(Some(tiles.tile), |tile| Some(tile / 2)).take_while(|tile| *tile > 0);
    match halves.into_iter().find(small) {
        Some(tile) if dense && fits => with(tile),
        _ => tiles,
    }
}

/// Bytes of workgroup memory that strategy `Sequence` takes with such tiles.
pub(super) fn sequence_bytes(config: &RnnConfig, tiles: &Tiles) -> usize {
    let rows: usize =
        if tiles.r == RPlace::Rows { config.stages().iter().map(StageShape::matrix_rows).sum() } else { 0 };
    sequence_workgroup_bytes(config, tiles.tile, tiles.sequence_width) + 4 * tiles.tile * rows
}

/// Whether a layer is too small for large tiles to pay on a software rasteriser, whose compiler takes longer the larger they are. The
/// limit is a guess.
fn is_small(config: &RnnConfig) -> bool {
    config.cell.input_gates() * config.hidden_size < 128
}
