//! The laws of the backward pass that hold bit for bit, within one strategy, on both executors, for every cell.

use super::harness::*;
use std::time::Duration;
use wgpu_rnn::*;

fn config(cell: &'static Cell, proj_size: usize, direction: Direction) -> RnnConfig {
    RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, direction, proj_size, ..Default::default() }
}

/// Runs `law` for every cell, with and without projection, executor and strategy.
fn for_all(law: impl Fn(&str, RnnConfig, &Device, Strategy)) {
    for (cell, proj_size) in cells_and_projections(5) {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            law(&what, config(cell, proj_size, Direction::Bidirectional), &device, strategy);
        }
    }
}

/// Keeping what the way back needs does not change the way there.
#[test]
fn training_plans_give_the_outputs_of_inference_plans() {
    for_all(|what, config, device, strategy| {
        let case = Case::new(config, 5, 4, 41);
        let mut inference = case.session(device, strategy, None);
        let mut training = case.training(device, forced(strategy));
        for lengths in [[5, 5, 5, 5], [2, 5, 1, 3]] {
            let case = case.clone().with_lengths(&lengths);
            assert_same(what, &case.run_in(&mut inference), &case.poisoned(&mut training).0);
        }
    });
}

/// Running first and reading later gives what `forward` and `backward` give; before a run there is nothing to read.
#[test]
fn what_ran_can_be_read_later() {
    for (device, strategy) in executors() {
        let case = Case::new(config(&cells::LSTM, 6, Direction::Bidirectional), 5, 4, 43).with_lengths(&[2, 5, 1, 3]);
        let what = format!("{} with {strategy}", device.kind());
        let (output, gradients) = case.train(&device, strategy);
        let mut session = case.training::<f32>(&device, forced(strategy));
        assert!(matches!(session.output(), Err(Error::Mismatch { .. })), "{what}");
        case.with_input(|input| session.write(input).unwrap());
        session.run().unwrap();
        assert_same(&what, &output, &session.output().unwrap());
        assert!(matches!(session.gradients(), Err(Error::Mismatch { .. })), "{what}");
        case.with_upstream_as(|upstream| session.write_upstream(upstream).unwrap());
        session.run_back().unwrap();
        assert_eq!(session.gradients().unwrap(), gradients, "{what}");
        assert_same(&what, &output, &session.output().unwrap());
    }
}

/// Two runs, and a run in a session that ran something else before, give the same bits; so do blocks, submits, threads and a
/// session for another shape.
#[test]
fn runs_repeat_and_cuts_do_not_matter() {
    for_all(|what, config, device, strategy| {
        let case = Case::new(config.clone(), 7, 5, 42).with_lengths(&[2, 7, 4, 7, 1]);
        let same = |how: &str, session: &mut Session, whole: &(Output<f32>, Gradients<f32>)| {
            let again = case.train_in(session);
            assert_same(&format!("{what}, {how}"), &whole.0, &again.0);
            assert_same_gradients(&format!("{what}, {how}"), &config, &whole.1, &again.1);
        };
        let mut session = case.training(device, forced(strategy));
        let whole = case.poisoned(&mut session);
        same("again", &mut session, &whole);
        let other = Case { lengths: None, ..Case::new(config.clone(), 7, 5, 77) };
        other.train_in(&mut session);
        same("after another run", &mut session, &whole);

        let blocks = Options { max_block: Some(3), ..forced(strategy) };
        let mut session = case.training(device, blocks);
        session.poison().unwrap();
        same("blocks of 3", &mut session, &whole);
        let submits = Options { submit_budget: Duration::from_nanos(1), ..forced(strategy) };
        let mut session = case.training(device, submits);
        assert!(device.kind() == "cpu" || session.plan().backward_submits.len() > 1, "{what}: one submit");
        same("many submits", &mut session, &whole);

        let mut sibling = session.for_shape(Shape { time: 2, batch: 1 }).unwrap().for_shape(case.shape).unwrap();
        sibling.poison().unwrap();
        same("session for another shape", &mut sibling, &whole);
        if device.kind() == "cpu" {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| same("threads", &mut case.training(device, forced(strategy)), &whole));
            }
        }
    });
}

/// Larger than the thresholds at which the CPU executor uses threads.
#[test]
fn threads_do_not_matter_for_large_layers() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 64, hidden_size: 129, ..Default::default() };
    let case = Case::new(config, 40, 13, 43);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.train(&Device::cpu(), Strategy::Sequence))
    };
    let one = run(1);
    for threads in [2, 5] {
        assert_same_gradients(&format!("{threads} threads"), &case.config, &one.1, &run(threads).1);
    }
}

