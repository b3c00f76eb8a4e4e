//! Recurrent nodes one behind the other as one stack of layers, and what keeps them apart.

use super::recorded::{arrays, error, folder};
use super::wire::{Value, floats, graph, integers, model, node, typed, value};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Tensor, View};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxModel};

/// The number of layers of every stack.
fn layers(model: &OnnxModel) -> Vec<usize> {
    let names = model.stages.iter().flat_map(|stage| &stage.network.params).map(|param| param.name.as_str());
    let mut layers = Vec::new();
    for (_, layer) in names.filter_map(|name| name.split_once(".weight_hh_l")).filter(|(_, l)| !l.ends_with("_reverse"))
    {
        match layer {
            "0" => layers.push(1),
            _ => *layers.last_mut().expect("a first layer") += 1,
        }
    }
    layers
}

#[test]
fn exported_stacks_are_one() {
    for (case, count) in [("bilstm2_dyn", 2), ("bigru3_dyn", 3), ("bilstm3_ts", 3), ("bigru2_ts", 2)] {
        let folder = folder(&format!("stacks/{case}"));
        let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
        assert_eq!(file.nodes().count(), count);
        let inputs = arrays(&folder, "in");
        let x = &inputs["x"];
        let model = file.model(&[("x", &x.shape)]).expect("a model");
        assert_eq!(layers(&model), [count], "{case}");
        let mut session = model.session::<f64>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
        let made = session.run(&[("x", x.view())]).expect("a run");
        let right = arrays(&folder, "out");
        assert_eq!(made.len(), right.len());
        let worst = made.iter().map(|one| error(&right[&one.name], &one.tensor)).fold(0.0, f64::max);
        println!("{case}: {worst:.1e}");
        // Recorded in f32.
        assert!(worst < 1e-5, "{case}: {worst}");
        // One step: the states of the layers below are not their y.
        let step = Tensor { data: x.data[..4].to_vec(), shape: vec![1, 1, 4] };
        let model = file.model(&[("x", &[1, 1, 4])]).expect("a model");
        assert_eq!(layers(&model), [count], "{case}");
        let mut session = model.session::<f64>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
        session.run(&[("x", step.view())]).expect("a run");
    }
}

/// Numbers that are not random, but of no pattern either.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 7919 + seed * 104729) % 1000) as f32 / 500.0 - 1.0) * 0.6).collect()
}

/// Two GRUs of 4 units over x `[5, 2, 3]`, and more nodes; `hidden` and `reset_after` are the second's.
struct Two<'a> {
    hidden: usize,
    reset_after: i64,
    initial: bool,
    lengths: [&'a str; 2],
    more: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Default for Two<'_> {
    fn default() -> Self {
        let outputs = vec![value("y2", &[5, 1, 2, -1])];
        Self { hidden: 4, reset_after: 1, initial: false, lengths: [""; 2], more: Vec::new(), outputs }
    }
}

