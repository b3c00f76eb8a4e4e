//! What holds bit for bit, on every executor with every strategy.

use super::harness::*;
use super::{ALL, ragged, seeded};
use std::time::Duration;
use wgpu_rnn::*;

/// Cells with and without a state of their own, with one stage and with two, with and without projection.
fn for_all(law: impl Fn(&str, &Case, &Device, Strategy)) {
    let cells = [(&cells::LSTM, 0), (&cells::LSTM, 5), (&cells::GRU_RESET_BEFORE, 0), (&cells::LSTM_LAYER_NORM, 5)];
    for (cell, proj_size) in cells {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            law(&what, &ragged(cell, proj_size, ALL), &device, strategy);
        }
    }
}

/// The same outputs and gradients.
fn same(what: &str, case: &Case, a: &(Output<f32>, Gradients<f32>), b: &(Output<f32>, Gradients<f32>)) {
    assert_same(what, &a.0, &b.0);
    assert_same_gradients(what, &case.config, &a.1, &b.1);
}

#[test]
fn the_seed_and_the_run_decide() {
    for_all(|what, case, device, strategy| {
        let mut session = case.training(device, forced(strategy));
        // Seed 0, run 0, as nothing was said.
        let first = case.poisoned(&mut session);
        let second = case.train_in(&mut session);
        assert!(first.0 != second.0 && first.1.x != second.1.x, "{what}: another run, other masks");
        same(what, case, &first, &seeded(case, &mut session, 0));
        same(what, case, &second, &case.train_in(&mut session));
        let other = seeded(case, &mut session, 1);
        assert!(other.0 != first.0 && other.0 != second.0, "{what}: another seed, other masks");

        // A session for another shape goes on with the seed, from run 0.
        let mut sibling = session.for_shape(Shape { time: 2, batch: 1 }).unwrap().for_shape(case.shape).unwrap();
        same(what, case, &other, &case.poisoned(&mut sibling));
    });
}

/// Neither a new seed nor switching off between the two changes the masks of a run that has been.
#[test]
fn the_way_back_has_the_masks_of_its_way_there() {
    for_all(|what, case, device, strategy| {
        let mut session = case.training(device, forced(strategy));
        let whole = seeded(case, &mut session, 3);
        session.set_seed(3);
        let out = case.run_in(&mut session);
        session.set_seed(4);
        session.set_dropout(false);
        let back = case.with_upstream_as(|up| session.backward(up).unwrap());
        same(what, case, &whole, &(out, back));
    });
}

/// Off is a configuration without dropout, and is not counted as a run; inference plans never drop.
#[test]
fn switched_off_it_is_not_there() {
    for_all(|what, case, device, strategy| {
        let mut plain = case.clone();
        plain.config.dropout = Dropout::default();
        let expected = plain.train(device, strategy);
        let mut session = case.training(device, forced(strategy));
        let first = seeded(case, &mut session, 6);
        let second = case.train_in(&mut session);
        session.set_seed(6);
        session.set_dropout(false);
        same(what, case, &expected, &case.poisoned(&mut session));
        session.set_dropout(true);
        same(what, case, &first, &case.poisoned(&mut session));
        session.set_dropout(false);
        same(what, case, &expected, &case.poisoned(&mut session));
        session.set_dropout(true);
        same(what, case, &second, &case.poisoned(&mut session));
        assert_same(what, &plain.run(device, strategy), &case.run(device, strategy));
    });
}

/// One layer has nothing between layers.
#[test]
fn dropout_between_the_layers_of_one_layer_does_nothing() {
    let config = RnnConfig { input_size: 3, hidden_size: 5, ..Default::default() };
    let plain = Case::new(config.clone(), 3, 2, 71);
    let mut case = plain.clone();
    case.config.dropout.layers = 0.5;
    let plans = [&plain, &case].map(|c| {
        let options = Options { train: true, ..Default::default() };
        Plan::new(&c.config, c.shape, &Device::cpu().caps(), &options).unwrap()
    });
    assert_eq!((&plans[0].slots, &plans[0].steps), (&plans[1].slots, &plans[1].steps));
    let run = |c: &Case| c.train(&Device::cpu(), Strategy::Sequence);
    same("one layer", &plain, &run(&plain), &run(&case));
}