/// Noise in padded x and in the padded gradient of y changes nothing, and the gradient of padded x is +0.
#[test]
fn padding_never_leaks() {
    for_all(|what, config, device, strategy| {
        let lengths = [2, 5, 1, 3];
        let case = Case::new(config.clone(), 5, 4, 44).with_lengths(&lengths);
        let mut noisy = case.clone();
        let fill = |v: &mut [f32], width: usize| {
            for (row, v) in v.chunks_exact_mut(width).enumerate() {
                if row / 4 >= lengths[row % 4] {
                    v.fill(f32::NAN);
                }
            }
        };
        fill(&mut noisy.x, 5);
        fill(&mut noisy.dy, config.output_size());
        assert!(noisy.dy.iter().any(|v| v.is_nan()));
        let mut session = case.training(device, forced(strategy));
        let (out, gradients) = case.poisoned(&mut session);
        let (noisy_out, noisy_gradients) = noisy.poisoned(&mut session);
        assert_same(what, &out, &noisy_out);
        assert_same_gradients(what, &config, &gradients, &noisy_gradients);
        for (row, dx) in gradients.x.data.chunks_exact(5).enumerate() {
            let padded = row / 4 >= lengths[row % 4];
            assert!(!padded || dx.iter().all(|v| v.to_bits() == 0), "{what}: gradient of padded x is {dx:?}");
        }
    });
}

/// Not even weights that are not finite reach it.
#[test]
fn padding_stays_zero_whatever_the_weights() {
    let config = config(&cells::GRU, 0, Direction::Bidirectional);
    let mut case = Case::new(config, 3, 2, 51).with_lengths(&[1, 3]);
    case.weights.layers[0].w[0] = f32::NAN;
    case.weights.layers[1].w[1] = f32::INFINITY;
    for (device, strategy) in executors() {
        let dx = case.train(&device, strategy).1.x.data;
        assert!(dx[..10].iter().any(|v| v.is_nan()), "NaN is computed, not lost");
        for row in [2, 4] {
            let padded = bits(&dx[row * 5..][..5]);
            assert_eq!(padded, [0; 5], "on {} with {strategy}, row {row}", device.kind());
        }
    }
}

/// A sequence's own gradients do not depend on its batch neighbours, nor on the batch size.
fn check_neighbours(what: &str, case: &Case, sequences: &[usize], session: &mut Session) {
    let (config, batch) = (&case.config, case.shape.batch);
    let all = case.poisoned(session).1;
    let mut one = session.for_shape(Shape { batch: 1, ..case.shape }).unwrap();
    for &b in sequences {
        let alone = case.alone(b).poisoned(&mut one).1;
        let what = format!("{what} sequence {b}");
        let own = |v: &[f32], width: usize| bits(&sequence(v, batch, width, b));
        assert_eq!(bits(&alone.x.data), own(&all.x.data, config.input_size), "{what}: x");
        assert_eq!(bits(&alone.h0.data), own(&all.h0.data, config.state_size()), "{what}: h0");
        if let (Some(a), Some(c)) = (&alone.c0, &all.c0) {
            assert_eq!(bits(&a.data), own(&c.data, config.cell_size()), "{what}: c0");
        }
    }
}

#[test]
fn batch_neighbours_do_not_matter() {
    for_all(|what, config, device, strategy| {
        let case = Case::new(config.clone(), 6, 7, 45).with_lengths(&[3, 6, 1, 6, 2, 5, 4]);
        let mut session = case.training(device, forced(strategy));
        check_neighbours(what, &case, &[0, 1, 2, 6], &mut session);
        let case = Case::new(config, 1, 3, 46);
        let mut session = session.for_shape(case.shape).unwrap();
        check_neighbours(&format!("{what}, T = 1"), &case, &[0, 2], &mut session);
    });
}

/// The same at depths and widths where the `gemm` crate would change its order of additions with the row count.
#[test]
fn gradients_of_any_width_do_not_depend_on_the_batch() {
    for (cell, hidden_size) in [(&cells::RNN_TANH, 1), (&cells::RNN_TANH, 600), (&cells::LSTM, 65), (&cells::LSTM, 300)]
    {
        for input_size in [1, 2, 3, 33] {
            for time in [1, 2] {
                let config = RnnConfig { cell, input_size, hidden_size, ..Default::default() };
                let case = Case::new(config, time, 33, 47);
                let what = format!("{} I={input_size} H={hidden_size} T={time}", cell.name);
                let mut session = case.training(&Device::cpu(), Options::default());
                check_neighbours(&what, &case, &[0, 32], &mut session);
                if hidden_size < 200 {
                    let mut session = case.training(&gpu(), forced(Strategy::Step));
                    check_neighbours(&what, &case, &[32], &mut session);
                }
            }
        }
    }
}

