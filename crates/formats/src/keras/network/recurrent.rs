//! Recurrent layers in a network.

use super::super::recurrent::{KerasLabel, KerasRnn, Merge, label};
use super::super::store::Inner;
use super::{Graph, Step, Value};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{Part, Pooling};
use wgpu_rnn::{Direction, Error, Result};

/// y or its last step, and with `return_state` the last states.
pub(super) fn run(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    if step.inputs.len() > 1 || step.call.named.iter().any(|(name, _)| name == "initial_state") {
        let reason = "layers of a network begin from zeros (or from the states that a run is given)".into();
        return Err(Error::Unsupported { what: "an initial_state that the model computes".into(), reason });
    }
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
    graph.over_time(step, x);
    let y = graph.b().layers(&step.name, x.part, &config)?;
    for (parameter, values) in weights.named(&config) {
        graph.keep(&format!("{}.{}", step.name, parameter.name), &parameter.shape, values.to_vec())?;
    }
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
            results.extend(states(&label, state));
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
        for half in halves(ends)? {
            results.extend(states(&label, Some(last(half))));
        }
    }
    Ok(results)
}

/// The last h, and the place of an LSTM's c.
fn states(label: &KerasLabel, h: Option<Value>) -> Vec<Option<Value>> {
    match label.cell {
        super::super::recurrent::KerasCell::Lstm => vec![h, None],
        _ => vec![h],
    }
}
