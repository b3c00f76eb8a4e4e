//! Recurrent layers in a network.

use super::super::config::{Call, LayerConfig, ModelConfig};
use super::super::recurrent::{KerasCell, KerasLabel, KerasRnn, Merge, label};
use super::super::store::Inner;
use super::{Graph, Held, KerasBegin, KerasState, Step, Value};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{Part, Pooling};
use wgpu_rnn::{Direction, Error, Result, RnnConfig};

/// The classes of recurrent layers, and of what is around one.
pub(super) const CLASSES: &[&str] = &["SimpleRNN", "GRU", "LSTM", "CuDNNGRU", "CuDNNLSTM", "RNN", "Bidirectional"];

/// Whether a layer reads steps and, behind them, states to begin from.
pub(super) fn is(layer: &LayerConfig) -> bool {
    CLASSES.contains(&layer.class.as_str())
}

/// Whether a recurrent layer of a model, or of one inside it, begins from values of the model.
pub(super) fn begin_from_values(model: &ModelConfig) -> bool {
    let begins = |call: &Call| call.inputs.len() > 1 || call.begin().next().is_some();
    model.layers.iter().any(|layer| match &layer.model {
        Some(inner) => begin_from_values(inner),
        None => is(layer) && layer.calls.iter().any(begins),
    })
}

/// y or its last step, and with `return_state` the last states.
pub(super) fn run(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    let label = label(step.layer, step.name.clone(), true)?;
    let label = label.ok_or_else(|| Error::Unsupported {
        what: "a wrapper of a layer that is not recurrent".into(),
        reason: "it takes SimpleRNN, GRU and LSTM".into(),
    })?;
    debug_assert_eq!(step.inner, Inner::Own);
    let KerasRnn { label, mut config, weights } = graph.file.rnn(step.layer, step.store, label, [None, None])?;
    let reversed = x.reversed != label.go_backwards;
    if label.bidirectional.is_none() {
        config.direction = if reversed { Direction::Reverse } else { Direction::Forward };
    } else if x.reversed {
        let reason = "networks have it over steps in their order".into();
        return Err(Error::Unsupported { what: "Bidirectional behind go_backwards".into(), reason });
    }
    // Keras 3 loses the mask of a call that is told what to begin from, but hands it on (findings/keras3_loses_masks.sh).
    let told = step.call.named.iter().any(|(name, _)| name == "mask");
    let loses = !step.begin.is_empty() && x.masked && !told && graph.file.is_keras_3();
    if loses && label.bidirectional.is_some() {
        let reason = "Keras 3 then has the mask in one direction alone, which networks cannot".into();
        return Err(Error::Unsupported { what: "a Bidirectional with a mask and an initial_state".into(), reason });
    }
    graph.over_time(step, &Value { masked: x.masked && !loses, ..x.clone() });
    let begin = begin(graph, step, &label, &config)?;
    let (h, c) = (config.output_size(), config.directions() * config.cell_size());
    let state = graph.stage().states.len();
    graph.stage().states.push(KerasState { size: h + c, begin });
    let y = graph.b().layers(&step.name, x.part, &config)?;
    for (parameter, values) in weights.named(&config) {
        graph.keep(&format!("{}.{}", step.name, parameter.name), &parameter.shape, values.to_vec())?;
    }
    // The cell states of a direction.
    let cells = |h: Option<Value>, direction: usize| {
        let first = config.output_size() + direction * config.cell_size();
        let c = h.clone().map(|h| Value { held: Some(Held { state, first }), ..h });
        if label.cell == KerasCell::Lstm { vec![h, c] } else { vec![h] }
    };
    let steps = |part: Part| Value { reversed, ..x.with(part) };
    let last = |part: Part| Value { steps: false, reversed: false, masked: false, ..x.with(part) };
    let Some(merge) = label.bidirectional else {
        let end = if reversed { Pooling::First } else { Pooling::Last };
        let mut results = Vec::new();
        let state = if label.return_state || !label.return_sequences {
            Some(last(graph.b().pool(&format!("{}/last", step.name), y, end)?))
        } else {
            None
        };
        results.push(if label.return_sequences { Some(steps(y)) } else { state.clone() });
        if label.return_state {
            results.extend(cells(state, 0));
        }
        return Ok(results);
    };
    let ends = if label.return_state || !label.return_sequences {
        Some(graph.b().last_of(&format!("{}/last", step.name), y, &config)?)
    } else {
        None
    };
    let (h, whole) = (config.hidden_size, if label.return_sequences { y } else { ends.unwrap_or(y) });
    let value = |part: Part| if label.return_sequences { steps(part) } else { last(part) };
    let halves = |part: Part| Ok::<_, Error>([part.columns(0, h)?, part.columns(h, h)?]);
    let mut results = match merge {
        Merge::Concat => vec![Some(value(whole))],
        Merge::Apart => halves(whole)?.map(|half| Some(value(half))).to_vec(),
        Merge::Sum | Merge::Ave | Merge::Mul => {
            let (a, b) = (Expr::input(0), Expr::input(1));
            let expr = match merge {
                Merge::Mul => a * b,
                Merge::Ave => (a + b) / 2.0.into(),
                _ => a + b,
            };
            let operands = halves(whole)?.map(Into::into);
            vec![Some(value(graph.b().map(&format!("{}/{merge:?}", step.name), expr, &operands)?))]
        }
    };
    if let Some(ends) = ends.filter(|_| label.return_state) {
        for (direction, half) in halves(ends)?.into_iter().enumerate() {
            results.extend(cells(Some(last(half)), direction));
        }
    }
    Ok(results)
}

/// What the state of a layer begins with: h of every direction, then the cell states of every direction; Keras has them direction by
/// direction.
fn begin(graph: &mut Graph<'_>, step: &Step<'_>, label: &KerasLabel, config: &RnnConfig) -> Result<Vec<KerasBegin>> {
    if step.begin.is_empty() {
        return Ok(Vec::new());
    }
    let each = if label.cell == KerasCell::Lstm { 2 } else { 1 };
    let wanted = each * config.directions();
    if step.begin.len() != wanted {
        return Err(Error::mismatch("states to begin from", wanted, step.begin.len()));
    }
    if let Some(other) = step.begin.iter().find(|value| value.steps || value.part.width != config.hidden_size) {
        let expected = format!("a row per sequence of {}", config.hidden_size);
        let got = format!("{} of {}", if other.steps { "steps" } else { "a row" }, other.part.width);
        return Err(Error::mismatch("a state to begin from", expected, got));
    }
    let order = (0..each).flat_map(|part| (part..wanted).step_by(each));
    order.map(|n| graph.begins_with(&step.begin[n])).collect()
}
