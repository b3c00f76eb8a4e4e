//! [`InputMode::Skip`]: a first layer without W. Against the naive loops, against a W of identities, and the laws.

mod harness;

use harness::*;
use wgpu_rnn::weights::{Field, KerasLayer, parameters};
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, naive_backward, tolerance};

/// Two layers, both directions, an odd size, ragged.
fn ragged(cell: &'static Cell, proj_size: usize) -> Case {
    let config = RnnConfig {
        cell,
        input_size: 9,
        hidden_size: 9,
        num_layers: 2,
        direction: Direction::Bidirectional,
        proj_size,
        input: InputMode::Skip,
        ..Default::default()
    };
    Case::new(config, 5, 4, 31).with_lengths(&[2, 5, 1, 4])
}

/// Every cell goes through the above; some through one layer read backwards, batch-first; no bias; b_r only; sizes of one too.
fn cases(cell: &'static Cell, proj_size: usize) -> Vec<Case> {
    let both = ragged(cell, proj_size);
    if ![&cells::LSTM, &cells::GRU, &cells::GRU_RESET_BEFORE].contains(&cell) {
        return vec![both];
    }
    let one = RnnConfig { num_layers: 1, direction: Direction::Reverse, ..both.config.clone() };
    let first = RnnConfig { layout: Layout::BatchFirst, bias: Bias::One, ..one.clone() };
    let none = RnnConfig { bias: Bias::None, direction: Direction::Forward, ..one.clone() };
    let recurrent = RnnConfig { bias: Bias::Recurrent, input_size: 4, hidden_size: 4, proj_size: 0, ..one.clone() };
    let single = RnnConfig { input_size: 1, hidden_size: 1, proj_size: 0, ..one };
    vec![
        both,
        Case::new(first, 4, 3, 32).with_lengths(&[1, 4, 3]),
        Case::new(none, 3, 2, 33),
        Case::new(recurrent, 3, 2, 34),
        Case::new(single, 2, 1, 35),
    ]
}

/// Outputs and gradients by name.
fn all<T: Element>(case: &Case, (out, gradients): &(Output<T>, Gradients<T>)) -> Vec<Named<T>> {
    let outputs = [("y", Some(&out.y)), ("hn", Some(&out.hn)), ("cn", out.cn.as_ref())];
    let outputs = outputs.into_iter().filter_map(|(name, t)| t.map(|t| (format!("out {name}"), t.data.clone())));
    outputs.chain(named(&case.config, gradients)).collect()
}

fn naive_run<T: naive::Scalar>(case: &Case) -> Vec<Named<T>> {
    let weights = case.weights.cast::<T>();
    let run = case.with_input_as(|input| {
        let out = naive::forward(&case.config, &weights, input).unwrap();
        let back = |up: &Upstream<'_, T>| naive_backward::backward(&case.config, &weights, input, up).unwrap();
        (out, case.with_upstream_as(back))
    });
    all(case, &run)
}

/// Per tensor, the truth and what f32 may be off.
fn truth_of(case: &Case) -> Vec<(Named<f64>, f64)> {
    let bound = |((_, plain), truth): (Named<f32>, Named<f64>)| {
        let bound = tolerance::bound_f32(tolerance::scale(&truth.1), tolerance::error(&cast::<f64>(&plain), &truth.1));
        (truth, bound)
    };
    naive_run::<f32>(case).into_iter().zip(naive_run::<f64>(case)).map(bound).collect()
}

fn assert_within(what: &str, got: &[Named<f64>], truth: &[(Named<f64>, f64)]) {
    assert_eq!(got.len(), truth.len(), "{what}");
    for ((name, got), ((expected, truth), bound)) in got.iter().zip(truth) {
        assert_eq!(name, expected);
        let error = tolerance::error(got, truth);
        assert!(error <= *bound, "{what}: {name} is off by {error:e}, more than {bound:e}");
    }
}

fn wide(values: Vec<Named<f32>>) -> Vec<Named<f64>> {
    values.into_iter().map(|(name, v)| (name, cast(&v))).collect()
}

#[test]
fn executors_compute_what_the_naive_loops_do() {
    for (cell, proj_size) in cells_and_projections(5) {
        for case in cases(cell, proj_size) {
            let truth = truth_of(&case);
            let what = format!("{} {:?} B={}", cell.name, case.config.bias, case.shape.batch);
            let mut exact = case.training::<f64>(&Device::cpu(), Options::default());
            let tight: Vec<_> =
                truth.iter().map(|(t, _)| (t.clone(), tolerance::bound_f64(tolerance::scale(&t.1)))).collect();
            assert_within(&format!("{what}, f64"), &all(&case, &case.train_in(&mut exact)), &tight);
            for (device, strategy) in executors_for(cell, proj_size) {
                let what = format!("{what} on {} with {strategy}", device.kind());
                let trained = case.train(&device, strategy);
                assert_same(&what, &trained.0, &case.run(&device, strategy));
                assert_within(&what, &wide(all(&case, &trained)), &truth);
            }
        }
    }
}

