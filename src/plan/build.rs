//! Slots and steps of the forward pass. In training every layer keeps its pre-activations, states and outputs.

use super::choices::Stretches;
use super::ends::project_kernel;
use super::{Dims, Dispatch, Extent, Precision, Role, Slot, SlotId, SlotIds, Step, Strategy};
use crate::kernels::{HistoryLayout, Kernel, Spread, TILE_LANES, Tiles, weight_offsets};
use crate::model::stack::{Layout, RnnConfig, Shape, StageShape};
use crate::model::weights::WeightFormat;
use crate::num::random::RUN_WORDS;
use std::ops::Range;

/// A named dimension.
pub(super) type Dim = (&'static str, usize);

/// What was decided before anything is sized.
pub(super) struct Builder<'a> {
    pub config: &'a RnnConfig,
    pub shape: Shape,
    pub precision: Precision,
    /// How weights lie on the device.
    pub weights: WeightFormat,
    /// Bytes of a value of x, `pre` and y.
    pub activation_bytes: usize,
    pub strategy: Strategy,
    pub tiles: Tiles,
    pub block: usize,
    pub stretches: Stretches,
    /// Steps per block where layers run one after the other: the longest stretch that one dispatch may go over.
    pub stretch: usize,
    /// Steps that a layer is behind the one below it, where they run side by side.
    pub chunk: Option<usize>,
    /// Whether one slot holds R of all layers.
    pub stacks_weights: bool,
    pub train: bool,
    pub keep_y: bool,
    /// Whether parameter gradients are added to those that are there.
    pub accumulate: bool,
    /// Whether episodes may begin inside a run: what they begin from lies behind states, operands and their gradients.
    pub resets: bool,
    /// Steps per segment (T without checkpoints).
    pub segment: usize,
    /// `Memory::Recompute`.
    pub recompute: bool,
    pub stages: Vec<StageShape>,
    pub slots: Vec<Slot>,
    /// Which of them are x, `pre` and y.
    pub activations: Vec<SlotId>,
    pub dims: Vec<Dims>,
}

/// The working memory of the forward pass, by layer where layers do not share it.
pub(super) struct Memory {
    pub state: SlotId,
    /// h of even and of odd steps (the same slot where nothing swaps).
    pub operands: [SlotId; 2],
    /// Operands between stages (strategy Step).
    pub links: Vec<SlotId>,
    /// Per layer in training: states, h and operands of a segment's steps.
    pub history: Vec<SlotId>,
    /// States and h before every segment, where there are several.
    pub checkpoints: Option<SlotId>,
    /// Per layer: what `Memory::Recompute` keeps of all steps.
    pub kept: Vec<SlotId>,
    /// Products of normalising stages (strategy Step).
    pub product: Option<SlotId>,
    /// x times its masks, where there is dropout of the input and x is the caller's.
    pub dropped: Option<SlotId>,
    pub pre: Vec<SlotId>,
    /// Where each layer writes its outputs.
    pub y: Vec<SlotId>,
    /// y itself, if layers that run side by side write them elsewhere.
    pub whole_y: SlotId,
}

/// A slot that a kernel's binding needs but this configuration does not have: a single element, never read. One of its own
/// per binding: the same buffer bound to read and to write in one dispatch is an error.
pub(super) const UNUSED: [Dim; 1] = [("unused", 1)];

/// The last dimension of c0 and cn.
pub(crate) fn cell_dim(config: &RnnConfig) -> Dim {
    (if config.cell.cell_states() > 1 { "S·H" } else { "H" }, config.cell_size())
}

