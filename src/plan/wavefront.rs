//! Layers of a stack side by side.
//!
//! Layer l needs at a step only what the layer below gave at that step, so with L layers L steps can be worked on at once: in wave
//! w layer l is in its chunk w − l of C steps.
//!
//! ```text
//!              wave 0    wave 1    wave 2    wave 3    wave 4
//! layer 0     chunk 0   chunk 1   chunk 2
//! layer 1               chunk 0   chunk 1   chunk 2
//! layer 2                         chunk 0   chunk 1   chunk 2
//!
//! for each wave
//!     project                  of each layer's chunk: row by row, so the bits are those of all rows at once
//!     for each of C steps      one step_forward whose z is the layer; Sequence: one sequence_forward for all C steps
//! store_y                      the last layer's outputs -> y
//! ```
//!
//! So T + (L − 1)·C dispatches instead of L·T (times stages). The way back walks the same waves backwards: a layer's chunk, then
//! `input_backward` for it, which the layer below needs one wave later; gradients of the weights follow when all is done.
//!
//! What layers have slots of their own for lies one behind the other in one slot (`Dims::plane`): `pre`, the history, every layer's
//! outputs and their gradients, gradients of states, and R, which lies so in every plan of a unidirectional stack that fits a
//! binding, for sessions share weights. A step counts from the wave's own first, C·l ahead of layer l (`Dims::chunk`). Nothing is
//! added in another order: bits are those of layers one after the other.

use super::backward::GradientMemory;
use super::build::{Builder, ELEMENTWISE_GROUPS, Memory, once, weight_bytes};
use super::choices::step_seconds;
use super::{Caps, DeviceClass, Dims, Dispatch, Extent, GradientIds, Options, Plan, SlotId, SlotIds, Step, Strategy};
use crate::error::{Error, Result};
use crate::kernels::{HistoryLayout, Kernel, Tiles, transposed_offsets, weight_offsets};
use crate::model::stack::{Direction, RnnConfig, Shape};
use crate::plan::schedule::Schedule;
use std::ops::Range;

/// Whether the layers of a unidirectional stack run side by side, each some steps behind the one below it, so that a dispatch has
/// work of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wavefront {
    /// Where it is expected to pay.
    #[default]
    Auto,
    /// One layer after the other.
    Off,
    /// So many steps apart (fewer where a block of steps must be shorter); an error where something rules it out.
    Chunk(usize),
}

/// Whether R of all layers lies in one slot: it depends on what sessions that share weights have in common.
pub(super) fn stacks_weights(config: &RnnConfig, caps: &Caps, options: &Options) -> bool {
    let format = options.weight_storage(caps);
    let stages = config.stages();
    let entries = weight_offsets(&stages, format).total.max(transposed_offsets(&stages, format).total);
    let bytes = (entries * 4 * weight_bytes(format, options.precision)) as u64 * config.num_layers as u64;
    config.num_layers > 1 && config.directions() == 1 && bytes <= caps.max_binding.min(caps.max_buffer)
}