/// The same network with a W of identities in layer 0.
fn with_identities(case: &Case) -> Case {
    let config = RnnConfig { input: InputMode::Linear, ..case.config.clone() };
    let (h, mut weights) = (config.hidden_size, case.weights.clone());
    for layer in &mut weights.layers[..config.directions()] {
        assert!(layer.w.is_empty());
        let rows = (0..config.cell.input_gates()).flat_map(|_| 0..h);
        layer.w = rows.flat_map(|row| (0..h).map(move |k| f32::from(u8::from(row == k)))).collect();
    }
    Case { config, weights, ..case.clone() }
}

/// But for the gradient of that W, which is not there. Products with 1 and sums with 0 round nothing, so outputs agree bit for
/// bit.
#[test]
fn it_is_a_w_of_identities() {
    for (cell, proj_size) in cells_and_projections(5) {
        let case = ragged(cell, proj_size);
        let (truth, linear) = (truth_of(&case), with_identities(&case));
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let (skipping, identities) = (case.train(&device, strategy), linear.train(&device, strategy));
            assert_same(&what, &skipping.0, &identities.0);
            let mut got = wide(all(&linear, &identities));
            got.retain(|(name, _)| !name.starts_with("weight_ih_l0"));
            assert_within(&what, &got, &truth);
        }
    }
}

