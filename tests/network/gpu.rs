//! The GPU executor against naive loops in f64, within what the same loops in f32 are off by.

use crate::naive::{self, Reads, Times};
use crate::networks::{inputs, of_everything, of_rule, random};
use std::sync::Arc;
use wgpu_rnn::network::{
    Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Op, Parallel,
};
use wgpu_rnn::verify::tolerance;
use wgpu_rnn::{Device, Error, Result, Shape, Tensor, View, rules};

type Named = Vec<(String, Vec<f64>)>;

/// A run there and back.
struct Case {
    network: Arc<Network>,
    times: Times,
    reads: Reads<f64>,
    /// Gradients of outputs, then of last states.
    up: Vec<Vec<f64>>,
}

impl Case {
    /// States before the first step are those that a run from empty ones ends with: stabilised rules do not take any numbers.
    fn new(network: Arc<Network>, times: Times) -> Result<Self> {
        let params = network.params.iter().enumerate().map(|(n, p)| random(p.len(), 5 + n as u64)).collect();
        let mut reads = Reads { params, inputs: inputs(&network, times.shape, 100), states: empty_states(&network, times.shape.batch) };
        let lengths = vec![times.shape.time; times.shape.batch];
        let before = Times { shape: times.shape, lengths, resets: Vec::new() };
        let (outputs, states) = naive::forward(&network, &before, &reads)?;
        let of = |(n, t): (usize, &Vec<f64>)| random(t.len(), 90 + n as u64);
        let mut up: Vec<Vec<f64>> = outputs.iter().chain(&states).enumerate().map(of).collect();
        up[outputs.len()..].iter_mut().for_each(|d| without_maxima(&network, d));
        reads.states = states;
        reads.inputs = inputs(&network, times.shape, 3);
        Ok(Self { network, times, reads, up })
    }

    /// The naive loops in f64 and f32.
    fn naive(&self) -> Result<[Named; 2]> {
        let narrow: Vec<Vec<f32>> = self.up.iter().map(|u| u.iter().map(|&v| v as f32).collect()).collect();
        let mut truth = naive::run(&self.network, &self.times, &self.reads, &self.up)?;
        let mut calibration = naive::run(&self.network, &self.times, &self.reads.map(|v| v as f32), &narrow)?;
        self.hold_maxima(&mut truth);
        self.hold_maxima(&mut calibration);
        Ok([truth, calibration])
    }

    /// Results do not depend on m: its gradient is none.
    fn hold_maxima(&self, all: &mut Named) {
        for (_, d) in all.iter_mut().filter(|(name, _)| name.starts_with("d.state")) {
            without_maxima(&self.network, d);
        }
    }

    fn gpu(&self, device: &Device, options: &NetworkOptions) -> Result<Named> {
        let (network, shape) = (&self.network, self.times.shape);
        let narrow = |lists: &[Vec<f64>]| -> Vec<Vec<f32>> { lists.iter().map(|l| l.iter().map(|&v| v as f32).collect()).collect() };
        let options = NetworkOptions { train: true, ..options.clone() };
        let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
        let mut session = NetworkSession::new(device, plan, &narrow(&self.reads.params).concat())?;
        session.poison()?;
        let (values, states, up) = (narrow(&self.reads.inputs), narrow(&self.reads.states), narrow(&self.up));
        let shapes: Vec<_> = network.inputs.iter().map(|&v| vec![shape.time, shape.batch, network.values[v].width]).collect();
        let state_shapes: Vec<_> = states.iter().map(|s| vec![shape.batch, s.len() / shape.batch]).collect();
        let (values, states) = (view(&values, &shapes), view(&states, &state_shapes));
        let resets = Some(&self.times.resets[..]).filter(|r| !r.is_empty());
        let initial = NetworkInitial::Given(&states);
        let out = session.forward(&NetworkInput { values: &values, lengths: Some(&self.times.lengths), resets, initial })?;
        let (d_values, d_states) = up.split_at(out.values.len());
        let shapes: Vec<_> = out.values.iter().map(|t| t.shape.clone()).collect();
        let (d_values, d_states) = (view(d_values, &shapes), view(d_states, &state_shapes));
        let g = session.backward(&NetworkUpstream { values: &d_values, states: Some(&d_states) })?;
        let named = |what: &'static str, list: Vec<Tensor<f32>>| {
            let wide = |t: Tensor<f32>| t.data.into_iter().map(f64::from).collect();
            list.into_iter().enumerate().map(move |(n, t)| (format!("{what} {n}"), wide(t)))
        };
        let there = named("out", out.values).chain(named("state", out.states));
        let back = named("d.input", g.inputs).chain(named("d.param", g.params)).chain(named("d.state", g.states));
        Ok(there.chain(back).collect())
    }

    /// What is further from the truth than it may be.
    fn failures(&self, what: &str, got: &Named, [truth, naive]: &[Named; 2]) -> Vec<String> {
        assert_eq!(got.len(), truth.len(), "{what}: results");
        let mut failures = Vec::new();
        for (((name, got), (other, truth)), (_, naive)) in got.iter().zip(truth).zip(naive) {
            assert_eq!(name, other, "{what}");
            let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(naive, truth));
            let error = tolerance::error(got, truth);
            if !(error <= bound) {
                failures.push(format!("{what}: {name}: {error:e}, over {bound:e}, of {:e}", tolerance::scale(truth)));
            }
        }
        failures
    }
}

