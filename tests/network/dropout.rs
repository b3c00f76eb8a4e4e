//! Dropout and zoneout of stacks in a network: the masks, hence the bits, of a session; of several stacks each its own.

use crate::host::{buffer, read};
use crate::networks::{gpu, random};
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::num::random::Masks;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

const SHAPE: Shape = Shape { time: 6, batch: 3 };
const LENGTHS: [usize; 3] = [4, 6, 1];
const DROPOUT: Dropout = Dropout { layers: 0.3, input: 0.25, recurrent: 0.4 };

fn typed<T: Element>(count: usize, seed: u64) -> Vec<T> {
    random(count, seed).into_iter().map(T::from_f64).collect()
}

fn precision<T: Element>() -> Precision {
    if T::NAME == "f64" { Precision::F64 } else { Precision::F32 }
}

fn bits<T: Element>(what: &str, got: &[T], truth: &[T]) {
    assert_eq!(got.len(), truth.len(), "{what}");
    let differ = got.iter().zip(truth).position(|(a, b)| a.to_f64().to_bits() != b.to_f64().to_bits());
    assert_eq!(differ, None, "{what}: {got:?} {truth:?}");
}

/// Runs there and back and updates, several times, one of them without dropout.
fn trains_alike<T: Element>(device: &Device, config: &RnnConfig, steps: usize) -> Result<()> {
    let what = format!("{} {:?} on {}", config.cell.name, config.dropout, device.kind());
    let optimiser = Some(Optimiser::adam());
    let options = Options { train: true, optimiser, precision: precision::<T>(), ..Default::default() };
    let weights = Weights::<T>::random(config, 3)?;
    let mut alone = Session::from_plan(device, Plan::new(config, SHAPE, &device.caps(), &options)?, &weights)?;
    let network = Arc::new(Network::of_config(config)?);
    let options = NetworkOptions { train: true, optimiser, precision: precision::<T>(), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options)?;
    let mut within = NetworkSession::<T>::new(device, plan, &weights.flat::<T>(config))?;
    within.poison()?;
    alone.set_seed(77);
    within.set_seed(77);
    let (x_shape, y_shape) = ([6, 3, config.input_size], [6, 3, config.output_size()]);
    let mut all: Vec<Vec<T>> = Vec::new();
    for step in 0..steps {
        let on = step != 1;
        alone.set_dropout(on);
        within.set_dropout(on);
        // The same x every time: what differs are masks.
        let (x, dy) = (typed::<T>(18 * config.input_size, 5), typed::<T>(18 * config.output_size(), 6));
        let (x, dy) = (View::new(&x, &x_shape), View::new(&dy, &y_shape));
        let truth = alone.forward(&Input { lengths: Some(&LENGTHS), ..Input::new(x) })?;
        let out = within.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&[x]) })?;
        bits(&format!("{what}: y of step {step}"), &out.values[0].data, &truth.y.data);
        let back = alone.backward(&Upstream { y: Some(dy), hn: None, cn: None })?;
        let gradients = within.backward(&NetworkUpstream { values: &[dy], states: None })?;
        // A network adds to zeros: what is dropped has 0 there, where the session has −0.
        assert_eq!(gradients.inputs[0].data, back.x.data, "{what}: dx of step {step}");
        let flat: Vec<T> = gradients.params.iter().flat_map(|t| t.data.clone()).collect();
        bits(&format!("{what}: gradients of step {step}"), &flat, &back.weights.flat::<T>(config));
        alone.update(0.0)?;
        within.update(0.0)?;
        all.push(out.values[0].data.clone());
    }
    assert!((1..steps).all(|step| all[step] != all[0]), "{what}: another run, other masks");
    for _ in 0..2 {
        let x = typed::<T>(18 * config.input_size, 5);
        let (x, dy) = (View::new(&x, &x_shape), typed::<T>(18 * config.output_size(), 8));
        alone.forward(&Input::new(x))?;
        within.forward(&NetworkInput::new(&[x]))?;
        alone.backward(&Upstream { y: Some(View::new(&dy, &y_shape)), hn: None, cn: None })?;
        within.backward(&NetworkUpstream { values: &[View::new(&dy, &y_shape)], states: None })?;
        alone.update(0.01)?;
        within.update(0.01)?;
    }
    bits(&format!("{what}: trained parameters"), &within.params()?, &alone.weights()?.flat::<T>(config));
    Ok(())
}

