//! Bad input, refused with an error that names what, expected and got; and a host that owns the device. Needs a GPU adapter
//! (Mesa's lavapipe will do).

use std::time::Duration;
use wgpu_rnn::{
    Activation, Caps, Cell, Device, Error, Initial, Input, IoBuffers, Options, Output, Plan, Precision, RnnConfig,
    Session, Shape, Strategy, View, Weights, cells, wgpu,
};

const SHAPE: Shape = Shape { time: 4, batch: 3 };

fn gpu() -> Device {
    Device::gpu().expect("these tests need a GPU adapter; Mesa's lavapipe will do")
}

fn config(cell: &'static Cell) -> RnnConfig {
    RnnConfig { cell, input_size: 2, hidden_size: 5, ..Default::default() }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect()
}

fn session(device: &Device, config: &RnnConfig, shape: Shape) -> Session {
    let weights = Weights::random(config, 1).expect("weights");
    Session::new(device, config, shape, &weights).expect("a session")
}

/// A session with a forced strategy and a budget per submit.
fn planned(device: &Device, config: &RnnConfig, shape: Shape, strategy: Strategy, submit_budget: Duration) -> Session {
    let options = Options { strategy: Some(strategy), submit_budget, ..Default::default() };
    let plan = Plan::new(config, shape, &device.caps(), &options).expect("a plan");
    Session::from_plan(device, plan, &Weights::random(config, 1).expect("weights")).expect("a session")
}

/// The error's text, and that it is a mismatch.
#[track_caller]
fn mismatch<T>(result: Result<T, Error>) -> String {
    match result {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        Err(e) => panic!("expected a mismatch, got {e:?}"),
        Ok(_) => panic!("expected a mismatch, got a result"),
    }
}

#[track_caller]
fn unsupported<T>(result: Result<T, Error>) -> String {
    match result {
        Err(e @ Error::Unsupported { .. }) => e.to_string(),
        Err(e) => panic!("expected Error::Unsupported, got {e:?}"),
        Ok(_) => panic!("expected Error::Unsupported, got a result"),
    }
}

#[track_caller]
fn plan_error(config: &RnnConfig, shape: Shape) -> Error {
    Plan::new(config, shape, &Device::cpu().caps(), &Options::default()).expect_err("a plan that cannot be")
}

#[test]
fn zero_sizes_are_refused_by_name() {
    let good = config(&cells::LSTM);
    for (bad, what) in [
        (RnnConfig { input_size: 0, ..good.clone() }, "input_size"),
        (RnnConfig { hidden_size: 0, ..good.clone() }, "hidden_size"),
        (RnnConfig { num_layers: 0, ..good.clone() }, "num_layers"),
    ] {
        let text = format!("{what}: expected 1..=");
        let from_plan = mismatch::<()>(Err(plan_error(&bad, SHAPE)));
        assert!(from_plan.starts_with(&text) && from_plan.ends_with(", got 0"), "{from_plan}");
        assert_eq!(mismatch(Weights::<f32>::random(&bad, 1)), from_plan);
    }
    // No size is a default.
    for (unset, what) in [(RnnConfig::default(), "input_size"), (RnnConfig::gru(3, 0), "hidden_size")] {
        let text = mismatch::<()>(unset.validate());
        let help = "name both sizes: RnnConfig::new(cell, input_size, hidden_size)";
        assert!(text.starts_with(&format!("{what}: expected 1..=")) && text.contains(help), "{text}");
    }
    for (made, cell) in [
        (RnnConfig::lstm(3, 5), &cells::LSTM),
        (RnnConfig::gru(3, 5), &cells::GRU),
        (RnnConfig::rnn(3, 5), &cells::RNN_TANH),
    ] {
        assert_eq!(made, RnnConfig { cell, input_size: 3, hidden_size: 5, ..Default::default() });
        assert_eq!(made, RnnConfig::new(cell, 3, 5));
        made.validate().expect("both sizes are there");
    }
    for (bad, what) in [(Shape { time: 0, batch: 3 }, "time"), (Shape { time: 4, batch: 0 }, "batch")] {
        let text = mismatch::<()>(Err(plan_error(&good, bad)));
        assert!(text.starts_with(&format!("{what}: expected 1..=")) && text.ends_with(", got 0"), "{text}");
    }
}

