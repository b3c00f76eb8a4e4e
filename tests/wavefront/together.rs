//! Waves with everything else that a plan may be about, and what rules them out.

use super::bits::assert_same_bits;
use super::harness::*;
use super::{caps, options, recurrent, stack};
use std::time::Duration;
use wgpu_rnn::*;

fn small(cell: &'static Cell) -> RnnConfig {
    RnnConfig { cell, input_size: 5, hidden_size: 5, num_layers: 3, ..Default::default() }
}

#[test]
fn episodes_zoneout_recurrent_dropout_and_skipped_inputs_keep_their_bits() {
    let dropout = Dropout { recurrent: 0.4, ..Default::default() };
    let zoneout = Zoneout { hidden: 0.3, cell: 0.2 };
    for (device, strategy) in executors() {
        for reset in [Reset::Zero, Reset::Initial] {
            let episodes = Case::new(small(&cells::GRU_RESET_BEFORE), 9, 3, 41)
                .with_lengths(&[9, 4, 7])
                .with_resets(reset, &[(2, 0), (5, 0), (3, 1), (6, 2)]);
            assert_same_bits("episodes", &episodes, &device, strategy, &[1, 3]);
        }
        for (what, config) in [
            ("zoneout", RnnConfig { zoneout, ..small(&cells::LSTM) }),
            ("recurrent dropout", RnnConfig { dropout, ..small(&cells::LSTM) }),
            ("skipped input", RnnConfig { input: InputMode::Skip, ..small(&cells::GRU) }),
            ("batch first", RnnConfig { layout: Layout::BatchFirst, ..small(&cells::LSTM_LAYER_NORM) }),
            ("heads", RnnConfig { recurrence: Recurrence::Diagonal, ..small(&cells::RNN_TANH) }),
        ] {
            let case = Case::new(config, 9, 3, 42).with_lengths(&[9, 4, 7]);
            assert_same_bits(what, &case, &device, strategy, &[1, 4]);
        }
    }
}

/// Formats in fewer bits, plans without y, blocks and submits cut short.
#[test]
fn other_options_keep_their_bits() {
    let case = Case::new(small(&cells::GRU), 9, 3, 43).with_lengths(&[9, 4, 7]);
    let mut list = vec![
        Options { weights: WeightFormat::F16, ..Default::default() },
        Options { weights: WeightFormat::Int8, ..Default::default() },
        Options { keep_y: false, ..Default::default() },
        Options { submit_budget: Duration::from_nanos(1), ..Default::default() },
        Options { max_block: Some(2), ..Default::default() },
    ];
    if gpu().caps().f16 {
        list.push(Options { activations: ActivationFormat::F16, ..Default::default() });
    }
    for base in list {
        for (device, strategy) in executors() {
            let run = |wavefront| {
                let options = Options { strategy: Some(strategy), wavefront, ..base.clone() };
                let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
                let mut session = Session::from_plan(&device, plan, &case.weights).unwrap();
                session.poison().unwrap();
                case.run_in(&mut session)
            };
            let what = format!("{base:?} on {} with {strategy}", device.kind());
            assert_same(&what, &run(Wavefront::Off), &run(Wavefront::Chunk(4)));
        }
    }
}

/// A session without waves shares the weights of one with them, also those that were updated on the device.
#[test]
fn siblings_share_weights_whatever_their_waves() {
    let case = Case::new(small(&cells::LSTM), 7, 3, 44).with_lengths(&[7, 2, 5]);
    for (device, strategy) in executors() {
        let trained = |own: Wavefront, other: Wavefront| {
            let optimiser = Some(Optimiser::adamw(0.1));
            let mut session = case.training::<f32>(&device, Options { optimiser, ..options(strategy, own) });
            let mut sibling = session.sibling(case.shape, &options(strategy, other)).unwrap();
            for _ in 0..2 {
                case.train_in(&mut session);
                session.update(0.05).unwrap();
            }
            (session.weights().unwrap(), case.run_in(&mut sibling))
        };
        let plain = trained(Wavefront::Off, Wavefront::Off);
        for (own, other) in [(Wavefront::Chunk(2), Wavefront::Off), (Wavefront::Off, Wavefront::Chunk(3))] {
            let what = format!("{own:?} and {other:?} on {} with {strategy}", device.kind());
            let waves = trained(own, other);
            assert_eq!(waves.0, plain.0, "{what}");
            assert_same(&what, &plain.1, &waves.1);
        }
    }
}