#[test]
fn a_lowered_configuration_trains_with_the_same_bits() -> Result<()> {
    let two = RnnConfig { num_layers: 2, ..RnnConfig::lstm(6, 9) };
    let both = RnnConfig { direction: Direction::Bidirectional, dropout: DROPOUT, ..two.clone() };
    let zones = RnnConfig { zoneout: Zoneout { hidden: 0.3, cell: 0.0 }, ..RnnConfig::gru(5, 4) };
    let dropout = Dropout { input: 0.25, ..Default::default() };
    let all = RnnConfig { dropout, zoneout: Zoneout { hidden: 0.2, cell: 0.4 }, ..two };
    for config in [&both, &zones, &all] {
        trains_alike::<f32>(&Device::cpu(), config, 4)?;
        trains_alike::<f64>(&Device::cpu(), config, 4)?;
    }
    trains_alike::<f32>(&gpu(), &all, 3)
}

/// A plan that does not train drops nothing, and units keep what they keep on average.
#[test]
fn inference_draws_nothing() -> Result<()> {
    let config = RnnConfig { dropout: DROPOUT, zoneout: Zoneout { hidden: 0.2, cell: 0.4 }, ..RnnConfig::lstm(6, 9) };
    let weights = Weights::<f32>::random(&config, 3)?;
    let network = Arc::new(Network::of_config(&config)?);
    let device = Device::cpu();
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &NetworkOptions::default())?;
    let mut within = NetworkSession::new(&device, plan, &weights.flat::<f32>(&config))?;
    let x = typed::<f32>(18 * 6, 5);
    let x = View::new(&x, &[6, 3, 6]);
    let truth = Session::new(&device, &config, SHAPE, &weights)?.forward(&Input::new(x))?;
    for _ in 0..2 {
        bits("y", &within.forward(&NetworkInput::new(&[x]))?.values[0].data, &truth.y.data);
    }
    Ok(())
}

/// Two equal stacks that drop, one that does not between them, all over the same x.
fn three(dropout: Dropout) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let drops = RnnConfig { num_layers: 2, dropout, ..RnnConfig::gru(6, 5) };
    for (name, config) in [("first", &drops), ("plain", &RnnConfig::gru(6, 5)), ("last", &drops)] {
        let y = b.layers(name, x, config)?;
        b.output(name, y)?;
    }
    Ok(Arc::new(b.finish()?))
}

fn session<T: Element>(device: &Device, dropout: Dropout, memory: Memory) -> Result<NetworkSession<T>> {
    let network = three(dropout)?;
    let options = NetworkOptions { train: true, memory, precision: precision::<T>(), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options)?;
    // The first and the last have the same parameters.
    let count = network.param_offset(network.param("plain.weight_ih_l0").expect("a parameter"));
    let mut params = typed::<T>(network.parameter_count(), 4);
    let at = params.len() - count;
    params.copy_within(..count, at);
    NetworkSession::new(device, plan, &params)
}

/// A run there and back: outputs, gradients of x and of parameters.
fn run<T: Element>(session: &mut NetworkSession<T>) -> Result<Vec<Vec<T>>> {
    let (x, dy) = (typed::<T>(18 * 6, 5), typed::<T>(18 * 5, 6));
    let views = [View::new(&x, &[6, 3, 6])];
    let out = session.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) })?;
    let up = [View::new(&dy, &[6, 3, 5]); 3];
    let back = session.backward(&NetworkUpstream { values: &up, states: None })?;
    let params = back.params.into_iter().flat_map(|t| t.data).collect();
    Ok(out.values.into_iter().chain(back.inputs).map(|t| t.data).chain([params]).collect())
}

