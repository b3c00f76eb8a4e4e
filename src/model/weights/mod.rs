//! Parameters in ONE canonical order, PyTorch's: every map from another order lives here.
//!
//! The embedding table `[V, I]` first, where there is one, and last the head: W_o `[O, D·P]`, b_o `[O]`. Between them, per
//! layer and direction: W `[gates that see x · H, I]`, R `[gates that see h · H, width of h]` (width of h / heads, with heads:
//! [`crate::Recurrence`]), b_w, b_r, the projection `[P, H]`, the cell's per-unit parameters `[params, H]` and its
//! layer-normalisation gains `[gates, H]`. Row blocks follow the cell's gate order (see each cell's doc).

mod dense;
pub(crate) mod format;
mod keras;
mod names;

pub use format::WeightFormat;
pub use keras::KerasLayer;
pub use names::Names;

use crate::error::{Error, Result};
use crate::model::stack::RnnConfig;
use crate::num::Real;
use crate::num::memory;
use rand::{RngExt, SeedableRng};

/// The parameters of one layer in one direction; rows are gate-major, columns contiguous.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LayerWeights<T = f32> {
    /// W `[Gx·H, I]`, PyTorch `weight_ih_l*`; empty in layer 0 with [`crate::InputMode::Skip`].
    pub w: Vec<T>,
    /// R `[Gh·H, width of h / heads]` ([`crate::Recurrence`]), PyTorch `weight_hh_l*`.
    pub r: Vec<T>,
    /// b_w `[Gx·H]`, PyTorch `bias_ih_l*`; empty without it ([`crate::Bias`]).
    pub b_w: Vec<T>,
    /// b_r `[Gh·H]`, PyTorch `bias_hh_l*`; empty without it ([`crate::Bias`]).
    pub b_r: Vec<T>,
    /// W_p `[P, H]`, PyTorch `weight_hr_l*`; empty without projection.
    pub projection: Vec<T>,
    /// The cell's per-unit parameters `[params, H]` in the cell's order (peepholes: p_i, p_f, p_o).
    pub unit: Vec<T>,
    /// Layer-normalisation gains of the normalising stages `[gates, H]`, stage after stage: those of W x, then those of the
    /// product (`gain_l*`; PyTorch has no such cell).
    pub gains: Vec<T>,
}

/// The parameters of a stack and of what is around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights<T = f32> {
    /// One entry per layer and direction: layer 0 forward, layer 0 reverse, layer 1 forward, …
    pub layers: Vec<LayerWeights<T>>,
    /// The embedding table `[V, I]`, PyTorch `Embedding.weight`; empty without [`RnnConfig::vocabulary`].
    pub embedding: Vec<T>,
    /// W_o `[O, D·P]` of the head, PyTorch `Linear.weight`; empty without [`RnnConfig::head`].
    pub head: Vec<T>,
    /// b_o `[O]` of the head, PyTorch `Linear.bias`; empty without [`RnnConfig::head`].
    pub head_bias: Vec<T>,
}

/// One parameter tensor of a configuration: its PyTorch-style name and shape, and where it lives.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// E.g. `weight_ih_l0_reverse`.
    pub name: String,
    /// Rows and columns, or just the length.
    pub shape: Vec<usize>,
    /// Where its values are.
    pub place: Place,
}

/// Where a parameter's values are in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// [`Weights::embedding`]
    Embedding,
    /// A field of one of [`Weights::layers`].
    Layer(usize, Field),
    /// [`Weights::head`]
    Head,
    /// [`Weights::head_bias`]
    HeadBias,
}

/// A field of [`LayerWeights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// [`LayerWeights::w`]
    W,
    /// [`LayerWeights::r`]
    R,
    /// [`LayerWeights::b_w`]
    InputBias,
    /// [`LayerWeights::b_r`]
    RecurrentBias,
    /// [`LayerWeights::projection`]
    Projection,
    /// [`LayerWeights::unit`]
    Unit,
    /// [`LayerWeights::gains`]
    Gains,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 7] =
        [Self::W, Self::R, Self::InputBias, Self::RecurrentBias, Self::Projection, Self::Unit, Self::Gains];
}

impl<T> LayerWeights<T> {
    /// The values of a field.
    pub fn get(&self, field: Field) -> &[T] {
        match field {
            Field::W => &self.w,
            Field::R => &self.r,
            Field::InputBias => &self.b_w,
            Field::RecurrentBias => &self.b_r,
            Field::Projection => &self.projection,
            Field::Unit => &self.unit,
            Field::Gains => &self.gains,
        }
    }