#[test]
fn combinations_that_the_cell_does_not_have_are_refused() {
    for cell in cells::ALL.into_iter().filter(|c| !c.has_cell_state()) {
        let error = plan_error(&RnnConfig { proj_size: 2, ..config(cell) }, SHAPE);
        let name = cell.name;
        assert_eq!(
            unsupported::<()>(Err(error)),
            format!(
                "not supported: proj_size 2 with {name}: a projection needs a cell whose own state is not h (the LSTMs)"
            )
        );
    }
    for proj_size in [5, 6, usize::MAX] {
        let error = plan_error(&RnnConfig { proj_size, ..config(&cells::LSTM) }, SHAPE);
        assert_eq!(mismatch::<()>(Err(error)), format!("proj_size: expected less than hidden_size 5, got {proj_size}"));
    }
    let activations = vec![Activation::Tanh; 2];
    let error = plan_error(&RnnConfig { activations: activations.clone(), ..config(&cells::LSTM) }, SHAPE);
    assert_eq!(mismatch::<()>(Err(error)), "activations of lstm: expected 3 (f, g, h), got 2");
    let error = plan_error(&RnnConfig { activations, ..config(&cells::RNN_TANH) }, SHAPE);
    assert_eq!(mismatch::<()>(Err(error)), "activations of rnn-tanh: expected 1 (f), got 2");
}

#[test]
fn wrong_shapes_are_refused_in_the_callers_terms() {
    let (x, state) = (values(24), values(15));
    for device in [Device::cpu(), gpu()] {
        let mut s = session(&device, &config(&cells::LSTM), SHAPE);
        let mut x_error = |data: &[f32], shape: &[usize]| mismatch(s.forward(&Input::new(View::new(data, shape))));
        assert_eq!(x_error(&x, &[4, 3, 3]), "x: expected [T, B, I] = [4, 3, 2], got [4, 3, 3]");
        assert_eq!(x_error(&x, &[3, 4, 2]), "x: expected [T, B, I] = [4, 3, 2], got [3, 4, 2]");
        assert_eq!(x_error(&x, &[24]), "x: expected [T, B, I] = [4, 3, 2], got [24]");
        assert_eq!(x_error(&x, &[]), "x: expected [T, B, I] = [4, 3, 2], got []");
        assert_eq!(x_error(&x, &[12, 2]), "x: expected [T, B, I] = [4, 3, 2], got [12, 2]");
        assert_eq!(x_error(&x[1..], &[4, 3, 2]), "x: expected [4, 3, 2] = 24 values, got 23 values");
        assert_eq!(x_error(&[], &[4, 3, 2]), "x: expected [4, 3, 2] = 24 values, got 0 values");

        let mut initial_error = |h0, c0| {
            let initial = Initial::Given { h0, c0 };
            mismatch(s.forward(&Input { initial, ..Input::new(View::new(&x, &[4, 3, 2])) }))
        };
        let view = |shape| Some(View::new(&state[..], shape));
        assert_eq!(initial_error(view(&[3, 5]), None), "h0: expected [L·D, B, P] = [1, 3, 5], got [3, 5]");
        assert_eq!(initial_error(None, view(&[1, 5, 3])), "c0: expected [L·D, B, H] = [1, 3, 5], got [1, 5, 3]");
        let short = Some(View::new(&state[..14], &[1, 3, 5]));
        assert_eq!(initial_error(short, None), "h0: expected [1, 3, 5] = 15 values, got 14 values");
        assert_eq!(initial_error(None, short), "c0: expected [1, 3, 5] = 15 values, got 14 values");

        let batch_first = RnnConfig { layout: wgpu_rnn::Layout::BatchFirst, ..config(&cells::LSTM) };
        let mut s = session(&device, &batch_first, SHAPE);
        let text = mismatch(s.forward(&Input::new(View::new(&x, &[4, 3, 2]))));
        assert_eq!(text, "x: expected [B, T, I] = [3, 4, 2], got [4, 3, 2]");
        let mut s = session(&device, &config(&cells::LSTM), Shape { time: 4, batch: 1 });
        let text = mismatch(s.forward(&Input::new(View::new(&x, &[12, 2]))));
        assert_eq!(text, "x: expected [T, I] = [4, 2], got [12, 2]");

        let mut s = session(&device, &config(&cells::GRU), SHAPE);
        let initial = Initial::Given { h0: None, c0: Some(View::new(&state, &[1, 3, 5])) };
        let text = mismatch(s.forward(&Input { initial, ..Input::new(View::new(&x, &[4, 3, 2])) }));
        assert_eq!(text, "c0: expected none (gru has no cell state), got [1, 3, 5]");
    }
}

