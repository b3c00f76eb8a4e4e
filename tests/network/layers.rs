//! Stacks of recurrent layers inside a network: the bits of a session of their own, beside scans.

use crate::networks::{all, gpu, random};
use std::sync::Arc;
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::*;
use wgpu_rnn::{
    Device, Direction, Error, Head, Initial, Input, InputMode, Layout, Loss, Memory, Options, Plan, Reset, Result,
    RnnConfig, Session, Shape, Upstream, View, Weights, cells, rules,
};

fn devices() -> Result<[Device; 2]> {
    Ok([Device::cpu(), gpu()])
}

fn typed(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// x 6 wide, a mixture of layers and scans, none of which looks ahead.
fn mixed() -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let lstm = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 5, proj_size: 4, ..Default::default() };
    let y = b.layers("lstm", x, &lstm)?;
    let y = b.scan("mingru", &rules::MINGRU, [4, 1, 1], &[y.into(), x.columns(1, 4)?.into()], false)?;
    let gru = RnnConfig { cell: &cells::GRU, input_size: 4, hidden_size: 3, num_layers: 2, ..Default::default() };
    let y = b.layers("gru", y, &gru)?;
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

fn session(device: &Device, network: &Arc<Network>, shape: Shape, train: bool) -> Result<NetworkSession> {
    let options = NetworkOptions { train, ..Default::default() };
    let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
    NetworkSession::new(device, plan, &typed(&random(network.parameter_count(), 7)))
}

/// `Memory::Auto` is one budget: all stacks together fit it, and all keep everything where that does.
#[test]
fn all_stacks_share_one_budget() -> Result<()> {
    let network = mixed()?;
    let of = |memory| -> Result<u64> {
        let options = NetworkOptions { train: true, memory, ..Default::default() };
        let plan = NetworkPlan::new(&network, Shape { time: 4096, batch: 2 }, &Device::cpu().caps(), &options)?;
        assert_eq!(plan.layers.len(), 2);
        Ok(plan.layers.iter().map(|(_, plan)| plan.bytes()).sum())
    };
    let full = of(Memory::Save)?;
    assert_eq!(of(Memory::Auto(full))?, full);
    for share in [90, 70, 60] {
        let budget = full * share / 100;
        let taken = of(Memory::Auto(budget))?;
        assert!(taken <= budget, "{taken} bytes of {budget}, {full} to keep everything");
    }
    assert!(matches!(of(Memory::Auto(1000)), Err(Error::Limit { .. })));
    Ok(())
}

#[test]
fn steps_give_the_bits_of_the_whole() -> Result<()> {
    let network = mixed()?;
    let (time, batch) = (7, 3);
    let x = typed(&random(time * batch * 6, 3));
    for device in devices()? {
        let mut whole = session(&device, &network, Shape { time, batch }, false)?;
        let truth = whole.forward(&NetworkInput::new(&[View::new(&x, &[time, batch, 6])]))?;
        let mut one = session(&device, &network, Shape { time: 1, batch }, false)?;
        let (mut y, mut states) = (Vec::new(), Vec::new());
        for (t, x) in x.chunks(batch * 6).enumerate() {
            let initial = if t == 0 { NetworkInitial::Empty } else { NetworkInitial::Carry };
            let out = one.forward(&NetworkInput { initial, ..NetworkInput::new(&[View::new(x, &[1, batch, 6])]) })?;
            y.extend_from_slice(&out.values[0].data);
            states = out.states;
        }
        assert_eq!(y, truth.values[0].data, "{device}");
        assert_eq!(states, truth.states, "{device}");
    }
    Ok(())
}

/// Every cell, with and without projection, in all directions.
fn configurations() -> Vec<RnnConfig> {
    let plain = RnnConfig { input_size: 4, hidden_size: 4, num_layers: 2, ..Default::default() };
    let directions = [Direction::Bidirectional, Direction::Reverse, Direction::Forward];
    let every = cells::ALL.into_iter().zip(directions.into_iter().cycle());
    let every = every.map(|(cell, direction)| RnnConfig { cell, direction, ..plain.clone() });
    let more = [
        RnnConfig { cell: &cells::LSTM, proj_size: 3, direction: Direction::Bidirectional, ..plain.clone() },
        RnnConfig { cell: &cells::RNN_TANH, num_layers: 1, input: InputMode::Skip, ..plain.clone() },
    ];
    every.chain(more).collect()
}

/// From given states, ragged, with an episode that begins inside: outputs, states and all gradients.
#[test]
fn layers_alone_are_a_session() -> Result<()> {
    for (n, config) in configurations().into_iter().enumerate() {
        alone_and_within(&config, &Device::cpu())?;
        // Between a network and layers goes the same whatever the cell: on a GPU one of each kind of state.
        let kinds = [config.cell.name == "lstm" && config.proj_size > 0, config.cell.name == "gru"];
        if all() || n == 0 || kinds.contains(&true) {
            alone_and_within(&config, &gpu())?;
        }
    }
    Ok(())
}

