//! The face: batches of any size and length, with the bits of a session of exactly that shape.

mod harness;

use harness::*;
use wgpu_rnn::*;

fn bits_of(out: &Output<f32>) -> [Vec<u32>; 4] {
    let of = |t: Option<&Tensor<f32>>| t.map_or(Vec::new(), |t| bits(&t.data));
    [of(Some(&out.y)), of(Some(&out.hn)), of(out.cn.as_ref()), of(out.predictions.as_ref())]
}

fn shapes_of(out: &Output<f32>) -> [Option<Vec<usize>>; 4] {
    let of = |t: Option<&Tensor<f32>>| t.map(|t| t.shape.clone());
    [of(Some(&out.y)), of(Some(&out.hn)), of(out.cn.as_ref()), of(out.predictions.as_ref())]
}

/// A batch of a case through the face, and in a session of its own.
fn hold(what: &str, rnn: &mut Rnn, case: &Case, device: &Device, options: &Options) {
    let (x, [h, c]) = (case.x_shape(), case.state_shapes());
    let cell = case.config.cell.has_cell_state();
    let given = Initial::Given { h0: Some(View::new(&case.h0, &h)), c0: cell.then(|| View::new(&case.c0, &c)) };
    for (lengths, initial) in [(None, Initial::Zero), (case.lengths.as_deref(), given)] {
        let x = View::new(&case.x, &x);
        let got = rnn.forward(x, lengths, initial).unwrap();
        let plan = Plan::new(&case.config, case.shape, &device.caps(), options).unwrap();
        let mut exact = Session::from_plan(device, plan, &case.weights).unwrap();
        let expected = exact.forward(&Input { lengths, initial, ..Input::new(x) }).unwrap();
        assert_eq!(shapes_of(&got), shapes_of(&expected), "{what}");
        assert_eq!(bits_of(&got), bits_of(&expected), "{what}");
    }
}

fn config(cell: &'static Cell) -> RnnConfig {
    let head = Some(Head { size: 2, loss: Some(Loss::MeanSquared) });
    RnnConfig { num_layers: 2, direction: Direction::Bidirectional, head, ..RnnConfig::new(cell, 3, 6) }
}

const BATCHES: [(usize, usize); 8] = [(5, 3), (4, 4), (1, 1), (7, 2), (5, 3), (3, 5), (66, 1), (2, 9)];

#[test]
fn batches_have_the_bits_of_their_own_shape() {
    for (cell, _) in cells_and_projections(0) {
        for layout in [Layout::TimeMajor, Layout::BatchFirst] {
            for empty in [Empty::Zero, Empty::Initial] {
                let config = RnnConfig { layout, ..config(cell) };
                let weights = Weights::random(&config, 1).unwrap();
                let plan = Options { empty, ..Default::default() };
                let options = RnnOptions { plan: plan.clone(), ..Default::default() };
                let mut rnn = Rnn::with_options(&Device::cpu(), &config, &weights, &options).unwrap();
                for (time, batch) in BATCHES {
                    let mut case = Case { weights: weights.clone(), ..Case::new(config.clone(), time, batch, 3) };
                    case.lengths = Some((0..batch).map(|b| (b * 3 + time - 1) % (time + 1)).collect());
                    let what = format!("{} {layout:?} T={time} B={batch}", cell.name);
                    hold(&what, &mut rnn, &case, &Device::cpu(), &plan);
                }
            }
        }
    }
}

#[test]
fn a_gpu_compiles_nothing_for_another_batch() {
    let device = gpu();
    let config = RnnConfig { head: None, ..config(&cells::LSTM) };
    let config = RnnConfig { hidden_size: 24, ..config };
    let weights = Weights::random(&config, 1).unwrap();
    for strategy in [Strategy::Sequence, Strategy::Step] {
        let options = RnnOptions { plan: forced(strategy), ..Default::default() };
        let mut rnn = Rnn::with_options(&device, &config, &weights, &options).unwrap();
        assert!(rnn.made().unwrap().compiled > 0);
        for (batch, fresh) in [(4, true), (2, true), (3, false), (5, true), (1, true), (4, false)] {
            for time in [6, 33] {
                let x = values(batch as u64, time * batch * 3, 1.0);
                rnn.forward(View::new(&x, &[time, batch, 3]), None, Initial::Zero).unwrap();
                let made = rnn.made();
                assert_eq!(made.is_some(), fresh, "{strategy} T={time} B={batch}");
                assert_eq!(made.map_or(0, |startup| startup.compiled), 0, "{strategy} T={time} B={batch}");
            }
        }
    }
    // The same bits whatever tiles the exact shapes have.
    let mut rnn = Rnn::new(&device, &config, &weights).unwrap();
    for (time, batch) in [(5, 3), (3, 9)] {
        let mut case = Case { weights: weights.clone(), ..Case::new(config.clone(), time, batch, 4) };
        case.lengths = Some((0..batch).map(|b| b % (time + 1)).collect());
        hold(&format!("T={time} B={batch}"), &mut rnn, &case, &device, &Options::default());
    }
}