impl Builder<'_> {
    pub fn slot(&mut self, name: impl Into<String>, role: Role, dims: &[Dim]) -> SlotId {
        let element = match role {
            Role::Schedule | Role::Index | Role::Table => 4,
            _ => self.precision.bytes(),
        };
        self.slots.push(Slot { name: name.into(), dims: dims.to_vec(), role, element });
        self.slots.len() - 1
    }

    /// A packed weight buffer; its elements are weights in their format, and in that unit what lies between them.
    pub fn weight_slot(&mut self, name: impl Into<String>, dims: &[Dim]) -> SlotId {
        let id = self.slot(name, Role::Weights, dims);
        self.slots[id].element = weight_bytes(self.weights, self.precision);
        id
    }

    /// x, `pre`, or a layer's y.
    pub fn activation_slot(&mut self, name: impl Into<String>, role: Role, dims: &[Dim]) -> SlotId {
        let id = self.slot(name, role, dims);
        self.slots[id].element = self.activation_bytes;
        self.activations.push(id);
        id
    }

    /// The dimension of a matrix's columns, four to an entry, with its exact row.
    pub fn depth(&self, columns: usize) -> Dim {
        depth(self.weights, columns)
    }

    /// The uniform block of a layer's steps, within the segment they belong to.
    pub fn dims(&mut self, layer: usize, steps: Range<usize>) -> usize {
        self.dims_of(layer, steps, 0)
    }

    /// The same for one direction.
    pub fn dims_of(&mut self, layer: usize, steps: Range<usize>, direction: usize) -> usize {
        let (held, segment) = if self.train {
            let first = steps.start / self.segment * self.segment;
            (self.segment, first..(first + self.segment).min(self.shape.time))
        } else {
            (self.block, steps.clone())
        };
        let planes = self.config.num_layers * self.config.directions();
        let plane = layer * self.config.directions();
        let above = if self.chunk.is_some() { layer.saturating_sub(1) } else { 0 };
        self.dims.push(Dims {
            batch: self.shape.batch as u32,
            time: self.shape.time as u32,
            layer: layer as u32,
            first: steps.start as u32,
            end: steps.end as u32,
            pre_rows: (held * self.shape.batch) as u32,
            input_size: self.config.layer_input_size(layer) as u32,
            segment: segment.start as u32,
            segment_end: segment.end as u32,
            direction: direction as u32,
            checkpoint: (segment.start / self.segment) as u32,
            alternating: u32::from(self.strategy == Strategy::Step),
            accumulate: u32::from(self.accumulate),
            chunk: 0,
            plane: if self.chunk.is_some() { plane as u32 } else { 0 },
            planes: if self.chunk.is_some() { planes } else { self.config.directions() } as u32,
            weights_plane: if self.stacks_weights { plane as u32 } else { 0 },
            input_rows: (above * self.shape.time * self.shape.batch) as u32,
        });
        self.dims.len() - 1
    }

    /// T and B in the order of the layout.
    pub fn outer(&self) -> [Dim; 2] {
        let (t, b) = (("T", self.shape.time), ("B", self.shape.batch));
        if self.config.layout == Layout::TimeMajor { [t, b] } else { [b, t] }
    }

    /// `[L·D, B, width]`
    pub fn stacked(&self, width: Dim) -> [Dim; 3] {
        [("L·D", self.config.num_layers * self.config.directions()), ("B", self.shape.batch), width]
    }

    /// What slots that layers need of their own begin with: directions, or all (layer, direction) pairs where layers run side by
    /// side and share them.
    pub fn planes(&self) -> Dim {
        let directions = self.config.directions();
        if self.chunk.is_some() { ("L·D", self.config.num_layers * directions) } else { ("D", directions) }
    }

    pub fn hidden(&self) -> Dim {
        ("H", self.config.hidden_size)
    }

    pub fn output(&self) -> Dim {
        ("P", self.config.state_size())
    }

    pub fn cell(&self) -> Dim {
        cell_dim(self.config)
    }

    /// All slots of the forward pass.
    pub fn forward_slots(&mut self) -> (SlotIds, Memory) {
        let (config, [outer, inner]) = (self.config, self.outer());
        let (batch, directions) = (self.shape.batch, config.directions());
        let has_cell = config.cell.has_cell_state();
        let role = if config.vocabulary.is_some() { Role::Scratch } else { Role::Input };
        let x = self.activation_slot("x", role, &[outer, inner, ("I", config.input_size)]);
        let embedding = self.embedding_slots();
        let h0 = self.slot("h0", Role::Input, &self.stacked(self.output()));
        let c0 = has_cell.then(|| self.slot("c0", Role::Input, &self.stacked(self.cell())));
        let rows = self.shape.time * batch;
        let run = if config.drops(self.train) { RUN_WORDS } else { 0 };
        let flags = if self.resets { directions * rows } else { 0 };
        let table = ("table", 2 * batch + self.shape.time + 1 + directions * rows + flags + run);
        let schedule = self.slot("schedule", Role::Schedule, &[table]);
        let (mut w, mut r) = (Vec::new(), Vec::new());
        let inputs = ("G·H", config.cell.input_gates() * config.hidden_size);
        let packed = ("packed", weight_offsets(&self.stages, self.weights).total);
        for layer in 0..config.num_layers {
            let depth = self.depth(config.weight_columns(layer));
            let d = ("D", directions);
            w.push(self.weight_slot(format!("w.l{layer}"), &[d, depth, inputs, ("k", 4)]));
            r.push(match (self.stacks_weights, r.first()) {
                (true, Some(&all)) => all,
                (true, None) => self.weight_slot("r", &[("L", config.num_layers), packed, ("k", 4)]),
                (false, _) => self.weight_slot(format!("r.l{layer}"), &[d, packed, ("k", 4)]),
            });
        }
        let memory = self.memory();
        let hn = self.slot("hn", Role::Output, &self.stacked(self.output()));
        let cn = match has_cell {
            true => self.slot("cn", Role::Output, &self.stacked(self.cell())),
            false => self.slot("cn", Role::Scratch, &UNUSED),
        };
        let y = memory.whole_y;
        let head = self.head_slots();
        let activations = self.activations.clone();
        (
            SlotIds { x, h0, c0, y, hn, cn, schedule, w, r, embedding, head, activations, grad: None, update: None },
            memory,
        )
    }

    fn memory(&mut self) -> Memory {
        let (config, [outer, inner]) = (self.config, self.outer());
        let (layers, directions, batch) = (config.num_layers, ("D", config.directions()), self.shape.batch);
        let states = ("S", config.states().len());
        let stacked = self.stacked(self.hidden());
        let state = match states.1 {
            0 => self.slot("state", Role::Scratch, &UNUSED),
            _ => self.doubled("state", &[stacked[0], stacked[1], states, stacked[2]]),
        };
        let operand = config.operand_row(self.train);
        let h = self.stacked(("K", operand));
        let even = self.doubled("operand.even", &h);
        let odd = match self.strategy {
            Strategy::Step => self.doubled("operand.odd", &h),
            Strategy::Sequence => even,
        };
        let (mut links, mut product) = (Vec::new(), None);
        if self.strategy == Strategy::Step {
            for (n, stage) in self.stages.clone().iter().enumerate().take(self.stages.len() - 1) {
                let dims = self.stacked(("K", stage.padded_units()));
                links.push(self.slot(format!("link.{n}"), Role::Scratch, &dims));
            }
            let normalising = self.stages.iter().filter(|s| s.stage.normalise);
            let widest = normalising.map(|s| s.stage.recurrent_gates() * s.units).max();
            product = widest.map(|n| self.slot("product", Role::Scratch, &[self.planes(), ("B", batch), ("G·N", n)]));
        }
        // Where everything is kept every layer has its own; else segments and layers share.
        let held = if self.train { self.segment } else { self.block } * batch;
        let own = self.train && self.segment == self.shape.time && !self.recompute;
        let row = ("G·H", config.row_layout(self.train).width);
        let past = ("past", HistoryLayout::new(config, &self.stages).width);
        let (mut pre, mut history) = (Vec::new(), Vec::new());
        for layer in 0..layers {
            if layer > 0 && (!own || self.chunk.is_some()) {
                pre.push(pre[0]);
                history.extend(history.first().copied());
                continue;
            }
            let alone = own && self.chunk.is_none();
            let name = |what: &str| if alone { format!("{what}.l{layer}") } else { what.to_string() };
            let planes = self.planes();
            pre.push(self.activation_slot(name("pre"), Role::Scratch, &[planes, ("rows", held), row]));
            if self.train {
                let heads = if self.resets { 2 * batch } else { batch };
                let dims = [planes, ("B+rows", heads + held), past];
                history.push(self.slot(name("history"), Role::Scratch, &dims));
            }
        }
        let segments = self.shape.time.div_ceil(self.segment);
        let checkpoints = (self.train && segments > 1 && !self.recompute).then(|| {
            let row = ("S·H+K", states.1 * config.hidden_size + operand);
            self.slot("checkpoints", Role::Scratch, &[("segments", segments), stacked[0], stacked[1], row])
        });
        let kept = if self.recompute { self.kept_slots() } else { Vec::new() };
        let features = ("D·P", directions.1 * config.state_size());
        let whole = [outer, inner, features];
        // The outputs of hidden layers: all in training, two at a time else.
        let hidden: Vec<SlotId> = match self.train {
            _ if self.chunk.is_some() => {
                vec![self.activation_slot("y.layers", Role::Scratch, &[("L", layers), outer, inner, features])]
            }
            true => (0..layers - 1).map(|l| self.activation_slot(format!("y.l{l}"), Role::Scratch, &whole)).collect(),
            false => (0..(layers - 1).min(2))
                .map(|n| self.activation_slot(format!("y.{}", ["even", "odd"][n]), Role::Scratch, &whole))
                .collect(),
        };
        let last = match (self.keep_y, config.head) {
            (true, _) => self.activation_slot("y", Role::Output, &whole),
            (false, Some(_)) => self.activation_slot("y", Role::Scratch, &whole),
            (false, None) => self.activation_slot("y", Role::Scratch, &UNUSED),
        };
        let side_by_side = self.chunk.is_some();
        let y = |l: usize| if l + 1 == layers && !side_by_side { last } else { hidden[l % hidden.len()] };
        let y = (0..layers).map(y).collect();
        let copied = config.drops_input(0, self.train) && config.vocabulary.is_none();
        let dropped = copied.then(|| {
            let dims = [outer, inner, ("I", config.input_size)];
            self.slot("x.dropped", Role::Scratch, &dims)
        });
        Memory {
            state,
            operands: [even, odd],
            links,
            history,
            checkpoints,
            kept,
            product,
            dropped,
            pre,
            y,
            whole_y: last,
        }
    }

    /// The forward pass.
    pub fn forward_steps(&mut self, ids: &SlotIds, m: &Memory) -> Vec<Step> {
        let config = self.config;
        let time = self.shape.time;
        let (layers, directions) = (config.num_layers, config.directions());
        let whole = self.dims(0, 0..time);
        let wide = config.hidden_size.max(config.state_size().next_multiple_of(4)).div_ceil(self.tiles.width);
        let all = (wide, Extent::Batch, layers * directions);
        // Layers that share a slot write the same rows of it, so clearing once is enough.
        let mut cleared: Vec<SlotId> = (0..layers).filter(|&l| self.write_y(l)).map(|l| m.y[l]).collect();
        cleared.sort_unstable();
        cleared.dedup();
        let mut steps: Vec<Step> = cleared.into_iter().map(Step::ClearPadding).collect();
        steps.extend(ids.embedding.as_ref().map(|e| self.embed(e, ids.x)));
        self.load_states(whole, all, ids, m, &mut steps);
        if config.drops_input(0, self.train) {
            let source = m.dropped.map(|_| ids.x);
            steps.push(self.dropout(0, m.dropped.unwrap_or(ids.x), source, ids.schedule));
        }
        if let Some(chunk) = self.chunk {
            self.waves(chunk, ids, m, &mut steps);
        }
        for layer in 0..if self.chunk.is_some() { 0 } else { layers } {
            let sequences = (wide, Extent::Batch, directions);
            let keep = self.train && m.checkpoints.is_none();
            for first in (0..time).step_by(self.segment) {
                let range = first..(first + self.segment).min(time);
                let dims = self.dims(layer, range.clone());
                if let Some(checkpoints) = m.checkpoints {
                    let slots = vec![m.operands[0], m.state, checkpoints];
                    steps.push(once(Kernel::SaveCheckpoint, Some(layer), dims, slots, sequences));
                } else if keep {
                    steps.push(self.begin_segment(layer..layer + 1, dims, ids, m));
                }
                self.run_segment(layer, range, keep, ids, m, &mut steps);
                if self.recompute {
                    steps.push(self.save_history(layer, dims, ids, m));
                }
            }
            if layer + 1 < layers && config.drops_input(layer + 1, self.train) {
                steps.push(self.dropout(layer + 1, m.y[layer], None, ids.schedule));
            }
        }
        let whole = self.dims_of_waves(whole);
        let store = vec![m.operands[0], m.operands[1], m.state, ids.hn, ids.cn, ids.schedule];
        steps.push(once(Kernel::StoreState, None, whole, store, all));
        steps.extend(ids.head.as_ref().map_or(Vec::new(), |head| self.head_steps(head, ids.y, ids.schedule)));
        steps
    }

    /// States and h before a segment become the first rows of its history.
    pub fn begin_segment(&self, layers: Range<usize>, dims: usize, ids: &SlotIds, m: &Memory) -> Step {
        let config = self.config;
        let wide = config.hidden_size.max(config.state_size()).div_ceil(self.tiles.width);
        let slots = vec![m.operands[0], m.state, m.history[layers.start], ids.schedule];
        let planes = layers.len() * config.directions();
        once(Kernel::BeginSegment, only(&layers), dims, slots, (wide, Extent::Batch, planes))
    }

    /// A layer over a stretch of steps, in blocks; `keep`: with everything the backward pass needs.
    pub fn run_segment(
        &mut self,
        layer: usize,
        steps: Range<usize>,
        keep: bool,
        ids: &SlotIds,
        m: &Memory,
        out: &mut Vec<Step>,
    ) {
        for first in steps.clone().step_by(self.block) {
            let range = first..(first + self.block).min(steps.end);
            let dims = self.dims(layer, range.clone());
            out.push(self.project(layer, dims, ids, m));
            out.extend(self.normalise_input(layer, dims, ids, m));
            out.push(match self.strategy {
                Strategy::Sequence => self.sequence(layer..layer + 1, dims, keep, ids, m),
                Strategy::Step => Step::EachStep(range, self.step_body(layer..layer + 1, dims, keep, ids, m)),
            });
        }
    }

    /// x·Wᵀ + b of a block of steps, or x + b without W.
    pub fn project(&self, layer: usize, dims: usize, ids: &SlotIds, m: &Memory) -> Step {
        let config = self.config;
        let input = self.layer_input(layer, ids, m);
        let columns = config.row_layout(false).width;
        let (kernel, (wide, rows)) = match config.skips_input(layer) {
            true => {
                let wide = columns.div_ceil(self.tiles.width);
                (Kernel::SkipInput, (wide, Extent::Rows(self.tiles.project.1)))
            }
            false => (project_kernel(config.layer_input_size(layer)), self.project_grid(columns)),
        };
        let slots = vec![input, ids.w[layer], m.pre[layer], ids.schedule];
        once(kernel, Some(layer), dims, slots, (wide, rows, config.directions()))
    }

    /// Workgroups of `project` along columns and rows.
    pub fn project_grid(&self, columns: usize) -> (usize, Extent) {
        let (tile, rows) = self.tiles.project;
        let (groups, rows) = self.product_grid(columns, tile, rows);
        (groups, Extent::Rows(rows))
    }

    /// Those of `input_backward` along features and rows.
    pub fn input_grid(&self, features: usize) -> (usize, Extent, usize) {
        let (groups, rows) = self.product_grid(features, self.tiles.input, self.tiles.project.1);
        (groups, Extent::Rows(rows), 1)
    }

    /// Those of `weight_backward` over a matrix `[rows, depth]` and its bias; `heads`: of a recurrent matrix.
    pub fn weight_grid(&self, depth: usize, rows: usize, heads: usize, directions: usize) -> (usize, Extent, usize) {
        let (own, columns) = self.tiles.weight;
        let (groups, per_group) = match self.tiles.shared && heads == 1 {
            // The first columns' workgroups make the bias, too.
            true => self.product_grid(depth.max(1), columns, own),
            false => spread_grid(depth + 1, columns, own, self.tiles.width),
        };
        (groups, Extent::Fixed(rows.div_ceil(per_group)), directions)
    }

    /// Workgroups along the columns of a matrix product, and how many rows each has, with so many columns and rows to a lane.
    fn product_grid(&self, columns: usize, tile: usize, rows: usize) -> (usize, usize) {
        match self.tiles.shared {
            true => (columns.div_ceil(tile * TILE_LANES), rows * TILE_LANES),
            false => spread_grid(columns, tile, rows, self.tiles.width),
        }
    }

    /// The row statistics of x·Wᵀ of normalising stages.
    pub fn normalise_input(&self, layer: usize, dims: usize, ids: &SlotIds, m: &Memory) -> Vec<Step> {
        let stages = self.stages.iter().enumerate().filter(|(_, s)| s.stage.normalises_input());
        let dispatch = |(stage, _)| {
            Step::Once(Dispatch {
                kernel: Kernel::NormaliseInput,
                stage,
                layer: Some(layer),
                dims,
                write_y: true,
                head: false,
                slots: vec![m.pre[layer], ids.schedule],
                odd: None,
                groups: (1, Extent::Rows(self.tiles.project.1), self.config.directions()),
            })
        };
        stages.map(dispatch).collect()
    }

    /// What a layer reads.
    pub fn layer_input(&self, layer: usize, ids: &SlotIds, m: &Memory) -> SlotId {
        if layer == 0 { m.dropped.unwrap_or(ids.x) } else { m.y[layer - 1] }
    }

    /// Multiplies what a layer reads, or its gradient, by its masks: all steps at once, in place or from `source`. In place is
    /// safe for y of a hidden layer: that layer has run over all steps, and when the backward pass runs a segment of it again,
    /// the layer above is done with it.
    pub fn dropout(&mut self, layer: usize, values: SlotId, source: Option<SlotId>, schedule: SlotId) -> Step {
        let dims = self.dims(layer, 0..self.shape.time);
        let width = self.config.layer_input_size(layer);
        let draws = self.slots[values].len() / width * width.div_ceil(4);
        let groups = (draws.div_ceil(self.tiles.width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
        let kernel = if source.is_some() { Kernel::DropoutCopy } else { Kernel::Dropout };
        let slots = [values, schedule].into_iter().chain(source).collect();
        once(kernel, Some(layer), dims, slots, groups)
    }

    /// Whether the layer's y exists.
    pub fn write_y(&self, layer: usize) -> bool {
        self.keep_y || self.config.head.is_some() || layer + 1 < self.config.num_layers || self.chunk.is_some()
    }

    /// `sequence_forward` of layers that run side by side, or of one.
    pub fn sequence(&self, layers: Range<usize>, dims: usize, keep: bool, ids: &SlotIds, m: &Memory) -> Step {
        let layer = layers.start;
        let mut slots = vec![ids.r[layer], m.pre[layer], m.operands[0], m.state, m.y[layer], ids.schedule];
        let mut kernel = Kernel::SequenceForward;
        if keep {
            kernel = Kernel::SequenceForwardTrain;
            slots.push(m.history[layer]);
        }
        let groups = (1, Extent::Active(self.tiles.tile), layers.len() * self.config.directions());
        let write_y = self.write_y(layer);
        let (layer, odd) = (only(&layers), None);
        Step::Once(Dispatch { kernel, stage: 0, layer, dims, write_y, head: false, slots, odd, groups })
    }

    /// The dispatches of one time step of layers that run side by side, or of one: one per stage, two where a stage normalises.
    pub fn step_body(&self, layers: Range<usize>, dims: usize, keep: bool, ids: &SlotIds, m: &Memory) -> Vec<Dispatch> {
        let (layer, planes) = (layers.start, layers.len() * self.config.directions());
        let (weights, schedule) = (ids.r[layer], ids.schedule);
        let (pre, state, y) = (m.pre[layer], m.state, m.y[layer]);
        let last = self.stages.len() - 1;
        let mut body = Vec::new();
        if self.resets {
            body.push(self.reset_state(&layers, dims, ids, m));
        }
        for (n, stage) in self.stages.iter().enumerate() {
            // What this stage reads and writes at an even or odd step.
            let from = |odd: usize| if n == 0 { m.operands[odd] } else { m.links[n - 1] };
            let to = |odd: usize| if n == last { m.operands[1 - odd] } else { m.links[n] };
            let mut push = |kernel, slots: &dyn Fn(usize) -> Vec<SlotId>, groups| {
                let odd = Some(slots(1));
                let write_y = self.write_y(layer);
                body.push(Dispatch {
                    kernel,
                    stage: n,
                    layer: only(&layers),
                    dims,
                    write_y,
                    head: false,
                    slots: slots(0),
                    odd,
                    groups,
                });
            };
            let tiles = Extent::Active(self.tiles.tile);
            let wide = stage.padded_units().div_ceil(self.tiles.width);
            if let (true, Some(product)) = (stage.stage.normalise, m.product) {
                push(Kernel::StepProduct, &|odd| vec![weights, from(odd), product, schedule], (wide, tiles, planes));
                let kernel = if keep { Kernel::StepNormaliseTrain } else { Kernel::StepNormalise };
                let slots = |odd| {
                    let mut list = vec![pre, weights, product, to(odd), state, y, schedule];
                    list.extend(keep.then(|| m.history[layer]));
                    list
                };
                push(kernel, &slots, (1, Extent::Active(1), planes));
            } else {
                let kernel = if keep { Kernel::StepForwardTrain } else { Kernel::StepForward };
                let slots = |odd| {
                    let mut list = vec![pre, weights, from(odd), to(odd), state, y, schedule];
                    list.extend(keep.then(|| m.history[layer]));
                    list
                };
                let wide = stage.padded_units().div_ceil(self.tiles.width / self.tiles.split);
                push(kernel, &slots, (wide, tiles, planes));
            }
        }
        body
    }
}

/// As [`Builder::product_grid`], without workgroup memory.
fn spread_grid(columns: usize, tile: usize, rows: usize, width: usize) -> (usize, usize) {
    let spread = Spread::new(columns, tile, width);
    (spread.groups, rows * spread.rows)
}

/// Bytes of a weight.
pub(super) fn weight_bytes(format: WeightFormat, precision: Precision) -> usize {
    if format == WeightFormat::F32 { precision.bytes() } else { format.bytes() }
}

/// See [`Builder::depth`].
pub(super) fn depth(format: WeightFormat, columns: usize) -> Dim {
    let exact = format.exact_entries();
    let name = match exact {
        1 => "I/4+1",
        2 => "I/4+2",
        _ => "I/4+4",
    };
    (name, columns.div_ceil(4) + exact)
}

/// The layer, if it is one.
pub(super) fn only(layers: &Range<usize>) -> Option<usize> {
    (layers.len() == 1).then_some(layers.start)
}

/// Workgroups of the elementwise kernels, which stride over their slot.
pub(super) const ELEMENTWISE_GROUPS: usize = 1024;

/// A dispatch that runs once.
pub(super) fn once(
    kernel: Kernel,
    layer: Option<usize>,
    dims: usize,
    slots: Vec<SlotId>,
    groups: (usize, Extent, usize),
) -> Step {
    Step::Once(Dispatch { kernel, stage: 0, layer, dims, write_y: true, head: false, slots, odd: None, groups })
}