#[test]
fn wrong_lengths_are_refused_and_leave_the_session_as_it_was() {
    let x = values(24);
    for device in [Device::cpu(), gpu()] {
        let mut s = session(&device, &config(&cells::GRU), SHAPE);
        let good = Input { lengths: Some(&[2, 4, 1]), ..Input::new(View::new(&x, &[4, 3, 2])) };
        let before = s.forward(&good).expect("good lengths");
        for (lengths, text) in [
            (&[4, 5, 4][..], "lengths[1]: expected 0..=4, got 5"),
            (&[4, 4, 5], "lengths[2]: expected 0..=4, got 5"),
            (&[usize::MAX, 4, 4], "lengths[0]: expected 0..=4, got 18446744073709551615"),
            (&[4, 4], "lengths: expected [B] = [3], got [2]"),
            (&[4, 4, 4, 4], "lengths: expected [B] = [3], got [4]"),
            (&[], "lengths: expected [B] = [3], got [0]"),
        ] {
            assert_eq!(mismatch(s.forward(&Input { lengths: Some(lengths), ..good })), text);
            assert_eq!(mismatch(s.set_lengths(Some(lengths))), text);
        }
        assert_eq!(s.forward(&good).expect("good lengths again"), before);
    }
}

#[test]
fn weights_of_another_configuration_are_refused_by_name() {
    let c = config(&cells::LSTM);
    let wider = Weights::<f32>::random(&RnnConfig { input_size: 3, ..c.clone() }, 1).expect("weights");
    let gru = Weights::<f32>::random(&config(&cells::GRU), 1).expect("weights");
    let deeper = Weights::<f32>::random(&RnnConfig { num_layers: 2, ..c.clone() }, 1).expect("weights");
    let unbiased = RnnConfig { bias: wgpu_rnn::Bias::None, ..c.clone() };
    let biased = Weights::<f32>::random(&c, 1).expect("weights");
    for device in [Device::cpu(), gpu()] {
        let refuse = |config: &RnnConfig, weights| mismatch(Session::new(&device, config, SHAPE, weights));
        assert_eq!(refuse(&c, &wider), "weight_ih_l0: expected [20, 2] = 40 values, got 60");
        assert_eq!(refuse(&c, &gru), "weight_ih_l0: expected [20, 2] = 40 values, got 30");
        assert_eq!(refuse(&c, &deeper), "weights: expected [layers · directions] = 1 entries, got 2");
        assert_eq!(refuse(&unbiased, &biased), "InputBias of layers[0]: expected [] = 0 values, got 20");
    }
}

#[test]
fn plans_run_only_where_they_were_made_for() {
    let c = config(&cells::LSTM);
    let (gpu, cpu) = (gpu(), Device::cpu());
    let double = Options { precision: Precision::F64, ..Default::default() };
    let text = unsupported(Plan::new(&c, SHAPE, &gpu.caps(), &double));
    assert_eq!(text, "not supported: f64 on a GPU: WGSL has no f64; use the CPU executor");
    let weights = Weights::<f64>::random(&c, 1).expect("weights");
    assert_eq!(unsupported(Session::new(&gpu, &c, SHAPE, &weights)), text);

    let plan = |device: &Device, options: &Options| Plan::new(&c, SHAPE, &device.caps(), options).expect("a plan");
    let (on_cpu, on_gpu) = (plan(&cpu, &Options::default()), plan(&gpu, &Options::default()));
    let class = gpu.caps().class;
    let single = weights.cast::<f32>();
    let text = mismatch(Session::from_plan(&gpu, on_cpu.clone(), &single));
    assert_eq!(text, format!("device of the plan: expected {class:?}, got Cpu"));
    let text = mismatch(Session::from_plan(&cpu, on_gpu, &single));
    assert_eq!(text, format!("device of the plan: expected Cpu, got {class:?}"));
    let text = mismatch(Session::from_plan(&cpu, plan(&cpu, &double), &single));
    assert_eq!(text, "precision of the plan: expected f32, got F64");
    let text = mismatch(Session::from_plan(&cpu, on_cpu, &weights));
    assert_eq!(text, "precision of the plan: expected f64, got F32");
}

