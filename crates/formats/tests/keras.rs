//! Keras models: published ones layer by layer, synthetic ones whole, against what Keras's equations give in float64. Synthetic models
//! and their values are made by `data/keras/make.py`.

use std::path::{Path, PathBuf};
use wgpu_rnn::{Activation, Bias, Device, Direction, Error, Input, Session, Shape, Tensor, View, cells};
use wgpu_rnn_formats::keras::{KerasCell, KerasFile, KerasNetwork, KerasRnn, Merge, Unsaid};
use wgpu_rnn_formats::npy;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn array(path: &str) -> Tensor<f64> {
    npy::read(data(path)).unwrap()
}

/// The largest difference, as a share of the largest value there should be.
#[track_caller]
fn assert_near(what: &str, got: &Tensor<f64>, expected: &Tensor<f64>, bound: f64) {
    assert_eq!(got.shape, expected.shape, "{what}");
    let scale = expected.data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = got.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= bound * scale, "{what}: differs by {worst:e} of {scale}");
}

/// y of a layer in f64.
fn run(rnn: &KerasRnn, x: &Tensor<f64>) -> Tensor<f64> {
    let &[time, batch, _] = &x.shape[..] else { panic!("x of three dimensions") };
    let mut session =
        Session::<f64>::new(&Device::cpu(), &rnn.config, Shape { time, batch }, &rnn.weights).expect("a session");
    session.forward(&Input::new(x.view())).expect("a run").y
}

#[test]
fn mhcnuggets_is_weights_of_keras_2_with_its_hard_sigmoid() {
    let file = KerasFile::open(data("mhcnuggets_lstm_h5/Patr-A09-01_BA.h5")).unwrap();
    assert!(file.is_weights_only());
    assert_eq!(file.version(), Some("2.2.2"));
    let rnn = file.only_layer().unwrap();
    let label = &rnn.label;
    assert_eq!((label.name.as_str(), label.cell, label.units, label.said), ("lstm_1", KerasCell::Lstm, 64, false));
    assert_eq!(label.recurrent_activation.as_deref(), Some("hard_sigmoid"));
    assert_eq!(rnn.config.activations[0], Activation::HardSigmoid { alpha: 0.2, beta: 0.5 });
    assert_eq!((rnn.config.input_size, rnn.config.bias), (21, Bias::One));
    // y was stored as f32.
    assert_near("y", &run(&rnn, &array("mhcnuggets_lstm_h5/x.npy")), &array("mhcnuggets_lstm_h5/y.npy"), 1e-6);

    // Another activation counts, whatever the default is.
    let unsaid = Unsaid { recurrent_activation: Some(Activation::Sigmoid), ..Default::default() };
    assert!(file.layer_with("lstm_1", &unsaid).unwrap().config.activations.is_empty());
    let error = file.network().unwrap_err();
    assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
    let error = file.layer("lstm_2").unwrap_err().to_string();
    assert!(error.ends_with("recurrent layer: expected one named lstm_2, got lstm_1"), "{error}");
}

#[test]
fn sleepecg_is_an_archive_of_keras_3_with_bidirectional_grus() {
    let file = KerasFile::open(data("sleepecg_keras/classifier.keras")).unwrap();
    assert_eq!(file.version(), Some("3.3.3"));
    let labels: Vec<_> = file.layers().collect();
    assert_eq!(labels.len(), 2);
    for (label, inputs) in labels.iter().zip([64, 16]) {
        assert_eq!((label.cell, label.bidirectional, label.units), (KerasCell::Gru, Some(Merge::Concat), 8));
        assert!(label.reset_after && label.return_sequences && label.said);
        let rnn = file.layer(&label.name).unwrap();
        assert_eq!((rnn.config.direction, rnn.config.input_size), (Direction::Bidirectional, inputs));
        assert_eq!(rnn.config.cell, &cells::GRU);
        let x = array(&format!("sleepecg_keras/{}.x.npy", label.name));
        assert_near(&label.name, &run(&rnn, &x), &array(&format!("sleepecg_keras/{}.y.npy", label.name)), 1e-6);
    }
    // The whole model: a mask of -1, and a softmax of four stages of sleep.
    let whole = file.network().unwrap();
    assert_eq!((whole.inputs[0].name.as_str(), whole.inputs[0].width), ("input_layer", 36));
    assert_eq!(whole.inputs[0].mask.map(|mask| mask.0), Some(-1.0));
    let mut model = whole.model::<f32>(&Device::cpu()).unwrap();
    let x: Vec<f32> = (0..4 * 36).map(|n| (n as f32).sin()).collect();
    let y = model.forward(&[("input_layer", View::new(&x, &[4, 1, 36]))], None).unwrap().remove(0).1;
    assert_eq!(y.shape, [4, 1, 4]);
    assert!(y.data.chunks(4).all(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-6));
}