#[test]
fn sessions_are_bounded_and_the_oldest_goes_first() {
    let config = RnnConfig::gru(3, 5);
    let weights = Weights::<f32>::random(&config, 2).unwrap();
    let with = |sessions, bytes| {
        let options = RnnOptions { sessions, bytes, ..Default::default() };
        Rnn::with_options(&Device::cpu(), &config, &weights, &options).unwrap()
    };
    let run = |rnn: &mut Rnn, time: usize, batch: usize| {
        let x = vec![0.5; time * batch * 3];
        rnn.forward(View::new(&x, &[time, batch, 3]), None, Initial::Zero).unwrap();
        rnn.made().is_some()
    };
    let mut rnn = with(2, u64::MAX);
    assert_eq!((rnn.sessions(), rnn.bytes()), (0, 0));
    // The nominal shape's own session stays.
    assert!(!run(&mut rnn, 20, 3) && rnn.sessions() == 0);
    assert!(run(&mut rnn, 2, 2) && run(&mut rnn, 4, 2) && rnn.sessions() == 2);
    let two = rnn.bytes();
    assert!(!run(&mut rnn, 2, 2) && !run(&mut rnn, 3, 2));
    // Of (2, 2) and (4, 2) the first was used longer ago.
    assert!(run(&mut rnn, 8, 2) && rnn.sessions() == 2);
    assert!(!run(&mut rnn, 4, 2) && run(&mut rnn, 2, 2) && rnn.sessions() == 2);
    // By bytes; one alone may take more.
    let mut rnn = with(16, two);
    assert!(run(&mut rnn, 2, 2) && run(&mut rnn, 4, 2) && rnn.sessions() == 2);
    assert!(run(&mut rnn, 64, 64) && rnn.sessions() == 1 && rnn.bytes() > two);
    assert!(run(&mut rnn, 2, 2) && rnn.sessions() == 1 && rnn.bytes() < two);
}

/// A batch of nothing gives nothing; a batch of no steps has the states of sequences of length 0.
#[test]
fn no_sequences_and_no_steps_give_empty_results() {
    let weights = Weights::random(&config(&cells::LSTM), 1).unwrap();
    for empty in [Empty::Zero, Empty::Initial] {
        let options = RnnOptions { plan: Options { empty, ..Default::default() }, ..Default::default() };
        let mut rnn = Rnn::with_options(&Device::cpu(), &config(&cells::LSTM), &weights, &options).unwrap();
        for (time, batch) in [(0, 3), (4, 0), (0, 0)] {
            let h = values(1, 4 * batch * 6, 1.0);
            let states = [4, batch, 6];
            let initial = Initial::Given { h0: Some(View::new(&h, &states)), c0: None };
            let none = View::new(&[], &[0, 0, 0]);
            let x = View { shape: &[time, batch, 3], ..none };
            let lengths = vec![0; batch];
            let out = rnn.forward(x, Some(&lengths), initial).unwrap();
            assert_eq!(out.y, Tensor { data: vec![], shape: vec![time, batch, 12] });
            assert_eq!(out.predictions, Some(Tensor { data: vec![], shape: vec![time, batch, 2] }));
            let kept = if empty == Empty::Initial { h.clone() } else { vec![0.0; h.len()] };
            assert_eq!(out.hn, Tensor { data: kept, shape: states.to_vec() });
            assert_eq!(out.cn, Some(Tensor { data: vec![0.0; h.len()], shape: states.to_vec() }));
            assert!(rnn.made().is_none() && rnn.sessions() == 0);
        }
        // All sequences of length 0 run, and give the same.
        let (h, x) = (values(1, 4 * 3 * 6, 1.0), [0.5; 2 * 3 * 3]);
        let initial = Initial::hidden(View::new(&h, &[4, 3, 6]));
        let out = rnn.forward(View::new(&x, &[2, 3, 3]), Some(&[0; 3]), initial).unwrap();
        assert_eq!(out.hn.data, if empty == Empty::Initial { h } else { vec![0.0; 4 * 3 * 6] });
    }
}

