//! Where every element of a packed buffer comes from, and where every element of a gradient slot goes, as indices into the
//! parameters laid out one after the other ([`Flat`]). One truth for uploads, for re-packing on the device after an update, and
//! for reading gradients.

use super::layout::{transposed_offsets, weight_offsets};
use crate::config::{Bias, RnnConfig, StageShape};
use crate::real::Real;
use crate::weights::{Field, Place, parameters};
use std::collections::HashMap;

/// In a table: this element belongs to no parameter (it pads a packed buffer, or is the gradient of a bias that is not there).
pub(crate) const NOTHING: u32 = u32::MAX;

/// All parameters one after the other, in canonical order.
pub(crate) struct Flat {
    starts: HashMap<Place, usize>,
    /// P: values of all parameters.
    pub len: usize,
}

impl Flat {
    pub fn new(config: &RnnConfig) -> Self {
        let mut len = 0;
        let start = |p: crate::weights::Parameter| {
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
    /// W and the input biases of a layer: `[D][I/4 + 1][G·H]` vec4s, four k of one column each; the last row is the bias.
    Input(usize),
    /// R and unit parameters of a layer: `shaders/lib/stage.wgsl`.
    Recurrent(usize),
    /// Wᵀ of a layer: `[D][G·H / 4][I]` vec4s, four rows of W for one feature.
    InputTransposed(usize),
    /// Rᵀ and unit parameters of a layer: `shaders/lib/stage_backward.wgsl`.
    RecurrentTransposed(usize),
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
}

impl Pack {
    /// Calls `put(element of the packed buffer, its source)` for every element that has one.
    pub(crate) fn for_each(self, config: &RnnConfig, flat: &Flat, put: &mut impl FnMut(usize, Source)) {
        let directions = config.directions();
        let rows = config.cell.input_gates() * config.hidden_size;
        let dense = |place| (flat.at(place), config.head.map_or(0, |head| head.size), config.output_size());
        match self {
            Self::Input(layer) => {
                let columns = config.layer_input_size(layer);
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let bias = input_bias(config, flat, entry);
                    let base = direction * (columns.div_ceil(4) + 1) * rows * 4;
                    let w = flat.field(entry, Field::W).unwrap_or(0);
                    matrix(base, w, (rows, columns), |row| bias.get(row).copied().flatten(), put);
                }
            }
            Self::InputTransposed(layer) => {
                let columns = config.layer_input_size(layer);
                for direction in 0..directions {
                    let w = flat.field(layer * directions + direction, Field::W).unwrap_or(0);
                    transposed(direction * rows.div_ceil(4) * columns * 4, w, (rows, columns), put);
                }
            }
            Self::Recurrent(layer) => {
                (0..directions).for_each(|d| recurrent(config, flat, (layer, d), false, put));
            }
            Self::RecurrentTransposed(layer) => {
                (0..directions).for_each(|d| recurrent(config, flat, (layer, d), true, put));
            }
            Self::Embedding => {
                let count = config.vocabulary.unwrap_or(0) * config.input_size;
                let at = flat.at(Place::Embedding).unwrap_or(0);
                (0..count).for_each(|n| put(n, Source::One(at + n)));
            }
            Self::Head => {
                let ((w, rows, columns), bias) = (dense(Place::Head), flat.at(Place::HeadBias));
                matrix(0, w.unwrap_or(0), (rows, columns), |row| bias.map(|b| Source::One(b + row)), put);
            }
            Self::HeadTransposed => {
                let (w, rows, columns) = dense(Place::Head);
                transposed(0, w.unwrap_or(0), (rows, columns), put);
            }
        }
    }

    /// The packed buffer of `len` elements.
    pub(crate) fn values<T: Real>(self, config: &RnnConfig, len: usize, parameters: &[T]) -> Vec<T> {
        let mut packed = vec![T::default(); len];
        self.for_each(config, &Flat::new(config), &mut |at, source| {
            packed[at] = match source {
                Source::One(n) => parameters[n],
                Source::Sum(a, b) => parameters[a] + parameters[b],
            };
        });
        packed
    }

    /// How many of its elements are sums.
    fn sums(self, config: &RnnConfig) -> usize {
        let both = config.cell.stages.iter().map(|s| s.both_gates() * config.hidden_size).sum::<usize>();
        match self {
            Self::Input(_) if config.bias == Bias::Two => both * config.directions(),
            _ => 0,
        }
    }

    /// Elements of the table of a packed buffer of `len` elements.
    pub(crate) fn table_len(self, config: &RnnConfig, len: usize) -> usize {
        len + 2 * self.sums(config)
    }

    /// What `shaders/kernels/pack.wgsl` reads: per element its parameter, or [`NOTHING`], or P plus the place, further back in
    /// the table, of the two parameters that it is the sum of.
    pub(crate) fn table(self, config: &RnnConfig, len: usize) -> Vec<u32> {
        let flat = Flat::new(config);
        let mut table = vec![NOTHING; len];
        self.for_each(config, &flat, &mut |at, source| match source {
            Source::One(n) => table[at] = n as u32,
            Source::Sum(a, b) => {
                table[at] = (flat.len + table.len()) as u32;
                table.extend([a as u32, b as u32]);
            }
        });
        table
    }
}

/// A matrix `[rows, columns]` as `[columns/4 + 1][rows]` vec4s from element `base`, the bias in the last.
fn matrix(
    base: usize,
    w: usize,
    (rows, columns): (usize, usize),
    bias: impl Fn(usize) -> Option<Source>,
    put: &mut impl FnMut(usize, Source),
) {
    for row in 0..rows {
        for k in 0..columns {
            put(base + (k / 4 * rows + row) * 4 + k % 4, Source::One(w + row * columns + k));
        }
        if let Some(source) = bias(row) {
            put(base + (columns.div_ceil(4) * rows + row) * 4, source);
        }
    }
}

/// The transpose of a matrix `[rows, columns]` as `[rows/4][columns]` vec4s from element `base`.
fn transposed(base: usize, w: usize, (rows, columns): (usize, usize), put: &mut impl FnMut(usize, Source)) {
    for row in 0..rows {
        for k in 0..columns {
            put(base + (row / 4 * columns + k) * 4 + row % 4, Source::One(w + row * columns + k));
        }
    }
}

/// The biases of the x part of one layer and direction: b_w, plus b_r of gates that see both.
fn input_bias(config: &RnnConfig, flat: &Flat, entry: usize) -> Vec<Option<Source>> {
    let (b_w, b_r) = (flat.field(entry, Field::InputBias), flat.field(entry, Field::RecurrentBias));
    let (mut x_at, mut r_at) = (0, 0);
    let mut list = Vec::new();
    for shape in config.stages() {
        let (n, stage) = (shape.units, shape.stage);
        for unit in 0..stage.input_gates() * n {
            let both = unit < stage.both_gates() * n;
            let (w, r) = (b_w.map(|w| w + x_at + unit), b_r.filter(|_| both).map(|r| r + r_at + unit));
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

/// A stage's parameters: where its rows of R start, and its first row among all rows of R.
struct StageAt {
    matrix: usize,
    row: usize,
    projection: bool,
}

/// Where each stage's matrix is; the one after the cell's own is the projection.
fn stages_at(config: &RnnConfig, flat: &Flat, entry: usize, stages: &[StageShape]) -> Vec<StageAt> {
    let mut row = 0;
    let place = |(n, shape): (usize, &StageShape)| {
        let projection = n == config.cell.stages.len();
        let field = if projection { Field::Projection } else { Field::R };
        let start = flat.field(entry, field).unwrap_or(0);
        let first = if projection { 0 } else { row };
        row += shape.matrix_rows();
        StageAt { matrix: start + first * shape.depth(), row: first, projection }
    };
    stages.iter().enumerate().map(place).collect()
}

/// R (or Rᵀ) and the unit parameters of all stages of one layer and direction.
fn recurrent(
    config: &RnnConfig,
    flat: &Flat,
    (layer, direction): (usize, usize),
    transpose: bool,
    put: &mut impl FnMut(usize, Source),
) {
    let stages = config.stages();
    let offsets = if transpose { transposed_offsets(&stages) } else { weight_offsets(&stages) };
    let entry = layer * config.directions() + direction;
    let mut gain = 0;
    let at = stages_at(config, flat, entry, &stages);
    for ((shape, at), &(matrix_at, params_at)) in stages.iter().zip(&at).zip(&offsets.stages) {
        let (n, k, gates) = (shape.units, shape.depth(), shape.stage.recurrent_gates());
        let own = shape.head_units();
        let [matrix_at, params_at] = [matrix_at, params_at].map(|vec4| direction * offsets.total + vec4);
        for row in 0..shape.matrix_rows() {
            let (gate, j) = (row / n, row % n);
            for column in 0..k {
                let (vec4, lane) = if transpose {
                    // Column `column` of a unit's head, and the unit among its head's.
                    let (feature, j) = (j / own * k + column, j % own);
                    ((gate * own.div_ceil(4) + j / 4) * shape.operand + feature, j % 4)
                } else {
                    ((column / 4 * gates + gate) * n + j, column % 4)
                };
                put((matrix_at + vec4) * 4 + lane, Source::One(at.matrix + row * k + column));
            }
        }
        for (p, start) in unit_params(flat, entry, shape, at, &mut gain).into_iter().enumerate() {
            let Some(start) = start else { continue };
            (0..n).for_each(|j| put((params_at + p / 4 * n + j) * 4 + p % 4, Source::One(start + j)));
        }
    }
}

/// Where a stage's unit parameters `[unit_params, N]` start: recurrent-only biases, gains, the cell's own.
fn unit_params(flat: &Flat, entry: usize, shape: &StageShape, at: &StageAt, gain: &mut usize) -> Vec<Option<usize>> {
    let (n, stage) = (shape.units, shape.stage);
    // Rows of R have biases; a projection's, and a stage without a matrix, have none.
    let has_bias = !at.projection && shape.matrix_rows() > 0;
    let bias = flat.field(entry, Field::RecurrentBias).filter(|_| has_bias);
    let biases = (stage.both_gates()..stage.recurrent_gates()).map(|gate| bias.map(|b| b + at.row + gate * n));
    let mut list: Vec<_> = biases.collect();
    if stage.normalise {
        for _ in 0..stage.recurrent_gates() {
            list.push(flat.field(entry, Field::Gains).map(|g| g + *gain));
            *gain += n;
        }
    }
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
    /// The unit parameters of a layer: `[D, params, H]`.
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
                let (rows, columns) = (config.cell.input_gates() * h, config.layer_input_size(layer));
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let starts = (flat.field(entry, Field::W), flat.field(entry, Field::InputBias));
                    rows_and_bias(direction * rows * (columns + 1), starts, (rows, columns), put);
                }
            }
            Self::Recurrent(layer, stage) => {
                let stages = config.stages();
                let (rows, columns) = (stages[stage].matrix_rows(), stages[stage].depth());
                for direction in 0..directions {
                    let entry = layer * directions + direction;
                    let at = &stages_at(config, flat, entry, &stages)[stage];
                    let bias = flat.field(entry, Field::RecurrentBias).filter(|_| !at.projection);
                    let starts = (Some(at.matrix), bias.map(|b| b + at.row));
                    rows_and_bias(direction * rows * (columns + 1), starts, (rows, columns), put);
                }
            }
            Self::Unit(layer) => {
                let count = config.cell.params.len() * h;
                for direction in 0..directions {
                    let Some(start) = flat.field(layer * directions + direction, Field::Unit) else { continue };
                    (0..count).for_each(|n| put(direction * count + n, start + n));
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
    /// Of `pack`, for a packed buffer of so many elements.
    Pack(Pack, usize),
}

impl Table {
    /// Its values; `len`: elements of its slot.
    pub(crate) fn values(self, config: &RnnConfig, len: usize) -> Vec<u32> {
        match self {
            Self::Gather(gradient) => gradient.table(config, len),
            Self::Pack(pack, elements) => pack.table(config, elements),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, Head, Loss, cells};

    fn configs() -> Vec<RnnConfig> {
        let mut list = Vec::new();
        for cell in cells::ALL {
            for bias in [Bias::None, Bias::One, Bias::Recurrent, Bias::Two] {
                for proj_size in [0, 3] {
                    let sizes = RnnConfig { cell, input_size: 6, hidden_size: 5, num_layers: 2, ..Default::default() };
                    let head = Some(Head { size: 7, loss: Loss::MeanSquared });
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
            for layer in 0..config.num_layers {
                packs.extend([Pack::Input(layer), Pack::Recurrent(layer)]);
                packs.extend([Pack::InputTransposed(layer), Pack::RecurrentTransposed(layer)]);
            }
            for pack in packs {
                let mut len = 0;
                pack.for_each(&config, &flat, &mut |at, _| len = len.max(at + 1));
                let (values, table) = (pack.values(&config, len, &parameters), pack.table(&config, len));
                assert_eq!(table.len(), pack.table_len(&config, len), "{pack:?} of {config:?}");
                for (&value, &entry) in values.iter().zip(&table) {
                    let mut parameter = |n: u32| {
                        seen[n as usize] = true;
                        parameters[n as usize]
                    };
                    let expected = match entry {
                        NOTHING => 0.0,
                        n if (n as usize) < flat.len => parameter(n),
                        n => {
                            let pair = n as usize - flat.len;
                            parameter(table[pair]) + parameter(table[pair + 1])
                        }
                    };
                    assert_eq!(value, expected, "{pack:?} of {config:?}");
                }
            }
            assert!(seen.iter().all(|&s| s), "{config:?}");
        }
    }
}