/// Blocks, submits, threads and checkpoints.
#[test]
fn cuts_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let whole = seeded(case, &mut case.training(device, forced(strategy)), 8);
        let blocks = Options { max_block: Some(3), ..forced(strategy) };
        same(&format!("{what}, blocks"), case, &whole, &seeded(case, &mut case.training(device, blocks), 8));
        let submits = Options { submit_budget: Duration::from_nanos(1), ..forced(strategy) };
        same(&format!("{what}, submits"), case, &whole, &seeded(case, &mut case.training(device, submits), 8));
        if device.kind() == "cpu" {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let run = || seeded(case, &mut case.training(device, forced(strategy)), 8);
            same(&format!("{what}, threads"), case, &whole, &pool.install(run));
        }
        let config = RnnConfig { input_size: 3, hidden_size: 4, proj_size: 0, ..case.config.clone() };
        let long = Case::new(config, 131, 3, 72).with_lengths(&[64, 131, 65]);
        let whole = seeded(&long, &mut long.training(device, forced(strategy)), 9);
        let segments = Options { memory: Memory::Checkpoint(64), ..forced(strategy) };
        let mut session = long.training(device, segments);
        assert_eq!(session.plan().segment, 64);
        same(&format!("{what}, checkpoints"), &long, &whole, &seeded(&long, &mut session, 9));
    });
}

/// A sequence's masks go with its index in the batch, and with nothing else: not the other sequences, their lengths (by which
/// they are sorted), nor how many there are.
#[test]
fn batch_neighbours_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let all = seeded(case, &mut case.training(device, forced(strategy)), 10);
        let mut alone = case.training(device, forced(strategy)).for_shape(Shape { batch: 1, ..case.shape }).unwrap();
        let first = seeded(&case.alone(0), &mut alone, 10);
        let own = |v: &[f32], width: usize, b: usize| bits(&sequence(v, 4, width, b));
        let config = &case.config;
        assert_eq!(bits(&first.0.y.data), own(&all.0.y.data, config.output_size(), 0), "{what}: y");
        assert_eq!(bits(&first.0.hn.data), own(&all.0.hn.data, config.state_size(), 0), "{what}: hn");
        assert_eq!(bits(&first.1.x.data), own(&all.1.x.data, config.input_size, 0), "{what}: dx");
        assert_eq!(bits(&first.1.h0.data), own(&all.1.h0.data, config.state_size(), 0), "{what}: dh0");
        // The others have other lengths and values; sequence 3 keeps its own.
        let mut other = Case::new(config.clone(), 5, 4, 73).with_lengths(&[5, 3, 5, 4]);
        let keep = |to: &mut Vec<f32>, given: &[f32], width: usize| {
            let width = width.max(1);
            let rows = to.chunks_exact_mut(width).zip(given.chunks_exact(width)).skip(3).step_by(4);
            rows.for_each(|(to, given)| to.copy_from_slice(given));
        };
        keep(&mut other.x, &case.x, config.input_size);
        keep(&mut other.dy, &case.dy, config.output_size());
        for (to, given) in [(&mut other.h0, &case.h0), (&mut other.dhn, &case.dhn)] {
            keep(to, given, config.state_size());
        }
        for (to, given) in [(&mut other.c0, &case.c0), (&mut other.dcn, &case.dcn)] {
            keep(to, given, config.cell_size());
        }
        other.weights = case.weights.clone();
        let others = seeded(&other, &mut other.training(device, forced(strategy)), 10);
        for (a, b, width) in [
            (&all.0.y.data, &others.0.y.data, config.output_size()),
            (&all.1.x.data, &others.1.x.data, config.input_size),
            (&all.1.h0.data, &others.1.h0.data, config.state_size()),
        ] {
            assert_eq!(own(a, width, 3), own(b, width, 3), "{what}");
        }
        // Each index has masks of its own.
        let moved = case.alone(1);
        let elsewhere = seeded(&moved, &mut alone, 10);
        assert_ne!(bits(&elsewhere.0.y.data), own(&all.0.y.data, config.output_size(), 1), "{what}");
    });
}

