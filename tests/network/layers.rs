//! Stacks of recurrent layers inside a network: the bits of a session of their own, beside scans.

use crate::networks::random;
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::{
    Device, Direction, Dropout, Error, Head, Initial, Input, Layout, Loss, Options, Plan, Reset, Result, RnnConfig,
    Session, Shape, Upstream, View, Weights, Zoneout, cells, rules,
};

fn devices() -> Result<[Device; 2]> {
    Ok([Device::cpu(), Device::gpu()?])
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

/// From given states, ragged, with an episode that begins inside: outputs, states and all gradients.
#[test]
fn layers_alone_are_a_session() -> Result<()> {
    let config = RnnConfig {
        cell: &cells::LSTM,
        input_size: 5,
        hidden_size: 4,
        num_layers: 2,
        direction: Direction::Bidirectional,
        ..Default::default()
    };
    let (shape, layers) = (Shape { time: 6, batch: 3 }, 4);
    let mut b = Builder::new();
    let x = b.input("x", 5)?;
    let y = b.layers("lstm", x, &config)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    let weights = Weights::<f32>::random(&config, 9)?;
    let params: Vec<f32> = weights.named(&config).flat_map(|(_, v)| v.to_vec()).collect();
    let [x, h, c] = [6 * 3 * 5, layers * 3 * 4, layers * 3 * 4].map(|len| typed(&random(len, len as u64)));
    let [dy, dh, dc] = [6 * 3 * 8, layers * 3 * 4, layers * 3 * 4].map(|len| typed(&random(len, 3 + len as u64)));
    let lengths = [4, 6, 1];
    let resets: Vec<bool> = (0..18).map(|n| [4, 6, 10].contains(&n)).collect();
    // [L·D, B, 4] of h and c as [B, L·D·4 of h, of c], and back.
    let joined = |h: &[f32], c: &[f32]| -> Vec<f32> {
        let of = |v: &[f32], b: usize| v.chunks(4).skip(b).step_by(3).flatten().copied().collect::<Vec<f32>>();
        (0..3).flat_map(|b| [of(h, b), of(c, b)].concat()).collect()
    };
    for device in devices()? {
        let options = Options { train: true, resets: Some(Reset::Zero), ..Default::default() };
        let plan = Plan::new(&config, shape, &device.caps(), &options)?;
        let mut alone = Session::from_plan(&device, plan, &weights)?;
        let state = [layers, 3, 4];
        let initial = Initial::Given { h0: Some(View::new(&h, &state)), c0: Some(View::new(&c, &state)) };
        let (lengths, resets) = (Some(&lengths[..]), Some(&resets[..]));
        let input = Input { lengths, resets, initial, ..Input::new(View::new(&x, &[6, 3, 5])) };
        let truth = alone.forward(&input)?;
        let back = alone.backward(&Upstream {
            y: Some(View::new(&dy, &[6, 3, 8])),
            hn: Some(View::new(&dh, &state)),
            cn: Some(View::new(&dc, &state)),
        })?;

        let plan =
            NetworkPlan::new(&network, shape, &device.caps(), &NetworkOptions { train: true, ..Default::default() })?;
        let mut within = NetworkSession::new(&device, plan, &params)?;
        let (states, up) = (joined(&h, &c), joined(&dh, &dc));
        let (views, values) = ([View::new(&states, &[3, 32])], [View::new(&x, &[6, 3, 5])]);
        let out = within.forward(&NetworkInput {
            values: &values,
            lengths,
            resets,
            initial: NetworkInitial::Given(&views),
        })?;
        assert_eq!(out.values[0].data, truth.y.data, "{device}");
        let last = joined(&truth.hn.data, &truth.cn.unwrap().data);
        assert_eq!(out.states[0].data, last, "{device}");
        let upstream =
            NetworkUpstream { values: &[View::new(&dy, &[6, 3, 8])], states: Some(&[View::new(&up, &[3, 32])]) };
        let gradients = within.backward(&upstream)?;
        assert_eq!(gradients.inputs[0].data, back.x.data, "{device}");
        assert_eq!(gradients.states[0].data, joined(&back.h0.data, &back.c0.unwrap().data), "{device}");
        let by_param: Vec<f32> = gradients.params.iter().flat_map(|t| t.data.clone()).collect();
        let truth: Vec<f32> = back.weights.named(&config).flat_map(|(_, v)| v.to_vec()).collect();
        assert_eq!(by_param, truth, "{device}");
        assert!(within.plan().to_string().contains("layers    lstm: lstm, 4 x 4 units"), "{}", within.plan());
    }
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

#[test]
fn what_networks_do_not_have_is_refused() -> Result<()> {
    let plain = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 4, ..Default::default() };
    let refused = [
        ("layout", RnnConfig { layout: Layout::BatchFirst, ..plain.clone() }),
        ("vocabulary", RnnConfig { vocabulary: Some(9), ..plain.clone() }),
        ("head", RnnConfig { head: Some(Head { size: 3, loss: Loss::MeanSquared }), ..plain.clone() }),
        ("dropout", RnnConfig { dropout: Dropout { input: 0.5, ..Default::default() }, ..plain.clone() }),
        ("zoneout", RnnConfig { zoneout: Zoneout { hidden: 0.5, cell: 0.0 }, ..plain.clone() }),
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
    b.layers("lstm", x, &plain)?;
    assert!(b.layers("lstm", x, &plain).is_err(), "a name that is taken");
    Ok(())
}
