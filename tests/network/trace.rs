//! Operation by operation: the first place where two executors differ, where the time goes, and passes cut into submits.

use crate::networks::{gpu, inputs, of_everything, random, shape_of};
use std::sync::Arc;
use std::time::Duration;
use wgpu_rnn::network::*;
use wgpu_rnn::{
    Device, DeviceClass, Direction, Element, Precision, Result, RnnConfig, Shape, Snapshot, Tensor, View, rules,
};
use wgpu_rnn_verify::tolerance;

fn typed<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

/// Two stacks between operations of the network's own, one of them both ways.
fn with_stacks() -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let lstm = RnnConfig { direction: Direction::Bidirectional, ..RnnConfig::lstm(6, 5) };
    let y = b.layers("lstm", x, &lstm)?;
    let y = b.scan("mingru", &rules::MINGRU, [4, 1, 1], &[y.columns(0, 4)?.into(), x.columns(1, 4)?.into()], false)?;
    let y = b.layers("gru", y, &RnnConfig::gru(4, 3))?;
    let pooled = b.pool("mean", y, Pooling::Mean)?;
    b.output("y", y)?;
    b.output("mean", pooled)?;
    Ok(Arc::new(b.finish()?))
}

const SHAPE: Shape = Shape { time: 5, batch: 3 };
const LENGTHS: [usize; 3] = [3, 5, 0];

struct Bound<T: Element> {
    session: NetworkSession<T>,
    values: Vec<Tensor<T>>,
    up: Vec<Tensor<T>>,
}

impl<T: Element> Bound<T> {
    fn new(network: &Arc<Network>, device: &Device, options: &NetworkOptions) -> Result<Self> {
        let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
        let options = NetworkOptions { train: true, precision, ..options.clone() };
        let plan = NetworkPlan::new(network, SHAPE, &device.caps(), &options)?;
        let mut session = NetworkSession::new(device, plan, &typed(&random(network.parameter_count(), 5)))?;
        session.poison()?;
        let given = network.inputs.iter().zip(inputs(network, SHAPE, 3));
        let values =
            given.map(|(&v, data)| Tensor { data: typed(&data), shape: shape_of(network, v, SHAPE) }).collect();
        let shown = network.outputs.iter().enumerate();
        let up = shown.map(|(n, (_, part))| {
            let mut shape = shape_of(network, part.value, SHAPE);
            *shape.last_mut().expect("a width") = part.width;
            Tensor { data: typed(&random(shape.iter().product(), 40 + n as u64)), shape }
        });
        let up = up.collect();
        Ok(Self { session, values, up })
    }

    fn trace(&mut self) -> Result<[Vec<Snapshot<T>>; 2]> {
        let Self { session, values, up } = self;
        let values: Vec<View<'_, T>> = values.iter().map(Tensor::view).collect();
        let up: Vec<View<'_, T>> = up.iter().map(Tensor::view).collect();
        let there = session.trace(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&values) })?;
        let back = session.trace_backward(&NetworkUpstream { values: &up, states: None })?;
        Ok([there, back])
    }

    fn run(&mut self) -> Result<(NetworkOutput<T>, NetworkGradients<T>)> {
        let Self { session, values, up } = self;
        let values: Vec<View<'_, T>> = values.iter().map(Tensor::view).collect();
        let up: Vec<View<'_, T>> = up.iter().map(Tensor::view).collect();
        let out = session.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&values) })?;
        Ok((out, session.backward(&NetworkUpstream { values: &up, states: None })?))
    }
}

/// Every operation on a GPU gives what the CPU executor gives in f64, within what it is off by in f32.
#[test]
fn executors_agree_operation_by_operation() -> Result<()> {
    for network in [of_everything()?, with_stacks()?] {
        let options = NetworkOptions { parallel: Some(Parallel::Recurrent), ..Default::default() };
        let truth = Bound::<f64>::new(&network, &Device::cpu(), &options)?.trace()?.concat();
        let single = Bound::<f32>::new(&network, &Device::cpu(), &options)?.trace()?.concat();
        let on_gpu = Bound::<f32>::new(&network, &gpu(), &options)?.trace()?.concat();
        assert!(truth.len() > 2 * network.nodes.len(), "a value and a gradient of each, and states");
        assert_eq!((truth.len(), truth.len()), (single.len(), on_gpu.len()));
        for ((truth, single), got) in truth.iter().zip(&single).zip(&on_gpu) {
            let place = format!("{}: {}", truth.dispatch, truth.slot);
            assert_eq!(place, format!("{}: {}", got.dispatch, got.slot));
            let wide = |s: &Snapshot<f32>| -> Vec<f64> { s.values.iter().map(|&v| f64::from(v)).collect() };
            let bound =
                tolerance::bound_f32(tolerance::scale(&truth.values), tolerance::error(&wide(single), &truth.values));
            let error = tolerance::error(&wide(got), &truth.values);
            assert!(error <= bound, "{place}: off by {error:e}, bound {bound:e}");
        }
    }
    Ok(())
}