#[test]
fn a_state_is_carried_only_from_an_earlier_run() {
    let x = values(24);
    for device in [Device::cpu(), gpu()] {
        let mut s = session(&device, &config(&cells::LSTM), SHAPE);
        let carry = Input { initial: Initial::Carry, ..Input::new(View::new(&x, &[4, 3, 2])) };
        let text = "initial state: expected an earlier run to carry from, got none";
        assert_eq!(mismatch(s.forward(&carry)), text);
        s.forward(&Input::new(View::new(&x, &[4, 3, 2]))).expect("a run");
        s.forward(&carry).expect("a carried run");
        s.reset();
        assert_eq!(mismatch(s.forward(&carry)), text);
        s.set_state(View::new(&x[..15], &[1, 3, 5]), None).expect("a state");
        s.forward(&carry).expect("a run from the state");
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let x = values(24);
    for device in [Device::cpu(), gpu()] {
        let mut s = session(&device, &config(&cells::GRU), SHAPE);
        let (h0, wrong) = (View::new(&x[..15], &[1, 3, 5]), View::new(&x[..15], &[3, 5]));
        assert_eq!(mismatch(s.set_state(wrong, None)), "h0: expected [L·D, B, P] = [1, 3, 5], got [3, 5]");
        let text = "c0: expected none (gru has no cell state), got [1, 3, 5]";
        assert_eq!(mismatch(s.set_state(h0, Some(h0))), text);
        // Nothing was set.
        let carry = Input { initial: Initial::Carry, ..Input::new(View::new(&x, &[4, 3, 2])) };
        assert!(mismatch(s.forward(&carry)).contains("an earlier run"));
        let given = Input { initial: Initial::hidden(h0), ..carry };
        let expected = s.forward(&given).expect("a run");
        s.set_state(h0, None).expect("a state");
        assert_eq!(s.forward(&carry).expect("a run"), expected);
    }
}

#[test]
fn more_than_this_machines_memory_is_refused_before_it_is_taken() {
    let c = RnnConfig { input_size: 64, hidden_size: 64, ..config(&cells::LSTM) };
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    let error = Session::new(&Device::cpu(), &c, Shape { time: 1_000_000, batch: 1_000_000 }, &weights).err();
    let Some(Error::Limit { what, needs, unit, limit_name, .. }) = error else { panic!("{error:?}") };
    assert_eq!((what.as_str(), needs), ("slot x [T, B, I] = [1000000, 1000000, 64]", 256_000_000_000_000));
    assert_eq!((unit, limit_name), ("bytes", "this machine's memory"));

    // Each slot fits, all of them do not.
    let shape = Shape { time: 1000, batch: 10 };
    let total = Plan::new(&c, shape, &Device::cpu().caps(), &Options::default()).expect("a plan").bytes();
    let caps = Caps { max_buffer: total - 1, ..Device::cpu().caps() };
    match Plan::new(&c, shape, &caps, &Options::default()) {
        Err(Error::Limit { what, needs, .. }) => {
            assert_eq!((what.as_str(), needs), ("all slots for T = 1000, B = 10", total));
        }
        other => panic!("expected Error::Limit, got {:?}", other.err()),
    }
}

#[test]
fn absurd_weights_are_refused_before_they_are_made() {
    let big = 1 << 30;
    let c = RnnConfig { input_size: big, hidden_size: big, ..config(&cells::LSTM) };
    let named = Weights::<f32>::from_named(&c, |_| panic!("asked for a tensor"));
    for error in [Weights::<f32>::random(&c, 1).err(), named.err(), c.validate().err()] {
        match error {
            Some(e @ Error::Limit { unit: "parameters", .. }) => assert!(e.to_string().contains("8589934592"), "{e}"),
            other => panic!("expected Error::Limit, got {other:?}"),
        }
    }
    let deep = RnnConfig { num_layers: 40_000, direction: wgpu_rnn::Direction::Bidirectional, ..config(&cells::GRU) };
    let text = "num_layers times directions: expected at most 65535, got 80000";
    assert_eq!(mismatch(Weights::<f32>::random(&deep, 1)), text);
    assert_eq!(mismatch(deep.validate()), text);
}

#[test]
fn a_request_beyond_the_devices_limits_names_size_and_limit() {
    let device = gpu();
    let caps = device.caps();
    let limit = caps.max_binding.min(caps.max_buffer);
    // Two and a half bindings of x: no block size can help.
    let time = (limit / 4 / 1000 * 5 / 2) as usize;
    let c = RnnConfig { input_size: 1000, ..config(&cells::GRU) };
    let error = Plan::new(&c, Shape { time, batch: 1 }, &caps, &Options::default()).expect_err("x is too large");
    let Error::Limit { needs, limit: named, .. } = error else { panic!("{error:?}") };
    assert_eq!((needs, named), (time as u64 * 4000, limit));
    let text = error.to_string();
    assert!(text.contains("slot x [T, B, I]") && text.contains(&limit.to_string()), "{text}");
    assert!(text.contains(&needs.to_string()), "{text}");
}

#[test]
fn no_adapter_is_an_error_that_lists_what_was_seen() {
    assert!(!Device::list_gpus().is_empty(), "these tests need a GPU adapter");
    match Device::gpu_where(|_| false) {
        Err(e @ Error::NoAdapter { .. }) => {
            let text = e.to_string();
            assert!(text.starts_with("no GPU adapter: adapters found: "), "{text}");
            assert!(Device::list_gpus().iter().all(|info| text.contains(&info.name)), "{text}");
        }
        other => panic!("expected Error::NoAdapter, got {other:?}"),
    }
}

fn run(s: &mut Session, x: &[f32], lengths: Option<&[usize]>) -> Output<f32> {
    s.forward(&Input { lengths, ..Input::new(View::new(x, &[4, 3, 2])) }).expect("a run")
}

/// Which of y's values are NaN.
fn nan(y: &[f32]) -> Vec<bool> {
    y.iter().map(|v| v.is_nan()).collect()
}

/// One NaN in the row of unit 0's first gate: that unit is NaN from the first step on (every unit, where a later stage of the
/// step reads it), every unit from the second step on.
#[test]
fn nan_weights_are_computed_not_refused() {
    let (x, devices) = (values(24), [Device::cpu(), gpu()]);
    let mut failures = Vec::new();
    for cell in cells::ALL {
        let c = config(cell);
        let mut weights = Weights::<f32>::random(&c, 1).expect("weights");
        weights.layers[0].w[0] = f32::NAN;
        // A row statistic carries it to all units at once, a second stage within the step.
        let all = cell.stages.len() > 1 || cell.stages.iter().any(|stage| stage.normalise);
        let reaches = |i: usize| i >= 15 || i.is_multiple_of(5) || all;
        let expected: Vec<bool> = (0..60).map(reaches).collect();
        for device in &devices {
            for strategy in [Strategy::Step, Strategy::Sequence] {
                let options = Options { strategy: Some(strategy), ..Default::default() };
                let plan = Plan::new(&c, SHAPE, &device.caps(), &options).expect("a plan");
                let mut s = Session::from_plan(device, plan, &weights).expect("NaN is a value like any other");
                let out = run(&mut s, &x, None);
                if nan(&out.y.data) != expected || !out.hn.data.iter().all(|v| v.is_nan()) {
                    failures.push(format!("{} on the {}, {strategy}: y {:?}", cell.name, device.kind(), out.y.data));
                }
            }
        }
        let mut s = Session::<f64>::new(&devices[0], &c, SHAPE, &weights.cast()).expect("a session");
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let out = s.forward(&Input::new(View::new(&x, &[4, 3, 2]))).expect("a run");
        assert_eq!(out.y.data.iter().map(|v| v.is_nan()).collect::<Vec<_>>(), expected, "{} in f64", cell.name);
    }
    assert!(failures.is_empty(), "NaN was lost:\n{}", failures.join("\n"));
}
/// Every call, each as the first one after the loss, then twice more.
#[test]
fn a_lost_device_is_an_error_again_and_again() {
    let x = values(24);
    let input = Input::new(View::new(&x[..], &[4, 3, 2]));
    let c = config(&cells::LSTM);
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    type Call<'a> = (&'a str, &'a dyn Fn(&mut Session) -> Result<(), Error>);
    let calls: [Call<'_>; 12] = [
        ("forward", &|s| s.forward(&input).map(drop)),
        ("write", &|s| s.write(&input)),
        ("run", &|s| s.run()),
        ("run_for_state", &|s| s.run_for_state().map(drop)),
        ("set_lengths", &|s| s.set_lengths(Some(&[2, 4, 1])).and_then(|()| s.set_lengths(None))),
        // The same lengths each time: not uploaded, so not done.
        ("set_lengths again", &|s| s.set_lengths(Some(&[1, 2, 3]))),
        ("set_state", &|s| s.set_state(View::new(&x[..15], &[1, 3, 5]), None)),
        ("poison", &|s| s.poison()),
        ("trace", &|s| s.trace(&input).map(drop)),
        ("for_shape", &|s| s.for_shape(Shape { time: 2, batch: 1 }).map(drop)),
        ("bind", &|s| s.bind(&IoBuffers::default()).map(drop)),
        ("new", &|s| Session::new(s.device(), &c, SHAPE, &weights).map(drop)),
    ];
    for (name, call) in calls {
        let host = Host::new();
        for (owner, device) in [("ours", gpu()), ("the host's", Device::from_wgpu(host.device, host.queue))] {
            let mut s = session(&device, &c, SHAPE);
            s.forward(&input).expect("a run");
            device.wgpu().expect("a GPU").0.destroy();
            for n in 0..3 {
                match call(&mut s) {
                    Err(e @ Error::DeviceLost { .. }) => assert!(e.to_string().starts_with("device lost: "), "{e}"),
                    other => panic!("{name}, call {n}, {owner}: expected a lost device, got {other:?}"),
                }
            }
            for (name, call) in calls {
                assert!(matches!(call(&mut s), Err(Error::DeviceLost { .. })), "{name}, {owner}");
            }
        }
    }
}

/// A device that is lost between a run and the reading of it is told as lost by the very next call, whoever owns it.
#[test]
fn a_device_lost_in_the_middle_of_a_run_is_told_at_once() {
    let c = config(&cells::GRU);
    let x = values(SHAPE.time * SHAPE.batch * c.input_size);
    let shape = [SHAPE.time, SHAPE.batch, c.input_size];
    let input = Input::new(View::new(&x, &shape));
    let host = Host::new();
    for device in [gpu(), Device::from_wgpu(host.device, host.queue)] {
        let mut s = session(&device, &c, SHAPE);
        s.write(&input).expect("an input");
        s.run().expect("submitted");
        device.wgpu().expect("a GPU").0.destroy();
        let error = s.output().expect_err("there is nothing to read");
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        assert!(matches!(s.run(), Err(Error::DeviceLost { .. })));
    }
}

/// What is asked for in the wrong order is refused, and says what comes first.
#[test]
fn calls_out_of_order_are_refused() {
    let c = config(&cells::GRU);
    let x = values(SHAPE.time * SHAPE.batch * c.input_size);
    let shape = [SHAPE.time, SHAPE.batch, c.input_size];
    let input = Input::new(View::new(&x, &shape));
    for device in [Device::cpu(), gpu()] {
        let mut s = session(&device, &c, SHAPE);
        let first = "run: expected an input written before it (Session::write), got none";
        assert_eq!(mismatch(s.run()), first);
        assert_eq!(mismatch(s.run_for_state()), first);
        assert_eq!(mismatch(s.profile()), first);
        let not_run = "output: expected a run before it, got none since an input was written";
        assert_eq!(mismatch(s.output()), not_run);
        s.forward(&input).expect("a run");
        s.output().expect("its outputs, again");
        s.run().expect("the same input, again");
        s.write(&input).expect("another input");
        assert_eq!(mismatch(s.output()), not_run);
        s.run().expect("a run");
        s.output().expect("its outputs");
    }
}

#[test]
fn the_cpu_executor_has_nothing_to_encode() {
    let mut s = session(&Device::cpu(), &config(&cells::LSTM), SHAPE);
    let text = unsupported(s.bind(&IoBuffers::default()));
    assert_eq!(text, "not supported: bind: the session runs on the CPU executor");

    let device = gpu();
    let binding = session(&device, &config(&cells::LSTM), SHAPE).bind(&IoBuffers::default()).expect("a binding");
    let mut encoder = device.wgpu().expect("a GPU").0.create_command_encoder(&Default::default());
    let text = "not supported: encode: the session runs on the CPU executor";
    assert_eq!(unsupported(s.encode(&mut encoder, &binding)), text);
    assert_eq!(unsupported(s.encode_part(0, &mut encoder, &binding)), text);
}

/// A host program with its own device, made without this crate, with WebGPU's default limits.
struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Host {
    fn new() -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("a GPU adapter");
        Self::on(adapter)
    }

    fn on(adapter: wgpu::Adapter) -> Self {
        let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).expect("a device");
        Self { adapter, device, queue }
    }

    fn buffer(&self, size: u64, data: Option<&[f32]>) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        // Whatever is not written must not matter.
        let nan = vec![f32::NAN; size as usize / 4];
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(data.unwrap_or(&nan)));
        buffer
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = buffer.size();
        let copy =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, size);
        self.queue.submit([encoder.finish()]);
        copy.map_async(wgpu::MapMode::Read, .., |result| result.expect("mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the queue");
        bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..).expect("mapped"))
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_host_encodes_over_its_own_buffers_with_the_bits_of_forward() {
    let host = Host::new();
    let device = Device::from_wgpu(host.device.clone(), host.queue.clone());
    let x = values(24);
    for cell in [&cells::LSTM, &cells::GRU_RESET_BEFORE] {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            for budget in [Duration::from_millis(500), Duration::from_nanos(1)] {
                for lengths in [None, Some(&[2, 4, 1][..])] {
                    let c = RnnConfig { num_layers: 2, direction: wgpu_rnn::Direction::Bidirectional, ..config(cell) };
                    let expected = run(&mut planned(&device, &c, SHAPE, strategy, budget), &x, lengths);

                    let mut s = planned(&device, &c, SHAPE, strategy, budget);
                    s.poison().expect("poison");
                    let bytes = |t: &wgpu_rnn::Tensor<f32>| t.data.len() as u64 * 4;
                    let state = bytes(&expected.hn);
                    let zero = vec![0.0; expected.hn.data.len()];
                    let (x_buffer, y) = (host.buffer(96, Some(&x)), host.buffer(bytes(&expected.y), None));
                    let (h0, c0) = (host.buffer(state, Some(&zero)), host.buffer(state, Some(&zero)));
                    let (hn, cn) = (host.buffer(state, None), host.buffer(state, None));
                    let cell_state = cell.has_cell_state();
                    let io = IoBuffers {
                        x: Some(&x_buffer),
                        h0: Some(&h0),
                        c0: cell_state.then_some(&c0),
                        y: Some(&y),
                        hn: Some(&hn),
                        cn: cell_state.then_some(&cn),
                    };
                    let binding = s.bind(&io).expect("a binding");
                    s.set_lengths(lengths).expect("lengths");
                    encode_all(&host, &mut s, &binding, budget < Duration::from_millis(1));

                    let label = format!("{} {strategy} {budget:?} {lengths:?}", cell.name);
                    assert_eq!(bits(&host.read(&y)), bits(&expected.y.data), "y {label}");
                    assert_eq!(bits(&host.read(&hn)), bits(&expected.hn.data), "hn {label}");
                    if let Some(want) = &expected.cn {
                        assert_eq!(bits(&host.read(&cn)), bits(&want.data), "cn {label}");
                    }
                }
            }
        }
    }
}

