//! What updates keep to, bit for bit, on both executors.

use super::harness::*;
use wgpu_rnn::*;

fn config(cell: &'static Cell, proj_size: usize, bias: Bias) -> RnnConfig {
    let direction = Direction::Bidirectional;
    let sizes = RnnConfig { cell, input_size: 5, hidden_size: 6, num_layers: 2, ..Default::default() };
    RnnConfig { direction, proj_size, bias, ..sizes }
}

fn optimising(strategy: Strategy) -> Options {
    Options { optimiser: Some(Optimiser::adamw(0.1)), clip_norm: Some(0.5), ..forced(strategy) }
}

fn train(case: &Case, session: &mut Session, steps: usize) {
    for _ in 0..steps {
        case.train_in(session);
        session.update(0.05).unwrap();
    }
}

/// After updates a session runs on the parameters that it reads back, both ways: packed again on the device they are, bit for
/// bit, what an upload makes of them. A sibling of another shape, made before or after, sees them too.
#[test]
fn updated_weights_are_those_of_a_new_session() {
    for (cell, proj_size) in cells_and_projections(4) {
        for bias in [Bias::None, Bias::One, Bias::Two] {
            for (device, strategy) in executors_for(cell, proj_size) {
                // What is packed does not depend on the strategy: both with all biases, one with fewer.
                if matches!((bias, strategy), (Bias::None, Strategy::Step) | (Bias::One, Strategy::Sequence)) {
                    continue;
                }
                let what = format!("{} P={proj_size} {bias:?} on {} with {strategy}", cell.name, device.kind());
                let case = Case::new(config(cell, proj_size, bias), 3, 2, 81);
                let one = Case { weights: case.weights.clone(), ..Case::new(case.config.clone(), 1, 1, 82) };
                let mut session = case.training::<f32>(&device, optimising(strategy));
                let mut sibling = session.sibling(one.shape, &forced(strategy)).unwrap();
                let before = one.run_in(&mut sibling);
                assert_same(&format!("{what}: sibling before"), &one.run(&device, strategy), &before);
                train(&case, &mut session, 2);

                let weights = session.weights().unwrap();
                assert_ne!(weights, case.weights, "{what}");
                let fresh = Case { weights: weights.clone(), ..case.clone() }.train(&device, strategy);
                let own = case.poisoned(&mut session);
                assert_same(&what, &fresh.0, &own.0);
                assert_same_gradients(&what, &case.config, &fresh.1, &own.1);

                let fresh = Case { weights, ..one.clone() }.run(&device, strategy);
                assert_ne!(bits(&before.y.data), bits(&fresh.y.data), "{what}");
                assert_same(&format!("{what}: sibling"), &fresh, &one.run_in(&mut sibling));
                let mut late = session.sibling(one.shape, &forced(strategy)).unwrap();
                assert_same(&format!("{what}: late sibling"), &fresh, &one.run_in(&mut late));
            }
        }
    }
}

/// Weights put in place are those of a new session, both ways, and a sibling's; an update goes on from them; a run before cannot be
/// gone back through.
#[test]
fn weights_put_in_place_are_those_of_a_new_session() {
    for (cell, proj_size) in cells_and_projections(4) {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let case = Case::new(config(cell, proj_size, Bias::Two), 3, 2, 84);
            let other = Case { weights: Weights::random(&case.config, 85).unwrap(), ..case.clone() };
            let one = Case { weights: other.weights.clone(), ..Case::new(case.config.clone(), 1, 1, 86) };
            let mut session = case.training::<f32>(&device, optimising(strategy));
            let mut sibling = session.sibling(one.shape, &forced(strategy)).unwrap();
            case.train_in(&mut session);
            case.run_in(&mut session);
            session.set_weights(&other.weights).unwrap();
            assert!(session.run_back().is_err(), "{what}: a run with other weights");
            assert_eq!(session.weights().unwrap(), other.weights, "{what}");
            let (fresh, own) = (other.train(&device, strategy), case.poisoned(&mut session));
            assert_same(&what, &fresh.0, &own.0);
            assert_same_gradients(&what, &case.config, &fresh.1, &own.1);
            assert_same(&format!("{what}: sibling"), &one.run(&device, strategy), &one.run_in(&mut sibling));
        }
    }
    let case = Case::new(config(&cells::GRU, 0, Bias::Two), 3, 2, 87);
    for (device, strategy) in executors() {
        let mut session = case.training::<f32>(&device, optimising(strategy));
        let mut sibling = session.sibling(case.shape, &Options { train: true, ..forced(strategy) }).unwrap();
        case.run_in(&mut sibling);
        let refused = sibling.set_weights(&case.weights);
        assert!(refused.unwrap_err().to_string().contains("a sibling of it"));
        session.set_weights(&case.weights).unwrap();
        let stale = sibling.run_back();
        assert!(stale.unwrap_err().to_string().contains("none since the parameters changed"));
        case.run_in(&mut sibling);
        sibling.run_back().unwrap();
    }
    let mut session = case.session(&Device::cpu(), Strategy::Step, None);
    let refused = session.set_weights(&Weights::default());
    assert!(matches!(refused, Err(Error::Mismatch { .. })), "{refused:?}");
}

