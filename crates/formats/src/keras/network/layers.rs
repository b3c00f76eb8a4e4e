//! The layers that networks have: a row each.

use super::super::activation::{of_columns, of_layer};
use super::super::config::shown;
use super::super::hdf5::Array;
use super::super::store::Inner;
use super::{Given, Graph, KerasMask, Step, Value, recurrent, time, windows};
use wgpu_rnn::expr::{Expr, exp, max};
use wgpu_rnn::network::{Norm, Operand, Part, Pooling};
use wgpu_rnn::{Error, Result};

/// Makes a layer's operations and gives its results; `None` for a result that networks do not have.
type Layer = fn(&mut Graph<'_>, &Step<'_>) -> Result<Vec<Option<Value>>>;

/// Classes, and what they are here.
const LAYERS: &[(&[&str], Layer)] = &[
    (recurrent::CLASSES, recurrent::run),
    (&["Dense"], dense),
    (&["Embedding"], embedding),
    (&["Masking"], masking),
    (&["TimeDistributed"], time_distributed),
    (&["Activation", "ReLU", "LeakyReLU", "ELU", "Softmax"], activation),
    (&["BatchNormalization"], batch_normalization),
    (&["LayerNormalization"], layer_normalization),
    (&["Conv1D", "Convolution1D"], windows::convolution),
    (&["DepthwiseConv1D"], windows::depthwise),
    (&["SeparableConv1D", "SeparableConvolution1D"], windows::separable),
    (&["MaxPooling1D", "AveragePooling1D"], windows::pooling),
    (&["UpSampling1D", "ZeroPadding1D", "Cropping1D", "RepeatVector"], windows::other_steps),
    (&["Flatten"], time::flatten),
    (&["Reshape"], time::reshape),
    (&["GlobalAveragePooling1D", "GlobalMaxPooling1D"], pooling),
    (&["Concatenate"], concatenate),
    (&["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"], merge),
    // Nothing at inference.
    (
        &[
            "Dropout",
            "SpatialDropout1D",
            "GaussianDropout",
            "GaussianNoise",
            "AlphaDropout",
            "ActivityRegularization",
            "Identity",
        ],
        same,
    ),
];

/// Runs the row of a layer's class.
pub(super) fn run(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let class = step.layer.class.as_str();
    match LAYERS.iter().find(|(classes, _)| classes.contains(&class)) {
        Some((_, layer)) => layer(graph, step),
        None => Err(Error::Unsupported {
            what: format!("class {}", shown(class)),
            reason: "networks do not have it".into(),
        }),
    }
}

fn one(value: Value) -> Result<Vec<Option<Value>>> {
    Ok(vec![Some(value)])
}

fn same(_: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    one(step.x()?.clone())
}

fn dense(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    let (kernel, bias) = graph.kernel(step)?;
    let y = graph.linear(&step.name, x.part, &kernel, bias.as_ref())?;
    let y = graph.activated(step, y)?;
    one(x.with(y))
}

fn embedding(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.x()?;
    let [table] = graph.arrays(step)?;
    let &[vocabulary, width] = &table.shape[..] else {
        return Err(Error::mismatch("embeddings", "[input_dim, output_dim]", format!("{:?}", table.shape)));
    };
    if !x.features.is_empty() {
        let reason = "expected one id per step, from an input of the model".into();
        return Err(Error::Unsupported { what: format!("ids of features {:?}", x.features), reason });
    }
    let y = graph.b().embedding(&step.name, x.part, vocabulary, width)?;
    graph.keep(&format!("{}.weight", step.name), &table.shape, table.data)?;
    let mut y = x.with(y);
    if step.layer.flag("mask_zero", false) {
        graph.mask(x, 0.0)?;
        y.masked = true;
    }
    one(y)
}

fn masking(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.x()?;
    graph.mask(x, step.layer.number("mask_value", 0.0))?;
    one(Value { masked: true, ..x.clone() })
}