/// What is left behind is what a run leaves.
#[test]
fn a_trace_is_a_run() -> Result<()> {
    let network = with_stacks()?;
    let mut bound = Bound::<f64>::new(&network, &Device::cpu(), &NetworkOptions::default())?;
    let (out, gradients) = bound.run()?;
    let [there, back] = bound.trace()?;
    assert_eq!(bound.session.output()?, out);
    assert_eq!(bound.session.gradients()?, gradients);
    let named = |list: &[Snapshot<f64>], slot: &str| list.iter().find(|s| s.slot == slot).map(|s| s.values.clone());
    assert_eq!(named(&there, "gru"), Some(out.values[0].data.clone()));
    assert_eq!(named(&there, "mean"), Some(out.values[1].data.clone()));
    // The last sequence has no steps: what is given for it counts for nothing.
    let mut up = bound.up[1].data.clone();
    up[6..].fill(0.0);
    assert_eq!(named(&back, "d.mean"), Some(up));
    assert_eq!(named(&back, "d.x"), Some(gradients.inputs[0].data.clone()));
    Ok(())
}

/// Every operation once, with its products.
#[test]
fn a_profile_names_every_operation() -> Result<()> {
    let network = with_stacks()?;
    let mut bound = Bound::<f32>::new(&network, &Device::cpu(), &NetworkOptions::default())?;
    let (out, gradients) = bound.run()?;
    let session = &mut bound.session;
    let views: Vec<View<'_, f32>> = bound.values.iter().map(Tensor::view).collect();
    session.write(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) })?;
    let there = session.profile()?;
    assert_eq!(session.output()?, out);
    let up: Vec<View<'_, f32>> = bound.up.iter().map(Tensor::view).collect();
    session.write_upstream(&NetworkUpstream { values: &up, states: None })?;
    let back = session.profile_backward()?;
    assert_eq!(session.gradients()?, gradients);
    let mut names: Vec<&str> = network.nodes.iter().map(|n| n.name.as_str()).collect();
    names.sort_unstable();
    for (times, factor) in [(&there, 1), (&back, 2)] {
        let mut found: Vec<&str> = times.iter().map(|t| t.operation.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, names);
        assert!(times.is_sorted_by(|a, b| a.time >= b.time));
        assert_eq!(times.iter().map(|t| t.flops).sum::<u64>(), factor * session.plan().flops());
    }
    Ok(())
}

/// Stacks run in the submits of the network they are in. A smaller budget makes more submits, and changes no bit.
#[test]
fn a_pass_is_one_submit_unless_the_budget_is_smaller() -> Result<()> {
    let (network, device) = (with_stacks()?, gpu());
    let mut whole = Bound::<f32>::new(&network, &device, &NetworkOptions::default())?;
    assert_eq!([false, true].map(|back| whole.session.plan().submit_count(back)), [1, 1]);
    let truth = whole.run()?;
    let before = whole.session.submits();
    whole.session.run()?;
    assert_eq!(whole.session.submits() - before, 1);
    let submit_budget = Duration::from_micros(150);
    let mut cut = Bound::<f32>::new(&network, &device, &NetworkOptions { submit_budget, ..Default::default() })?;
    let submits = [false, true].map(|back| cut.session.plan().submit_count(back));
    assert!(submits[0] > 2 && submits[1] > 4, "{submits:?}");
    assert_eq!(cut.run()?, truth);
    let before = cut.session.submits();
    cut.session.run()?;
    assert_eq!(cut.session.submits() - before, submits[0] as u64);
    Ok(())
}

/// What a real GPU would be given at once, of a long batch: more submits the longer it is, none where there is no watchdog.
#[test]
fn long_passes_are_cut() -> Result<()> {
    let network = with_stacks()?;
    let submits = |class: DeviceClass, time: usize| -> Result<usize> {
        let mut caps = wgpu_rnn::Caps::webgpu();
        (caps.class, caps.max_binding, caps.max_buffer) = (class, 1 << 40, 1 << 40);
        let options = NetworkOptions { submit_budget: Duration::from_millis(20), ..Default::default() };
        Ok(NetworkPlan::new(&network, Shape { time, batch: 8 }, &caps, &options)?.submit_count(false))
    };
    let few = submits(DeviceClass::Gpu, 100)?;
    let many = submits(DeviceClass::Gpu, 20_000)?;
    assert!(few >= 1 && many > 4 * few, "{few} and {many} submits");
    assert_eq!(submits(DeviceClass::Cpu, 20_000)?, 0);
    Ok(())
}