/// An embedding before the stack and a head behind it: outputs, loss and parameters after updates.
#[test]
fn embeddings_and_heads_keep_their_bits() {
    let head = Some(Head { size: 4, loss: Some(Loss::CrossEntropy) });
    let config = RnnConfig { vocabulary: Some(7), head, ..small(&cells::GRU) };
    let shape = Shape { time: 9, batch: 2 };
    let weights = Weights::<f32>::random(&config, 45).unwrap();
    let ids: Vec<u32> = (0..18).map(|n| n * 5 % 7).collect();
    let classes: Vec<u32> = (0..18).map(|n| n * 3 % 4).collect();
    for (device, strategy) in executors() {
        let train = |wavefront| {
            let options =
                Options { train: true, optimiser: Some(Optimiser::adamw(0.1)), ..options(strategy, wavefront) };
            let plan = Plan::new(&config, shape, &device.caps(), &options).unwrap();
            let mut session = Session::from_plan(&device, plan, &weights).unwrap();
            session.poison().unwrap();
            let input = Input { lengths: Some(&[9, 5]), ..Input::of_ids(View::new(&ids, &[9, 2])) };
            let mut losses = Vec::new();
            for _ in 0..2 {
                session.write(&input).unwrap();
                session.write_targets(&Targets::classes(View::new(&classes, &[9, 2]))).unwrap();
                session.run().unwrap();
                losses.push(session.loss().unwrap());
                session.run_back().unwrap();
                session.update(0.05).unwrap();
            }
            (losses, session.weights().unwrap())
        };
        let what = format!("{} with {strategy}", device.kind());
        assert_eq!(train(Wavefront::Chunk(4)), train(Wavefront::Off), "{what}");
    }
}

/// What a profile counts is what the plan says.
#[test]
fn a_profile_counts_the_dispatches_and_the_work_of_waves() {
    let case = Case::new(small(&cells::LSTM), 9, 2, 46);
    for device in [Device::cpu(), gpu()] {
        let mut session = case.training::<f32>(&device, options(Strategy::Step, Wavefront::Chunk(4)));
        case.with_input(|input| session.write(input).unwrap());
        case.with_upstream_as(|upstream| session.write_upstream(upstream).unwrap());
        let forward = session.profile().unwrap();
        let backward = session.profile_backward().unwrap();
        let sum = |times: &[KernelTime]| times.iter().map(|t| t.dispatches).sum::<usize>();
        assert_eq!(sum(&forward), session.plan().forward_dispatches());
        assert_eq!(sum(&backward), session.plan().backward_dispatches());
        let steps = forward.iter().find(|t| t.kernel == "step_forward").unwrap();
        // R of three LSTM layers at nine steps of two sequences.
        assert_eq!((steps.dispatches, steps.flops), (9 + 2 * 4, 2 * 3 * 9 * 2 * 20 * 5));
    }
}