/// Encodes the whole run, by parts where the plan has several, and submits it.
fn encode_all(host: &Host, s: &mut Session, binding: &wgpu_rnn::IoBinding, several: bool) {
    let parts = s.plan().submit_count();
    assert_eq!(parts > 1, several);
    let mut encoder = host.device.create_command_encoder(&Default::default());
    if !several {
        s.encode(&mut encoder, binding).expect("one submit");
        host.queue.submit([encoder.finish()]);
        return;
    }
    let text = mismatch(s.encode(&mut encoder, binding));
    assert_eq!(text, format!("encode: expected a plan of one submit (or encode_part), got {parts} submits"));
    for part in 0..parts {
        let mut encoder = host.device.create_command_encoder(&Default::default());
        s.encode_part(part, &mut encoder, binding).expect("a part");
        host.queue.submit([encoder.finish()]);
    }
    let text = mismatch(s.encode_part(parts, &mut encoder, binding));
    assert_eq!(text, format!("part: expected 0..{parts}, got {parts}"));
}

#[test]
fn a_hosts_buffers_that_do_not_fit_are_refused() {
    let host = Host::new();
    let device = Device::from_wgpu(host.device.clone(), host.queue.clone());
    let s = session(&device, &config(&cells::GRU), SHAPE);
    let small = host.buffer(92, None);
    let text = mismatch(s.bind(&IoBuffers { x: Some(&small), ..Default::default() }));
    assert_eq!(text, "buffer x: expected at least 96 bytes, got 92 bytes");
    let text = mismatch(s.bind(&IoBuffers { y: Some(&small), ..Default::default() }));
    assert_eq!(text, "buffer y: expected at least 240 bytes, got 92 bytes");
    for (io, what) in [
        (IoBuffers { c0: Some(&small), ..Default::default() }, "c0"),
        (IoBuffers { cn: Some(&small), ..Default::default() }, "cn"),
    ] {
        let text = mismatch(s.bind(&io));
        assert_eq!(text, format!("{what}: expected none (gru has no cell state), got a buffer"));
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 96, usage, mapped_at_creation: false };
    let uniform = host.device.create_buffer(&descriptor);
    match s.bind(&IoBuffers { x: Some(&uniform), ..Default::default() }) {
        Err(e @ Error::Gpu { .. }) => assert!(e.to_string().contains("STORAGE"), "{e}"),
        other => panic!("expected Error::Gpu, got {:?}", other.err()),
    }
    let foreign = Host::on(host.adapter.clone()).buffer(96, None);
    match s.bind(&IoBuffers { x: Some(&foreign), ..Default::default() }) {
        Err(Error::Gpu { .. }) => {}
        other => panic!("expected Error::Gpu, got {:?}", other.err()),
    }
}

