//! Inputs that decide which network a model is: Silero's voice detector as published, whose two halves are branches of one If, call by call
//! with its state carried on, against what ONNX Runtime recorded.

use super::recorded::{array, error, folder};
use super::wire::{Value, floats, graph, integers, model, node, typed, value};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Element, Tensor, View};
use wgpu_rnn_formats::WholeModel;
use wgpu_rnn_formats::onnx::OnnxFile;

/// One call of an axis in front, and the first sequences of it.
fn call<T: Element>(tensor: &Tensor<f64>, n: usize, batch: usize) -> Tensor<T> {
    let mut shape = tensor.shape[1..].to_vec();
    let size: usize = shape.iter().product();
    let sequences = shape.len() - 2;
    let (all, row) = (shape[sequences], shape[sequences + 1]);
    shape[sequences] = batch;
    let groups = tensor.data[n * size..][..size].chunks(all * row).flat_map(|group| &group[..batch * row]);
    Tensor { data: groups.map(|&v| T::from_f64(v)).collect(), shape }
}

fn as_f64<T: Element>(tensor: &Tensor<T>) -> Tensor<f64> {
    Tensor { data: tensor.data.iter().map(|v| v.to_f64()).collect(), shape: tensor.shape.clone() }
}

/// The largest error of all calls at both rates, in one session that is built again between them.
fn silero<T: Element>(batch: usize) -> f64 {
    let folder = folder("published/silero_vad");
    let model = WholeModel::open(folder.join("model.onnx")).expect("a model");
    let mut session = None;
    let mut largest = 0.0f64;
    for rate in [16000, 8000, 16000] {
        let [x, output, states] =
            ["x", "output", "state"].map(|what| array(&folder.join(format!("{rate}.{what}.npy"))));
        let calls = x.shape[0];
        let mut state = Tensor { data: vec![T::default(); 2 * batch * 128], shape: vec![2, batch, 128] };
        let rate = [T::from_f64(rate.into())];
        for n in 0..calls {
            let x = call::<T>(&x, n, batch);
            let inputs = [("input", x.view()), ("state", state.view()), ("sr", View::new(&rate, &[]))];
            let session = session.get_or_insert_with(|| {
                model.session_with::<T>(&Device::cpu(), &NetworkOptions::default(), &inputs).expect("a session")
            });
            let made = session.run(&inputs).expect("a run");
            assert_eq!(made.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["output", "stateN"]);
            largest = largest.max(error(&call(&output, n, batch), &as_f64(&made[0].1)));
            largest = largest.max(error(&call(&states, n, batch), &as_f64(&made[1].1)));
            state = made[1].1.clone();
        }
    }
    largest
}

#[test]
fn silero_runs_whole_at_both_rates() {
    // As many sequences as there are states, which must not be taken for each other, too.
    let (single, double) = (silero::<f32>(2).max(silero::<f32>(1)), silero::<f64>(3));
    println!("silero_vad.onnx: {single:.1e} in f32, {double:.1e} in f64");
    // Recorded in f32, six calls on.
    assert!(single.max(double) < 1e-4, "{single} {double}");
}

/// y = x + 1 if n is 3, else 2·x, and k zeros in front of it.
fn two_ways() -> Vec<u8> {
    let branch = |op: &str, of: &str| graph(&[node(op, &["x", of], &["b"], &[])], &[], &[], &[value("b", &[2, 3])]);
    let branches =
        [("then_branch", Value::Graph(branch("Add", "one"))), ("else_branch", Value::Graph(branch("Mul", "two")))];
    let nodes = [
        node("Equal", &["n", "three"], &["is"], &[]),
        node("If", &["is"], &["y"], &branches),
        node("Concat", &["zero", "k", "zeros"], &["pads"], &[("axis", Value::Int(0))]),
        node("Pad", &["y", "pads"], &["z"], &[]),
    ];
    let constants = [
        integers("three", &[], &[3]),
        integers("zero", &[1], &[0]),
        integers("zeros", &[2], &[0, 0]),
        floats("one", &[], &[1.0]),
        floats("two", &[], &[2.0]),
    ];
    let inputs = [value("x", &[2, 3]), typed("n", &[], 7), typed("k", &[1], 7), typed("ids", &[2], 7)];
    model(20, &graph(&nodes, &constants, &inputs, &[value("z", &[2, -1])]), &[])
}

#[test]
fn values_of_integers_decide_conditions_and_sizes() {
    let file = OnnxFile::from_bytes("m.onnx", two_ways()).expect("a model");
    assert_eq!(file.deciding(), ["n", "k"]);
    let error =
        file.model(&[("x", &[2, 3]), ("n", &[]), ("k", &[1]), ("ids", &[2])]).expect_err("no values").to_string();
    assert!(error.contains("the values of n, k decide it"), "{error}");
    let n = |n: i64, k: i64| {
        let (n, k) = ([n], [k]);
        file.decided(&[("n", View::new(&n, &[])), ("k", View::new(&k, &[1]))]).expect("values")
    };
    let run = |file: &OnnxFile| {
        assert_eq!(file.inputs().len(), 2);
        let model = file.model(&[("x", &[2, 3]), ("ids", &[2])]).expect("a model");
        let mut session = model.session::<f32>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let made = session.run(&[("x", View::new(&x, &[2, 3])), ("ids", View::new(&[0.0, 0.0], &[2]))]).expect("a run");
        made[0].tensor.clone()
    };
    assert_eq!(run(&n(3, 0)), Tensor { data: vec![2.0, 3.0, 4.0, 5.0, 6.0, 7.0], shape: vec![2, 3] });
    assert_eq!(run(&n(2, 1)), Tensor { data: vec![0.0, 2.0, 4.0, 6.0, 0.0, 8.0, 10.0, 12.0], shape: vec![2, 4] });
    for (name, data, shape, message) in [
        ("n", &[3][..], &[1][..], "expected [], got [1]"),
        ("x", &[3], &[1], "integers or truth values"),
        ("m", &[3], &[], "an input of the model"),
        ("k", &[1, 2], &[1], "2 values"),
    ] {
        let error = file.decided(&[(name, View::new(data, shape))]).map(drop).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_session_is_built_again_for_other_values_alone() {
    let path = std::env::temp_dir().join(format!("wgpu-rnn-two-ways-{}.onnx", std::process::id()));
    std::fs::write(&path, two_ways()).expect("written");
    let model = WholeModel::open(&path).expect("a model");
    std::fs::remove_file(&path).expect("removed");
    let x = [1.0f32; 6];
    let mut session = None;
    for (n, k, expected) in [(3.0, 0.0, 2.0), (3.0, 0.0, 2.0), (4.0, 0.0, 2.0), (4.0, 2.0, 0.0)] {
        let (n, k) = ([n], [k]);
        let inputs = [
            ("x", View::new(&x[..], &[2, 3])),
            ("n", View::new(&n, &[])),
            ("k", View::new(&k, &[1])),
            ("ids", View::new(&[0.0, 1.0], &[2])),
        ];
        let session = session.get_or_insert_with(|| {
            model.session_with::<f32>(&Device::cpu(), &NetworkOptions::default(), &inputs).expect("a session")
        });
        assert_eq!(session.run(&inputs).expect("a run")[0].1.data[0], expected);
    }
    let halves = [2.5];
    let inputs = [("n", View::new(&halves, &[]))];
    let error = session.expect("made").run(&inputs).expect_err("no whole number").to_string();
    assert!(error.contains("expected whole numbers, got 2.5"), "{error}");
}
