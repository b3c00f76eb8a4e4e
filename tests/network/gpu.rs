//! The GPU executor on a network of every operation: against naive loops in f64, within what the same loops in f32 are off by. Rules
//! have tests of their own (tests/rules).

use crate::naive::{self, Reads, Times};
use crate::networks::{gpu, inputs, of_everything, of_rule, of_sequences, of_tokens, random, shape_of};
use std::sync::Arc;
use wgpu_rnn::network::{
    Conv, Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Op,
    Shift,
};
use wgpu_rnn::{Device, DeviceClass, Error, Result, Shape, Tensor, View, rules};
use wgpu_rnn_verify::tolerance;

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
    /// States before the first step are those that a run from empty ones ends with.
    fn new(network: Arc<Network>, times: Times) -> Result<Self> {
        let params = network.params.iter().enumerate().map(|(n, p)| random(p.len(), 5 + n as u64)).collect();
        let mut reads = Reads {
            params,
            inputs: inputs(&network, times.shape, 100),
            states: empty_states(&network, times.shape.batch),
        };
        let lengths = vec![times.shape.time; times.shape.batch];
        let before = Times { shape: times.shape, lengths, resets: Vec::new() };
        let [outputs, states] = naive::forward(&network, &before, &reads)?;
        let of = |(n, t): (usize, &Vec<f64>)| random(t.len(), 90 + n as u64);
        let up = outputs.iter().chain(&states).enumerate().map(of).collect();
        reads.states = states;
        reads.inputs = inputs(&network, times.shape, 3);
        Ok(Self { network, times, reads, up })
    }

    /// The naive loops in f64 and f32.
    fn naive(&self) -> Result<[Named; 2]> {
        let narrow: Vec<Vec<f32>> = self.up.iter().map(|u| u.iter().map(|&v| v as f32).collect()).collect();
        let truth = naive::run(&self.network, &self.times, &self.reads, &self.up)?;
        let calibration = naive::run(&self.network, &self.times, &self.reads.map(|v| v as f32), &narrow)?;
        Ok([truth, calibration])
    }

    fn gpu(&self, device: &Device, options: &NetworkOptions) -> Result<Named> {
        let (network, shape) = (&self.network, self.times.shape);
        let narrow = |lists: &[Vec<f64>]| -> Vec<Vec<f32>> {
            lists.iter().map(|l| l.iter().map(|&v| v as f32).collect()).collect()
        };
        let options = NetworkOptions { train: true, ..options.clone() };
        let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
        let mut session = NetworkSession::new(device, plan, &narrow(&self.reads.params).concat())?;
        session.poison()?;
        let (values, states, up) = (narrow(&self.reads.inputs), narrow(&self.reads.states), narrow(&self.up));
        let shapes: Vec<_> = network.inputs.iter().map(|&v| shape_of(network, v, shape)).collect();
        let state_shapes: Vec<_> = states.iter().map(|s| vec![shape.batch, s.len() / shape.batch]).collect();
        let (values, states) = (view(&values, &shapes), view(&states, &state_shapes));
        let resets = Some(&self.times.resets[..]).filter(|r| !r.is_empty());
        let initial = NetworkInitial::Given(&states);
        let out =
            session.forward(&NetworkInput { values: &values, lengths: Some(&self.times.lengths), resets, initial })?;
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
            if error.is_nan() || error > bound {
                failures.push(format!("{what}: {name}: {error:e}, over {bound:e}, of {:e}", tolerance::scale(truth)));
            }
        }
        failures
    }
}

fn view<'a>(values: &'a [Vec<f32>], shapes: &'a [Vec<usize>]) -> Vec<View<'a, f32>> {
    values.iter().zip(shapes).map(|(v, s)| View::new(v, s)).collect()
}

fn empty_states(network: &Network, batch: usize) -> Vec<Vec<f64>> {
    let of = |op: &Op| match op {
        Op::Scan(s) => Some(s.state_size()),
        Op::Conv(Conv { x, low, high: 0, .. }) => Some(low * x.width),
        Op::Shift(Shift { x }) => Some(x.width),
        Op::Layers(layers) => Some(layers.state_size()),
        _ => None,
    };
    network.nodes.iter().filter_map(|n| of(&n.op)).map(|size| vec![0.0; batch * size]).collect()
}

fn ragged(resets: bool) -> Times {
    let resets = if resets { (0..65 * 5).map(|n| [10, 36, 41, 316].contains(&n)).collect() } else { Vec::new() };
    Times { shape: Shape { time: 65, batch: 5 }, lengths: vec![63, 65, 1, 2, 64], resets }
}