/// Noise in padded x and dy changes nothing, and the gradient of padded x is 0.
#[test]
fn padding_never_leaks() {
    for_all(|what, case, device, strategy| {
        let (lengths, mut noisy) = (case.lengths.clone().unwrap(), case.clone());
        let fill = |v: &mut [f32], width: usize| {
            let rows = v.chunks_exact_mut(width).enumerate().filter(|(row, _)| row / 4 >= lengths[row % 4]);
            rows.for_each(|(_, v)| v.fill(f32::NAN));
        };
        fill(&mut noisy.x, case.config.input_size);
        fill(&mut noisy.dy, case.config.output_size());
        let mut session = case.training(device, forced(strategy));
        let clean = seeded(case, &mut session, 11);
        same(what, case, &clean, &seeded(&noisy, &mut session, 11));
        for (row, dx) in clean.1.x.data.chunks_exact(case.config.input_size).enumerate() {
            assert!(row / 4 < lengths[row % 4] || dx.iter().all(|&v| v == 0.0), "{what}: padded dx is {dx:?}");
        }
    });
}

#[test]
fn layouts_agree() {
    for_all(|what, case, device, strategy| {
        let swap = |v: &[f32], rows: usize, columns: usize, width: usize| -> Vec<f32> {
            let at = |c: usize, r: usize| v[(r * columns + c) * width..][..width].to_vec();
            (0..columns).flat_map(|c| (0..rows).flat_map(move |r| at(c, r))).collect()
        };
        let (config, mut first) = (&case.config, case.clone());
        first.config.layout = Layout::BatchFirst;
        first.x = swap(&case.x, 5, 4, config.input_size);
        first.dy = swap(&case.dy, 5, 4, config.output_size());
        let expected = seeded(case, &mut case.training(device, forced(strategy)), 12);
        let mut got = seeded(&first, &mut first.training(device, forced(strategy)), 12);
        let back =
            |t: &Tensor<f32>, width: usize| Tensor { data: swap(&t.data, 4, 5, width), shape: vec![5, 4, width] };
        got.0.y = back(&got.0.y, config.output_size());
        got.1.x = back(&got.1.x, config.input_size);
        same(what, case, &expected, &got);
    });
}

/// Masks are made anew in every run, but no pipeline, bind group or buffer.
#[test]
fn runs_create_nothing() {
    let device = Device::gpu().unwrap();
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let case = ragged(&cells::LSTM, 5, ALL);
        let mut session = case.training::<f32>(&device, forced(strategy));
        case.train_in(&mut session);
        let (ours, theirs) = (session.objects_created(), allocated(&device));
        for seed in 0..3 {
            seeded(&case, &mut session, seed);
        }
        assert_eq!((session.objects_created(), allocated(&device)), (ours, theirs), "{strategy}");
    }
}

/// What an embedding looks up is masked as x is, and its gradient as that of x.
#[test]
fn embedded_tokens_are_masked_as_x_is() {
    for (device, strategy) in executors() {
        let plain = ragged(&cells::GRU, 0, ALL);
        let config = RnnConfig { vocabulary: Some(7), ..plain.config.clone() };
        let weights = Weights { layers: plain.weights.layers.clone(), ..Weights::<f32>::random(&config, 1).unwrap() };
        let ids: Vec<u32> = (0..20).map(|n| n * n % 7).collect();
        let rows = ids.iter().flat_map(|&id| weights.embedding[id as usize * 6..][..6].to_vec()).collect();
        let plain = Case { x: rows, ..plain };
        let expected = seeded(&plain, &mut plain.training(&device, forced(strategy)), 16);

        let tokens = Case { config, weights, ..plain.clone() };
        let mut session: Session = tokens.training(&device, forced(strategy));
        session.poison().unwrap();
        session.set_seed(16);
        let out = tokens.with_input(|input| {
            let of_ids = Input::of_ids(View::new(&ids, &[5, 4]));
            session.forward(&Input { lengths: input.lengths, initial: input.initial, ..of_ids }).unwrap()
        });
        let got = tokens.with_upstream_as(|up| session.backward(up).unwrap());
        let what = format!("{} {strategy}", device.kind());
        assert_same(&what, &expected.0, &out);
        assert_eq!(bits(&expected.1.x.data), bits(&got.x.data), "{what}");
    }
}