#[test]
fn stacks_have_masks_of_their_own() -> Result<()> {
    let device = Device::cpu();
    let mut all = session::<f32>(&device, DROPOUT, Memory::Save)?;
    all.set_seed(5);
    let runs = [run(&mut all)?, run(&mut all)?];
    assert_ne!(runs[0][0], runs[0][2], "two stacks, two masks");
    assert_ne!(runs[0], runs[1], "two runs, two masks");
    assert_eq!(runs[0][1], runs[1][1], "no masks");
    all.set_seed(5);
    assert_eq!([run(&mut all)?, run(&mut all)?], runs, "a seed gives the same again");
    all.set_seed(6);
    assert_ne!(run(&mut all)?, runs[0], "another seed");
    // Off is none, and does not count.
    all.set_seed(5);
    all.set_dropout(false);
    let none = run(&mut session::<f32>(&device, Dropout::default(), Memory::Save)?)?;
    assert_eq!(run(&mut all)?, none);
    assert_eq!(none[0], none[2]);
    all.set_dropout(true);
    assert_eq!(run(&mut all)?, runs[0]);
    // A sibling has the seed, from run 0, and is turned off with it.
    let mut sibling = all.sibling(all.plan().clone())?;
    assert_eq!([run(&mut sibling)?, run(&mut sibling)?], runs);
    all.set_dropout(false);
    assert_eq!(run(&mut all.sibling(all.plan().clone())?)?, none);
    // What is made again on the way back is dropped again.
    let mut kept = session::<f32>(&device, DROPOUT, Memory::Checkpoint(2))?;
    kept.set_seed(5);
    assert_eq!(run(&mut kept)?, runs[0]);

    let mut wide = session::<f64>(&device, DROPOUT, Memory::Save)?;
    let mut on_gpu = session::<f32>(&gpu(), DROPOUT, Memory::Save)?;
    on_gpu.poison()?;
    wide.set_seed(5);
    on_gpu.set_seed(5);
    for (n, calibration) in runs.iter().enumerate() {
        let of = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        for ((got, truth), narrow) in run(&mut on_gpu)?.iter().zip(run(&mut wide)?).zip(calibration) {
            let (got, narrow) = (of(got), of(narrow));
            let bound = tolerance::bound_f32(tolerance::scale(&truth), tolerance::error(&narrow, &truth));
            let error = tolerance::error(&got, &truth);
            assert!(error <= bound, "run {n} on a GPU: off by {error:e}, over {bound:e}");
        }
    }
    Ok(())
}

/// Runs that are traced, measured, or encoded for the host draw and count as others do.
#[test]
fn every_kind_of_run_draws() -> Result<()> {
    let x = typed::<f32>(18 * 6, 5);
    let views = [View::new(&x, &[6, 3, 6])];
    let input = NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) };
    for device in [Device::cpu(), gpu()] {
        let mut session = session::<f32>(&device, DROPOUT, Memory::Save)?;
        let mut plain = || -> Result<Vec<f32>> { Ok(session.forward(&input)?.values.remove(0).data) };
        let [first, second, third] = [plain()?, plain()?, plain()?];
        session.set_seed(0);
        let y = session.trace(&input)?.into_iter().find(|s| s.dispatch == "first").expect("the first stack");
        assert_eq!(y.values, first, "{device}");
        session.profile()?;
        assert_eq!(session.output()?.values[0].data, second, "{device}");
        let Some((wgpu_device, queue)) = device.wgpu() else { continue };
        session.set_seed(0);
        session.write(&input)?;
        let y = buffer(&device, &vec![f32::NAN; 18 * 5], wgpu::BufferUsages::STORAGE);
        let binding = session.bind(&NetworkBuffers { inputs: &[], outputs: &[Some(&y), None, None] })?;
        for truth in [first, second, third] {
            let mut encoder = wgpu_device.create_command_encoder(&Default::default());
            session.encode(&mut encoder, &binding)?;
            queue.submit([encoder.finish()]);
            assert_eq!(read(&device, &y), truth, "{device}");
        }
    }
    Ok(())
}

#[test]
fn the_first_stack_has_the_masks_of_a_session() {
    let drops = |masks: Masks| -> Vec<bool> {
        (0..64).map(|f| masks.drops(0.5, num::random::MaskKind::Input, 0, f / 8, 0, f)).collect()
    };
    for run in [0, 1, 1 << 40] {
        let first = drops(Masks::new(9, run));
        assert_eq!(drops(Masks::of_stack(9, run, 0)), first);
        assert!((1..4).all(|stack| drops(Masks::of_stack(9, run, stack)) != first));
    }
    assert_ne!(drops(Masks::of_stack(9, 0, 1)), drops(Masks::of_stack(9, 1, 0)));
}