#[test]
fn ids_single_sequences_and_other_weights() {
    let config = RnnConfig { vocabulary: Some(9), ..config(&cells::GRU) };
    let weights = Weights::<f32>::random(&config, 3).unwrap();
    let mut rnn = Rnn::new(&Device::cpu(), &config, &weights).unwrap();
    assert_eq!(rnn.config().head, Some(Head { size: 2, loss: None }));
    let ids = [3, 1, 4, 1, 5];
    let alone = rnn.forward_ids(View::new(&ids, &[5]), None, Initial::Zero).unwrap();
    assert_eq!((&alone.y.shape[..], &alone.hn.shape[..]), (&[5, 12][..], &[4, 6][..]));
    assert_eq!(alone.predictions.as_ref().unwrap().shape, [5, 2]);
    let two: Vec<u32> = ids.iter().flat_map(|&id| [id, 8]).collect();
    let both = rnn.forward_ids(View::new(&two, &[5, 2]), Some(&[5, 3]), Initial::Zero).unwrap();
    assert_eq!(bits(&sequence(&both.y.data, 2, 12, 0)), bits(&alone.y.data));
    let other = Weights::<f32>::random(&config, 4).unwrap();
    rnn.set_weights(&other).unwrap();
    let new = rnn.forward_ids(View::new(&two, &[5, 2]), Some(&[5, 3]), Initial::Zero).unwrap();
    let mut expected = Session::new(&Device::cpu(), &config, Shape { time: 5, batch: 2 }, &other).unwrap();
    let input = Input { lengths: Some(&[5, 3]), ..Input::of_ids(View::new(&two, &[5, 2])) };
    assert_eq!(bits_of(&new), bits_of(&expected.forward(&input).unwrap()));
    // x of one sequence, its states, and 64 bits.
    let config = RnnConfig { layout: Layout::BatchFirst, ..RnnConfig::lstm(3, 6) };
    let weights = Weights::<f64>::random(&config, 3).unwrap();
    let mut rnn = Rnn::new(&Device::cpu(), &config, &weights).unwrap();
    let x = vec![0.25; 5 * 3];
    let first = rnn.forward(View::new(&x[..6], &[2, 3]), None, Initial::Zero).unwrap();
    assert_eq!((&first.y.shape[..], &first.hn.shape[..]), (&[2, 6][..], &[1, 6][..]));
    let (h0, c0) = (Some(first.hn.view()), first.cn.as_ref().map(Tensor::view));
    let rest = rnn.forward(View::new(&x[6..], &[3, 3]), None, Initial::Given { h0, c0 }).unwrap();
    let whole = rnn.forward(View::new(&x, &[1, 5, 3]), None, Initial::Zero).unwrap();
    assert_eq!([first.y.data, rest.y.data].concat(), whole.y.data);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let config = config(&cells::GRU);
    let weights = Weights::<f32>::random(&config, 3).unwrap();
    let mut rnn = Rnn::new(&Device::cpu(), &config, &weights).unwrap();
    let x = [0.0; 4 * 2 * 3];
    let good = View::new(&x, &[4, 2, 3]);
    let mut refused = |x, lengths, initial| rnn.forward(x, lengths, initial).unwrap_err().to_string();
    let wrong = refused(View::new(&x, &[4, 3, 2]), None, Initial::Zero);
    assert_eq!(wrong, "x: expected [T, B, I] = [4, 3, 3], got [4, 3, 2]");
    let wrong = refused(View::new(&x[..3], &[4, 2, 3]), None, Initial::Zero);
    assert_eq!(wrong, "x: expected [4, 2, 3] = 24 values, got 3 values");
    let wrong = refused(View::new(&x, &[24]), None, Initial::Zero);
    assert_eq!(wrong, "x: expected [T, B, I], or [T, I] for one sequence, got 1 dimensions, [24]");
    let wrong = refused(good, Some(&[4]), Initial::Zero);
    assert_eq!(wrong, "lengths: expected [B] = [2], got [1]");
    assert_eq!(refused(good, Some(&[4, 5]), Initial::Zero), "lengths[1]: expected 0..=4, got 5");
    let wrong = refused(good, None, Initial::hidden(View::new(&x, &[4, 1, 6])));
    assert_eq!(wrong, "h0: expected [L·D, B, P] = [4, 2, 6], got [4, 1, 6]");
    let c0 = Initial::Given { h0: None, c0: Some(good) };
    assert_eq!(refused(good, None, c0), "c0: expected none (gru has no cell state), got [4, 2, 3]");
    assert!(refused(good, None, Initial::Carry).starts_with("initial state: expected zeros or given states"));
    let ids = rnn.forward_ids(View::new(&[1], &[1, 1]), None, Initial::Zero).unwrap_err().to_string();
    assert!(ids.starts_with("ids: expected none (the configuration has no vocabulary"), "{ids}");
    let with = |options| Rnn::with_options(&Device::cpu(), &config, &weights, &options).err().unwrap().to_string();
    let plan = Options { train: true, ..Default::default() };
    assert!(
        with(RnnOptions { plan, ..Default::default() }).starts_with("options of an Rnn: expected those of inference")
    );
    let plan = Options { resets: Some(Reset::Zero), ..Default::default() };
    assert!(with(RnnOptions { plan, ..Default::default() }).starts_with("resets of an Rnn: expected none"));
    assert!(
        with(RnnOptions { sessions: 0, ..Default::default() }).starts_with("sessions of an Rnn: expected at least 1")
    );
    let nominal = Shape { time: 0, batch: 1 };
    assert!(with(RnnOptions { nominal, ..Default::default() }).starts_with("time: expected 1..="));
    // None of that changed anything.
    assert!(rnn.forward(good, None, Initial::Zero).is_ok() && rnn.sessions() == 1);
}

