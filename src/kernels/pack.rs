//! Where every element of a packed buffer comes from, and where every element of a gradient slot goes, as indices into the
//! parameters laid out one after the other ([`Flat`]). One truth for uploads, for re-packing on the device after an update, and
//! for reading gradients.

use super::layout::{transposed_offsets, weight_offsets};
use crate::model::stack::{Bias, RnnConfig, StageShape};
use crate::model::weights::{Field, Place, WeightFormat, parameters};
use std::collections::HashMap;

/// In a table: this element belongs to no parameter (it pads a packed buffer, or is the gradient of a bias that is not there).
pub(crate) const NOTHING: u32 = u32::MAX;
/// In a table of halves: the entry before it is a whole word.
pub(crate) const WHOLE: u32 = u32::MAX - 1;

/// All parameters one after the other, in canonical order.
pub(crate) struct Flat {
    starts: HashMap<Place, usize>,
    /// P: values of all parameters.
    pub len: usize,
}

impl Flat {
    pub fn new(config: &RnnConfig) -> Self {
        let mut len = 0;
        let start = |p: crate::model::weights::Parameter| {
            let at = len;
            len += p.shape.iter().product::<usize>();
            (p.place, at)
        };
        let starts = parameters(config).into_iter().map(start).collect();
        Self { starts, len }
    }

    /// Where a parameter starts, if the configuration has it.
    fn at(&self, place: Place) -> Option<usize> {
        self.starts.get(&place).copied()
    }

    fn field(&self, entry: usize, field: Field) -> Option<usize> {
        self.at(Place::Layer(entry, field))
    }
}

/// A packed buffer of parameters, as the kernels read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pack {
    /// W and the input biases of a layer: `[D][I/4][G·H]` entries, four k of one column each, then one exact row: bias, scale.
    Input(usize),
    /// R and unit parameters of a layer: `shaders/lib/stage.wgsl`.
    Recurrent(usize),
    /// That of all layers, one behind the other.
    Recurrents,
    /// Wᵀ of a layer: `[D][G·H / 4][I]` entries, four rows of W for one feature.
    InputTransposed(usize),
    /// Rᵀ and unit parameters of a layer: `shaders/lib/stage_backward.wgsl`.
    RecurrentTransposed(usize),
    /// That of all layers, one behind the other.
    RecurrentsTransposed,
    /// The embedding table as it is.
    Embedding,
    /// The head's W and bias, like a layer's.
    Head,
    /// The head's Wᵀ, like a layer's.
    HeadTransposed,
}

/// What an element of a packed buffer is made of; what no source is given for is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A parameter.
    One(usize),
    /// The sum of two: b_w + b_r of a gate that sees both x and the operand.
    Sum(usize, usize),
    /// The scale of a row of so many parameters, where the format has scales.
    Scale { first: usize, columns: usize },
}

/// A place in a packed buffer. Four weights are an entry, of as many bytes as the format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Weight n, in the format: one of entry n / 4.
    Weight(usize),
    /// Word n, exact: f32 in every format.
    Exact(usize),
}

impl At {
    /// Of the exact values that start at an entry, one of the n-th four (`exact` of `shaders/lib/weights_*.wgsl`).
    fn exact(format: WeightFormat, entry: usize, n: usize, lane: usize) -> Self {
        Self::Exact(entry * format.bytes() + n * 4 + lane)
    }
}

impl Pack {
    /// Words of the packed buffer.
    pub(crate) fn words(self, config: &RnnConfig, format: WeightFormat) -> usize {
        let (directions, rows) = (config.directions(), config.cell.input_gates() * config.hidden_size);
        let (outputs, features) = (config.head.map_or(0, |head| head.size), config.output_size());
        let matrix = |rows: usize, columns: usize| (columns.div_ceil(4) + format.exact_entries()) * rows;
        let entries = match self {
            Self::Input(layer) => directions * matrix(rows, config.weight_columns(layer)),
            Self::InputTransposed(layer) => directions * rows.div_ceil(4) * config.weight_columns(layer),
            Self::Recurrent(_) => directions * weight_offsets(&config.stages(), format).total,
            Self::RecurrentTransposed(_) => directions * transposed_offsets(&config.stages(), format).total,
            Self::Recurrents => config.num_layers * directions * weight_offsets(&config.stages(), format).total,
            Self::RecurrentsTransposed => {
                config.num_layers * directions * transposed_offsets(&config.stages(), format).total
            }
            Self::Embedding => return config.vocabulary.unwrap_or(0) * config.input_size,
            Self::Head => matrix(outputs, features),
            Self::HeadTransposed => outputs.div_ceil(4) * features,
        };
        entries.max(1) * format.bytes()
    }