fn time_distributed(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let layer = step.layer.wrapped("layer")?;
    let works = ["Dense", "Activation", "BatchNormalization", "LayerNormalization", "Dropout", "Flatten", "Reshape"];
    if layer.model.is_some() || !works.contains(&layer.class.as_str()) {
        let reason = format!("TimeDistributed takes {} here", works.join(", "));
        return Err(Error::Unsupported { what: layer.label(), reason });
    }
    let step = Step { layer: &layer, inner: Inner::Wrapped, name: step.name.clone(), per_row: true, ..*step };
    run(graph, &step)
}

fn activation(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.x()?;
    let axis = step.layer.integers("axis").and_then(|axes| axes.first().copied()).unwrap_or(-1);
    let y = match of_layer(step.layer, graph.file.hard_sigmoid)? {
        Some(expr) => graph.b().map(&step.name, expr, &[x.part.into()])?,
        None if x.is_last(axis, step.per_row) => graph.softmax(&step.name, step.row()?.part)?,
        None => {
            let reason = "networks have it over the last axis".into();
            return Err(Error::Unsupported { what: format!("softmax over axis {axis}"), reason });
        }
    };
    one(Value { part: y, ..x.clone() })
}

fn batch_normalization(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    last_axis(step, x)?;
    let (scale, center) = (step.layer.flag("scale", true), step.layer.flag("center", true));
    let found = step.store.arrays(&graph.file.tree, step.inner);
    let found = found.map_err(|reason| Error::mismatch("arrays", "those of the layer", reason))?;
    let width = x.part.width;
    let wanted = 2 + usize::from(scale) + usize::from(center);
    if found.len() != wanted || found.iter().any(|array| array.data.len() != width) {
        let got = found.iter().map(|array| format!("{:?}", array.shape)).collect::<Vec<_>>().join(", ");
        return Err(Error::mismatch("arrays of the layer", format!("{wanted} of [{width}]"), got));
    }
    let mut all = found.into_iter();
    let mut next = |there: bool, value: f64| match there.then(|| all.next()).flatten() {
        Some(array) => array.data.clone(),
        None => vec![value; width],
    };
    let (gamma, beta, mean, variance) = (next(scale, 1.0), next(center, 0.0), next(true, 0.0), next(true, 1.0));
    let epsilon = step.layer.number("epsilon", 1e-3);
    let scales: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shifts = beta.iter().zip(&mean).zip(&scales).map(|((b, m), s)| b - m * s).collect();
    let scale = graph.param(&format!("{}.scale", step.name), &[width], scales)?;
    let shift = graph.param(&format!("{}.shift", step.name), &[width], shifts)?;
    let operands = [x.part.into(), graph.b().whole(scale), graph.b().whole(shift)];
    let y = graph.b().map(&step.name, Expr::input(0) * Expr::input(1) + Expr::input(2), &operands)?;
    one(Value { part: y, ..x.clone() })
}

fn layer_normalization(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    last_axis(step, x)?;
    if step.layer.flag("rms_scaling", false) {
        let reason = "networks have LayerNormalization without it".into();
        return Err(Error::Unsupported { what: "rms_scaling".into(), reason });
    }
    let found = step.store.arrays(&graph.file.tree, step.inner);
    let found = found.map_err(|reason| Error::mismatch("arrays", "those of the layer", reason))?;
    let mut all = found.into_iter();
    let mut next = |graph: &mut Graph<'_>, there: bool, what: &str| {
        let Some(array) = there.then(|| all.next()).flatten() else { return Ok(None) };
        graph.param(&format!("{}.{what}", step.name), &[array.data.len()], array.data.clone()).map(Some)
    };
    let gain = next(graph, step.layer.flag("scale", true), "weight")?;
    let bias = next(graph, step.layer.flag("center", true), "bias")?;
    let epsilon = step.layer.number("epsilon", 1e-3);
    let y = graph.b().norm(&step.name, x.part, (Norm::Layer, 1, epsilon), gain, bias)?;
    one(Value { part: y, ..x.clone() })
}