fn alone_and_within(config: &RnnConfig, device: &Device) -> Result<()> {
    let what = format!("{} {:?} P={} on {}", config.cell.name, config.direction, config.proj_size, device.kind());
    let (shape, layers) = (Shape { time: 6, batch: 3 }, config.num_layers * config.directions());
    let [h_size, c_size, y_size] = [config.state_size(), config.cell_size(), config.output_size()];
    let mut b = Builder::new();
    let x = b.input("x", config.input_size)?;
    let y = b.layers("lstm", x, config)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    let weights = Weights::<f32>::random(config, 9)?;
    let params: Vec<f32> = weights.named(config).flat_map(|(_, v)| v.to_vec()).collect();
    let some = |len: usize, seed: u64| typed(&random(len, seed));
    let (x, dy) = (some(18 * config.input_size, 1), some(18 * y_size, 2));
    let [h, dh] = [3, 4].map(|seed| some(layers * 3 * h_size, seed));
    // sLSTM's n is a sum of positive gates.
    let c: Vec<f32> = some(layers * 3 * c_size, 5).iter().map(|v| v.abs() + 0.5).collect();
    let dc = some(layers * 3 * c_size, 6);
    let (lengths, resets) = ([4, 6, 1], (0..18).map(|n| [4, 6, 10].contains(&n)).collect::<Vec<bool>>());
    // [L·D, B, ·] of h and c as [B, L·D·(h's, c's)].
    let joined = |h: &[f32], c: &[f32]| -> Vec<f32> {
        let of = |v: &[f32], size: usize, b: usize| -> Vec<f32> {
            (0..layers).flat_map(|l| v[(l * 3 + b) * size..][..size].to_vec()).collect()
        };
        (0..3).flat_map(|b| [of(h, h_size, b), of(c, c_size, b)].concat()).collect()
    };
    let options = Options { train: true, resets: Some(Reset::Zero), ..Default::default() };
    let mut alone = Session::from_plan(device, Plan::new(config, shape, &device.caps(), &options)?, &weights)?;
    let (of_h, of_c, of_y) = ([layers, 3, h_size], [layers, 3, c_size], [6, 3, y_size]);
    let cell = config.cell.has_cell_state();
    let initial = Initial::Given { h0: Some(View::new(&h, &of_h)), c0: cell.then_some(View::new(&c, &of_c)) };
    let (lengths, resets) = (Some(&lengths[..]), Some(&resets[..]));
    let x_shape = [6, 3, config.input_size];
    let truth = alone.forward(&Input { lengths, resets, initial, ..Input::new(View::new(&x, &x_shape)) })?;
    let back = alone.backward(&Upstream {
        y: Some(View::new(&dy, &of_y)),
        hn: Some(View::new(&dh, &of_h)),
        cn: cell.then_some(View::new(&dc, &of_c)),
    })?;

    let options = NetworkOptions { train: true, ..Default::default() };
    let plan = NetworkPlan::new(&network, shape, &device.caps(), &options)?;
    let mut within = NetworkSession::new(device, plan, &params)?;
    within.poison()?;
    let state = [3, layers * (h_size + c_size)];
    let (states, up) = (joined(&h, &c), joined(&dh, &dc));
    let (views, values) = ([View::new(&states, &state)], [View::new(&x, &x_shape)]);
    let out =
        within.forward(&NetworkInput { values: &values, lengths, resets, initial: NetworkInitial::Given(&views) })?;
    assert_eq!(out.values[0].data, truth.y.data, "{what}");
    let cn = truth.cn.map_or_else(Vec::new, |t| t.data);
    assert_eq!(out.states[0].data, joined(&truth.hn.data, &cn), "{what}");
    let up = [View::new(&up, &state)];
    let gradients = within.backward(&NetworkUpstream { values: &[View::new(&dy, &of_y)], states: Some(&up) })?;
    assert_eq!(gradients.inputs[0].data, back.x.data, "{what}");
    let dc0 = back.c0.map_or_else(Vec::new, |t| t.data);
    assert_eq!(gradients.states[0].data, joined(&back.h0.data, &dc0), "{what}");
    let by_param: Vec<f32> = gradients.params.iter().flat_map(|t| t.data.clone()).collect();
    let truth: Vec<f32> = back.weights.named(config).flat_map(|(_, v)| v.to_vec()).collect();
    assert_eq!(by_param, truth, "{what}");
    let line = format!("layers    lstm: {}, {layers} x 4 units", config.cell.name);
    assert!(within.plan().to_string().contains(&line), "{}", within.plan());
    Ok(())
}