    /// Calls `put(place in the packed buffer, its source)` for every place that has one.
    pub(crate) fn for_each(
        self,
        config: &RnnConfig,
        flat: &Flat,
        format: WeightFormat,
        put: &mut impl FnMut(At, Source),
    ) {
        let directions = config.directions();
        let rows = config.cell.input_gates() * config.hidden_size;
        let dense = |place| (flat.at(place), config.head.map_or(0, |head| head.size), config.output_size());
        match self {
            Self::Input(layer) => {
                let columns = config.weight_columns(layer);
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let bias = input_bias(config, flat, entry);
                    let base = direction * (columns.div_ceil(4) + format.exact_entries()) * rows;
                    let w = flat.field(entry, Field::W).unwrap_or(0);
                    matrix(format, base, w, (rows, columns), |row| bias.get(row).copied().flatten(), put);
                }
            }
            Self::InputTransposed(layer) => {
                let columns = config.weight_columns(layer);
                for direction in 0..directions {
                    let w = flat.field(layer * directions + direction, Field::W).unwrap_or(0);
                    transposed(direction * rows.div_ceil(4) * columns, w, (rows, columns), put);
                }
            }
            Self::Recurrent(layer) => {
                (0..directions).for_each(|d| recurrent(config, flat, format, (layer * directions + d, d), false, put));
            }
            Self::RecurrentTransposed(layer) => {
                (0..directions).for_each(|d| recurrent(config, flat, format, (layer * directions + d, d), true, put));
            }
            Self::Recurrents | Self::RecurrentsTransposed => {
                let transpose = self == Self::RecurrentsTransposed;
                (0..config.num_layers * directions)
                    .for_each(|entry| recurrent(config, flat, format, (entry, entry), transpose, put));
            }
            Self::Embedding => {
                let count = config.vocabulary.unwrap_or(0) * config.input_size;
                let at = flat.at(Place::Embedding).unwrap_or(0);
                (0..count).for_each(|n| put(At::Exact(n), Source::One(at + n)));
            }
            Self::Head => {
                let ((w, rows, columns), bias) = (dense(Place::Head), flat.at(Place::HeadBias));
                matrix(format, 0, w.unwrap_or(0), (rows, columns), |row| bias.map(|b| Source::One(b + row)), put);
            }
            Self::HeadTransposed => {
                let (w, rows, columns) = dense(Place::Head);
                transposed(0, w.unwrap_or(0), (rows, columns), put);
            }
        }
    }

    /// How many of its elements are sums.
    fn sums(self, config: &RnnConfig) -> usize {
        let both = config.cell.stages.iter().map(|s| s.both_gates() * config.hidden_size).sum::<usize>();
        match self {
            Self::Input(_) if config.bias == Bias::Two => both * config.directions(),
            _ => 0,
        }
    }

    /// Entries of the table of the packed buffer.
    pub(crate) fn table_len(self, config: &RnnConfig, format: WeightFormat) -> usize {
        self.words(config, format) * per_word(format) + 2 * self.sums(config)
    }

    /// What `shaders/kernels/pack.wgsl` reads, one or (16-bit formats) two entries per word: the parameter, or [`NOTHING`], or P
    /// plus the place, further back in the table, of the two parameters that it is the sum of. [`WHOLE`] instead of the second
    /// marks an exact word.
    pub(crate) fn table(self, config: &RnnConfig, format: WeightFormat) -> Vec<u32> {
        let (flat, per_word) = (Flat::new(config), per_word(format));
        let mut table = vec![NOTHING; self.words(config, format) * per_word];
        self.for_each(config, &flat, format, &mut |at, source| {
            let at = match at {
                At::Weight(n) => n,
                At::Exact(word) => {
                    if per_word == 2 {
                        table[2 * word + 1] = WHOLE;
                    }
                    word * per_word
                }
            };
            match source {
                Source::One(n) => table[at] = n as u32,
                Source::Sum(a, b) => {
                    table[at] = (flat.len + table.len()) as u32;
                    table.extend([a as u32, b as u32]);
                }
                Source::Scale { .. } => unreachable!("int8 does not train"),
            }
        });
        table
    }
}