#[test]
fn layer_0_has_no_w_and_the_others_have() {
    let case = ragged(&cells::GRU, 0);
    let names: Vec<String> = parameters(&case.config).into_iter().map(|p| p.name).collect();
    assert!(!names.iter().any(|n| n.starts_with("weight_ih_l0")), "{names:?}");
    assert!(names.contains(&"weight_ih_l1_reverse".to_string()) && names.contains(&"bias_ih_l0".to_string()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.safetensors");
    case.weights.save(&case.config, &path, "rnn.").unwrap();
    let file = wgpu_rnn::io::safetensors::TensorFile::open(&path).unwrap();
    assert_eq!(file.weights::<f32>(&case.config, "rnn.").unwrap(), case.weights);
    // The file does not say whether W is left out or lost.
    let message = file.config(&cells::GRU, "rnn.").unwrap_err().to_string();
    assert!(message.contains("rnn.weight_ih_l0: expected a matrix, got none"), "{message}");
}

/// Blocks, checkpoints, recomputing, accumulating.
#[test]
fn cuts_do_not_matter() {
    for (device, strategy) in executors() {
        let what = format!("{} with {strategy}", device.kind());
        let config = RnnConfig { input_size: 4, hidden_size: 4, ..ragged(&cells::GRU_RESET_BEFORE, 0).config };
        let long = Case::new(config, 131, 3, 36).with_lengths(&[64, 131, 65]);
        let whole = long.train(&device, strategy);
        for options in [
            Options { max_block: Some(3), ..forced(strategy) },
            Options { memory: Memory::Checkpoint(64), ..forced(strategy) },
        ] {
            let cut = long.poisoned(&mut long.training(&device, options));
            assert_same(&what, &whole.0, &cut.0);
            assert_same_gradients(&what, &long.config, &whole.1, &cut.1);
        }
        let truth = truth_of(&long);
        let recompute = Options { memory: Memory::Recompute, ..forced(strategy) };
        assert_within(&what, &wide(all(&long, &long.poisoned(&mut long.training(&device, recompute)))), &truth);
        let mut twice = long.training::<f32>(&device, Options { accumulate: true, ..forced(strategy) });
        twice.clear_gradients();
        long.train_in(&mut twice);
        let sum = long.train_in(&mut twice).1;
        for ((name, once), (_, sum)) in named(&long.config, &whole.1).iter().zip(named(&long.config, &sum)) {
            let expected: Vec<f32> =
                if name.contains('_') { once.iter().map(|v| v + v).collect() } else { once.clone() };
            let error = tolerance::error(&cast::<f64>(&sum), &cast::<f64>(&expected));
            let bound = truth.iter().find(|t| t.0.0 == *name).unwrap().1;
            assert!(error <= 2.0 * bound, "{what}: {name} is off by {error:e}");
        }
    }
}

/// A sequence on its own, and step by step.
#[test]
fn neighbours_and_streaming_do_not_matter() {
    for (device, strategy) in executors() {
        let what = format!("{} with {strategy}", device.kind());
        let case = ragged(&cells::LSTM, 5);
        let whole = case.train(&device, strategy);
        for b in 0..case.shape.batch {
            let own = |v: &[f32], width: usize| bits(&sequence(v, 4, width, b));
            let alone = case.alone(b).train(&device, strategy);
            assert_eq!(bits(&alone.0.y.data), own(&whole.0.y.data, case.config.output_size()), "{what}");
            assert_eq!(bits(&alone.1.x.data), own(&whole.1.x.data, case.config.input_size), "{what}");
        }
        let config = RnnConfig { direction: Direction::Forward, ..case.config };
        let long = Case::new(config, 6, 2, 37);
        let whole = long.run(&device, strategy);
        let mut step = long.session(&device, strategy, None).for_shape(Shape { time: 1, batch: 2 }).unwrap();
        let mut y = Vec::new();
        for (t, x) in long.x.chunks(2 * 9).enumerate() {
            let shape = [1, 2, 9];
            let given = long.with_input(|input| {
                let initial = if t == 0 { input.initial } else { Initial::Carry };
                step.forward(&Input { initial, ..Input::new(View::new(x, &shape)) }).unwrap()
            });
            y.extend(given.y.data);
        }
        assert_eq!(bits(&y), bits(&whole.y.data), "{what}");
    }
}

/// With masks on x, and episodes that begin inside the run.
#[test]
fn dropout_and_resets_go_with_it() {
    let mut case = ragged(&cells::GRU, 0).with_resets(Reset::Initial, &[(1, 0), (2, 1), (3, 1)]);
    case.config.dropout = Dropout { layers: 0.2, input: 0.3, recurrent: 0.2 };
    let linear = with_identities(&case);
    for (device, strategy) in executors() {
        let what = format!("{} with {strategy}", device.kind());
        let (skipping, identities) = (case.train(&device, strategy), linear.train(&device, strategy));
        assert_same(&what, &skipping.0, &identities.0);
        let mut oracle = case.training::<f64>(&Device::cpu(), Options::default());
        let truth = all(&case, &case.train_in(&mut oracle));
        // The naive loops drop nothing: their error without masks is the yardstick.
        let plain = Case {
            config: RnnConfig { dropout: Dropout::default(), ..case.config.clone() },
            resets: None,
            ..case.clone()
        };
        let yardstick = truth_of(&plain);
        let truth: Vec<_> = truth.into_iter().zip(yardstick).map(|(t, (_, bound))| (t, bound)).collect();
        assert_within(&what, &wide(all(&case, &skipping)), &truth);
    }
}

#[test]
fn an_update_follows_the_gradient() {
    let case = ragged(&cells::LSTM, 0);
    for (device, strategy) in executors() {
        let optimiser = Some(Optimiser::Sgd { momentum: 0.0 });
        let mut session = case.training::<f32>(&device, Options { optimiser, ..forced(strategy) });
        let (_, gradients) = case.train_in(&mut session);
        session.update(0.5).unwrap();
        let after = session.weights().unwrap();
        for ((p, after), (_, gradient)) in after.named(&case.config).zip(gradients.weights.named(&case.config)) {
            for ((&after, &before), &g) in after.iter().zip(case.weights.get(p.place)).zip(gradient) {
                assert!((after - (before - 0.5 * g)).abs() <= 2.0 * f32::EPSILON * (1.0 + after.abs()), "{}", p.name);
            }
        }
        // It runs on them.
        let fresh = Case { weights: after, ..case.clone() }.train(&device, strategy);
        let own = case.poisoned(&mut session);
        assert_same("updated", &fresh.0, &own.0);
        assert_same_gradients("updated", &case.config, &fresh.1, &own.1);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = RnnConfig { input: InputMode::Skip, input_size: 3, hidden_size: 4, ..Default::default() };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "input_size: expected hidden_size 4, for x is added to every gate (input mode skip), got 3"
    );
    let fits = RnnConfig { input_size: 4, ..config };
    let mut weights = Weights::<f32>::random(&fits, 1).unwrap();
    assert!(matches!(Weights::<f32>::from_keras(&fits, &[] as &[KerasLayer<'_, f32>]), Err(Error::Unsupported { .. })));
    weights.layers[0].get_mut(Field::W).resize(64, 0.0);
    assert_eq!(weights.validate(&fits).unwrap_err().to_string(), "W of layers[0]: expected [] = 0 values, got 64");
}

/// ONNX has no such mode: an exported node has a W of identities.
#[test]
fn exported_to_onnx_it_is_a_w_of_identities() {
    use wgpu_rnn_formats::onnx::{OnnxFile, export};
    // It has no layer normalisation either, and no sLSTM.
    for cell in cells::ALL.into_iter().filter(|c| !c.normalises() && *c != &cells::SLSTM) {
        let config = RnnConfig { num_layers: 1, cell, ..ragged(cell, 0).config };
        let case = Case::new(config, 2, 2, 38);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.onnx");
        export(&case.config, &case.weights, &path).unwrap();
        let node = OnnxFile::open(&path).unwrap().only_node().unwrap();
        let expected = with_identities(&case);
        assert_eq!((&node.config, node.weights.cast::<f32>()), (&expected.config, expected.weights), "{}", cell.name);
    }
}
