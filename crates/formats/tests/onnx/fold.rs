//! What nodes make of constants, before a recurrent node reads it.

use super::wire::{Value, external, floats, function, graph, integers, model, narrow, node, value};
use wgpu_rnn::{Error, Result};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, Source};

/// W `[1, 1, 1]` = 3 and R `[1, 1, 1]` = 0.5 of an RNN.
const W: f32 = 3.0;

fn rnn(inputs: &[&str]) -> Vec<u8> {
    node("RNN", inputs, &["y"], &[])
}

/// An RNN whose W is what `nodes` make of `tensors`, in files of that opset.
fn with_w(opset: i64, nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Result<OnnxNode> {
    with_functions(opset, nodes, tensors, &[])
}

fn with_functions(opset: i64, nodes: &[Vec<u8>], tensors: &[Vec<u8>], functions: &[Vec<u8>]) -> Result<OnnxNode> {
    let nodes = [nodes, &[rnn(&["x", "w", "r"])]].concat();
    let tensors = [tensors, &[floats("r", &[1, 1, 1], &[0.5])]].concat();
    let bytes = model(opset, &graph(&nodes, &tensors, &[value("x", &[-1, -1, 1])], &[]), functions);
    OnnxFile::from_bytes("m.onnx", bytes)?.only_node()
}

/// An RNN with one unit and the state that `nodes` make of `tensors` as `h`.
fn with_state(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Source<Vec<f64>> {
    let nodes = [nodes, &[rnn(&["x", "w", "r", "", "", "h"])]].concat();
    let own = [floats("w", &[1, 2, 1], &[1.0, 2.0]), floats("r", &[1, 2, 2], &[0.5; 4])];
    let bytes = model(20, &graph(&nodes, &[tensors, &own].concat(), &[value("x", &[-1, -1, 1])], &[]), &[]);
    let node = OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().expect("a node");
    match node.h0 {
        Source::Absent => Source::Absent,
        Source::Constant(state) => {
            assert_eq!(state.shape[2], 2);
            Source::Constant(state.data)
        }
        Source::Runtime(name) => Source::Runtime(name),
    }
}

/// Opset, nodes and initialisers.
type Case = (i64, Vec<Vec<u8>>, Vec<Vec<u8>>);

#[test]
fn operators_around_weights() {
    let one = || floats("a", &[1, 1, 1], &[W]);
    let list = |name: &str, values: &[i64]| integers(name, &[values.len()], values);
    let cases: Vec<Case> = vec![
        (20, vec![node("Identity", &["a"], &["w"], &[])], vec![one()]),
        // Parameters as attributes, and as inputs since.
        (
            9,
            vec![
                node("Slice", &["a"], &["b"], &[("starts", Value::Ints(&[1])), ("ends", Value::Ints(&[2]))]),
                node("Unsqueeze", &["b"], &["w"], &[("axes", Value::Ints(&[0]))]),
            ],
            vec![floats("a", &[3, 1], &[1.0, W, 2.0])],
        ),
        (
            20,
            vec![node("Slice", &["a", "s", "e", "x", "t"], &["b"], &[]), node("Unsqueeze", &["b", "z"], &["w"], &[])],
            vec![
                floats("a", &[3, 1], &[1.0, 2.0, W]),
                list("s", &[-1]),
                list("e", &[-100]),
                list("x", &[0]),
                list("t", &[-3]),
                list("z", &[0]),
            ],
        ),
        (
            11,
            vec![node("Squeeze", &["a"], &["w"], &[("axes", Value::Ints(&[1]))])],
            vec![floats("a", &[1, 1, 1, 1], &[W])],
        ),
        (
            13,
            vec![node("Split", &["a", "s"], &["b", "w"], &[("axis", Value::Int(2))])],
            vec![floats("a", &[1, 1, 3], &[0.0, 1.0, W]), list("s", &[2, 1])],
        ),
        (
            18,
            vec![node("Split", &["a"], &["w", "b"], &[("axis", Value::Int(-1)), ("num_outputs", Value::Int(2))])],
            vec![floats("a", &[1, 1, 2], &[W, 1.0])],
        ),
        (
            13,
            vec![
                node("Concat", &["a", "b"], &["c"], &[("axis", Value::Int(0))]),
                node("Transpose", &["c"], &["d"], &[("perm", Value::Ints(&[1, 0]))]),
                node("Gather", &["d", "i"], &["e"], &[("axis", Value::Int(1))]),
                node("Reshape", &["e", "f"], &["w"], &[]),
            ],
            vec![floats("a", &[1, 1], &[1.0]), floats("b", &[1, 1], &[W]), list("i", &[-1]), list("f", &[1, -1, 1])],
        ),
        (
            13,
            vec![node("Cast", &["a"], &["b"], &[("to", Value::Int(10))]), node("Mul", &["b", "c"], &["w"], &[])],
            vec![floats("a", &[1, 1, 1], &[6.0]), floats("c", &[], &[0.5])],
        ),
        // (q − zero) · scale of the second of two rows: (−2 + 8) · 0.5
        (
            13,
            vec![
                node("DequantizeLinear", &["q", "s", "z"], &["b"], &[("axis", Value::Int(0))]),
                node("Slice", &["b", "one", "two"], &["c"], &[]),
                node("Unsqueeze", &["c", "zero"], &["w"], &[]),
            ],
            vec![
                narrow("q", &[2, 1], &[7, -2]),
                floats("s", &[2], &[100.0, 0.5]),
                narrow("z", &[2], &[1, -8]),
                list("one", &[1]),
                list("two", &[2]),
                list("zero", &[0]),
            ],
        ),
        (
            13,
            vec![node("ReduceSum", &["a", "x"], &["b"], &[]), node("Neg", &["b"], &["w"], &[])],
            vec![floats("a", &[1, 1, 2], &[-1.0, -2.0]), list("x", &[-1])],
        ),
        (
            20,
            vec![
                node("Constant", &[], &["c"], &[("value_float", Value::Float(W))]),
                node("Expand", &["c", "s"], &["w"], &[]),
            ],
            vec![list("s", &[1, 1, 1])],
        ),
        (
            20,
            vec![node("Where", &["c", "a", "b"], &["w"], &[])],
            vec![one(), floats("b", &[], &[0.0]), list("c", &[7])],
        ),
    ];
    for (n, (opset, nodes, tensors)) in cases.into_iter().enumerate() {
        let node = with_w(opset, &nodes, &tensors).unwrap_or_else(|e| panic!("case {n}: {e}"));
        assert_eq!(node.weights.layers[0].w, [f64::from(W)], "case {n}");
    }
}

#[test]
fn states_that_are_zeros_whatever_their_shape() {
    let shape = || node("Shape", &["x"], &["s"], &[]);
    let zero = || floats("zero", &[], &[0.0]);
    let list = |name: &str, values: &[i64]| integers(name, &[values.len()], values);
    let lists = || vec![zero(), list("first", &[0]), list("second", &[1])];
    let after = |op: Vec<u8>| vec![shape(), node("ConstantOfShape", &["s"], &["z"], &[]), op];
    let cases = vec![
        after(node("Slice", &["z", "first", "second", "first"], &["h"], &[])),
        after(node("Cast", &["z"], &["h"], &[("to", Value::Int(1))])),
        after(node("Unsqueeze", &["z", "first"], &["h"], &[])),
        after(node("Concat", &["z", "z"], &["h"], &[("axis", Value::Int(0))])),
        after(node("Split", &["z"], &["a", "h"], &[("num_outputs", Value::Int(2))])),
        vec![shape(), node("Expand", &["zero", "s"], &["h"], &[])],
        vec![shape(), node("Tile", &["zero", "s"], &["h"], &[])],
        vec![
            shape(),
            node("Expand", &["zero", "s"], &["z"], &[]),
            node("Slice", &["z", "first", "second", "first"], &["h"], &[]),
        ],
    ];
    for (n, nodes) in cases.into_iter().enumerate() {
        assert_eq!(with_state(&nodes, &lists()), Source::Absent, "case {n}");
    }
    // Baked to the batch that the model was traced with.
    assert_eq!(with_state(&[], &[floats("h", &[1, 3, 2], &[0.0; 6])]), Source::Absent);
}

#[test]
fn states_that_are_the_same_for_every_sequence_have_one_row() {
    let shape = || node("Shape", &["x"], &["s"], &[]);
    let traced = |values: &[f32]| with_state(&[], &[floats("h", &[1, 3, 2], values)]);
    assert_eq!(traced(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]), Source::Constant(vec![1.0, 2.0]));
    // What differs fits one batch alone.
    assert_eq!(traced(&[1.0, 2.0, 1.0, 2.0, 1.0, 3.0]), Source::Constant(vec![1.0, 2.0, 1.0, 2.0, 1.0, 3.0]));
    let learned = [floats("a", &[1, 1, 2], &[1.0, 2.0])];
    for op in ["Expand", "Tile"] {
        let nodes = [shape(), node(op, &["a", "s"], &["h"], &[])];
        assert_eq!(with_state(&nodes, &learned), Source::Constant(vec![1.0, 2.0]), "{op}");
    }
    // The second layer's of a stack.
    let nodes =
        [shape(), node("Expand", &["a", "s"], &["b"], &[]), node("Slice", &["b", "one", "two", "zero"], &["h"], &[])];
    let list = |name: &str, value: i64| integers(name, &[1], &[value]);
    let tensors = [floats("a", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]), list("zero", 0), list("one", 1), list("two", 2)];
    assert_eq!(with_state(&nodes, &tensors), Source::Constant(vec![3.0, 4.0]));
    // A state that a run gives.
    assert_eq!(with_state(&[node("Exp", &["x"], &["h"], &[])], &[]), Source::Runtime("h".into()));
}