/// Entries of a table per word.
fn per_word(format: WeightFormat) -> usize {
    if format == WeightFormat::F32 { 1 } else { 2 }
}

/// A matrix `[rows, columns]` as `[columns/4][rows]` entries from entry `base`, then an exact row: bias, scale.
fn matrix(
    format: WeightFormat,
    base: usize,
    w: usize,
    (rows, columns): (usize, usize),
    bias: impl Fn(usize) -> Option<Source>,
    put: &mut impl FnMut(At, Source),
) {
    let exact = base + columns.div_ceil(4) * rows;
    for row in 0..rows {
        for k in 0..columns {
            put(At::Weight((base + k / 4 * rows + row) * 4 + k % 4), Source::One(w + row * columns + k));
        }
        if let Some(source) = bias(row) {
            put(At::exact(format, exact, row, 0), source);
        }
        if format.scaled() {
            put(At::exact(format, exact, row, 1), Source::Scale { first: w + row * columns, columns });
        }
    }
}

/// The transpose of a matrix `[rows, columns]` as `[rows/4][columns]` entries from entry `base`.
fn transposed(base: usize, w: usize, (rows, columns): (usize, usize), put: &mut impl FnMut(At, Source)) {
    for row in 0..rows {
        for k in 0..columns {
            put(At::Weight((base + row / 4 * columns + k) * 4 + row % 4), Source::One(w + row * columns + k));
        }
    }
}

/// The biases of the x part of one layer and direction: b_w, plus b_r of gates that see both; none where the x part is
/// normalised first.
fn input_bias(config: &RnnConfig, flat: &Flat, entry: usize) -> Vec<Option<Source>> {
    let (b_w, b_r) = (flat.field(entry, Field::InputBias), flat.field(entry, Field::RecurrentBias));
    let (mut x_at, mut r_at) = (0, 0);
    let mut list = Vec::new();
    for shape in config.stages() {
        let (n, stage) = (shape.units, shape.stage);
        for unit in 0..stage.input_gates() * n {
            let both = unit < stage.both_gates() * n;
            let w = b_w.filter(|_| !stage.normalise).map(|w| w + x_at + unit);
            let r = b_r.filter(|_| both).map(|r| r + r_at + unit);
            list.push(match (w, r) {
                (Some(w), Some(r)) => Some(Source::Sum(w, r)),
                (one, other) => one.or(other).map(Source::One),
            });
        }
        x_at += stage.input_gates() * n;
        r_at += shape.matrix_rows();
    }
    list
}

/// A stage's parameters: where its rows of R start, its first row among all rows of R, of W and of the gains.
struct StageAt {
    matrix: usize,
    row: usize,
    input_row: usize,
    gain_row: usize,
    projection: bool,
}

/// Where each stage's matrix is; the one after the cell's own is the projection.
fn stages_at(config: &RnnConfig, flat: &Flat, entry: usize, stages: &[StageShape]) -> Vec<StageAt> {
    let (mut row, mut input_row, mut gain_row) = (0, 0, 0);
    let place = |(n, shape): (usize, &StageShape)| {
        let projection = n == config.cell.stages.len();
        let field = if projection { Field::Projection } else { Field::R };
        let start = flat.field(entry, field).unwrap_or(0);
        let first = if projection { 0 } else { row };
        let at = StageAt { matrix: start + first * shape.depth(), row: first, input_row, gain_row, projection };
        row += shape.matrix_rows();
        input_row += shape.stage.input_gates() * shape.units;
        gain_row += shape.stage.gains() * shape.units;
        at
    };
    stages.iter().enumerate().map(place).collect()
}