#[cfg(feature = "ndarray")]
#[test]
fn arrays_are_views_and_tensors_become_arrays() {
    use ndarray::{Array3, ArrayD, s};
    let config = RnnConfig::lstm(3, 5);
    let mut rnn = Rnn::new(&Device::cpu(), &config, &Weights::<f32>::random(&config, 1).unwrap()).unwrap();
    let x = Array3::from_shape_fn((4, 2, 3), |(t, b, i)| (t + 2 * b + 3 * i) as f32 * 0.1);
    let out = rnn.forward((&x).try_into().unwrap(), None, Initial::Zero).unwrap();
    // Some steps of it lie one after the other, one sequence of it does not.
    let some = x.slice(s![1..3, .., ..]);
    assert_eq!(View::try_from(&some).unwrap().shape, [2, 2, 3]);
    let apart = x.slice(s![.., 1, ..]);
    let refused = View::try_from(&apart).unwrap_err().to_string();
    assert!(refused.starts_with("array: expected values row by row"), "{refused}");
    let y: ArrayD<f32> = out.y.clone().try_into().unwrap();
    assert_eq!((y.shape(), y[[3, 1, 4]]), (&[4, 2, 5][..], out.y.data[39]));
    let broken = Tensor { data: vec![0.0; 3], shape: vec![2, 2] };
    let refused = ArrayD::<f32>::try_from(broken).unwrap_err().to_string();
    assert_eq!(refused, "tensor: expected as many values as [2, 2] has, got 3 values");
}

mod models {
    use std::sync::Arc;
    use wgpu_rnn::network::{Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, Pooling};
    use wgpu_rnn::{Device, Direction, Error, Model, ModelOptions, Result, RnnConfig, Shape, View, rules};

    /// A convolution, a scan, a stack both ways, and a head per sequence.
    fn network() -> Result<Arc<Network>> {
        let mut b = Builder::new();
        let (x, told) = (b.input("x", 3)?, b.sequence_input("told", 2)?);
        let taps = b.param("taps", &[3, 1, 3])?;
        let conv = b.conv("conv", x, (taps, None), (2, 0))?;
        let scan = b.scan("scan", &rules::MINGRU, [3, 1, 1], &[conv.into(), x.into()], false)?;
        let config = RnnConfig { direction: Direction::Bidirectional, ..RnnConfig::lstm(3, 4) };
        let y = b.layers("lstm", scan, &config)?;
        let (last, most) = (b.last_of("last", y, &config)?, b.pool("most", conv, Pooling::Max)?);
        let all = b.concat("all", &[last, most, told])?;
        let (w, bias) = (b.param("head.weight", &[5, 13])?, b.param("head.bias", &[5])?);
        let head = b.linear("head", all, w, Some(bias))?;
        b.output("head", head)?;
        b.output("y", y)?;
        Ok(Arc::new(b.finish()?))
    }