#[test]
fn trainings_repeat() {
    for (device, strategy) in executors() {
        let case = Case::new(config(&cells::LSTM_PEEPHOLE, 0, Bias::Two), 4, 3, 83).with_lengths(&[2, 4, 1]);
        let run = |poison: bool| {
            let mut session = case.training::<f32>(&device, optimising(strategy));
            if poison {
                session.poison().unwrap();
            }
            train(&case, &mut session, 3);
            session.weights().unwrap()
        };
        let names = |weights: &Weights| -> Vec<_> {
            weights.named(&case.config).map(|(p, values)| (p.name, bits(values))).collect()
        };
        assert_eq!(names(&run(false)), names(&run(true)), "{} {strategy}", device.kind());
    }
}

/// Gradients of parameters add up until they are cleared or used; those of x, h0 and c0 do not.
#[test]
fn accumulated_gradients_are_sums() {
    for (device, strategy) in executors() {
        for cell in [&cells::LSTM_PEEPHOLE, &cells::GRU, &cells::GRU_RESET_BEFORE, &cells::LSTM_LAYER_NORM] {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let first = Case::new(config(cell, 0, Bias::Two), 4, 3, 84);
            let second = Case { weights: first.weights.clone(), ..Case::new(first.config.clone(), 4, 3, 85) };
            let (one, two) = (first.train(&device, strategy).1, second.train(&device, strategy).1);
            let options = Options { accumulate: true, optimiser: Some(Optimiser::sgd(0.0)), ..forced(strategy) };
            let mut session = first.training::<f32>(&device, options);
            let same = |when: &str, expected: &Gradients<f32>, got: &Gradients<f32>| {
                assert_same_gradients(&format!("{what}, {when}"), &first.config, expected, got);
            };
            same("first", &one, &first.poisoned(&mut session).1);
            // A few steps are a single block of the sum, so it is one addition.
            let mut sum = two.clone();
            for ((p, a), (_, b)) in one.weights.named(&first.config).zip(two.weights.named(&first.config)) {
                *sum.weights.get_mut(p.place) = a.iter().zip(b).map(|(a, b)| a + b).collect();
            }
            same("second", &sum, &second.train_in(&mut session).1);
            session.clear_gradients();
            same("cleared", &two, &second.train_in(&mut session).1);
            session.update(0.0).unwrap();
            same("updated", &one, &first.train_in(&mut session).1);
        }
    }
}

/// The same over several stretches of time and segments, where the additions are in another order.
#[test]
fn accumulation_crosses_segments() {
    let sizes = RnnConfig { cell: &cells::LSTM_PEEPHOLE, input_size: 2, hidden_size: 3, ..Default::default() };
    let case = Case::new(sizes, 70, 2, 86);
    let truth = case.true_gradients();
    for (device, strategy) in executors() {
        let memory = Memory::Checkpoint(64);
        let once = case.training::<f32>(&device, Options { memory, ..forced(strategy) });
        let options = Options { accumulate: true, memory, ..forced(strategy) };
        let mut twice = case.training::<f32>(&device, options);
        let once = case.train_in(&mut { once }).1;
        case.train_in(&mut twice);
        let twice = case.train_in(&mut twice).1;
        for ((p, truth), ((_, once), (_, twice))) in truth
            .weights
            .named(&case.config)
            .zip(once.weights.named(&case.config).zip(twice.weights.named(&case.config)))
        {
            let f64s = |v: &[f32], factor: f64| v.iter().map(|&v| f64::from(v) * factor).collect::<Vec<_>>();
            let scale = wgpu_rnn_verify::tolerance::scale(truth);
            let error = wgpu_rnn_verify::tolerance::error(&f64s(once, 1.0), truth);
            let bound = wgpu_rnn_verify::tolerance::bound_f32(scale, error);
            let off = wgpu_rnn_verify::tolerance::error(&f64s(twice, 0.5), truth);
            assert!(off <= bound, "{} on {} {strategy}: off by {off}, bound {bound}", p.name, device.kind());
        }
    }
}