/// Why layers cannot run side by side.
fn obstacle(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Option<String> {
    let layers = config.num_layers;
    if layers < 2 {
        return Some("there is one layer".into());
    }
    if config.direction == Direction::Bidirectional {
        return Some("upper layers of a bidirectional stack need all of time".into());
    }
    if options.train && options.memory != super::Memory::Save {
        return Some(format!("memory policy {} keeps one layer's steps at a time", options.memory));
    }
    if (1..layers).any(|layer| config.drops_input(layer, options.train)) {
        return Some("dropout between layers works on all steps of a layer at once".into());
    }
    if !stacks_weights(config, caps, options) {
        return Some("R of all layers does not fit one binding".into());
    }
    let width = match options.train {
        true => config.row_layout(true).width.max(HistoryLayout::new(config, &config.stages()).width),
        false => config.state_size(),
    };
    let heads = if options.resets.is_some() { 2 } else { 1 };
    let rows = (shape.time + heads) as u64 * shape.batch as u64 * layers as u64;
    let bytes = rows.saturating_mul((width * options.precision.bytes()) as u64);
    let limit = caps.max_binding.min(caps.max_buffer);
    (bytes > limit).then(|| format!("what all layers keep, {bytes} bytes, does not fit one binding of {limit}"))
}

/// The longest chunk whose `pre` of all layers fits a binding and whose wave fits a submit.
fn longest_chunk(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options, stretch: usize) -> usize {
    let layers = config.num_layers;
    let row = config.row_layout(options.train).width * options.activation_bytes(caps);
    let step = (layers * shape.batch * row) as u64;
    let bound = caps.max_binding.min(caps.max_buffer) / step.max(1);
    // In training `pre` holds all steps anyhow.
    let bound = if options.train { usize::MAX } else { usize::try_from(bound).unwrap_or(usize::MAX) };
    let seconds = step_seconds(config, shape, caps) * layers as f64;
    let timed = if seconds > 0.0 { (options.submit_budget.as_secs_f64() / seconds) as usize } else { usize::MAX };
    stretch.min(bound).min(timed.max(1)).max(1)
}

/// How many steps layers are apart if they run side by side, and why (not).
pub(super) fn choose_wavefront(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    options: &Options,
    (strategy, tiles, stretch): (Strategy, &Tiles, usize),
) -> Result<(Option<usize>, String)> {
    let longest = longest_chunk(config, shape, caps, options, stretch);
    match (options.wavefront, obstacle(config, shape, caps, options)) {
        (Wavefront::Off, _) => Ok((None, "forced".into())),
        (Wavefront::Chunk(0), _) => Err(Error::mismatch("wavefront", "chunks of at least one step", 0)),
        (Wavefront::Chunk(steps), Some(reason)) => {
            Err(Error::Unsupported { what: format!("a wavefront of chunks of {steps} steps"), reason })
        }
        (Wavefront::Chunk(steps), None) => Ok((Some(steps.min(longest)), "forced".into())),
        (Wavefront::Auto, Some(reason)) => Ok((None, reason)),
        (Wavefront::Auto, None) => {
            let batch = options.nominal.unwrap_or(shape).batch;
            Ok(automatic(config, Shape { batch, ..shape }, caps, strategy, tiles, longest))
        }
    }
}

/// So many workgroups of one layer's step, times those that keep the device's cores busy one by one, hide each other's loads: more
/// layers at once would only wait. A guess: not measured on a GPU.
const LAYER_SHARE: usize = 4;

/// The choice where nothing is forced and nothing rules it out.
///
/// A software rasteriser's few threads have enough to do with one layer, and short chunks make its matrix products slow. Measured on
/// lavapipe (2 cores, other work beside it; `wgpu-rnn bench --device gpu --time 100 --layers 4 --strategy step --wavefront ..`, 3
/// rounds in turn, median time in chunks of 4, 16 and 32 steps / median time of layers one after the other):
///
/// | H | LSTM B=1 | LSTM B=16 | GRU B=1 | GRU B=16 |
/// |---|---|---|---|---|
/// | 64 | 0.76, 0.48, 1.28 | 0.98, 0.69, 0.68 | 2.26, 0.86, 0.90 | 1.15, 1.24, 1.23 |
/// | 256 | 0.99, 1.13, 1.44 | 0.98, 1.09, 1.02 | 1.17, 0.97, 0.91 | 1.15, 1.25, 1.14 |
fn automatic(
    config: &RnnConfig,
    shape: Shape,
    caps: &Caps,
    strategy: Strategy,
    tiles: &Tiles,
    longest: usize,
) -> (Option<usize>, String) {
    let (time, layers, stages) = (shape.time, config.num_layers, config.stages());
    if caps.class == DeviceClass::Cpu {
        return (None, "CPU executor: threads own sequences, nothing waits for a dispatch".into());
    }
    if strategy == Strategy::Sequence {
        return (None, "the time loop is inside the kernel: chunks would be more dispatches".into());
    }
    if caps.class == DeviceClass::SoftwareGpu {
        return (None, "a software rasteriser's threads are busy with one layer".into());
    }
    let units = stages.iter().map(|s| s.padded_units()).max().unwrap_or(4);
    let groups = units.div_ceil(tiles.width / tiles.split) * shape.batch.div_ceil(tiles.tile);
    if groups >= LAYER_SHARE * caps.parallel_groups {
        return (None, format!("{groups} workgroups of one layer's step keep the device busy"));
    }
    // Short chunks are more projections, long ones more steps with few layers: (L − 1)·C·S + L·T / C is least here.
    let best = ((layers * time) as f64 / ((layers - 1) * stages.len()) as f64).sqrt();
    let chunk = (best as usize).next_power_of_two().min(longest);
    let side_by_side = (time + (layers - 1) * chunk) * stages.len() + layers * time.div_ceil(chunk);
    let one_by_one = layers * time * stages.len() + layers;
    if side_by_side >= one_by_one {
        return (None, format!("{time} steps are too few: {side_by_side} dispatches instead of {one_by_one}"));
    }
    let reason = format!(
        "one layer's step has {groups} workgroups; {side_by_side} dispatches of recurrence and projection instead of {one_by_one}"
    );
    (Some(chunk), reason)
}

impl Plan {
    /// How many steps the uppermost layer of a dispatch is behind the wave's own count.
    pub(super) fn lag(&self, dispatch: &Dispatch) -> usize {
        let dims = &self.dims[dispatch.dims];
        let layers = dispatch.groups.2 / self.config.directions();
        (dims.layer as usize + layers).saturating_sub(1) * dims.chunk as usize
    }

    /// The steps of a body's range that any layer has in a schedule.
    pub(crate) fn steps_of(&self, range: &Range<usize>, body: &[Dispatch], schedule: &Schedule) -> Range<usize> {
        let lag = body.first().map_or(0, |d| self.lag(d));
        range.start..range.end.min(schedule.steps() + lag)
    }

    /// Which layers and steps a dispatch of a wave is about.
    pub(super) fn wave_text(&self, d: &Dispatch) -> String {
        let dims = &self.dims[d.dims];
        let (first, layers) = (dims.layer, d.groups.2 / self.config.directions());
        let end = first + layers as u32;
        let apart = dims.chunk;
        format!(" layers {first}..{end} steps {}..{}, layers {apart} apart", dims.first, dims.end)
    }
}

/// One wave: its layers, each with the steps of its chunk, and the steps by the wave's own count.
struct Wave {
    layers: Vec<(usize, Range<usize>)>,
    steps: Range<usize>,
}

impl Wave {
    fn range(&self) -> Range<usize> {
        let (first, last) = (self.layers[0].0, self.layers[self.layers.len() - 1].0);
        first..last + 1
    }
}

/// All waves of a stack.
fn waves(layers: usize, time: usize, chunk: usize) -> Vec<Wave> {
    let chunks = time.div_ceil(chunk);
    let wave = |w: usize| {
        let active = w.saturating_sub(chunks - 1)..(w + 1).min(layers);
        let list: Vec<_> = active.map(|l| (l, (w - l) * chunk..((w - l + 1) * chunk).min(time))).collect();
        let end = list.iter().map(|(l, steps)| l * chunk + steps.end).max().unwrap_or(0);
        Wave { layers: list, steps: w * chunk..end }
    };
    (0..chunks + layers - 1).map(wave).collect()
}

impl Builder<'_> {
    /// `dims` of what must know that layers are apart.
    pub fn dims_of_waves(&mut self, dims: usize) -> usize {
        let Some(chunk) = self.chunk else { return dims };
        self.dims.push(Dims { chunk: chunk as u32, ..self.dims[dims] });
        self.dims.len() - 1
    }

    /// The uniform block of a wave.
    fn dims_of_wave(&mut self, wave: &Wave) -> usize {
        let dims = self.dims(wave.range().start, 0..self.shape.time);
        let dims = self.dims_of_waves(dims);
        let (first, end) = (wave.steps.start as u32, wave.steps.end as u32);
        let own = Dims { first, end, ..self.dims[dims] };
        // In inference `pre` holds a chunk.
        self.dims[dims] = if self.train { own } else { Dims { segment: first, segment_end: end, ..own } };
        dims
    }

    /// The forward pass of all layers, from the states to y.
    pub fn waves(&mut self, chunk: usize, ids: &SlotIds, m: &Memory, steps: &mut Vec<Step>) {
        let (layers, time) = (self.config.num_layers, self.shape.time);
        if self.train {
            let dims = self.dims(0, 0..time);
            steps.push(self.begin_segment(0..layers, dims, ids, m));
        }
        for wave in waves(layers, time, chunk) {
            for (layer, range) in &wave.layers {
                let dims = self.dims(*layer, range.clone());
                steps.push(self.project(*layer, dims, ids, m));
                steps.extend(self.normalise_input(*layer, dims, ids, m));
            }
            let dims = self.dims_of_wave(&wave);
            steps.push(match self.strategy {
                Strategy::Sequence => self.sequence(wave.range(), dims, self.train, ids, m),
                Strategy::Step => {
                    let body = self.step_body(wave.range(), dims, self.train, ids, m);
                    Step::EachStep(wave.steps, body)
                }
            });
        }
        if self.keep_y || self.config.head.is_some() {
            steps.push(self.copy_last(Kernel::StoreY, [m.y[0], m.whole_y], m.whole_y));
        }
    }

    /// A copy between the last layer's part of a slot and one of its own, which is `one`.
    fn copy_last(&mut self, kernel: Kernel, slots: [SlotId; 2], one: SlotId) -> Step {
        let layer = self.config.num_layers - 1;
        let dims = self.dims(layer, 0..self.shape.time);
        let wide = self.slots[one].len().div_ceil(self.tiles.width).min(ELEMENTWISE_GROUPS);
        once(kernel, Some(layer), dims, slots.to_vec(), (wide, Extent::Fixed(1), 1))
    }

    /// The way back through all layers.
    pub fn waves_back(
        &mut self,
        chunk: usize,
        ids: &SlotIds,
        g: &GradientIds,
        m: &Memory,
        b: &GradientMemory,
        steps: &mut Vec<Step>,
    ) {
        let (layers, time) = (self.config.num_layers, self.shape.time);
        steps.push(self.load_gradients(0..layers, ids, g, b));
        steps.push(self.cleared(None, b.dy[0]));
        steps.push(self.cleared(None, g.dx));
        if self.keep_y || self.config.head.is_some() {
            steps.push(self.copy_last(Kernel::LoadDy, [g.dy, b.dy[0]], g.dy));
        }
        for wave in waves(layers, time, chunk).into_iter().rev() {
            let dims = self.dims_of_wave(&wave);
            steps.push(self.adjoint(wave.range(), (wave.steps.clone(), dims), ids, g, m, b));
            for (layer, range) in wave.layers.into_iter().rev() {
                let dx = if layer == 0 { g.dx } else { b.dy[layer - 1] };
                self.input_gradient(layer, range, dx, ids, g, m, steps);
            }
        }
        for layer in (0..layers).rev() {
            self.weight_gradients(layer, 0..time, ids, g, m, steps);
            self.carry_gradients(layer, 0..time, ids, g, m, b, steps);
            steps.extend(self.unit_gradients(layer, g, b));
        }
        if self.config.drops_input(0, true) {
            steps.push(self.dropout(0, g.dx, None, ids.schedule));
        }
        steps.push(self.store_gradients(0..layers, ids, g, b));
    }
}