#[test]
fn what_rules_waves_out_is_told() {
    let shape = Shape { time: 100, batch: 4 };
    let lstm = stack(&cells::LSTM, 3);
    let dropout = Dropout { layers: 0.2, ..Default::default() };
    let training = Options { train: true, ..Default::default() };
    let wide = RnnConfig { hidden_size: 2048, ..lstm.clone() };
    let table = [
        (RnnConfig { num_layers: 1, ..lstm.clone() }, Options::default(), "there is one layer"),
        (
            RnnConfig { direction: Direction::Bidirectional, ..lstm.clone() },
            Options::default(),
            "upper layers of a bidirectional stack need all of time",
        ),
        (
            RnnConfig { dropout, ..lstm.clone() },
            training.clone(),
            "dropout between layers works on all steps of a layer at once",
        ),
        (
            lstm.clone(),
            Options { memory: Memory::Checkpoint(64), ..training.clone() },
            "memory policy checkpoint=64 keeps one layer's steps at a time",
        ),
        (
            lstm.clone(),
            Options { memory: Memory::Recompute, ..training },
            "memory policy recompute keeps one layer's steps at a time",
        ),
        (wide, Options::default(), "R of all layers does not fit one binding"),
    ];
    for (config, options, reason) in table {
        let options = Options { strategy: Some(Strategy::Step), ..options };
        let plan = Plan::new(&config, shape, &caps(), &options).unwrap();
        assert_eq!((plan.chunk, plan.wavefront_reason.as_str()), (None, reason));
        let forced = Options { wavefront: Wavefront::Chunk(8), ..options };
        let error = Plan::new(&config, shape, &caps(), &forced).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert_eq!(error.to_string(), format!("not supported: a wavefront of chunks of 8 steps: {reason}"));
    }
    let none = Options { wavefront: Wavefront::Chunk(0), ..Default::default() };
    let error = Plan::new(&lstm, shape, &caps(), &none).unwrap_err();
    assert_eq!(error.to_string(), "wavefront: expected chunks of at least one step, got 0");
    // Dropout acts in training only.
    let plan = Plan::new(&RnnConfig { dropout, ..lstm }, shape, &caps(), &Options::default()).unwrap();
    assert!(plan.chunk.is_some(), "{plan}");
}

#[test]
fn the_choice_follows_from_the_device_and_the_work() {
    let lstm = stack(&cells::LSTM, 4);
    let choose = |config: &RnnConfig, time, batch, caps: &Caps, strategy| {
        let plan = Plan::new(config, Shape { time, batch }, caps, &options(strategy, Wavefront::Auto)).unwrap();
        (plan.chunk, plan.wavefront_reason.clone(), recurrent(&plan.steps))
    };
    let (chunk, _, count) = choose(&lstm, 1000, 1, &caps(), Strategy::Step);
    assert_eq!((chunk, count), (Some(64), 1000 + 3 * 64));
    let (chunk, reason, _) = choose(&lstm, 2, 1, &caps(), Strategy::Step);
    assert_eq!((chunk, reason.starts_with("2 steps are too few")), (None, true), "{reason}");
    let (chunk, reason, _) = choose(&stack(&cells::LSTM, 2), 60, 512, &caps(), Strategy::Step);
    // Four lanes share a unit: 16 units to a workgroup.
    assert_eq!((chunk, reason.as_str()), (None, "1024 workgroups of one layer's step keep the device busy"));
    let (chunk, reason, _) = choose(&lstm, 100, 1, &caps(), Strategy::Sequence);
    assert_eq!((chunk, reason.starts_with("the time loop is inside the kernel")), (None, true), "{reason}");
    let (chunk, reason, _) = choose(&lstm, 100, 1, &Device::cpu().caps(), Strategy::Step);
    assert_eq!((chunk, reason.starts_with("CPU executor")), (None, true), "{reason}");
    // Within a budget that only layers one after the other fit, they come one after the other.
    let trained = |wavefront, memory| {
        let options = Options { train: true, memory, ..options(Strategy::Step, wavefront) };
        Plan::new(&lstm, Shape { time: 100, batch: 4 }, &caps(), &options).unwrap()
    };
    let (auto, off) = (trained(Wavefront::Auto, Memory::Save), trained(Wavefront::Off, Memory::Save));
    assert!(auto.bytes() > off.bytes());
    let within = trained(Wavefront::Auto, Memory::Auto(off.bytes()));
    assert_eq!((within.chunk, within.bytes()), (None, off.bytes()));
}