    /// The same, to change them.
    pub fn get_mut(&mut self, field: Field) -> &mut Vec<T> {
        match field {
            Field::W => &mut self.w,
            Field::R => &mut self.r,
            Field::InputBias => &mut self.b_w,
            Field::RecurrentBias => &mut self.b_r,
            Field::Projection => &mut self.projection,
            Field::Unit => &mut self.unit,
            Field::Gains => &mut self.gains,
        }
    }
}

/// Every parameter of the configuration, in canonical order.
pub fn parameters(config: &RnnConfig) -> Vec<Parameter> {
    let h = config.hidden_size;
    let depth = config.state_size() / config.recurrence.heads(config.state_size());
    let (input_rows, recurrent_rows) = (config.cell.input_gates() * h, config.cell.recurrent_gates() * h);
    let mut list = Vec::new();
    if let Some(vocabulary) = config.vocabulary {
        let shape = vec![vocabulary, config.input_size];
        list.push(Parameter { name: "embedding.weight".into(), shape, place: Place::Embedding });
    }
    for layer in 0..config.num_layers {
        for direction in 0..config.directions() {
            let suffix = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
            let entry = layer * config.directions() + direction;
            let mut add = |name: &str, shape: Vec<usize>, field: Field| {
                let place = Place::Layer(entry, field);
                list.push(Parameter { name: format!("{name}_{suffix}"), shape, place });
            };
            if !config.skips_input(layer) {
                add("weight_ih", vec![input_rows, config.layer_input_size(layer)], Field::W);
            }
            add("weight_hh", vec![recurrent_rows, depth], Field::R);
            if config.bias.has_input() {
                add("bias_ih", vec![input_rows], Field::InputBias);
            }
            if config.bias.has_recurrent() {
                add("bias_hh", vec![recurrent_rows], Field::RecurrentBias);
            }
            if config.proj_size > 0 {
                add("weight_hr", vec![config.proj_size, h], Field::Projection);
            }
            if !config.cell.params.is_empty() {
                add("weight_unit", vec![config.cell.params.len(), h], Field::Unit);
            }
            if config.cell.normalises() {
                add("gain", vec![config.cell.gains(), h], Field::Gains);
            }
        }
    }
    if let Some(head) = config.head {
        let shape = vec![head.size, config.output_size()];
        list.push(Parameter { name: "head.weight".into(), shape, place: Place::Head });
        list.push(Parameter { name: "head.bias".into(), shape: vec![head.size], place: Place::HeadBias });
    }
    list
}

impl<T: Real> Weights<T> {
    /// Builds the stack from a look-up by name, checking every shape. `tensor(name)` gives shape and values, or `None`.
    pub fn from_named(
        config: &RnnConfig,
        mut tensor: impl FnMut(&str) -> Result<Option<(Vec<usize>, Vec<T>)>>,
    ) -> Result<Self> {
        config.validate()?;
        let mut weights = Self::empty(config);
        for p in parameters(config) {
            let (shape, data) = tensor(&p.name)?
                .ok_or_else(|| Error::mismatch(p.name.clone(), format!("a tensor of shape {:?}", p.shape), "none"))?;
            if shape != p.shape || data.len() != shape.iter().product::<usize>() {
                return Err(Error::mismatch(
                    p.name,
                    format!("{:?}", p.shape),
                    format!("{shape:?}, {} values", data.len()),
                ));
            }
            *weights.get_mut(p.place) = data;
        }
        Ok(weights)
    }

    /// Uniform in ±1/√H, as PyTorch initialises `nn.RNN`, `nn.LSTM` and `nn.GRU`; gains are 1. The embedding table is uniform in
    /// ±1, the head in ±1/√(D·P) (PyTorch `nn.Linear`).
    ///
    /// # Errors
    /// See [`RnnConfig::validate`]; [`Error::Limit`] for more than this machine's memory holds.
    pub fn random(config: &RnnConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let needs = config.parameter_count().saturating_mul(size_of::<T>() as u64);
        if needs > memory() {
            return Err(Error::Limit {
                what: format!("weights of {} layer(s)", config.num_layers),
                needs,
                limit: memory(),
                unit: "bytes",
                limit_name: "this machine's memory",
                hint: String::new(),
            });
        }
        let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut values = |p: &Parameter| -> Vec<T> {
            let n = p.shape.iter().product();
            let bound = match p.place {
                Place::Layer(_, Field::Gains) => return vec![T::from_f64(1.0); n],
                Place::Layer(..) => 1.0 / (config.hidden_size as f64).sqrt(),
                Place::Embedding => 1.0,
                Place::Head | Place::HeadBias => 1.0 / (config.output_size() as f64).sqrt(),
            };
            (0..n).map(|_| T::from_f64(rng.random_range(-bound..bound))).collect()
        };
        let mut weights = Self::empty(config);
        for p in parameters(config) {
            *weights.get_mut(p.place) = values(&p);
        }
        Ok(weights)
    }