/// Where there are adapters, but not one that is wanted, no driver is asked for.
#[test]
fn adapters_that_nobody_wants_are_listed() {
    let name = gpu().gpu_info().expect("a GPU").name.clone();
    let error = Device::gpu_where(|_| false).expect_err("none is wanted").to_string();
    assert!(error.contains(&name) && error.contains("wants none of them") && !error.contains("driver"), "{error}");
}

/// A CPU device of its own threads: as many as asked for, the same bits, and not none.
#[test]
fn the_cpu_executor_takes_a_number_of_threads() {
    let error = Device::cpu_with_threads(0).expect_err("no threads");
    assert_eq!(error.to_string(), "threads of the CPU executor: expected at least 1, got 0");
    let c = RnnConfig { cell: &cells::LSTM, input_size: 64, hidden_size: 129, ..Default::default() };
    let shape = Shape { time: 20, batch: 13 };
    let x = values(shape.time * shape.batch * 64);
    let run = |device: &Device| {
        let mut s = session(device, &c, shape);
        s.forward(&Input::new(View::new(&x, &[shape.time, shape.batch, 64]))).expect("a run")
    };
    let own = run(&Device::cpu());
    for threads in [1, 3] {
        let device = Device::cpu_with_threads(threads).expect("threads");
        assert_eq!(device.to_string(), format!("CPU executor, {threads} threads"));
        assert_eq!(device.caps().parallel_groups, threads);
        assert_eq!(run(&device), own);
    }
}