/// Runs a recorded model in f64 and in f32.
#[track_caller]
fn whole(case: &str, extension: &str) -> KerasNetwork {
    let file = KerasFile::open(data(&format!("keras/{case}.{extension}"))).unwrap();
    let whole = file.network().unwrap();
    let given: Vec<(String, Tensor<f64>)> =
        whole.inputs.iter().map(|i| (i.name.clone(), array(&format!("keras/{case}.in.{}.npy", i.name)))).collect();
    let inputs: Vec<(&str, View<'_, f64>)> = given.iter().map(|(name, x)| (name.as_str(), x.view())).collect();
    let lengths = whole.lengths(&inputs).unwrap();
    let exact = whole.model::<f64>(&Device::cpu()).unwrap().forward(&inputs, lengths.as_deref()).unwrap();
    let single: Vec<(String, Tensor<f32>)> = given
        .iter()
        .map(|(name, x)| {
            (name.clone(), Tensor { data: x.data.iter().map(|&v| v as f32).collect(), shape: x.shape.clone() })
        })
        .collect();
    let inputs: Vec<(&str, View<'_, f32>)> = single.iter().map(|(name, x)| (name.as_str(), x.view())).collect();
    let rough = whole.model::<f32>(&Device::cpu()).unwrap().forward(&inputs, lengths.as_deref()).unwrap();
    for (n, output) in whole.outputs.iter().enumerate() {
        let what = format!("{case}.{extension}: {}", output.name);
        let mut expected = array(&format!("keras/{case}.out.{n}.npy"));
        assert_eq!(expected.shape.len() == 3, output.steps, "{what}");
        if output.reversed {
            let row: usize = expected.shape[1..].iter().product();
            let backwards = expected.data.chunks(row).rev().flatten().copied().collect();
            expected.data = backwards;
        }
        let masked = whole.stages[output.stage].steps_of.is_some_and(|input| whole.inputs[input].mask.is_some());
        // Inputs of own steps have theirs by make.py.
        let own = (whole.own_steps && masked).then(|| vec![1, 3, 6]);
        let lengths = lengths.clone().or(own);
        if let Some(lengths) =
            lengths.as_ref().filter(|_| output.steps && whole.stages[output.stage].has_the_models_steps())
        {
            // Past an end Keras repeats the last y; here is 0.
            let (batch, width) = (expected.shape[1], output.width);
            for (row, y) in expected.data.chunks_mut(width).enumerate() {
                if row / batch >= lengths[row % batch] {
                    y.fill(0.0);
                }
            }
        }
        // f64 but for the 1/6 of hard_sigmoid, an f32 in recurrent cells.
        assert_near(&what, &exact[n].1, &expected, 1e-7);
        let rough = &rough[n].1;
        let rough = Tensor { data: rough.data.iter().map(|&v| v.into()).collect(), shape: rough.shape.clone() };
        assert_near(&what, &rough, &expected, 1e-5);
    }
    whole
}

#[test]
fn whole_models_of_keras_3() {
    let ids = whole("keras3/sequential", "keras");
    assert!(ids.inputs[0].ids && ids.inputs[0].mask.is_some());
    whole("keras3/merges", "keras");
    let functional = whole("keras3/functional", "keras");
    assert_eq!(functional.outputs.iter().map(|o| o.reversed).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(whole("keras3/flatten", "keras").time, Some(5));
    whole("keras3/nested", "keras");
    whole("keras3/nested", "h5");
    whole("keras3/hard", "keras");
    whole("keras3/masked", "keras");
}

/// Layers that give other steps than they read: convolutions and pooling of every padding, with strides, dilation and groups; steps added,
/// cut away, repeated, and made of a row.
#[test]
fn whole_models_whose_steps_change() {
    let windows = whole("keras3/windows", "keras");
    assert!(windows.stages.len() > 4 && windows.time.is_none(), "{}", windows.stages.len());
    // Windows of three sizes over the same text, and pairs.
    assert_eq!(whole("keras3/kim", "keras").stages.len(), 5);
    // The lengths are the encoder's alone.
    assert_eq!(whole("keras3/coder", "keras").stages.len(), 2);
    whole("keras3/resized", "keras");
}

/// Layers that begin from states which others have computed, or which are inputs of the model.
#[test]
fn whole_models_with_initial_states() {
    for (case, extension) in [("keras3/seq2seq", "keras"), ("keras3/seq2seq", "h5"), ("tf213/seq2seq", "keras")] {
        let whole = whole(case, extension);
        assert!(whole.own_steps);
        // c of the decoder.
        assert_eq!(whole.outputs[3].state.map(|(_, first)| first), Some(4));
    }
    let decoder = whole("keras3/decoder", "keras");
    assert_eq!(decoder.stages.iter().map(|stage| stage.states.len()).collect::<Vec<_>>(), [3]);
    // Keras 3 has no mask where a layer is told what to begin from, tf.keras has.
    let masks = |whole: KerasNetwork| {
        let of = |name: &str| whole.inputs.iter().any(|input| input.name == name && input.mask.is_some());
        ["x", "z"].map(of)
    };
    assert_eq!(masks(whole("keras3/translator", "keras")), [true, false]);
    assert_eq!(masks(whole("tf213/translator", "h5")), [true, true]);
}

#[test]
fn initial_states_that_cannot_be_are_refused() {
    let file = KerasFile::open(data("keras/tf213/translator.h5")).unwrap();
    let whole = file.network().unwrap();
    let mut model = whole.model::<f32>(&Device::cpu()).unwrap();
    let (ids, none) = ([1.0, 2.0], [0.0, 0.0]);
    let mut run = |x: &[f32], z: &[f32], lengths: Option<&[usize]>| {
        let inputs = [("x", View::new(x, &[2, 1, 1])), ("z", View::new(z, &[2, 1, 1]))];
        model.forward(&inputs, lengths).map_err(|e| e.to_string())
    };
    // Its encoder has nothing to read: zeros.
    assert!(run(&none, &ids, None).is_ok());
    let error = run(&ids, &none, None).unwrap_err();
    assert!(error.contains("a sequence without steps, from a state"), "{error}");
    let error = run(&ids, &ids, Some(&[1])).unwrap_err();
    assert!(error.contains("inputs of the model have steps of their own"), "{error}");
    let inputs = [("x", View::new(&ids, &[2, 1, 1])), ("z", View::new(&ids, &[1, 2, 1]))];
    let error = model.forward(&inputs, None).unwrap_err().to_string();
    assert!(error.contains("state 0: expected [B, size] = [2, 8], got [1, 8]"), "{error}");
}

#[test]
fn whole_models_with_depthwise_convolutions() {
    assert_eq!(whole("keras3/depthwise", "keras").stages.len(), 3);
    whole("tf213/depthwise", "keras");
}

#[test]
fn steps_that_cannot_be_are_refused() {
    let kim = KerasFile::open(data("keras/keras3/kim.keras")).unwrap().network().unwrap();
    let mut model = kim.model::<f32>(&Device::cpu()).unwrap();
    let x = [0.5; 3 * 3];
    let mut run = |time: usize, lengths: Option<&[usize]>| {
        model.forward(&[("x", View::new(&x[..3 * time], &[time, 1, 3]))], lengths).map_err(|e| e.to_string())
    };
    let error = run(3, None).unwrap_err();
    assert!(error.ends_with("steps: expected at least 4, got 3"), "{error}");
    let error = run(3, Some(&[2])).unwrap_err();
    assert!(error.starts_with("not supported: lengths: a layer of the model has windows"), "{error}");
}

#[test]
fn whole_models_of_the_first_keras_3() {
    whole("keras30/nested", "keras");
}

#[test]
fn whole_models_of_tf_keras_2_13() {
    whole("tf213/sequential", "keras");
    whole("tf213/functional", "keras");
    whole("tf213/nested", "keras");
    whole("tf213/hard", "keras");
    whole("tf213/masked", "h5");
}

/// Of Keras 2, with the weights as cuDNN has them; and as Keras 1 wrote it, an array for every gate.
#[test]
fn whole_models_in_older_orders() {
    whole("tf213/cudnn", "h5");
    whole("tf213/first", "h5");
    let file = KerasFile::open(data("keras/tf213/first.h5")).unwrap();
    assert_eq!((file.version(), file.layer("gru_1").unwrap().config.cell), (None, &cells::GRU_RESET_BEFORE));
}

#[test]
fn weights_alone_are_the_layers_of_the_whole_model() {
    for (folder, names) in [("keras3", ["layers/bidirectional", "layers/lstm"]), ("tf213", ["both", "last"])] {
        let model = KerasFile::open(data(&format!("keras/{folder}/sequential.keras"))).unwrap();
        let weights = KerasFile::open(data(&format!("keras/{folder}/sequential.weights.h5"))).unwrap();
        assert!(weights.is_weights_only());
        assert_eq!(weights.layers().map(|l| l.name.as_str()).collect::<Vec<_>>(), names);
        for (name, own) in ["both", "last"].into_iter().zip(names) {
            let (whole, alone) = (model.layer(name).unwrap(), weights.layer(own).unwrap());
            assert_eq!((whole.config, whole.weights), (alone.config, alone.weights), "{folder} {name}");
            assert!(whole.label.said && !alone.label.said);
        }
    }
}

#[test]
fn labels_say_what_the_configuration_says() {
    let file = KerasFile::open(data("keras/keras3/functional.keras")).unwrap();
    let labels: Vec<_> =
        file.layers().map(|l| (l.name.as_str(), l.cell, l.go_backwards, l.return_sequences, l.reset_after)).collect();
    let expected = [
        ("back", KerasCell::Gru, true, true, true),
        ("rnn", KerasCell::SimpleRnn, false, true, false),
        ("forth", KerasCell::Lstm, true, true, false),
        ("end", KerasCell::Gru, true, false, true),
    ];
    assert!(expected.iter().all(|label| labels.contains(label)), "{labels:?}");
    assert_eq!(file.layer("back").unwrap().config.direction, Direction::Reverse);
    assert_eq!(file.refused().count(), 0);
    let nested = KerasFile::open(data("keras/keras3/nested.keras")).unwrap();
    assert!(nested.layers().any(|l| l.name == "encoder/inner_gru"));
}

#[test]
fn hard_sigmoid_is_that_of_the_version() {
    for (case, alpha) in [("keras3/hard.keras", 1.0 / 6.0), ("tf213/hard.keras", 0.2)] {
        let file = KerasFile::open(data(&format!("keras/{case}"))).unwrap();
        let expected = [Activation::HardSigmoid { alpha, beta: 0.5 }, Activation::Softsign, Activation::Softsign];
        assert_eq!(file.layer("lstm").unwrap().config.activations, expected, "{case}");
        assert_eq!(file.layer("gru").unwrap().config.cell, &cells::GRU_RESET_BEFORE);
    }
}

#[test]
fn a_part_of_a_model_is_a_network() {
    let file = KerasFile::open(data("keras/keras3/functional.keras")).unwrap();
    let part = file.network_to("back").unwrap();
    assert_eq!(part.outputs.len(), 1);
    assert_eq!((part.outputs[0].name.as_str(), part.outputs[0].reversed), ("back", true));
    let error = file.network_to("nothing").unwrap_err().to_string();
    assert!(error.ends_with("layer: expected one of the model's, got nothing"), "{error}");
}

#[test]
fn lengths_are_those_of_the_mask() {
    let whole = KerasFile::open(data("keras/keras3/masked.keras")).unwrap().network().unwrap();
    let lengths = |x: &[f32], batch: usize| {
        whole.lengths(&[("x", View::new(x, &[x.len() / 3 / batch, batch, 3]))]).map_err(|e| e.to_string())
    };
    let (real, masked) = ([1.0, -1.0, -1.0], [-1.0; 3]);
    assert_eq!(lengths(&[real, real, masked].concat(), 1), Ok(Some(vec![2])));
    assert_eq!(lengths(&[real, masked, real, masked].concat(), 2), Ok(Some(vec![2, 0])));
    let error = lengths(&[masked, real].concat(), 1).unwrap_err();
    assert!(error.contains("step 0 of sequence 0 of x, masked and before a real one"), "{error}");
}