#[test]
fn every_operation() -> Result<()> {
    let (device, mut failures) = (gpu(), Vec::new());
    for resets in [false, true] {
        let case = Case::new(of_everything()?, ragged(resets))?;
        let naive = case.naive()?;
        let one = case.gpu(&device, &NetworkOptions::default())?;
        failures.extend(case.failures(&format!("resets {resets}"), &one, &naive));
        assert_eq!(one, case.gpu(&device, &NetworkOptions::default())?, "two runs give the same bits");
        let of_gpus = NetworkOptions { kernels: Some(DeviceClass::Gpu), ..Default::default() };
        assert_eq!(one, case.gpu(&device, &of_gpus)?, "kernels of GPUs give the same bits");
        let unchecked = case.gpu(&Device::gpu()?, &NetworkOptions::default())?;
        assert_eq!(one, unchecked, "shaders that do not check their indices give the same bits");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn values_per_sequence() -> Result<()> {
    both_executors(Case::new(of_sequences()?, ragged(false))?)
}

#[test]
fn embeddings() -> Result<()> {
    both_executors(Case::new(of_tokens()?, ragged(true))?)
}

fn both_executors(case: Case) -> Result<()> {
    let device = gpu();
    let naive = case.naive()?;
    let one = case.gpu(&device, &NetworkOptions::default())?;
    let failures = case.failures("the GPU executor", &one, &naive);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let cpu = case.gpu(&Device::cpu(), &NetworkOptions::default())?;
    let failures = case.failures("the CPU executor", &cpu, &naive);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(one, case.gpu(&device, &NetworkOptions { guard: 3, ..Default::default() })?, "slots apart");
    Ok(())
}

#[test]
fn a_sequence_does_not_depend_on_its_neighbours() -> Result<()> {
    let (device, network) = (gpu(), of_everything()?);
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

/// wgpu's own counts of live buffers, bind groups, layouts, pipelines and shader modules.
fn alive(device: &Device) -> [isize; 5] {
    let (device, _) = device.wgpu().expect("a GPU");
    device.poll(wgpu_rnn::wgpu::PollType::wait_indefinitely()).expect("a device that answers");
    let hal = device.get_internal_counters().hal;
    [&hal.buffers, &hal.bind_groups, &hal.bind_group_layouts, &hal.compute_pipelines, &hal.shader_modules]
        .map(|c| c.read())
}

#[test]
fn runs_make_no_objects_and_equal_shapes_no_texts() -> Result<()> {
    // Of its own: no other test makes objects on it.
    let (device, network, shape) = (Device::gpu()?.checked(), of_everything()?, Shape { time: 5, batch: 2 });
    let options = NetworkOptions { train: true, ..Default::default() };
    let params: Vec<f32> = random(network.parameter_count(), 5).iter().map(|&v| v as f32).collect();
    let session =
        || NetworkSession::new(&device, NetworkPlan::new(&network, shape, &device.caps(), &options)?, &params);
    let mut first = session()?;
    let (x, dx) = (vec![0.5; 60], [vec![0.5; 160], vec![0.5; 60], vec![0.5; 50]]);
    let shapes = [vec![5, 2, 16], vec![5, 2, 6], vec![5, 2, 5]];
    let mut run = || -> Result<()> {
        let out = first.forward(&NetworkInput::new(&[View::new(&x, &shapes[1])]))?;
        assert_eq!(out.values.len(), 3);
        first.backward(&NetworkUpstream { values: &view(&dx, &shapes), states: None })?;
        Ok(())
    };
    run()?;
    let before = alive(&device);
    run()?;
    assert_eq!(alive(&device), before, "a run");
    let other = session()?;
    let pipelines = |counts: [isize; 5]| counts[3..].to_vec();
    assert_eq!(pipelines(alive(&device)), pipelines(before), "another session of the same network");
    drop(other);
    Ok(())
}

#[test]
fn an_arena_beyond_a_binding_is_refused_before_anything_runs() -> Result<()> {
    let caps = gpu().caps();
    let network = of_rule(&rules::GLA, false)?;
    let time = usize::try_from(caps.max_binding / 200).unwrap_or(usize::MAX).min(1 << 26);
    let refused = NetworkPlan::new(
        &network,
        Shape { time, batch: 2 },
        &caps,
        &NetworkOptions { train: true, ..Default::default() },
    );
    assert!(matches!(refused, Err(Error::Limit { .. })), "{:?}", refused.map(|p| p.bytes()));
    Ok(())
}