impl Two<'_> {
    fn bytes(&self) -> Vec<u8> {
        let gru = |x: &str, n: usize, hidden: usize, reset_after: i64, first: &str| {
            let names =
                [format!("w{n}"), format!("r{n}"), format!("b{n}"), format!("y{n}"), ["last", "h2"][n - 1].to_string()];
            let attributes =
                [("hidden_size", Value::Int(hidden as i64)), ("linear_before_reset", Value::Int(reset_after))];
            let inputs = [x, &names[0], &names[1], &names[2], self.lengths[n - 1], first];
            node("GRU", &inputs, &[&names[3], &names[4]], &attributes)
        };
        let weights = |n: usize, width: usize, h: usize| {
            [
                floats(&format!("w{n}"), &[1, 3 * h, width], &numbers(3 * h * width, n)),
                floats(&format!("r{n}"), &[1, 3 * h, h], &numbers(3 * h * h, n + 10)),
                floats(&format!("b{n}"), &[1, 6 * h], &numbers(6 * h, n + 20)),
            ]
        };
        let h = self.hidden;
        let mut nodes = vec![
            gru("x", 1, 4, 1, if self.initial { "h0" } else { "" }),
            node("Squeeze", &["y1", "one"], &["s"], &[]),
            gru("s", 2, h, self.reset_after, if self.initial { "h1" } else { "" }),
        ];
        nodes.extend(self.more.iter().cloned());
        let mut constants = [weights(1, 3, 4), weights(2, 4, h)].concat();
        constants.push(integers("one", &[1], &[1]));
        let mut inputs = vec![value("x", &[5, 2, 3])];
        if self.initial {
            inputs.extend([value("h0", &[1, 2, 4]), value("h1", &[1, 2, 4])]);
        }
        for n in ["n", "m"] {
            if self.lengths.contains(&n) {
                inputs.push(typed(n, &[2], 6));
            }
        }
        model(20, &graph(&nodes, &constants, &inputs, &self.outputs), &[])
    }

    fn model(&self, up_to: &[&str]) -> wgpu_rnn::Result<OnnxModel> {
        let file = OnnxFile::from_bytes("two.onnx", self.bytes())?;
        let shape = |name: &str| -> &[usize] {
            match name {
                "x" => &[5, 2, 3],
                "n" | "m" => &[2],
                _ => &[1, 2, 4],
            }
        };
        let names: Vec<String> = file.inputs().into_iter().map(|input| input.name).collect();
        let shapes: Vec<(&str, &[usize])> = names.iter().map(|name| (name.as_str(), shape(name))).collect();
        if up_to.is_empty() { file.model(&shapes) } else { file.model_up_to(&shapes, up_to) }
    }
}

/// All outputs of a model, whose inputs are some numbers.
fn run(model: OnnxModel) -> Vec<Tensor<f32>> {
    let inputs: Vec<(String, Tensor<f32>)> = model
        .inputs()
        .map(|(name, _, shape)| {
            let data = numbers(shape.iter().product(), name.len() + shape.len());
            (name.to_string(), Tensor { data, shape: shape.to_vec() })
        })
        .collect();
    let mut session = model.session::<f32>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    let views: Vec<(&str, View<'_, f32>)> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
    session.run(&views).expect("a run").into_iter().map(|one| one.tensor).collect()
}

#[test]
fn a_stack_has_the_bits_of_its_layers_apart() {
    for initial in [false, true] {
        let two = Two { initial, ..Two::default() };
        let stack = two.model(&["y2", "last", "h2"]).expect("a stack");
        let apart = two.model(&["y2", "last", "h2", "y1"]).expect("two stacks");
        assert_eq!((layers(&stack), layers(&apart)), (vec![2], vec![1, 1]));
        assert_eq!(run(stack)[..], run(apart)[..3]);
    }
}

#[test]
fn what_differs_or_is_read_in_between_keeps_layers_apart() {
    let y1 = |name: &str, input: &str| vec![node("Tanh", &[input], &[name], &[])];
    let with =
        |more: Vec<Vec<u8>>| Two { more, outputs: vec![value("y2", &[5, 1, 2, 4]), value("z", &[])], ..Two::default() };
    for (what, two) in [
        ("another size", Two { hidden: 6, ..Two::default() }),
        ("another cell", Two { reset_after: 0, ..Two::default() }),
        ("the first y is read", with(y1("z", "y1"))),
        ("the first y between them", with(y1("z", "s"))),
        ("the first h is read", with(y1("z", "last"))),
    ] {
        assert_eq!(layers(&two.model(&[]).expect(what)), [1, 1], "{what}");
    }
    // The last layer's y and h are the stack's own.
    assert_eq!(layers(&with(y1("z", "h2")).model(&[]).expect("a model")), [2]);
    // One length for both, or two.
    assert_eq!(layers(&Two { lengths: ["n", "n"], ..Two::default() }.model(&[]).expect("a model")), [2]);
    let two = Two { lengths: ["n", "m"], ..Two::default() };
    match two.model(&[]) {
        Ok(model) => assert_eq!(layers(&model), [1, 1]),
        Err(e) => assert!(e.to_string().contains("other lengths"), "{e}"),
    }
}