#[test]
fn what_grows_out_of_proportion_is_refused() {
    let list = |values: &[i64]| integers("s", &[values.len()], values);
    let large = || list(&[1 << 20, 1 << 20, 1]);
    let cases = [
        (node("ConstantOfShape", &["s"], &["w"], &[]), large()),
        (node("Expand", &["a", "s"], &["w"], &[]), large()),
        (node("Tile", &["b", "s"], &["w"], &[]), large()),
        (node("Range", &["z", "n", "o"], &["w"], &[]), list(&[0])),
    ];
    let others = || {
        vec![
            floats("a", &[], &[1.0]),
            floats("b", &[1, 1, 1], &[1.0]),
            integers("z", &[], &[0]),
            integers("n", &[], &[i64::MAX]),
            integers("o", &[], &[1]),
        ]
    };
    for (op, sizes) in cases {
        let error = with_w(20, &[op], &[others(), vec![sizes]].concat()).expect_err("too large");
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
    // Many that are small: each is twice the one before.
    let doubled = |n: usize| {
        node("Concat", &[&format!("v{n}"), &format!("v{n}")], &[&format!("v{}", n + 1)], &[("axis", Value::Int(0))])
    };
    let nodes: Vec<_> = (0..64).map(doubled).chain([node("Identity", &["v64"], &["w"], &[])]).collect();
    let error = with_w(20, &nodes, &[floats("v0", &[1], &[1.0])]).expect_err("too large");
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}

#[test]
fn values_that_depend_on_themselves_are_refused() {
    let nodes = [node("Add", &["a", "b"], &["w"], &[]), node("Neg", &["w"], &["b"], &[])];
    let error = with_w(20, &nodes, &[floats("a", &[1], &[1.0])]).expect_err("a circle").to_string();
    assert!(error.contains("depends on itself"), "{error}");
    // A long way is no circle.
    let step = |n: usize| node("Neg", &[&format!("v{n}")], &[&format!("v{}", n + 1)], &[]);
    let nodes: Vec<_> = (0..3000).map(step).chain([node("Identity", &["v3000"], &["w"], &[])]).collect();
    let node = with_w(20, &nodes, &[floats("v0", &[1, 1, 1], &[W])]).expect("a node");
    assert_eq!(node.weights.layers[0].w, [f64::from(W)]);
}

#[test]
fn a_name_of_an_inner_graph_is_not_the_outer_constant() {
    // Inside, w is what the loop gives its body.
    let inner = graph(&[rnn(&["x", "w", "r"])], &[], &[value("w", &[1])], &[]);
    let outer = [node("Loop", &["", "", "w"], &["o"], &[("body", Value::Graph(inner))])];
    let tensors = [floats("w", &[1, 1, 1], &[W]), floats("r", &[1, 1, 1], &[0.5])];
    let bytes = model(20, &graph(&outer, &tensors, &[value("x", &[1, 1, 1])], &[]), &[]);
    let error = OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().expect_err("a value of a run");
    assert!(error.to_string().contains("a value of a run"), "{error}");
}

#[test]
fn of_an_if_with_a_known_condition_the_branch_that_is_taken_counts() {
    let branch = |name: &str| graph(&[node("RNN", &["x", name, "r"], &[&format!("y_{name}")], &[])], &[], &[], &[]);
    let file = |condition: Vec<u8>| {
        let attributes = [("then_branch", Value::Graph(branch("w"))), ("else_branch", Value::Graph(branch("v")))];
        let nodes = [node("Equal", &["a", "b"], &["c"], &[]), node("If", &["c"], &["o"], &attributes)];
        let tensors = [
            floats("w", &[1, 1, 1], &[W]),
            floats("v", &[1, 1, 1], &[1.0]),
            floats("r", &[1, 1, 1], &[0.5]),
            condition,
        ];
        let inputs = [value("x", &[1, 1, 1]), value("b", &[])];
        let bytes = model(20, &graph(&nodes, &[&tensors[..], &[integers("a", &[], &[1])]].concat(), &inputs, &[]), &[]);
        OnnxFile::from_bytes("m.onnx", bytes).expect("a model")
    };
    let names = |file: &OnnxFile| file.nodes().map(|label| label.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&file(integers("b", &[], &[1]))), ["y_w"]);
    assert_eq!(names(&file(integers("b", &[], &[2]))), ["y_v"]);
    // Only a run knows it.
    assert_eq!(names(&file(floats("unused", &[], &[0.0]))).len(), 2);
}