#[test]
fn other_parameters_reach_the_layers() -> Result<()> {
    let network = mixed()?;
    let shape = Shape { time: 4, batch: 2 };
    let (x, dy) = (typed(&random(48, 3)), typed(&random(24, 4)));
    let params = typed(&random(network.parameter_count(), 8));
    for device in devices()? {
        let run = |session: &mut NetworkSession| -> Result<_> {
            let out = session.forward(&NetworkInput::new(&[View::new(&x, &[4, 2, 6])]))?;
            let upstream = NetworkUpstream { values: &[View::new(&dy, &[4, 2, 3])], states: None };
            Ok((out, session.backward(&upstream)?))
        };
        let mut first = session(&device, &network, shape, true)?;
        let before = run(&mut first)?;
        first.set_params(&params)?;
        let after = run(&mut first)?;
        assert_ne!(before, after);
        let options = NetworkOptions { train: true, ..Default::default() };
        let plan = NetworkPlan::new(&network, shape, &device.caps(), &options)?;
        assert_eq!(after, run(&mut NetworkSession::new(&device, plan, &params)?)?, "{device}");
    }
    Ok(())
}

/// What layers keep is the user's choice there too: checkpoints give the same bits, and take less.
#[test]
fn layers_may_keep_checkpoints() -> Result<()> {
    let network = mixed()?;
    let shape = Shape { time: 130, batch: 1 };
    let params = typed(&random(network.parameter_count(), 8));
    let (x, dy) = (typed(&random(780, 3)), typed(&random(390, 4)));
    for device in devices()? {
        let run = |memory| -> Result<_> {
            let options = NetworkOptions { train: true, memory, ..Default::default() };
            let plan = NetworkPlan::new(&network, shape, &device.caps(), &options)?;
            let bytes = plan.bytes();
            let mut session = NetworkSession::new(&device, plan, &params)?;
            session.forward(&NetworkInput::new(&[View::new(&x, &[130, 1, 6])]))?;
            let upstream = NetworkUpstream { values: &[View::new(&dy, &[130, 1, 3])], states: None };
            Ok((session.backward(&upstream)?, bytes))
        };
        let (whole, kept) = (run(Memory::Save)?, run(Memory::Checkpoint(64))?);
        assert_eq!(whole.0, kept.0, "{device}");
        assert!(kept.1 < whole.1, "{device}: {} and {} bytes", kept.1, whole.1);
    }
    Ok(())
}

#[test]
fn what_networks_do_not_have_is_refused() -> Result<()> {
    let plain = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 4, ..Default::default() };
    let refused = [
        ("layout", RnnConfig { layout: Layout::BatchFirst, ..plain.clone() }),
        ("vocabulary", RnnConfig { vocabulary: Some(9), ..plain.clone() }),
        ("head", RnnConfig { head: Some(Head { size: 3, loss: Some(Loss::MeanSquared) }), ..plain.clone() }),
    ];
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    for (what, config) in &refused {
        let result = b.layers("lstm", x, config);
        assert!(
            matches!(&result, Err(Error::Unsupported { what: w, .. }) if w.starts_with(what)),
            "{what}: {result:?}"
        );
    }
    let wide = b.layers("lstm", x, &RnnConfig { input_size: 7, ..plain.clone() });
    assert_eq!(wide.unwrap_err().to_string(), "input_size of lstm: expected 6, got 7");
    let part = b.layers("x", x.columns(1, 5)?, &RnnConfig { input_size: 5, ..plain.clone() });
    assert!(part.is_err(), "a name that is taken");
    let y = b.layers("lstm", x, &plain)?;
    assert!(b.layers("lstm", x, &plain).is_err(), "a name that is taken");
    b.output("y", y)?;
    // Parameters of layers are theirs alone.
    let lent = [b.linear("tied", y, 1, None), b.map("scaled", Expr::input(0), &[b.whole(2)])];
    for refused in lent {
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("expected one that no recurrent layers have, got lstm."), "{text}");
    }
    let network = Arc::new(b.finish()?);
    assert_eq!((network.params.len(), network.nodes.len()), (4, 1), "what was refused has left nothing behind");

    let options = NetworkOptions { resets: false, ..Default::default() };
    let plan = NetworkPlan::new(&network, Shape { time: 2, batch: 1 }, &Device::cpu().caps(), &options)?;
    let mut session = NetworkSession::new(&Device::cpu(), plan, &vec![0.1; network.parameter_count()])?;
    let (x, flags) = ([0.5f32; 12], [false, true]);
    let values = [View::new(&x, &[2, 1, 6])];
    let refused = session.forward(&NetworkInput { resets: Some(&flags), ..NetworkInput::new(&values) });
    assert!(refused.unwrap_err().to_string().starts_with("resets: expected none"));
    session.forward(&NetworkInput::new(&values))?;
    Ok(())
}