/// Refuses a norm over another axis than the last.
fn last_axis(step: &Step<'_>, x: &Value) -> Result<()> {
    match step.layer.integers("axis").as_deref() {
        None => Ok(()),
        Some([axis]) if x.is_last(*axis, step.per_row) => Ok(()),
        Some(axes) => {
            let reason = "networks have it over the last axis".into();
            Err(Error::Unsupported { what: format!("axis {axes:?}"), reason })
        }
    }
}

fn pooling(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    let mean = step.layer.class == "GlobalAveragePooling1D";
    if step.layer.text("data_format") == Some("channels_first") || step.layer.flag("keepdims", false) {
        let reason = "networks have it over the steps, without keepdims".into();
        return Err(Error::Unsupported { what: "data_format or keepdims".into(), reason });
    }
    if !mean {
        windows::refuse_mask(step, x)?;
    }
    graph.over_time(step, x);
    let y = graph.b().pool(&step.name, x.part, if mean { Pooling::Mean } else { Pooling::Max })?;
    one(Value { steps: false, masked: false, reversed: false, ..x.with(y) })
}

fn concatenate(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let first = alike(step)?;
    let axis = step.layer.integers("axis").and_then(|axes| axes.first().copied()).unwrap_or(-1);
    if !first.is_last(axis, step.per_row) || step.inputs.iter().any(|value| value.features.len() != 1) {
        let reason = "networks have it over the last axis, the only one behind batch and time".into();
        return Err(Error::Unsupported { what: format!("axis {axis}"), reason });
    }
    let parts: Vec<Part> = step.inputs.iter().map(|value| value.part).collect();
    let y = graph.b().concat(&step.name, &parts)?;
    one(Value { masked: step.inputs.iter().any(|value| value.masked), ..first.with(y) })
}

fn merge(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let first = alike(step)?;
    let count = step.inputs.len();
    let widest = step.inputs.iter().max_by_key(|value| value.part.width).unwrap_or(first);
    let width = widest.part.width;
    if step.inputs.iter().any(|value| value.features != widest.features && value.part.width != 1) {
        let got = step.inputs.iter().map(|value| format!("{:?}", value.features)).collect::<Vec<_>>().join(", ");
        return Err(Error::mismatch("features of the inputs", "the same, or 1", got));
    }
    // Keras repeats a single column.
    let operand = |value: &Value| Operand::from(value.part).each(width / value.part.width);
    let operands: Vec<Operand> = step.inputs.iter().map(operand).collect();
    let class = step.layer.class.as_str();
    if class == "Subtract" && count != 2 {
        return Err(Error::mismatch("inputs", 2, count));
    }
    let two = |a: Expr, b: Expr| match class {
        "Subtract" => a - b,
        "Multiply" => a * b,
        "Maximum" => max(a, b),
        "Minimum" => -max(-a, -b),
        _ => a + b,
    };
    let mut y = operands[0];
    // Two at a time: an expression of all of them would be as deep as a file says.
    for (n, operand) in operands.iter().enumerate().skip(1) {
        let last = n + 1 == count;
        let name = if last { step.name.clone() } else { format!("{}/{n}", step.name) };
        let mut expr = two(Expr::input(0), Expr::input(1));
        if last && class == "Average" {
            expr = expr / (count as f64).into();
        }
        y = graph.b().map(&name, expr, &[y, *operand])?.into();
    }
    let part = y.part().ok_or_else(|| Error::mismatch("inputs", "at least 1", 0))?;
    one(Value { part, masked: step.inputs.iter().any(|value| value.masked), ..widest.clone() })
}

/// The first of several inputs that have the same rows.
fn alike<'a>(step: &Step<'a>) -> Result<&'a Value> {
    let first = step.inputs.first().ok_or_else(|| Error::mismatch("inputs", "at least 1", 0))?;
    if step.inputs.iter().any(|value| value.steps != first.steps || value.reversed != first.reversed) {
        let reason = "a value per step meets one per sequence, or one from the last step to the first one from the first to the last";
        return Err(Error::Unsupported { what: "inputs of different rows".into(), reason: reason.into() });
    }
    Ok(first)
}