/// Batch-first data gives what time-major data gives; one sequence without a batch dimension is B = 1.
#[test]
fn layouts_agree() {
    for_all(|what, config, device, strategy| {
        let case = Case::new(config.clone(), 4, 3, 48).with_lengths(&[4, 1, 3]);
        let mut session = case.training(device, forced(strategy));
        let (_, expected) = case.poisoned(&mut session);
        let swap = |v: &[f32], rows: usize, columns: usize, width: usize| -> Vec<f32> {
            (0..columns)
                .flat_map(|c| (0..rows).flat_map(move |r| v[(r * columns + c) * width..][..width].to_vec()))
                .collect()
        };
        let mut first = case.clone();
        first.config.layout = Layout::BatchFirst;
        first.x = swap(&case.x, 4, 3, 5);
        first.dy = swap(&case.dy, 4, 3, config.output_size());
        let mut got = first.train(device, strategy).1;
        assert_eq!(got.x.shape, [3, 4, 5], "{what}");
        got.x = Tensor { data: swap(&got.x.data, 3, 4, 5), shape: expected.x.shape.clone() };
        assert_same_gradients(what, &config, &expected, &got);

        let one = case.alone(0);
        let mut session = session.for_shape(one.shape).unwrap();
        let (_, expected) = one.poisoned(&mut session);
        let (p, h) = ([4, config.state_size()], [4, config.cell_size()]);
        let cell = config.cell.has_cell_state();
        let initial = Initial::Given { h0: Some(View::new(&one.h0, &p)), c0: cell.then(|| View::new(&one.c0, &h)) };
        session
            .forward(&Input { lengths: one.lengths.as_deref(), initial, ..Input::new(View::new(&one.x, &[4, 5])) })
            .unwrap();
        let y = [4, config.output_size()];
        let upstream = Upstream {
            y: Some(View::new(&one.dy, &y)),
            hn: Some(View::new(&one.dhn, &p)),
            cn: cell.then(|| View::new(&one.dcn, &h)),
        };
        let mut got = session.backward(&upstream).unwrap();
        assert_eq!((&got.x.shape[..], &got.h0.shape[..]), (&[4, 5][..], &p[..]), "{what}: unbatched");
        (got.x.shape, got.h0.shape) = (expected.x.shape.clone(), expected.h0.shape.clone());
        assert_same_gradients(&format!("{what}, unbatched"), &config, &expected, &got);
    });
}

/// An upstream gradient that is not given is zeros; a state that is carried is a given state.
#[test]
fn what_is_not_given_is_zero_and_what_is_carried_is_given() {
    for_all(|what, config, device, strategy| {
        let mut case = Case::new(config.clone(), 3, 2, 49);
        let mut session = case.training::<f32>(device, forced(strategy));
        let (out, _) = case.train_in(&mut session);
        let shape = case.x_shape();
        let carried = Input { initial: Initial::Carry, ..Input::new(View::new(&case.x, &shape)) };
        session.forward(&carried).unwrap();
        let [dy, h] = [case.y_shape(), case.state_shapes()[0].clone()];
        let upstream = Upstream { y: None, hn: Some(View::new(&case.dhn, &h)), cn: None };
        let got = session.backward(&upstream).unwrap();
        case.h0 = out.hn.data;
        case.c0 = out.cn.map_or(Vec::new(), |c| c.data);
        (case.dy, case.dcn) = (vec![0.0; dy.iter().product()], vec![0.0; case.dcn.len()]);
        assert_same_gradients(what, &config, &case.poisoned(&mut session).1, &got);
        // Nothing given at all: no gradient at all.
        case.with_input(|input| session.forward(input).unwrap());
        let got = session.backward(&Upstream { y: None, hn: None, cn: None }).unwrap();
        for (name, values) in named(&config, &got) {
            assert!(values.iter().all(|&v| v == 0.0), "{what}: {name}");
        }
    });
}

/// No pipeline or bind group is made on the way back, lengths changing or not.
#[test]
fn backward_creates_nothing() {
    // A device of its own: other tests' objects do not count.
    let device = Device::gpu().unwrap();
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let case = Case::new(config(&cells::LSTM_PEEPHOLE, 4, Direction::Bidirectional), 3, 2, 50);
        let mut session = case.training::<f32>(&device, forced(strategy));
        case.train_in(&mut session);
        let (ours, theirs) = (session.objects_created(), allocated(&device));
        assert!(ours > 0);
        for lengths in [[3, 1], [2, 2], [3, 3]] {
            case.clone().with_lengths(&lengths).train_in(&mut session);
        }
        assert_eq!(session.objects_created(), ours);
        assert_eq!(allocated(&device), theirs, "{strategy}: wgpu objects alive");
    }
}
