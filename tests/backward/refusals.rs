//! Calls of `backward` that cannot be, each with the error that says why.

use super::harness::*;
use wgpu_rnn::*;

fn case(cell: &'static Cell) -> Case {
    Case::new(RnnConfig { cell, input_size: 2, hidden_size: 5, num_layers: 2, ..Default::default() }, 4, 3, 61)
}

/// The error's text, and that it is a mismatch.
#[track_caller]
fn mismatch<T>(result: Result<T>) -> String {
    match result {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        Err(e) => panic!("expected a mismatch, got {e:?}"),
        Ok(_) => panic!("expected a mismatch, got a result"),
    }
}

const NOTHING: Upstream<'_, f32> = Upstream { y: None, hn: None, cn: None };
const NO_RUN: &str = "backward: expected a forward run before it, got none since the last backward pass";

#[test]
fn an_inference_plan_cannot_go_back() {
    for (device, strategy) in executors() {
        let case = case(&cells::LSTM);
        let mut s = case.session(&device, strategy, None);
        let text = "backward: expected a plan made with Options { train: true, .. }, got an inference plan";
        assert_eq!(mismatch(s.backward(&NOTHING)), text);
        case.run_in(&mut s);
        assert_eq!(mismatch(s.backward(&NOTHING)), text);
        assert_eq!(mismatch(s.trace_backward(&NOTHING)), text);
        // A session for another shape is of the same kind.
        assert_eq!(mismatch(s.for_shape(Shape { time: 1, batch: 1 }).unwrap().backward(&NOTHING)), text);
    }
}

/// The kept values turn into gradients: there is one way back per way there.
#[test]
fn every_way_back_needs_its_own_way_there() {
    for (device, strategy) in executors() {
        let case = case(&cells::GRU);
        let mut s = case.training::<f32>(&device, forced(strategy));
        let back = |s: &mut Session| case.with_upstream_as(|up| s.backward(up));
        assert_eq!(mismatch(back(&mut s)), NO_RUN);
        let (_, first) = case.train_in(&mut s);
        assert_eq!(mismatch(back(&mut s)), NO_RUN);
        assert_eq!(mismatch(case.with_upstream_as(|up| s.trace_backward(up))), NO_RUN);
        // `run` and `trace` are ways there too.
        case.with_input(|input| s.write(input)).unwrap();
        s.run().unwrap();
        assert_eq!(back(&mut s).unwrap(), first);
        case.with_input(|input| s.trace(input)).unwrap();
        assert_eq!(back(&mut s).unwrap(), first);
        assert_eq!(mismatch(back(&mut s)), NO_RUN);
    }
}

/// A new input, or new lengths, between the two: the kept values belong to another run than the input does.
#[test]
fn an_input_written_after_the_run_takes_the_way_back_away() {
    for (device, strategy) in executors() {
        let case = case(&cells::GRU);
        let mut s = case.training::<f32>(&device, forced(strategy));
        let back = |s: &mut Session| mismatch(case.with_upstream_as(|up| s.backward(up)));
        case.run_in(&mut s);
        case.with_input(|input| s.write(input)).unwrap();
        assert_eq!(back(&mut s), NO_RUN, "write");
        case.run_in(&mut s);
        s.set_lengths(Some(&[4, 1, 2])).unwrap();
        assert_eq!(back(&mut s), NO_RUN, "set_lengths");
        // Lengths that are the same, and an input that is refused, change nothing.
        let (_, whole) = case.train_in(&mut s);
        case.run_in(&mut s);
        s.set_lengths(None).unwrap();
        let wrong = vec![0.0; 24];
        mismatch(s.forward(&Input::new(View::new(&wrong, &[3, 4, 2]))));
        assert_eq!(case.with_upstream_as(|up| s.backward(up)).unwrap(), whole);
    }
}

/// A run encoded for a host leaves nothing to go back through: it reads the host's x.
#[test]
fn an_encoded_run_takes_the_way_back_away() {
    let (device, case) = (gpu(), case(&cells::LSTM));
    let mut s = case.training::<f32>(&device, Options::default());
    case.run_in(&mut s);
    let binding = s.bind(&IoBuffers::default()).unwrap();
    let mut encoder = device.wgpu().unwrap().0.create_command_encoder(&Default::default());
    s.encode(&mut encoder, &binding).unwrap();
    assert_eq!(mismatch(case.with_upstream_as(|up| s.backward(up))), NO_RUN);
}

