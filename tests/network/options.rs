//! Options that a network hands on to the stacks in it: the bits of a session with the same options.

use crate::networks::{all, gpu, random};
use std::collections::BTreeMap;
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::{
    ActivationFormat, Choice, Device, Empty, Error, Input, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape,
    Strategy, TileChoice, Tuning, View, Wavefront, WeightFormat, Weights, cells,
};

const SHAPE: Shape = Shape { time: 9, batch: 3 };

fn config() -> RnnConfig {
    RnnConfig { num_layers: 3, ..RnnConfig::new(&cells::LSTM, 5, 7) }
}

fn network() -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let x = b.input("x", 5)?;
    let y = b.layers("lstm", x, &config())?;
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

fn typed(count: usize, seed: u64) -> Vec<f32> {
    random(count, seed).into_iter().map(|v| v as f32).collect()
}

/// y of a network of one stack, and of a session.
fn hold(device: &Device, options: &Options) -> Result<()> {
    let network = network()?;
    let within = NetworkOptions {
        weights: options.weights,
        activations: options.activations,
        wavefront: options.wavefront,
        tuning: options.tuning.clone(),
        resets: false,
        ..Default::default()
    };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &within)?;
    let params = typed(network.parameter_count(), 7);
    let named = network.params.iter().enumerate().map(|(n, p)| {
        let data = params[network.param_offset(n)..][..p.len()].to_vec();
        (p.name.trim_start_matches("lstm.").to_string(), (p.shape.clone(), data))
    });
    let named: BTreeMap<_, _> = named.collect();
    let weights = Weights::from_named(&config(), |name| Ok(named.get(name).cloned()))?;
    let alone = Plan::new(&config(), SHAPE, &device.caps(), options)?;
    let stack = &plan.layers[0].1;
    let chosen = |plan: &Plan| (plan.tiles, plan.chunk, plan.block, plan.options.weights, plan.options.activations);
    assert_eq!(chosen(stack), chosen(&alone), "{options:?}");
    let x = typed(SHAPE.time * SHAPE.batch * 5, 3);
    let x = View::new(&x, &[SHAPE.time, SHAPE.batch, 5]);
    let truth = Session::from_plan(device, alone, &weights)?.forward(&Input::new(x))?;
    let mut session = NetworkSession::new(device, plan, &params)?;
    session.poison()?;
    let out = session.forward(&NetworkInput::new(&[x]))?;
    assert_eq!(out.values[0].data, truth.y.data, "{options:?} on {device}");
    Ok(())
}

#[test]
fn stacks_take_the_options_of_a_session() -> Result<()> {
    let plain = || Options { empty: Empty::Initial, ..Default::default() };
    for device in [Device::cpu(), gpu()] {
        let choice = Choice {
            tiles: TileChoice { tile: 2, back_units: 2, project: (2, 4), weight: (4, 2), input: 2 },
            block: Some(5),
            ratio: 0.75,
        };
        let mut tuning = Tuning::new(&device);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            tuning.set(&config(), SHAPE, &plain(), strategy, choice)?;
        }
        // One of each on a GPU: every text is compiled anew.
        let few = all() || device.kind() == "cpu";
        for weights in WeightFormat::ALL.into_iter().filter(|&w| few || w == WeightFormat::Int8) {
            hold(&device, &Options { weights, ..plain() })?;
        }
        for wavefront in [Wavefront::Off, Wavefront::Chunk(2)] {
            hold(&device, &Options { wavefront, ..plain() })?;
        }
        hold(&device, &Options { tuning: Some(Arc::new(tuning)), ..plain() })?;
    }
    hold(&Device::cpu(), &Options { activations: ActivationFormat::F16, ..plain() })
}

#[test]
fn what_formats_do_not_hold_is_refused() -> Result<()> {
    let (network, cpu, gpu) = (network()?, Device::cpu(), gpu());
    let refused =
        |device: &Device, options: &NetworkOptions| match NetworkPlan::new(&network, SHAPE, &device.caps(), options) {
            Err(error @ (Error::Unsupported { .. } | Error::Mismatch { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        };
    let halves = NetworkOptions { activations: ActivationFormat::F16, ..Default::default() };
    let text = refused(&gpu, &halves);
    assert!(text.contains("f16 activations of lstm on a GPU"), "{text}");
    let text = refused(&cpu, &NetworkOptions { train: true, ..halves });
    assert!(text.contains("training with f16 activations"), "{text}");
    let int8 = NetworkOptions { weights: WeightFormat::Int8, train: true, ..Default::default() };
    refused(&cpu, &int8);

    let mut params = typed(network.parameter_count(), 7);
    let f16 = NetworkOptions { weights: WeightFormat::F16, ..Default::default() };
    for device in [&cpu, &gpu] {
        let plan = || NetworkPlan::new(&network, SHAPE, &device.caps(), &f16);
        let fits = params.clone();
        let mut session = NetworkSession::new(device, plan()?, &fits)?;
        params[6] = 7e4;
        let expected = "lstm.weight_ih_l0[1, 1]: expected finite values of at most 65504 (f16), got 70000";
        assert_eq!(session.set_params(&params).unwrap_err().to_string(), expected);
        assert_eq!(session.params()?, fits, "nothing has changed");
        assert_eq!(NetworkSession::new(device, plan()?, &params).map(drop).unwrap_err().to_string(), expected);
        let plain = NetworkPlan::new(&network, SHAPE, &device.caps(), &NetworkOptions::default())?;
        let text = session.sibling(plain).map(drop).unwrap_err().to_string();
        assert!(text.starts_with("weights of a sibling: expected f16"), "{text}");
        session.sibling(plan()?)?;
        params[6] = 0.5;
    }
    Ok(())
}

/// With an optimiser the parameters stay as they are: stacks compute with what is rounded of them after every update.
#[test]
fn updates_are_of_what_is_not_rounded() -> Result<()> {
    let network = network()?;
    let options = NetworkOptions {
        weights: WeightFormat::Bf16,
        train: true,
        optimiser: Some(Optimiser::Sgd { momentum: 0.0 }),
        ..Default::default()
    };
    let params = typed(network.parameter_count(), 7);
    let x = typed(SHAPE.time * SHAPE.batch * 5, 3);
    let dy = typed(SHAPE.time * SHAPE.batch * 7, 4);
    let (x, dy) = ([View::new(&x, &[9, 3, 5])], [View::new(&dy, &[9, 3, 7])]);
    for device in [Device::cpu(), gpu()] {
        let plan = |options: &NetworkOptions| NetworkPlan::new(&network, SHAPE, &device.caps(), options);
        let mut session = NetworkSession::new(&device, plan(&options)?, &params)?;
        session.forward(&NetworkInput::new(&x))?;
        let g = session.backward(&NetworkUpstream { values: &dy, states: None })?;
        session.update(2e-4)?;
        let now = session.params()?;
        let gradients = g.params.iter().flat_map(|t| &t.data);
        for ((now, before), gradient) in now.iter().zip(&params).zip(gradients) {
            let truth = (f64::from(*before) - f64::from(2e-4f32) * f64::from(*gradient)) as f32;
            assert!((now - truth).abs() <= f32::EPSILON * truth.abs().max(1e-3), "{now} {truth} on {device}");
        }
        let rounded = NetworkOptions { train: false, optimiser: None, ..options.clone() };
        let mut fresh = NetworkSession::new(&device, plan(&rounded)?, &now)?;
        let truth = fresh.forward(&NetworkInput::new(&x))?;
        assert_eq!(session.forward(&NetworkInput::new(&x))?, truth, "{device}");
    }
    Ok(())
}