/// Zeros for m of states' gradients, where the network is one rule that has it.
fn without_maxima(network: &Network, d: &mut [f64]) {
    if let Some(Op::Scan(s)) = network.nodes.first().map(|n| &n.op).filter(|_| network.nodes.len() == 1) {
        if s.divisor().is_some() {
            d.chunks_mut(s.state_size()).for_each(|own| own[s.state_size() - s.heads..].fill(0.0));
        }
    }
}

fn view<'a>(values: &'a [Vec<f32>], shapes: &'a [Vec<usize>]) -> Vec<View<'a, f32>> {
    values.iter().zip(shapes).map(|(v, s)| View::new(v, s)).collect()
}

fn empty_states(network: &Network, batch: usize) -> Vec<Vec<f64>> {
    let of = |op: &Op| match op {
        Op::Scan(s) => {
            let mut one = vec![0.0; s.state_size()];
            if s.divisor().is_some() {
                one[s.state_size() - s.heads..].fill(wgpu_rnn::rule::EMPTY_MAXIMUM);
            }
            Some(one.repeat(batch))
        }
        Op::Conv { x, low, high: 0, .. } => Some(vec![0.0; batch * low * x.width]),
        Op::Shift { x } => Some(vec![0.0; batch * x.width]),
        _ => None,
    };
    network.nodes.iter().filter_map(|n| of(&n.op)).collect()
}

fn gpu() -> Result<Device> {
    Device::gpu()
}

fn ragged(resets: bool) -> Times {
    let resets = if resets { (0..65 * 5).map(|n| [10, 36, 41, 316].contains(&n)).collect() } else { Vec::new() };
    Times { shape: Shape { time: 65, batch: 5 }, lengths: vec![63, 65, 1, 2, 64], resets }
}