/// R (or Rᵀ) and the unit parameters of all stages of one entry (layer · D + direction), at a place among those of the buffer.
fn recurrent(
    config: &RnnConfig,
    flat: &Flat,
    format: WeightFormat,
    (entry, place): (usize, usize),
    transpose: bool,
    put: &mut impl FnMut(At, Source),
) {
    let stages = config.stages();
    let offsets = if transpose { transposed_offsets(&stages, format) } else { weight_offsets(&stages, format) };
    let at = stages_at(config, flat, entry, &stages);
    for ((shape, at), &(matrix_at, params_at)) in stages.iter().zip(&at).zip(&offsets.stages) {
        let (n, k, gates) = (shape.units, shape.depth(), shape.stage.recurrent_gates());
        let own = shape.head_units();
        let [matrix_at, params_at] = [matrix_at, params_at].map(|at| place * offsets.total + at);
        let exact = |p: usize, j: usize| At::exact(format, params_at, p / 4 * n + j, p % 4);
        for row in 0..shape.matrix_rows() {
            let (gate, j) = (row / n, row % n);
            for column in 0..k {
                let (entry, lane) = if transpose {
                    // Column `column` of a unit's head, and the unit among its head's.
                    let (feature, j) = (j / own * k + column, j % own);
                    ((gate * own.div_ceil(4) + j / 4) * shape.operand + feature, j % 4)
                } else {
                    ((column / 4 * gates + gate) * n + j, column % 4)
                };
                put(At::Weight((matrix_at + entry) * 4 + lane), Source::One(at.matrix + row * k + column));
            }
            if format.scaled() {
                let scale = Source::Scale { first: at.matrix + row * k, columns: k };
                put(exact(shape.unit_params() + gate, j), scale);
            }
        }
        for (p, start) in unit_params(flat, entry, shape, at).into_iter().enumerate() {
            let Some(start) = start else { continue };
            (0..n).for_each(|j| put(exact(p, j), Source::One(start + j)));
        }
    }
}

/// Where the biases of a stage's recurrent-only gates start. Rows of R have biases; a projection's, and a stage without a
/// matrix, have none.
fn recurrent_biases(flat: &Flat, entry: usize, shape: &StageShape, at: &StageAt) -> Vec<Option<usize>> {
    let has_bias = !at.projection && shape.matrix_rows() > 0;
    let bias = flat.field(entry, Field::RecurrentBias).filter(|_| has_bias);
    let gates = shape.stage.both_gates()..shape.stage.recurrent_gates();
    gates.map(|gate| bias.map(|b| b + at.row + gate * shape.units)).collect()
}

/// Where the gains of a normalising stage start, gate by gate, and the biases of its x gates.
fn normal_params(flat: &Flat, entry: usize, shape: &StageShape, at: &StageAt) -> [Vec<Option<usize>>; 2] {
    let (n, inputs) = (shape.units, if shape.stage.normalise { shape.stage.input_gates() } else { 0 });
    let list = |count: usize, field, first: usize| {
        (0..count).map(|gate| flat.field(entry, field).map(|start| start + first + gate * n)).collect()
    };
    [list(shape.stage.gains(), Field::Gains, at.gain_row), list(inputs, Field::InputBias, at.input_row)]
}

/// Where a stage's unit parameters `[unit_params, N]` start: see [`StageShape::unit_params`].
fn unit_params(flat: &Flat, entry: usize, shape: &StageShape, at: &StageAt) -> Vec<Option<usize>> {
    let n = shape.units;
    let mut list = recurrent_biases(flat, entry, shape, at);
    list.extend(normal_params(flat, entry, shape, at).into_iter().flatten());
    list.extend((0..shape.params).map(|p| flat.field(entry, Field::Unit).map(|u| u + p * n)));
    list
}

/// A gradient slot: which parameters its elements belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GradientOf {
    /// W and, in the last column, b_w of a layer: `[D, Gx·H, I + 1]`.
    Input(usize),
    /// R and, in the last column, b_r of a layer's stage: `[D, gates·N, K/n + 1]`.
    Recurrent(usize, usize),
    /// The unit parameters of a layer, then gains and biases of its normalising stages: `[D, params, H]`.
    Unit(usize),
    /// The embedding table `[V, I]`.
    Embedding,
    /// The head's W and, in the last column, its bias: `[O, D·P + 1]`.
    Head,
}

