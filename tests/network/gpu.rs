//! The GPU executor against the CPU's in f64.

use crate::networks::{inputs, of_everything, of_rule, random};
use std::sync::Arc;
use wgpu_rnn::expr::Element;
use wgpu_rnn::network::{
    Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Parallel,
};
use wgpu_rnn::{Device, Precision, Result, Shape, Tensor, View, rules};

/// A run there and back, of lengths, resets and initial states.
struct Case {
    network: Arc<Network>,
    shape: Shape,
    lengths: Vec<usize>,
    resets: Option<Vec<bool>>,
    initial: bool,
}

type Named = Vec<(String, Vec<f64>)>;

fn run<T: Element>(case: &Case, device: &Device, options: &NetworkOptions) -> Result<Named> {
    let Case { network, shape, .. } = case;
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions { precision, train: true, ..options.clone() };
    let of = |values: Vec<f64>| -> Vec<T> { values.into_iter().map(T::from_f64).collect() };
    let plan = NetworkPlan::new(network, *shape, &device.caps(), &options)?;
    let mut session = NetworkSession::<T>::new(device, plan, &of(random(network.parameter_count(), 5)))?;
    let shapes: Vec<_> =
        network.inputs.iter().map(|&v| vec![shape.time, shape.batch, network.values[v].width]).collect();
    let of_seed = |seed| -> Vec<Vec<T>> { inputs(network, *shape, seed).into_iter().map(of).collect() };
    // States that a run has ended with: those of stabilised rules are not any numbers.
    let mut states: Vec<Tensor<T>> = Vec::new();
    session.poison()?;
    if case.initial {
        let before = of_seed(100);
        let views: Vec<_> = before.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        states = session.forward(&NetworkInput::new(&views))?.states;
        states.iter_mut().flat_map(|s| &mut s.data).for_each(|v| *v = T::from_f64(v.to_f64() as f32 as f64));
        session.poison()?;
    }
    let given = of_seed(3);
    let values: Vec<_> = given.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
    let states: Vec<_> = states.iter().map(|s| View::new(&s.data, &s.shape)).collect();
    let initial = if case.initial { NetworkInitial::Given(&states) } else { NetworkInitial::Empty };
    let input = NetworkInput { values: &values, lengths: Some(&case.lengths), resets: case.resets.as_deref(), initial };
    let out = session.forward(&input)?;
    let up = |tensors: &[Tensor<T>], seed: u64| -> Vec<Vec<T>> {
        tensors.iter().enumerate().map(|(n, t)| of(random(t.data.len(), seed + n as u64))).collect()
    };
    let (d_values, d_states) = (up(&out.values, 90), up(&out.states, 95));
    let views = |d: &'_ [Vec<T>], t: &[Tensor<T>]| -> Vec<(Vec<T>, Vec<usize>)> {
        d.iter().zip(t).map(|(d, t)| (d.clone(), t.shape.clone())).collect()
    };
    let (d_values, d_states) = (views(&d_values, &out.values), views(&d_states, &out.states));
    let d_values: Vec<_> = d_values.iter().map(|(d, s)| View::new(d, s)).collect();
    let d_states: Vec<_> = d_states.iter().map(|(d, s)| View::new(d, s)).collect();
    let g = session.backward(&NetworkUpstream { values: &d_values, states: Some(&d_states) })?;
    let mut all = Named::new();
    let lists = [
        ("out", &out.values),
        ("state", &out.states),
        ("d.input", &g.inputs),
        ("d.param", &g.params),
        ("d.state", &g.states),
    ];
    for (what, list) in lists {
        for (n, t) in list.iter().enumerate() {
            all.push((format!("{what} {n}"), t.data.iter().map(|v| v.to_f64()).collect()));
        }
    }
    Ok(all)
}

fn compare(what: &str, got: &Named, truth: &Named, failed: &mut Vec<String>) {
    for ((name, got), (_, truth)) in got.iter().zip(truth) {
        let scale = truth.iter().filter(|v| v.abs() < 1e20).fold(0.0f64, |m, v| m.max(v.abs()));
        let error = got.iter().zip(truth).map(|(g, t)| {
            if g.is_nan() {
                f64::INFINITY
            } else if t.abs() > 1e20 {
                0.0
            } else {
                (g - t).abs()
            }
        });
        let error = error.fold(0.0, f64::max);
        if !(error <= 2e-5 * scale.max(1e-3)) || got.len() != truth.len() {
            let at = got.iter().zip(truth).position(|(g, t)| !((g - t).abs() <= 2e-5 * scale.max(1e-3)));
            failed.push(format!("{what}: {name}: {error:e} of {scale:e} at {at:?} of {}", got.len()));
        }
    }
}

fn every_rule(parallel: Parallel) -> Result<()> {
    let (gpu, mut failed) = (Device::gpu()?, Vec::new());
    let only = std::env::var("ONLY").ok();
    for rule in rules::ALL {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| o == rule.name)) {
            continue;
        }
        for reverse in [false, true] {
            let shape = Shape { time: 11, batch: 3 };
            let resets = (0..33).map(|n| [8, 13, 14].contains(&n)).collect();
            let case = Case {
                network: of_rule(rule, reverse)?,
                shape,
                lengths: vec![7, 11, 2],
                resets: Some(resets),
                initial: true,
            };
            let options =
                NetworkOptions { parallel: Some(parallel), chunk: Some(4), window_bytes: 1, ..Default::default() };
            let truth = run::<f64>(&case, &Device::cpu(), &NetworkOptions { parallel: None, ..options.clone() })?;
            let got = run::<f32>(&case, &gpu, &options)?;
            compare(&format!("{} {reverse}", rule.name), &got, &truth, &mut failed);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

#[test]
fn every_rule_step_by_step() -> Result<()> {
    every_rule(Parallel::Recurrent)
}

#[test]
fn every_rule_in_chunks() -> Result<()> {
    every_rule(Parallel::Chunked)
}

#[test]
fn every_operation() -> Result<()> {
    let mut failed = Vec::new();
    let shape = Shape { time: 11, batch: 3 };
    for resets in [None, Some((0..33).map(|n| [8, 13, 14].contains(&n)).collect())] {
        let case = Case { network: of_everything()?, shape, lengths: vec![7, 11, 2], resets, initial: true };
        let options = NetworkOptions { chunk: Some(4), ..Default::default() };
        let truth = run::<f64>(&case, &Device::cpu(), &options)?;
        let got = run::<f32>(&case, &Device::gpu()?, &options)?;
        compare("everything", &got, &truth, &mut failed);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