fn every_rule(parallel: &[(Parallel, usize)]) -> Result<()> {
    let (device, mut failures) = (gpu()?, Vec::new());
    let only = std::env::var("ONLY").ok();
    for rule in rules::ALL {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| o == rule.name)) {
            continue;
        }
        for reverse in [false, true] {
            let case = Case::new(of_rule(rule, reverse)?, ragged(true))?;
            let naive = case.naive()?;
            for &(parallel, chunk) in parallel {
                let options = NetworkOptions { parallel: Some(parallel), chunk: Some(chunk), window_bytes: 30_000, ..Default::default() };
                let got = case.gpu(&device, &options)?;
                failures.extend(case.failures(&format!("{} {reverse} {chunk}", rule.name), &got, &naive));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn every_rule_step_by_step() -> Result<()> {
    every_rule(&[(Parallel::Recurrent, 16)])
}

#[test]
fn every_rule_in_chunks() -> Result<()> {
    every_rule(&[(Parallel::Chunked, 16), (Parallel::Chunked, 64)])
}

#[test]
fn every_operation() -> Result<()> {
    let (device, mut failures) = (gpu()?, Vec::new());
    for resets in [false, true] {
        let case = Case::new(of_everything()?, ragged(resets))?;
        let naive = case.naive()?;
        let one = case.gpu(&device, &NetworkOptions::default())?;
        failures.extend(case.failures(&format!("resets {resets}"), &one, &naive));
        assert_eq!(one, case.gpu(&device, &NetworkOptions::default())?, "two runs give the same bits");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn steps_give_the_bits_of_the_whole() -> Result<()> {
    let (device, options) = (gpu()?, NetworkOptions::default());
    for rule in [&rules::MLSTM, &rules::GATED_DELTA, &rules::RWKV6] {
        let network = of_rule(rule, false)?;
        let (time, batch) = (6, 2);
        let params: Vec<f32> = random(network.parameter_count(), 5).iter().map(|&v| v as f32).collect();
        let session = |time| NetworkSession::new(&device, NetworkPlan::new(&network, Shape { time, batch }, &device.caps(), &options)?, &params);
        let narrow = |v: Vec<f64>| -> Vec<f32> { v.into_iter().map(|v| v as f32).collect() };
        let values: Vec<Vec<f32>> = inputs(&network, Shape { time, batch }, 3).into_iter().map(narrow).collect();
        let shapes = |time| -> Vec<_> { network.inputs.iter().map(|&v| vec![time, batch, network.values[v].width]).collect() };
        let whole = session(time)?.forward(&NetworkInput::new(&view(&values, &shapes(time))))?;
        let (mut one, mut steps, mut states) = (session(1)?, Vec::new(), Vec::new());
        for t in 0..time {
            let rows: Vec<Vec<f32>> = values.iter().map(|v| v[t * v.len() / time..][..v.len() / time].to_vec()).collect();
            let initial = if t == 0 { NetworkInitial::Empty } else { NetworkInitial::Carry };
            let shapes = shapes(1);
            let out = one.forward(&NetworkInput { initial, ..NetworkInput::new(&view(&rows, &shapes)) })?;
            steps.extend(out.values[0].data.clone());
            states = out.states;
        }
        assert_eq!(steps, whole.values[0].data, "{}", rule.name);
        assert_eq!(states, whole.states, "{}", rule.name);
    }
    Ok(())
}

#[test]
fn a_sequence_does_not_depend_on_its_neighbours() -> Result<()> {
    let (device, network) = (gpu()?, of_everything()?);
    let case = Case::new(Arc::clone(&network), ragged(true))?;
    let all = case.gpu(&device, &NetworkOptions::default())?;
    // The first sequence by itself.
    let (time, batch) = (65, 5);
    let own = |values: &[f64]| -> Vec<f64> {
        let width = values.len() / (time * batch);
        (0..time).flat_map(|t| values[t * batch * width..][..width].to_vec()).collect()
    };
    let first = |values: &[f64]| values[..values.len() / batch].to_vec();
    let times = Times {
        shape: Shape { time, batch: 1 },
        lengths: vec![case.times.lengths[0]],
        resets: case.times.resets.iter().step_by(batch).copied().collect(),
    };
    let reads = Reads {
        params: case.reads.params.clone(),
        inputs: case.reads.inputs.iter().map(|v| own(v)).collect(),
        states: case.reads.states.iter().map(|v| first(v)).collect(),
    };
    let outputs = network.outputs.len();
    let up = case.up.iter().enumerate().map(|(n, u)| if n < outputs { own(u) } else { first(u) }).collect();
    let alone = Case { network, times, reads, up }.gpu(&device, &NetworkOptions::default())?;
    for ((name, one), (_, many)) in alone.iter().zip(&all) {
        match name.split(' ').next() {
            Some("out" | "d.input") => assert_eq!(*one, own(many), "{name}"),
            Some("state" | "d.state") => assert_eq!(*one, first(many), "{name}"),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn an_arena_beyond_a_binding_is_refused_before_anything_runs() -> Result<()> {
    let caps = gpu()?.caps();
    let network = of_rule(&rules::GLA, false)?;
    let time = usize::try_from(caps.max_binding / 200).unwrap_or(usize::MAX).min(1 << 26);
    let refused = NetworkPlan::new(&network, Shape { time, batch: 2 }, &caps, &NetworkOptions { train: true, ..Default::default() });
    assert!(matches!(refused, Err(Error::Limit { .. })), "{:?}", refused.map(|p| p.bytes()));
    Ok(())
}