#[test]
fn functions_stand_for_their_nodes() {
    // f(a) = a + a, cast by an attribute of the call; g calls f.
    let f = function(
        "f",
        &["a"],
        &["c"],
        &[node("Add", &["a", "a"], &["b"], &[]), node("Cast", &["b"], &["c"], &[("to", Value::Of("type"))])],
    );
    let g = function("g", &["a"], &["b"], &[node("own:f", &["a"], &["b"], &[("type", Value::Int(1))])]);
    let call = [node("own:g", &["a"], &["w"], &[])];
    let found = with_functions(20, &call, &[floats("a", &[1, 1, 1], &[1.5])], &[f, g]).expect("a node");
    assert_eq!(found.weights.layers[0].w, [3.0]);
    // One that holds the recurrent node.
    let layer = function("layer", &["x", "w", "r"], &["y"], &[rnn(&["x", "w", "r"])]);
    let tensors = [floats("w", &[1, 1, 1], &[W]), floats("r", &[1, 1, 1], &[0.5])];
    let main = graph(&[node("own:layer", &["x", "w", "r"], &["z"], &[])], &tensors, &[value("x", &[1, 1, 1])], &[]);
    let file = OnnxFile::from_bytes("m.onnx", model(20, &main, &[layer])).expect("a model");
    let node = file.only_node().expect("a node");
    assert_eq!((node.input.as_str(), node.outputs[0].as_deref()), ("x", Some("z")));
}