    #[test]
    fn a_network_takes_batches_of_any_shape_with_the_bits_of_each() -> Result<()> {
        let network = network()?;
        let params = network.random::<f32>(3)?;
        for device in [Device::cpu(), Device::gpu()?] {
            let options = ModelOptions { sessions: 2, ..Default::default() };
            let mut model = Model::with_options(&device, &network, &params, &options)?;
            for (time, batch) in [(6, 3), (1, 1), (9, 5), (6, 3), (33, 2)] {
                let x: Vec<f32> = (0..time * batch * 3).map(|n| (n as f32 * 0.71).sin()).collect();
                let told: Vec<f32> = (0..batch * 2).map(|n| (n as f32 * 1.3).cos()).collect();
                let lengths: Vec<usize> = (0..batch).map(|b| (time * (b + 2)) % (time + 1)).collect();
                let (x_shape, told_shape) = ([time, batch, 3], [batch, 2]);
                let (x, told) = (View::new(&x, &x_shape), View::new(&told, &told_shape));
                // In two pieces, the second from where the first ended.
                let first = model.forward(&[("told", told), ("x", x)], Some(&lengths))?;
                let states: Vec<_> = first.states.iter().map(|s| s.view()).collect();
                let second = model.forward_from(&[("x", x), ("told", told)], Some(&lengths), &states)?;
                let plan =
                    NetworkPlan::new(&network, Shape { time, batch }, &device.caps(), &NetworkOptions::default())?;
                let mut exact = NetworkSession::new(&device, plan, &params)?;
                let values = [x, told];
                let input = NetworkInput { lengths: Some(&lengths), ..NetworkInput::new(&values) };
                for (got, initial) in [
                    (first, wgpu_rnn::network::NetworkInitial::Empty),
                    (second, wgpu_rnn::network::NetworkInitial::Carry),
                ] {
                    let expected = exact.forward(&NetworkInput { initial, ..input })?;
                    for ((name, got), expected) in got.values.iter().zip(&expected.values) {
                        assert_eq!(got, expected, "{name} of {time} x {batch} on {device}");
                    }
                    assert_eq!(got.states, expected.states, "states of {time} x {batch} on {device}");
                }
                assert!(model.sessions() <= 2);
            }
        }
        Ok(())
    }

    #[test]
    fn what_a_network_does_not_take_is_refused_and_nothing_is_empty() -> Result<()> {
        let network = network()?;
        let mut model = Model::<f32>::new(&Device::cpu(), &network, &network.random(3)?)?;
        let (x, told) = ([0.5; 12], [0.5; 4]);
        let (x, told) = (View::new(&x, &[2, 2, 3]), View::new(&told, &[2, 2]));
        let words = |result: Result<_>, words: &str| match result.map(|_: wgpu_rnn::ModelOutput<f32>| ()) {
            Err(e @ Error::Mismatch { .. }) => assert!(e.to_string().contains(words), "{e}"),
            other => panic!("{other:?}"),
        };
        words(model.forward(&[("x", x)], None), "input told");
        words(model.forward(&[("x", x), ("told", told), ("y", x)], None), "x, told");
        words(model.forward(&[("x", x), ("told", View::new(&[0.0; 2], &[1, 2]))], None), "told");
        words(model.forward(&[("x", x), ("told", told)], Some(&[3, 1])), "lengths");
        words(model.forward_from(&[("x", x), ("told", told)], None, &[]), "states");
        // A single session may take more than all may together.
        let options = ModelOptions { bytes: 1, ..Default::default() };
        let mut tight = Model::with_options(&Device::cpu(), &network, &network.random(3)?, &options)?;
        tight.forward(&[("x", x), ("told", told)], None)?;
        assert!(tight.sessions() == 1 && tight.bytes() > 1 && model.sessions() == 0);
        model.forward(&[("x", x), ("told", told)], None)?;
        assert_eq!(model.sessions(), 1);
        let none = model.forward(&[("x", View::new(&[], &[0, 2, 3])), ("told", told)], None)?;
        assert_eq!(
            (none.get("y").unwrap().shape.clone(), none.get("head").unwrap().shape.clone()),
            (vec![0, 2, 8], vec![2, 5])
        );
        Ok(())
    }
}
