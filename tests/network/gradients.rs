//! The way back against central differences of the way there, in f64.

use crate::networks::{bound, inputs, of_everything, of_rule, of_sequences, of_tokens, random, session, shape_of};
use std::sync::Arc;
use wgpu_rnn::network::{Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkOutput, NetworkUpstream};
use wgpu_rnn::{Result, Shape, Tensor, View, rules};

const SHAPE: Shape = Shape { time: 7, batch: 3 };
const LENGTHS: [usize; 3] = [5, 7, 2];

fn views<'a>(values: &'a [Vec<f64>], shapes: &'a [Vec<usize>]) -> Vec<View<'a, f64>> {
    values.iter().zip(shapes).map(|(v, s)| View::new(v, s)).collect()
}

fn weighted(tensors: &[Tensor<f64>], weights: &[Vec<f64>]) -> f64 {
    tensors.iter().zip(weights).flat_map(|(t, w)| t.data.iter().zip(w)).map(|(a, b)| a * b).sum()
}

/// Where a list is in a [`Point`].
type Place = Box<dyn Fn(&mut Point) -> &mut Vec<f64>>;

/// Everything that a run reads, as one list of lists.
struct Point {
    inputs: Vec<Vec<f64>>,
    params: Vec<f64>,
    states: Vec<Vec<f64>>,
}

fn check(network: &Arc<Network>, chunk: usize) -> Result<()> {
    let options = NetworkOptions { train: true, chunk: Some(chunk), ..Default::default() };
    let (mut first, params) = session(network, SHAPE, &options)?;
    let widths = |n: &usize| shape_of(network, *n, SHAPE);
    let input_shapes: Vec<_> = network.inputs.iter().map(widths).collect();
    let resets: Vec<bool> = (0..21).map(|n| [8, 13].contains(&n)).collect();
    let point = Point { inputs: inputs(network, SHAPE, 11), params, states: Vec::new() };
    let begin = first.forward(&NetworkInput::new(&views(&point.inputs, &input_shapes)))?;
    let state_shapes: Vec<_> = begin.states.iter().map(|s| s.shape.clone()).collect();
    // Any state will do, and any m of a stabilised rule.
    let states = begin.states.iter().enumerate().map(|(n, s)| random(s.data.len(), 70 + n as u64));
    let point = Point { states: states.collect(), ..point };
    let run = |p: &Point| -> Result<(NetworkOutput<f64>, _)> {
        let mut session = bound(network, SHAPE, &options, &p.params)?;
        let (values, states) = (views(&p.inputs, &input_shapes), views(&p.states, &state_shapes));
        let initial = NetworkInitial::Given(&states);
        let out = session.forward(&NetworkInput {
            values: &values,
            lengths: Some(&LENGTHS),
            resets: Some(&resets),
            initial,
        })?;
        Ok((out, session))
    };
    let (out, mut session) = run(&point)?;
    let up: Vec<Vec<f64>> = out.values.iter().enumerate().map(|(n, t)| random(t.data.len(), 90 + n as u64)).collect();
    // m has no gradient, and what is relative to it none without it: only outputs of stabilised rules count.
    let stabilised =
        network.nodes.iter().any(|n| matches!(&n.op, wgpu_rnn::network::Op::Scan(s) if s.divisor().is_some()));
    let by = if stabilised { 0.0 } else { 1.0 };
    let up_states: Vec<Vec<f64>> = out
        .states
        .iter()
        .enumerate()
        .map(|(n, t)| random(t.data.len(), 95 + n as u64).iter().map(|v| v * by).collect())
        .collect();
    let loss = |out: &NetworkOutput<f64>| weighted(&out.values, &up) + weighted(&out.states, &up_states);
    let shapes: Vec<_> = out.values.iter().map(|t| t.shape.clone()).collect();
    let (values, states) = (views(&up, &shapes), views(&up_states, &state_shapes));
    let g = session.backward(&NetworkUpstream { values: &values, states: Some(&states) })?;
    let flat: Vec<f64> = g.params.iter().flat_map(|t| t.data.clone()).collect();
    let mut kinds: Vec<(String, Vec<f64>, Place)> = vec![];
    for (n, t) in g.inputs.iter().enumerate() {
        kinds.push((format!("input {n}"), t.data.clone(), Box::new(move |p| &mut p.inputs[n])));
    }
    for (n, t) in g.states.iter().enumerate() {
        kinds.push((format!("state {n}"), t.data.clone(), Box::new(move |p| &mut p.states[n])));
    }
    kinds.push(("params".into(), flat, Box::new(|p| &mut p.params)));
    for (name, gradient, of) in &kinds {
        if gradient.is_empty() {
            continue;
        }
        // Targets have no gradient.
        if gradient.iter().all(|&g| g == 0.0) {
            assert!(name.starts_with("input"), "{name} has no gradient at all");
            continue;
        }
        let mut direction = random(gradient.len(), 40);
        if let (true, true) = (name.starts_with("state"), stabilised) {
            // Not along m.
            for (n, v) in direction.iter_mut().enumerate() {
                let size = gradient.len() / SHAPE.batch;
                let heads = match &network.nodes[0].op {
                    wgpu_rnn::network::Op::Scan(s) => s.heads,
                    _ => 0,
                };
                if n % size >= size - heads {
                    *v = 0.0;
                }
            }
        }
        let moved = |by: f64| -> Result<f64> {
            let mut p =
                Point { inputs: point.inputs.clone(), params: point.params.clone(), states: point.states.clone() };
            of(&mut p).iter_mut().zip(&direction).for_each(|(v, d)| *v += by * d);
            Ok(loss(&run(&p)?.0))
        };
        let difference = (8.0 * (moved(1e-4)? - moved(-1e-4)?) - (moved(2e-4)? - moved(-2e-4)?)) / 12e-4;
        let along: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let scale: f64 = gradient.iter().zip(&direction).map(|(g, d)| (g * d).abs()).sum();
        assert!(
            (along - difference).abs() <= 1e-8 * scale.max(1e-3),
            "{name}: {along} against {difference} of {scale}"
        );
    }
    Ok(())
}

#[test]
fn every_rules_gradients_are_those_of_central_differences() -> Result<()> {
    for rule in rules::ALL {
        for reverse in [false, true] {
            println!("{} {reverse}", rule.name);
            check(&of_rule(rule, reverse)?, 3)?;
        }
    }
    Ok(())
}

#[test]
fn every_operations_gradients_are_those_of_central_differences() -> Result<()> {
    check(&of_everything()?, 3)?;
    check(&of_sequences()?, 3)?;
    check(&of_tokens()?, 3)
}