/// No pipeline, bind group or buffer is made by a training loop that reads nothing but a norm.
#[test]
fn a_training_loop_creates_nothing() {
    // A device of its own: other tests' objects do not count.
    let device = Device::gpu().unwrap();
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let case = Case::new(config(&cells::LSTM, 3, Bias::Two), 3, 2, 87);
        let options = Options { accumulate: true, ..optimising(strategy) };
        let mut session = case.training::<f32>(&device, options);
        let turn = |session: &mut Session| {
            for _ in 0..2 {
                case.with_input(|input| session.write(input)).unwrap();
                session.run().unwrap();
                case.with_upstream_as(|up| session.write_upstream(up)).unwrap();
                session.run_back().unwrap();
            }
            session.update(0.01).unwrap();
            assert!(session.gradient_norm().unwrap() > 0.0);
        };
        turn(&mut session);
        let (ours, theirs) = (session.objects_created(), allocated(&device));
        (0..3).for_each(|_| turn(&mut session));
        assert_eq!(session.objects_created(), ours);
        assert_eq!(allocated(&device), theirs, "{strategy}: wgpu objects alive");
    }
}

/// `for_shape` keeps every option but the optimiser, which has one owner.
#[test]
fn a_session_for_another_shape_keeps_the_options() {
    let case = Case::new(config(&cells::GRU, 0, Bias::Two), 70, 2, 88);
    let submit_budget = std::time::Duration::from_millis(3);
    let memory = Memory::Checkpoint(64);
    let options = Options { accumulate: true, max_block: Some(9), submit_budget, memory, ..optimising(Strategy::Step) };
    let session = case.training::<f32>(&Device::cpu(), options.clone());
    let other = session.for_shape(Shape { time: 80, batch: 1 }).unwrap();
    let kept = Options { train: true, optimiser: None, clip_norm: None, ..options };
    assert_eq!((&other.plan().options, other.plan().block), (&kept, 9));
    assert_eq!(session.plan().options.clip_norm, Some(0.5));
}

/// The update is a list of steps like the others: printed, counted, within limits; nobody else has its memory.
#[test]
fn the_update_is_in_the_plan_and_only_there() {
    let case = Case::new(config(&cells::LSTM, 0, Bias::Two), 3, 2, 89);
    let caps = Device::cpu().caps();
    let plan = |options: Options| Plan::new(&case.config, case.shape, &caps, &options).unwrap();
    let without = plan(Options { train: true, ..Default::default() });
    let with = plan(Options { train: true, ..optimising(Strategy::Sequence) });
    // Per layer dw and dr; square_sum, clip, update; per layer four packs.
    assert_eq!((without.update_dispatches(), with.update_dispatches()), (0, 2 * 2 + 3 + 2 * 4));
    assert_eq!(with.dispatches(), with.forward_dispatches() + with.backward_dispatches() + with.update_dispatches());
    let text = with.to_string();
    let clipped =
        "\n  update: 15 in 1 submit(s) more (AdamW, beta (0.9, 0.999), epsilon 1e-8, weight decay 0.1, gradients";
    for line in [
        clipped,
        "\n  gather_gradient (table.dw.l0, dw.l0, gradient)\n",
        "\n  square_sum (gradient, sums)\n  clip (sums, norm, hyper)\n  update_adam (hyper, gradient, parameters, m, v)\n",
        "\n  pack (table.wt.l1, parameters, wt.l1)\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let p: usize = weights::parameters(&case.config).iter().map(|p| p.shape.iter().product::<usize>()).sum();
    for name in ["parameters", "gradient", "m", "v"] {
        let slot = with.slots.iter().find(|s| s.name == name).unwrap();
        assert_eq!(slot.len(), p, "{name}");
        assert!(without.slots.iter().all(|s| s.name != name), "{name}");
    }
}