impl GradientOf {
    /// Calls `put(element of the slot, its parameter)` for every element that belongs to one.
    pub(crate) fn for_each(self, config: &RnnConfig, flat: &Flat, put: &mut impl FnMut(usize, usize)) {
        let (directions, h) = (config.directions(), config.hidden_size);
        match self {
            Self::Input(layer) => {
                let (rows, columns) = (config.cell.input_gates() * h, config.weight_columns(layer));
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let (w, bias) = (flat.field(entry, Field::W), flat.field(entry, Field::InputBias));
                    let base = direction * rows * (columns + 1);
                    rows_and_bias(base, (w, None), (rows, columns), put);
                    // Biases behind a statistic have their gradients among those of the unit parameters.
                    let gates =
                        config.cell.stages.iter().flat_map(|s| s.gates.iter().filter(|g| g.input).map(move |_| s));
                    let biased = gates.map(|stage| bias.filter(|_| !stage.normalise));
                    for (gate, start) in biased.enumerate().filter_map(|(n, start)| start.map(|start| (n, start))) {
                        (gate * h..(gate + 1) * h)
                            .for_each(|row| put(base + row * (columns + 1) + columns, start + row));
                    }
                }
            }
            Self::Recurrent(layer, stage) => {
                let stages = config.stages();
                let (rows, columns) = (stages[stage].matrix_rows(), stages[stage].depth());
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let at = &stages_at(config, flat, entry, &stages)[stage];
                    let normalised = stages[stage].stage.normalise;
                    let bias = flat.field(entry, Field::RecurrentBias).filter(|_| !at.projection && !normalised);
                    let starts = (Some(at.matrix), bias.map(|b| b + at.row));
                    rows_and_bias(direction * rows * (columns + 1), starts, (rows, columns), put);
                }
            }
            Self::Unit(layer) => {
                for direction in 0..directions {
                    let starts = unit_sums(config, flat, layer * directions + direction);
                    let base = direction * starts.len() * h;
                    for (row, start) in starts.into_iter().enumerate().filter_map(|(row, s)| s.map(|s| (row, s))) {
                        (0..h).for_each(|n| put(base + row * h + n, start + n));
                    }
                }
            }
            Self::Embedding => {
                let count = config.vocabulary.unwrap_or(0) * config.input_size;
                let start = flat.at(Place::Embedding).unwrap_or(0);
                (0..count).for_each(|n| put(n, start + n));
            }
            Self::Head => {
                let size = (config.head.map_or(0, |head| head.size), config.output_size());
                rows_and_bias(0, (flat.at(Place::Head), flat.at(Place::HeadBias)), size, put);
            }
        }
    }

    /// What `shaders/kernels/gather_gradient.wgsl` reads: per element of a slot of `len`, its parameter or [`NOTHING`].
    pub(crate) fn table(self, config: &RnnConfig, len: usize) -> Vec<u32> {
        let mut table = vec![NOTHING; len];
        self.for_each(config, &Flat::new(config), &mut |at, parameter| table[at] = parameter as u32);
        table
    }
}

/// Which parameter each row of the gradients of unit parameters belongs to: see [`crate::Cell::unit_sums`].
fn unit_sums(config: &RnnConfig, flat: &Flat, entry: usize) -> Vec<Option<usize>> {
    let h = config.hidden_size;
    let own = (0..config.cell.params.len()).map(|p| flat.field(entry, Field::Unit).map(|u| u + p * h));
    let mut list: Vec<_> = own.collect();
    let stages = config.stages();
    for (shape, at) in stages.iter().zip(&stages_at(config, flat, entry, &stages)) {
        if shape.stage.normalise {
            list.extend(normal_params(flat, entry, shape, at).into_iter().flatten());
            list.extend(recurrent_biases(flat, entry, shape, at));
        }
    }
    list
}

/// `[rows, columns + 1]` from element `base`: a matrix with its bias as the last column.
fn rows_and_bias(
    base: usize,
    (matrix, bias): (Option<usize>, Option<usize>),
    (rows, columns): (usize, usize),
    put: &mut impl FnMut(usize, usize),
) {
    for row in 0..rows {
        let at = base + row * (columns + 1);
        if let Some(start) = matrix {
            (0..columns).for_each(|k| put(at + k, start + row * columns + k));
        }
        if let Some(start) = bias {
            put(at + columns, start + row);
        }
    }
}