    /// The same parameters in the other precision.
    pub fn cast<U: Real>(&self) -> Weights<U> {
        let layer = |l: &LayerWeights<T>| {
            let mut cast = LayerWeights::default();
            for field in Field::ALL {
                *cast.get_mut(field) = l.get(field).iter().map(|x| U::from_f64(x.to_f64())).collect();
            }
            cast
        };
        let cast = |values: &[T]| values.iter().map(|x| U::from_f64(x.to_f64())).collect();
        Weights {
            layers: self.layers.iter().map(layer).collect(),
            embedding: cast(&self.embedding),
            head: cast(&self.head),
            head_bias: cast(&self.head_bias),
        }
    }

    /// The values of a parameter.
    pub fn get(&self, place: Place) -> &[T] {
        match place {
            Place::Embedding => &self.embedding,
            Place::Layer(entry, field) => self.layers[entry].get(field),
            Place::Head => &self.head,
            Place::HeadBias => &self.head_bias,
        }
    }

    /// The same, to change them.
    pub fn get_mut(&mut self, place: Place) -> &mut Vec<T> {
        match place {
            Place::Embedding => &mut self.embedding,
            Place::Layer(entry, field) => self.layers[entry].get_mut(field),
            Place::Head => &mut self.head,
            Place::HeadBias => &mut self.head_bias,
        }
    }

    /// Checks that every tensor has the size the configuration asks for.
    pub fn validate(&self, config: &RnnConfig) -> Result<()> {
        config.validate()?;
        let wanted = config.num_layers * config.directions();
        if self.layers.len() != wanted {
            return Err(Error::mismatch(
                "weights",
                format!("[layers · directions] = {wanted} entries"),
                self.layers.len(),
            ));
        }
        let parameters = parameters(config);
        let entries = 0..wanted;
        let layers = entries.flat_map(|entry| Field::ALL.map(|field| Place::Layer(entry, field)));
        for place in [Place::Embedding, Place::Head, Place::HeadBias].into_iter().chain(layers) {
            let parameter = parameters.iter().find(|p| p.place == place);
            let expected: usize = parameter.map_or(0, |p| p.shape.iter().product());
            let got = self.get(place).len();
            if got != expected {
                let nameless = match place {
                    Place::Layer(entry, field) => format!("{field:?} of layers[{entry}]"),
                    other => format!("{other:?}"),
                };
                let name = parameter.map_or(nameless, |p| p.name.clone());
                let shape = parameter.map_or(Vec::new(), |p| p.shape.clone());
                return Err(Error::mismatch(name, format!("{shape:?} = {expected} values"), got));
            }
        }
        Ok(())
    }

    /// Every parameter with its name, shape and values, in canonical order.
    pub fn named<'a>(&'a self, config: &RnnConfig) -> impl Iterator<Item = (Parameter, &'a [T])> {
        parameters(config).into_iter().map(|p| {
            let values = self.get(p.place);
            (p, values)
        })
    }

    /// All values one after the other, in canonical order, in precision `U`: the parameters of [`crate::network::Network::of_config`].
    pub fn flat<U: Real>(&self, config: &RnnConfig) -> Vec<U> {
        self.named(config).flat_map(|(_, values)| values.iter().map(|x| U::from_f64(x.to_f64()))).collect()
    }

    /// The inverse of [`Weights::flat`].
    pub(crate) fn from_flat(config: &RnnConfig, mut values: &[T]) -> Self {
        let mut weights = Self::empty(config);
        for p in parameters(config) {
            let (own, rest) = values.split_at(p.shape.iter().product());
            *weights.get_mut(p.place) = own.to_vec();
            values = rest;
        }
        weights
    }

    /// A place for every layer, with nothing in it.
    pub(crate) fn empty(config: &RnnConfig) -> Self {
        Self { layers: vec![LayerWeights::default(); config.num_layers * config.directions()], ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bias, Direction, cells};

    #[test]
    fn the_count_of_parameters_is_that_of_their_list() {
        for cell in cells::ALL.into_iter().chain([&cells::LSTM_PEEPHOLE]) {
            for (num_layers, direction) in [(1, Direction::Forward), (3, Direction::Bidirectional)] {
                for bias in [Bias::None, Bias::One, Bias::Recurrent, Bias::Two] {
                    for proj_size in [0, 2] {
                        let sizes =
                            RnnConfig { input_size: 7, hidden_size: 5, num_layers, proj_size, ..Default::default() };
                        let config = RnnConfig { cell, direction, bias, ..sizes };
                        let listed: usize = parameters(&config).iter().map(|p| p.shape.iter().product::<usize>()).sum();
                        assert_eq!(config.parameter_count(), listed as u64, "{config:?}");
                    }
                }
            }
        }
    }
}
