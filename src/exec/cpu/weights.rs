//! Parameters as the executor's kernels read them: packed matrices, rounded where a format is asked for.

use super::packed::{self, Packed};
use crate::model::stack::StageShape;
use crate::model::weights::{LayerWeights, WeightFormat, Weights};
use crate::num::Real;
use crate::plan::Plan;

/// The packed parameters of one layer and direction.
#[derive(Default)]
pub(super) struct PackedLayer<T> {
    /// W `[Gx·H, I]`, as a matrix of one gate.
    pub w: Packed<T>,
    /// `[Gx·H]`: b_w, plus b_r for gates that see both.
    pub bias: Vec<T>,
    /// R and unit parameters per stage.
    pub stages: Vec<Packed<T>>,
    /// Rᵀ per stage, in training plans.
    pub transposed: Vec<Packed<T>>,
    /// Wᵀ, as a matrix of one gate, in training plans.
    pub w_transposed: Packed<T>,
}

/// All parameters, packed.
pub(super) struct PackedWeights<T> {
    /// `[layer · D + direction]`
    pub layers: Vec<PackedLayer<T>>,
    /// The head as a layer of its own.
    pub head: Vec<PackedLayer<T>>,
    /// The embedding table `[V, I]`.
    pub embedding: Vec<T>,
}

/// The bias of the x part: b_w, plus b_r of the gates that see both (summed in f64, rounded once); 0 where the x part is
/// normalised first.
fn input_bias<T: Real>(stages: &[StageShape], layer: &LayerWeights<T>) -> Vec<T> {
    let (mut bias, mut x_at, mut r_at) = (Vec::new(), 0, 0);
    for shape in stages {
        let n = shape.units;
        for gate in 0..shape.stage.input_gates() {
            for unit in 0..n {
                let w = layer.b_w.get(x_at + gate * n + unit).filter(|_| !shape.stage.normalise);
                let w = w.map_or(0.0, |v| v.to_f64());
                let both = gate < shape.stage.both_gates();
                let r = layer.b_r.get(r_at + gate * n + unit).filter(|_| both).map_or(0.0, |v| v.to_f64());
                bias.push(T::from_f64(w + r));
            }
        }
        x_at += shape.stage.input_gates() * n;
        r_at += shape.matrix_rows();
    }
    bias
}

/// Per stage: its rows of R, and its unit parameters (see [`StageShape::unit_params`]).
fn stage_weights<T: Real>(stages: &[StageShape], layer: &LayerWeights<T>) -> Vec<(Vec<T>, Vec<T>)> {
    let (mut r_at, mut bias_at, mut gain_at, mut x_at) = (0, 0, 0, 0);
    let last = stages.len() - 1;
    let mut out = Vec::new();
    for (index, shape) in stages.iter().enumerate() {
        let (n, k) = (shape.units, shape.depth());
        let projection = index == last && !layer.projection.is_empty();
        let rows = shape.matrix_rows();
        let r = match projection {
            true => layer.projection.clone(),
            // Without a matrix K may be another.
            false if rows == 0 => Vec::new(),
            false => layer.r[r_at * k..][..rows * k].to_vec(),
        };
        let mut unit = Vec::new();
        for gate in shape.stage.both_gates()..shape.stage.recurrent_gates() {
            for j in 0..n {
                let bias = if projection { None } else { layer.b_r.get(bias_at + gate * n + j) };
                unit.push(bias.copied().unwrap_or_default());
            }
        }
        if shape.stage.normalise {
            let (gains, inputs) = (shape.stage.gains() * n, shape.stage.input_gates() * n);
            unit.extend_from_slice(&layer.gains[gain_at..][..gains]);
            gain_at += gains;
            unit.extend((x_at..x_at + inputs).map(|row| layer.b_w.get(row).copied().unwrap_or_default()));
        }
        x_at += shape.stage.input_gates() * n;
        unit.extend_from_slice(&layer.unit[..shape.params * n]);
        if !projection {
            r_at += rows;
            bias_at += rows;
        }
        out.push((r, unit));
    }
    out
}

/// One layer and direction, packed; matrices in `format`.
fn pack_layer<T: Real>(
    stages: &[StageShape],
    inputs: usize,
    (train, format): (bool, WeightFormat),
    layer: &LayerWeights<T>,
) -> PackedLayer<T> {
    let bias = input_bias(stages, layer);
    let w = packed::pack_rows(&layer.w, bias.len(), inputs, format);
    let parts = stage_weights(stages, layer);
    let packed = stages.iter().zip(&parts).map(|(shape, (r, unit))| packed::pack(shape, r, unit, format)).collect();
    let mut all = PackedLayer { w, bias, stages: packed, ..Default::default() };
    if train {
        let transposed = stages.iter().zip(&parts).map(|(shape, (r, _))| packed::pack_transposed(shape, r));
        all.transposed = transposed.collect();
        all.w_transposed = packed::pack_columns(&layer.w, all.bias.len(), inputs);
    }
    all
}

impl<T: Real> PackedWeights<T> {
    pub fn new(plan: &Plan, weights: &Weights<T>) -> Self {
        let (config, stages, train) = (&plan.config, plan.config.stages(), plan.train);
        // Products of the way back, and those in f64, read the rounded values in their own element type.
        let plain = train || size_of::<T>() > size_of::<f32>();
        let (format, rounded) = match plan.options.weights {
            format if plain => (WeightFormat::F32, Some(format).filter(|format| *format != WeightFormat::F32)),
            format => (format, None),
        };
        let held = rounded.map(|format| format.held(config, weights));
        let weights = held.as_ref().unwrap_or(weights);
        let layers = weights.layers.iter().enumerate();
        let inputs = |entry: usize| config.weight_columns(entry / config.directions());
        let head = config.head_layer().map(|head| {
            let layer = LayerWeights { w: weights.head.clone(), b_w: weights.head_bias.clone(), ..Default::default() };
            pack_layer(&head.stages(), head.input_size, (train, format), &layer)
        });
        let pack = |(entry, layer)| pack_layer(&stages, inputs(entry), (train, format), layer);
        Self {
            layers: layers.map(pack).collect(),
            head: head.into_iter().collect(),
            embedding: weights.embedding.clone(),
        }
    }
}