/// An index table of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Of `gather_gradient`.
    Gather(GradientOf),
    /// Of `pack`, in a format.
    Pack(Pack, WeightFormat),
}

impl Table {
    /// Its values; `len`: elements of its slot.
    pub(crate) fn values(self, config: &RnnConfig, len: usize) -> Vec<u32> {
        match self {
            Self::Gather(gradient) => gradient.table(config, len),
            Self::Pack(pack, format) => pack.table(config, format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Encoder;
    use crate::{Direction, Head, Loss, cells};

    fn configs() -> Vec<RnnConfig> {
        let mut list = Vec::new();
        for cell in cells::ALL {
            for bias in [Bias::None, Bias::One, Bias::Recurrent, Bias::Two] {
                for proj_size in [0, 3] {
                    let sizes = RnnConfig { cell, input_size: 6, hidden_size: 5, num_layers: 2, ..Default::default() };
                    let head = Some(Head { size: 7, loss: Some(Loss::MeanSquared) });
                    let around = RnnConfig { vocabulary: Some(4), head, proj_size, bias, ..sizes };
                    list.push(RnnConfig { direction: Direction::Bidirectional, ..around });
                }
            }
        }
        list.retain(|c| c.validate().is_ok());
        list
    }

    /// Gradient slots cover every parameter once.
    #[test]
    fn every_parameter_has_one_gradient() {
        for config in configs() {
            let flat = Flat::new(&config);
            let mut seen = vec![0; flat.len];
            let mut list = vec![GradientOf::Embedding, GradientOf::Head];
            for layer in 0..config.num_layers {
                list.extend([GradientOf::Input(layer), GradientOf::Unit(layer)]);
                list.extend((0..config.stages().len()).map(|stage| GradientOf::Recurrent(layer, stage)));
            }
            for gradient in list {
                gradient.for_each(&config, &flat, &mut |_, parameter| seen[parameter] += 1);
            }
            assert!(seen.iter().all(|&n| n == 1), "{config:?}: {seen:?}");
        }
    }

    /// The forward packs read every parameter; a table says what `values` does, in the length that was planned.
    #[test]
    fn tables_say_what_the_packs_are() {
        for config in configs() {
            let flat = Flat::new(&config);
            let parameters: Vec<f32> = (1..=flat.len).map(|n| n as f32 / 8.0).collect();
            let mut seen = vec![false; flat.len];
            let mut packs = vec![Pack::Embedding, Pack::Head, Pack::HeadTransposed];
            packs.extend([Pack::Recurrents, Pack::RecurrentsTransposed]);
            for layer in 0..config.num_layers {
                packs.extend([Pack::Input(layer), Pack::Recurrent(layer)]);
                packs.extend([Pack::InputTransposed(layer), Pack::RecurrentTransposed(layer)]);
            }
            for pack in packs {
                for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16] {
                    let words = Encoder::new(&config, format, &parameters).words(pack);
                    let table = pack.table(&config, format);
                    assert_eq!(table.len(), pack.table_len(&config, format), "{pack:?} of {config:?}");
                    let mut value = |entry: u32| {
                        let mut parameter = |n: usize| {
                            seen[n] = true;
                            parameters[n]
                        };
                        match entry as usize {
                            _ if entry == NOTHING => 0.0,
                            n if n < flat.len => parameter(n),
                            n => parameter(table[n - flat.len] as usize) + parameter(table[n - flat.len + 1] as usize),
                        }
                    };
                    for (n, &word) in words.iter().enumerate() {
                        let entries = &table[n * per_word(format)..][..per_word(format)];
                        let expected = match *entries {
                            [entry] | [entry, WHOLE] => value(entry).to_bits(),
                            [low, high] => {
                                u32::from(format.half(value(low))) | u32::from(format.half(value(high))) << 16
                            }
                            _ => unreachable!("one or two"),
                        };
                        assert_eq!(word, expected, "{pack:?} of {config:?} in {format}");
                    }
                }
            }
            assert!(seen.iter().all(|&s| s), "{config:?}");
        }
    }
}