#[test]
fn a_lost_device_is_an_error_on_the_way_back_too() {
    let case = case(&cells::LSTM_PEEPHOLE);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        for traced in [false, true] {
            // A device of its own to lose.
            let device = Device::gpu().unwrap();
            let mut s = case.training::<f32>(&device, forced(strategy));
            case.run_in(&mut s);
            device.wgpu().unwrap().0.destroy();
            let back = |s: &mut Session| {
                case.with_upstream_as(
                    |up| if traced { s.trace_backward(up).map(drop) } else { s.backward(up).map(drop) },
                )
            };
            match back(&mut s) {
                Err(e @ Error::DeviceLost { .. }) => assert!(e.to_string().starts_with("device lost: "), "{e}"),
                other => panic!("expected a lost device, got {other:?}"),
            }
            assert!(matches!(back(&mut s), Err(Error::DeviceLost { .. } | Error::Mismatch { .. })));
            assert!(matches!(case.with_input(|i| s.forward(i)), Err(Error::DeviceLost { .. })));
        }
    }
}

#[test]
fn wrong_shapes_are_refused_in_the_callers_terms_and_leave_the_run_to_go_back_through() {
    let (y, h) = (vec![0.5; 4 * 3 * 5], vec![0.5; 2 * 3 * 5]);
    for (device, strategy) in executors() {
        let lstm = case(&cells::LSTM);
        let mut s = lstm.training::<f32>(&device, forced(strategy));
        lstm.run_in(&mut s);
        let view = |data, shape| Some(View::new(data, shape));
        let mut refuse = |y, hn, cn| mismatch(s.backward(&Upstream { y, hn, cn }));
        assert_eq!(refuse(view(&y[..], &[3, 4, 5]), None, None), "dy: expected [T, B, D·P] = [4, 3, 5], got [3, 4, 5]");
        assert_eq!(refuse(view(&y, &[60]), None, None), "dy: expected [T, B, D·P] = [4, 3, 5], got [60]");
        assert_eq!(refuse(view(&y, &[12, 5]), None, None), "dy: expected [T, B, D·P] = [4, 3, 5], got [12, 5]");
        let text = "dy: expected [4, 3, 5] = 60 values, got 59 values";
        assert_eq!(refuse(view(&y[1..], &[4, 3, 5]), None, None), text);
        assert_eq!(refuse(None, view(&h, &[3, 2, 5]), None), "dhn: expected [L·D, B, P] = [2, 3, 5], got [3, 2, 5]");
        assert_eq!(refuse(None, None, view(&h, &[6, 5])), "dcn: expected [L·D, B, H] = [2, 3, 5], got [6, 5]");
        let text = "dcn: expected [2, 3, 5] = 30 values, got 29 values";
        assert_eq!(refuse(None, None, view(&h[1..], &[2, 3, 5])), text);
        // None of it touched the run.
        let got = lstm.with_upstream_as(|up| s.backward(up)).unwrap();
        assert_same_gradients("after refusals", &lstm.config, &lstm.train(&device, strategy).1, &got);

        let gru = case(&cells::GRU);
        let mut s = gru.training::<f32>(&device, forced(strategy));
        gru.run_in(&mut s);
        let text = mismatch(s.backward(&Upstream { y: None, hn: None, cn: view(&h, &[2, 3, 5]) }));
        assert_eq!(text, "dcn: expected none (gru has no cell state), got [2, 3, 5]");

        let projected = RnnConfig { proj_size: 3, layout: Layout::BatchFirst, ..lstm.config.clone() };
        let projected = Case::new(projected, 4, 3, 62);
        let mut s = projected.training::<f32>(&device, forced(strategy));
        projected.run_in(&mut s);
        let text = mismatch(s.backward(&Upstream { y: view(&y, &[4, 3, 5]), ..NOTHING }));
        assert_eq!(text, "dy: expected [B, T, D·P] = [3, 4, 3], got [4, 3, 5]");
        let text = mismatch(s.backward(&Upstream { hn: view(&h, &[2, 3, 5]), ..NOTHING }));
        assert_eq!(text, "dhn: expected [L·D, B, P] = [2, 3, 3], got [2, 3, 5]");
    }
}

#[test]
fn f64_trains_on_the_cpu_only() {
    let case = case(&cells::LSTM);
    let options = Options { train: true, precision: Precision::F64, ..Default::default() };
    let error = Plan::new(&case.config, case.shape, &gpu().caps(), &options).expect_err("no f64 in WGSL");
    assert_eq!(error.to_string(), "not supported: f64 on a GPU: WGSL has no f64; use the CPU executor");
    let (out, gradients) = case.train_in(&mut case.training::<f64>(&Device::cpu(), Options::default()));
    assert!(out.y.data.iter().chain(&gradients.x.data).all(|v| v.is_finite()));
}