impl Graph<'_> {
    /// A kernel, and a bias if there is one.
    pub(super) fn kernel(&self, step: &Step<'_>) -> Result<(Array, Option<Array>)> {
        if step.layer.flag("use_bias", step.layer.flag("bias", true)) {
            self.arrays(step).map(|[kernel, bias]| (kernel, Some(bias)))
        } else {
            self.arrays(step).map(|[kernel]| (kernel, None))
        }
    }

    /// x times a kernel `[in, out]` plus a bias.
    pub(super) fn linear(&mut self, name: &str, x: Part, kernel: &Array, bias: Option<&Array>) -> Result<Part> {
        let &[inputs, outputs] = &kernel.shape[..] else {
            return Err(Error::mismatch("kernel", "[in, out]", format!("{:?}", kernel.shape)));
        };
        if inputs != x.width || outputs == 0 {
            return Err(Error::mismatch("kernel", format!("[{}, out]", x.width), format!("{:?}", kernel.shape)));
        }
        let transposed = (0..outputs).flat_map(|o| kernel.data.iter().skip(o).step_by(outputs)).copied().collect();
        let w = self.param(&format!("{name}.weight"), &[outputs, inputs], transposed)?;
        let b = match bias {
            Some(bias) => Some(self.param(&format!("{name}.bias"), &[bias.data.len()], bias.data.clone())?),
            None => None,
        };
        self.b().linear(name, x, w, b)
    }

    /// The layer's `activation` of what it has made so far.
    pub(super) fn activated(&mut self, step: &Step<'_>, y: Part) -> Result<Part> {
        let name = step.layer.activation(&["activation"]);
        if matches!(name.as_deref(), None | Some("linear")) {
            return Ok(y);
        }
        let to = format!("{}/activation", step.name);
        match of_columns(name.as_deref(), self.file.hard_sigmoid)? {
            Some(expr) => self.b().map(&to, expr, &[y.into()]),
            None => self.softmax(&to, y),
        }
    }

    /// exp(x − max) / Σ exp(x − max) over all columns.
    fn softmax(&mut self, name: &str, x: Part) -> Result<Part> {
        let (mut most, mut n) = (x, 0);
        // Halves that overlap where they cannot be equal.
        while most.width > 1 {
            let half = most.width.div_ceil(2);
            let halves = [most.columns(0, half)?.into(), most.columns(most.width - half, half)?.into()];
            most = self.b().map(&format!("{name}/max{n}"), max(Expr::input(0), Expr::input(1)), &halves)?;
            n += 1;
        }
        let all = |part: Part| Operand::from(part).each(x.width);
        let powers =
            self.b().map(&format!("{name}/exp"), exp(Expr::input(0) - Expr::input(1)), &[x.into(), all(most)])?;
        let sum = self.b().sum(&format!("{name}/sum"), powers, 1)?;
        self.b().map(name, Expr::input(0) / Expr::input(1), &[powers.into(), all(sum)])
    }

    /// Notes that an input has a mask.
    fn mask(&mut self, x: &Value, value: f64) -> Result<()> {
        let of = |given: &&mut Given| given.stage == x.stage && given.part == x.part;
        let Some(Given { input, .. }) = self.inputs.iter_mut().find(of) else {
            let reason = "networks have masks of what the model is given".into();
            return Err(Error::Unsupported { what: "a mask of a value that the model computes".into(), reason });
        };
        if !x.steps || input.mask.is_some_and(|mask| mask != KerasMask(value)) {
            let reason = "networks have one mask per input, of its steps".into();
            return Err(Error::Unsupported { what: "another mask of the same input".into(), reason });
        }
        input.mask = Some(KerasMask(value));
        Ok(())
    }
}