#[test]
fn functions_without_end_are_refused() {
    let itself = function("f", &["a"], &["b"], &[node("own:f", &["a"], &["b"], &[])]);
    let open = |functions: &[Vec<u8>]| {
        let main = graph(&[node("own:f", &["a"], &["w"], &[])], &[floats("a", &[1], &[1.0])], &[], &[]);
        OnnxFile::from_bytes("m.onnx", model(20, &main, functions)).err().expect("refused").to_string()
    };
    assert!(open(&[itself]).contains("functions inside functions"));
    // Each calls the next eight times: 8^20 nodes.
    let name = |n: usize| if n == 0 { "f".to_string() } else { format!("f{n}") };
    let next = |n: usize| node(&format!("own:{}", name(n + 1)), &["a"], &["b"], &[]);
    let laughs: Vec<_> = (0..20).map(|n| function(&name(n), &["a"], &["b"], &vec![next(n); 8])).collect();
    assert!(open(&laughs).contains("unfold to far more"));
}

#[test]
fn values_beside_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let model_in = |entries: &[(&str, &str)]| {
        let tensors = [external("w", &[1, 1, 1], entries), floats("r", &[1, 1, 1], &[0.5])];
        model(20, &graph(&[rnn(&["x", "w", "r"])], &tensors, &[value("x", &[1, 1, 1])], &[]), &[])
    };
    let inner = folder.path().join("model");
    std::fs::create_dir_all(inner.join("weights")).expect("a folder");
    std::fs::write(inner.join("weights/data"), [0.0f32, W].map(f32::to_le_bytes).concat()).expect("written");
    std::fs::write(folder.path().join("outside"), [0u8; 8]).expect("written");
    let open = |entries: &[(&str, &str)]| {
        let path = inner.join("m.onnx");
        std::fs::write(&path, model_in(entries)).expect("written");
        OnnxFile::open(&path).expect("a model").only_node()
    };
    let there = [("location", "weights/data"), ("offset", "4"), ("length", "4")];
    assert_eq!(open(&there).expect("a node").weights.layers[0].w, [f64::from(W)]);
    let absolute = folder.path().join("outside").display().to_string();
    let mut outside =
        vec![absolute.as_str(), "../outside", "weights/../../outside", "", "./weights/data/../../../outside"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("outside"), inner.join("link")).expect("a link");
        outside.push("link");
    }
    for location in outside {
        let error = open(&[("location", location)]).expect_err(location);
        assert!(
            matches!(&error, Error::Unsupported { reason, .. } if reason.contains("model's folder")),
            "{location}: {error}"
        );
    }
    assert!(matches!(open(&[("location", "weights/none")]), Err(Error::File { .. })));
    for wrong in [("offset", "8"), ("offset", "18446744073709551615"), ("offset", "-1"), ("length", "8")] {
        assert!(
            matches!(open(&[("location", "weights/data"), wrong]), Err(Error::File { .. } | Error::Mismatch { .. })),
            "{wrong:?}"
        );
    }
    let bytes = OnnxFile::from_bytes("m.onnx", model_in(&there)).expect("a model").only_node();
    assert!(bytes.expect_err("no folder").to_string().contains("came as bytes"));
}

#[test]
fn clip_as_onnx_runtime_has_it() {
    let tensors = [floats("w", &[1, 1, 1], &[W]), floats("r", &[1, 1, 1], &[0.5])];
    let clipped = |op: &str, clip: f32| {
        let gates = if op == "RNN" { 1 } else { 3 };
        let weights = |name: &str| floats(name, &[1, gates, 1], &vec![1.0; gates]);
        let tensors = if op == "RNN" { tensors.to_vec() } else { vec![weights("w"), weights("r")] };
        let node = node(op, &["x", "w", "r"], &["y"], &[("clip", Value::Float(clip))]);
        let bytes = model(20, &graph(&[node], &tensors, &[value("x", &[1, 1, 1])], &[]), &[]);
        OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().map(|node| node.config.clip)
    };
    assert_eq!(clipped("RNN", -1.0).expect("none"), None);
    assert_eq!(clipped("RNN", 2.0).expect("2"), Some(2.0));
    for (op, clip) in [("RNN", 0.0), ("GRU", 0.0), ("GRU", -1.0)] {
        assert!(clipped(op, clip).expect_err(op).to_string().contains("clip: expected a float above 0"), "{op} {clip}");
    }
}

#[test]
fn a_projection_is_refused_by_its_shapes() {
    // As torch 2.15 writes nn.LSTM(3, 4, proj_size=2).
    let tensors = [floats("w", &[1, 16, 3], &[0.0; 48]), floats("r", &[1, 16, 2], &[0.0; 32])];
    let node = node("LSTM", &["x", "w", "r"], &["y"], &[("hidden_size", Value::Int(2))]);
    let bytes = model(20, &graph(&[node], &tensors, &[value("x", &[1, 1, 3])], &[]), &[]);
    let error =
        OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().expect_err("a projection").to_string();
    assert!(error.contains("projection") && error.contains("H = 4") && error.contains("P = 2"), "{error}");
}
