//! Nodes of files made by hand against the operators' equations, written down here once more in ONNX's own order.

use super::wire::{Stored, Value, graph, model, node, tensor};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::{
    Activation, Bias, Device, Direction, Error, Initial, Input, Layout, Options, Plan, Precision, Session, Shape,
    Tensor, View, cells,
};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, OnnxOp, Source};
use wgpu_rnn_verify::tolerance;

const T: usize = 4;
const B: usize = 3;
const I: usize = 2;
const H: usize = 3;
const LENGTHS: [usize; B] = [2, 4, 3];

fn values(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = SmallRng::seed_from_u64(seed);
    // Exact in bfloat16 and half precision, so that every element type holds the same numbers.
    (0..n).map(|_| f64::from(rng.random_range(-64..64i16)) / 64.0).collect()
}

/// An activation's name, alpha and beta (where it takes them).
pub type Named = (&'static str, Option<f32>, Option<f32>);

/// All of ONNX's, with parameters that are exact in f32 and not the defaults.
const ACTIVATIONS: [Named; 11] = [
    ("Sigmoid", None, None),
    ("HardSigmoid", Some(0.375), Some(0.25)),
    ("Softsign", None, None),
    ("Tanh", None, None),
    ("LeakyRelu", Some(0.125), None),
    ("Affine", Some(0.5), Some(0.125)),
    ("ScaledTanh", Some(1.25), Some(0.75)),
    ("Softplus", None, None),
    ("Elu", Some(0.75), None),
    ("ThresholdedRelu", Some(0.25), None),
    ("Relu", None, None),
];

/// The formulas on the operators' pages, of the clipped argument.
fn activated((name, alpha, beta): Named, clip: Option<f32>, x: f64) -> f64 {
    let x = clip.map_or(x, |clip| x.clamp(-f64::from(clip), clip.into()));
    let [alpha, beta] = [alpha, beta].map(|parameter| parameter.map_or(f64::NAN, f64::from));
    match name {
        "Relu" => x.max(0.0),
        "Tanh" => x.tanh(),
        "Sigmoid" => 1.0 / (1.0 + (-x).exp()),
        "Affine" => alpha * x + beta,
        "LeakyRelu" => {
            if x >= 0.0 {
                x
            } else {
                alpha * x
            }
        }
        "ThresholdedRelu" => {
            if x >= alpha {
                x
            } else {
                0.0
            }
        }
        "ScaledTanh" => alpha * (beta * x).tanh(),
        "HardSigmoid" => (alpha * x + beta).clamp(0.0, 1.0),
        "Elu" => {
            if x >= 0.0 {
                x
            } else {
                alpha * (x.exp() - 1.0)
            }
        }
        "Softsign" => x / (1.0 + x.abs()),
        "Softplus" => (1.0 + x.exp()).ln(),
        other => panic!("{other}"),
    }
}

/// A node's tensors in ONNX's order and axes, and what it says.
#[derive(Clone)]
pub struct Given {
    pub op: OnnxOp,
    pub directions: usize,
    pub reverse: bool,
    pub linear_before_reset: bool,
    pub batch_first: bool,
    pub bias: bool,
    pub peepholes: bool,
    /// Names with alpha and beta, of all directions; empty for the operator's own.
    pub activations: Vec<Named>,
    pub clip: Option<f32>,
    pub input_forget: bool,
    pub w: Vec<f64>,
    pub r: Vec<f64>,
    pub b: Vec<f64>,
    pub p: Vec<f64>,
    /// `[T, B, I]`
    pub x: Vec<f64>,
    /// `[D, B, H]`
    pub h0: Vec<f64>,
    pub c0: Vec<f64>,
}

impl Given {
    pub fn new(op: OnnxOp, directions: usize) -> Self {
        let rows = gates(op) * H;
        Self {
            op,
            directions,
            reverse: false,
            linear_before_reset: false,
            batch_first: false,
            bias: true,
            peepholes: false,
            activations: Vec::new(),
            clip: None,
            input_forget: false,
            w: values(1, directions * rows * I),
            r: values(2, directions * rows * H),
            b: values(3, directions * 2 * rows),
            p: values(4, directions * 3 * H),
            x: values(5, T * B * I),
            h0: values(6, directions * B * H),
            c0: values(7, directions * B * H),
        }
    }

    /// All that the tests below go through.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for op in [OnnxOp::Rnn, OnnxOp::Lstm, OnnxOp::Gru] {
            for directions in [1, 2] {
                let plain = Self::new(op, directions);
                all.push(Self { batch_first: true, ..plain.clone() });
                all.push(Self { bias: false, reverse: directions == 1, ..plain.clone() });
                let lstm = op == OnnxOp::Lstm;
                all.push(Self { linear_before_reset: op == OnnxOp::Gru, peepholes: lstm, ..plain.clone() });
                all.push(Self { clip: Some(0.5), ..plain.clone() });
                all.push(Self { input_forget: lstm, ..plain.clone() });
                let everything = Self { clip: Some(0.5), input_forget: lstm, peepholes: lstm, ..plain.clone() };
                for first in 0..ACTIVATIONS.len() {
                    let names = ACTIVATIONS.iter().cycle().skip(first).take(directions * own(op).len());
                    let base = if first % 2 == 0 { &plain } else { &everything };
                    all.push(Self { activations: names.copied().collect(), ..base.clone() });
                }
            }
        }
        all
    }

    /// Activation `n` of a direction, of a value.
    fn act(&self, direction: usize, n: usize, x: f64) -> f64 {
        let own = own(self.op);
        let named = self.activations.get(direction * own.len() + n);
        activated(named.copied().unwrap_or((own[n], None, None)), self.clip, x)
    }

    fn model(&self, stored: Stored) -> Vec<u8> {
        let (d, rows) = (self.directions, gates(self.op) * H);
        let state = |values: &[f64]| match self.batch_first {
            true => (vec![B, d, H], swapped(values, d, B)),
            false => (vec![d, B, H], values.to_vec()),
        };
        let (h0, c0) = (state(&self.h0), state(&self.c0));
        let mut names = vec!["X", "W", "R", if self.bias { "B" } else { "" }, "sequence_lens", "initial_h"];
        let mut tensors = vec![
            tensor("W", &[d, rows, I], stored, &self.w),
            tensor("R", &[d, rows, H], stored, &self.r),
            tensor("B", &[d, 2 * rows], stored, &self.b),
            tensor("P", &[d, 3 * H], stored, &self.p),
            tensor("sequence_lens", &[B], Stored::RawI32, &LENGTHS.map(|n| n as f64)),
            tensor("initial_h", &h0.0, stored, &h0.1),
        ];
        if self.op == OnnxOp::Lstm {
            names.extend(["initial_c", if self.peepholes { "P" } else { "" }]);
            tensors.push(tensor("initial_c", &c0.0, stored, &c0.1));
        }
        let direction = match (d, self.reverse) {
            (2, _) => "bidirectional",
            (_, true) => "reverse",
            _ => "forward",
        };
        let mut attributes = vec![("hidden_size", Value::Int(H as i64)), ("direction", Value::Text(direction))];
        if self.batch_first {
            attributes.push(("layout", Value::Int(1)));
        }
        if self.op == OnnxOp::Gru {
            attributes.push(("linear_before_reset", Value::Int(self.linear_before_reset.into())));
        }
        let activations: Vec<&str> = self.activations.iter().map(|a| a.0).collect();
        let alphas: Vec<f32> = self.activations.iter().filter_map(|a| a.1).collect();
        let betas: Vec<f32> = self.activations.iter().filter_map(|a| a.2).collect();
        if !activations.is_empty() {
            attributes.push(("activations", Value::Texts(&activations)));
            attributes.push(("activation_alpha", Value::Floats(&alphas)));
            attributes.push(("activation_beta", Value::Floats(&betas)));
        }
        attributes.extend(self.clip.map(|clip| ("clip", Value::Float(clip))));
        if self.input_forget {
            attributes.push(("input_forget", Value::Int(1)));
        }
        model(22, &graph(&[node(self.op.name(), "n", &names, &["Y", "Y_h"], &attributes)], &tensors, &["X"]))
    }

    /// As the reader has it.
    pub fn node(&self) -> OnnxNode {
        open(self.model(Stored::RawF64)).only_node().expect("a node")
    }

    /// Y `[T, D, B, H]`, Y_h and Y_c `[D, B, H]` from the equations on the operators' pages.
    pub fn expected(&self) -> [Vec<f64>; 3] {
        let (d, rows) = (self.directions, gates(self.op) * H);
        let mut y = vec![0.0; T * d * B * H];
        let (mut y_h, mut y_c) = (self.h0.clone(), self.c0.clone());
        for direction in 0..d {
            for b in 0..B {
                let at = (direction * B + b) * H;
                for step in 0..LENGTHS[b] {
                    let back = self.reverse || direction == 1;
                    let t = if back { LENGTHS[b] - 1 - step } else { step };
                    let (h, c) = (y_h[at..][..H].to_vec(), y_c[at..][..H].to_vec());
                    let sums = Sums { given: self, direction, rows, x: &self.x[(t * B + b) * I..][..I] };
                    let (h, c) = sums.step(&h, &c);
                    y[((t * d + direction) * B + b) * H..][..H].copy_from_slice(&h);
                    y_h[at..][..H].copy_from_slice(&h);
                    y_c[at..][..H].copy_from_slice(&c);
                }
            }
        }
        [y, y_h, y_c]
    }
}

pub fn gates(op: OnnxOp) -> usize {
    match op {
        OnnxOp::Rnn => 1,
        OnnxOp::Lstm => 4,
        OnnxOp::Gru => 3,
    }
}

/// The activations without the attribute.
fn own(op: OnnxOp) -> &'static [&'static str] {
    match op {
        OnnxOp::Rnn => &["Tanh"],
        OnnxOp::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        OnnxOp::Gru => &["Sigmoid", "Tanh"],
    }
}

/// `[outer, inner, H]` as `[inner, outer, H]`.
fn swapped(values: &[f64], outer: usize, inner: usize) -> Vec<f64> {
    let rows = (0..inner).flat_map(|i| (0..outer).map(move |o| o * inner + i));
    rows.flat_map(|row| values[row * H..][..H].to_vec()).collect()
}

/// One step of one sequence in one direction.
struct Sums<'a> {
    given: &'a Given,
    direction: usize,
    rows: usize,
    x: &'a [f64],
}

impl Sums<'_> {
    fn dot(matrix: &[f64], row: usize, v: &[f64]) -> f64 {
        matrix[row * v.len()..][..v.len()].iter().zip(v).map(|(a, b)| a * b).sum()
    }
    /// Xt·W(gate) + Wb
    fn x(&self, gate: usize, j: usize) -> f64 {
        let row = gate * H + j;
        let bias = if self.given.bias { self.given.b[self.direction * 2 * self.rows + row] } else { 0.0 };
        Self::dot(&self.given.w, self.direction * self.rows + row, self.x) + bias
    }
    /// v·R(gate) + Rb
    fn h(&self, gate: usize, j: usize, v: &[f64]) -> f64 {
        let row = gate * H + j;
        let bias = if self.given.bias { self.given.b[(self.direction * 2 + 1) * self.rows + row] } else { 0.0 };
        Self::dot(&self.given.r, self.direction * self.rows + row, v) + bias
    }
    fn p(&self, which: usize, j: usize) -> f64 {
        if self.given.peepholes { self.given.p[(self.direction * 3 + which) * H + j] } else { 0.0 }
    }
    fn step(&self, h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let [f, g, hidden] = [0, 1, 2].map(|n| move |x: f64| self.given.act(self.direction, n, x));
        let both = |gate, j| self.x(gate, j) + self.h(gate, j, h);
        match self.given.op {
            OnnxOp::Rnn => ((0..H).map(|j| f(both(0, j))).collect(), c.to_vec()),
            OnnxOp::Lstm => {
                let unit = |j: usize| {
                    let i = f(both(0, j) + self.p(0, j) * c[j]);
                    let coupled = self.given.input_forget;
                    let forget = if coupled { 1.0 - i } else { f(both(2, j) + self.p(2, j) * c[j]) };
                    let new = forget * c[j] + i * g(both(3, j));
                    (f(both(1, j) + self.p(1, j) * new) * hidden(new), new)
                };
                (0..H).map(unit).unzip()
            }
            OnnxOp::Gru => {
                let (z, r): (Vec<f64>, Vec<f64>) = (0..H).map(|j| (f(both(0, j)), f(both(1, j)))).unzip();
                let reset: Vec<f64> = r.iter().zip(h).map(|(r, h)| r * h).collect();
                let unit = |j: usize| {
                    let hidden =
                        if self.given.linear_before_reset { r[j] * self.h(2, j, h) } else { self.h(2, j, &reset) };
                    (1.0 - z[j]) * g(self.x(2, j) + hidden) + z[j] * h[j]
                };
                ((0..H).map(unit).collect(), c.to_vec())
            }
        }
    }
}

/// y, hn and cn of the node on x `[T, B, I]`, in f64.
pub fn run(node: &OnnxNode, x: &[f64]) -> [Vec<f64>; 3] {
    let shape = Shape { time: T, batch: B };
    let options = Options { precision: Precision::F64, ..Default::default() };
    let plan = Plan::new(&node.config, shape, &Device::cpu().caps(), &options).expect("a plan");
    let mut session = Session::<f64>::from_plan(&Device::cpu(), plan, &node.weights).expect("a session");
    let turned = |v: &[f64], outer: usize, inner: usize| -> Vec<f64> {
        let width = v.len() / (outer * inner);
        let rows = (0..inner).flat_map(|i| (0..outer).map(move |o| o * inner + i));
        rows.flat_map(|row| v[row * width..][..width].to_vec()).collect()
    };
    let batch_first = node.config.layout == Layout::BatchFirst;
    let (x, x_shape) = if batch_first { (turned(x, T, B), [B, T, I]) } else { (x.to_vec(), [T, B, I]) };
    let state = |source: &Source<Tensor<f64>>| source.constant("a state").expect("a constant").cloned();
    let (h0, c0) = (state(&node.h0), state(&node.c0));
    let lengths = node.lengths.constant("lengths").expect("a constant").cloned();
    let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
    let input = Input { lengths: lengths.as_deref(), initial, ..Input::new(View::new(&x, &x_shape)) };
    let out = session.forward(&input).expect("it runs");
    let y = if batch_first { turned(&out.y.data, B, T) } else { out.y.data };
    [y, out.hn.data, out.cn.map_or(Vec::new(), |cn| cn.data)]
}

/// Y `[T, D, B, H]` as `[T, B, D·H]`.
pub fn as_y(values: &[f64], directions: usize) -> Vec<f64> {
    values.chunks(directions * B * H).flat_map(|step| swapped(step, directions, B)).collect()
}

fn open(bytes: Vec<u8>) -> OnnxFile {
    OnnxFile::from_bytes("m.onnx", bytes).expect("a model")
}

#[test]
fn every_operator_computes_what_its_page_says() {
    for given in Given::all() {
        let node = open(given.model(Stored::RawF64)).node("n").expect("a node");
        let what = format!("{} {:?} {:?}", given.op, node.config, node.lengths);
        let [y, hn, cn] = run(&node, &given.x);
        let [e_y, e_hn, e_cn] = given.expected();
        assert!(tolerance::error(&y, &as_y(&e_y, given.directions)) < 1e-12, "{what}");
        assert!(tolerance::error(&hn, &e_hn) < 1e-12, "{what}");
        if given.op == OnnxOp::Lstm {
            assert!(tolerance::error(&cn, &e_cn) < 1e-12, "{what}");
        }
    }
}

#[test]
fn every_way_to_store_numbers_gives_the_same() {
    let given = Given { peepholes: true, ..Given::new(OnnxOp::Lstm, 2) };
    let first = open(given.model(Stored::RawF64)).only_node().expect("a node");
    for stored in Stored::REALS {
        let node = open(given.model(stored)).only_node().expect("a node");
        assert_eq!((&node.weights, &node.h0, &node.c0), (&first.weights, &first.h0, &first.c0), "{stored:?}");
        assert_eq!(node.lengths, Source::Constant(LENGTHS.to_vec()));
    }
}

#[test]
fn the_configuration_follows_the_node() {
    let node = |given: Given| open(given.model(Stored::Floats)).only_node().expect("a node");
    let peeping = node(Given { peepholes: true, batch_first: true, ..Given::new(OnnxOp::Lstm, 2) });
    assert_eq!(peeping.config.cell, &cells::LSTM_PEEPHOLE);
    assert_eq!((peeping.config.direction, peeping.config.layout), (Direction::Bidirectional, Layout::BatchFirst));
    assert_eq!((peeping.config.input_size, peeping.config.hidden_size, peeping.config.bias), (I, H, Bias::Two));
    assert_eq!((peeping.label.name.as_str(), peeping.input.as_str()), ("n", "X"));
    assert_eq!(peeping.outputs, [Some("Y".into()), Some("Y_h".into()), None]);
    let before = node(Given { bias: false, reverse: true, ..Given::new(OnnxOp::Gru, 1) });
    assert_eq!(before.config.cell, &cells::GRU_RESET_BEFORE);
    assert_eq!((before.config.direction, before.config.bias), (Direction::Reverse, Bias::None));
    let after = node(Given { linear_before_reset: true, ..Given::new(OnnxOp::Gru, 1) });
    assert_eq!((after.config.cell, after.config.activations.len()), (&cells::GRU, 0));
}

/// An RNN of 1 in, 1 unit, W = 2, R = 3, with more attributes and inputs, in opset `opset`.
fn small(
    opset: i64,
    inputs: &[&str],
    attributes: &[(&str, Value<'_>)],
    more: &[Vec<u8>],
) -> wgpu_rnn::Result<OnnxNode> {
    let names: Vec<&str> = ["X", "W", "R"].iter().chain(inputs).copied().collect();
    let nodes: Vec<Vec<u8>> = more.iter().cloned().chain([node("RNN", "", &names, &["", "h"], attributes)]).collect();
    let weights = [tensor("W", &[1, 1, 1], Stored::Floats, &[2.0]), tensor("R", &[1, 1, 1], Stored::Floats, &[3.0])];
    OnnxFile::from_bytes("m.onnx", model(opset, &graph(&nodes, &weights, &["X", "fed"])))?.only_node()
}

#[test]
fn activations_are_the_cells_own_or_a_list() {
    let with = |name: &str| small(22, &[], &[("activations", Value::Texts(&[name]))], &[]).expect("a node").config;
    assert_eq!((with("Relu").cell, with("Relu").activations), (&cells::RNN_RELU, vec![]));
    assert_eq!((with("TANH").cell, with("tanh").activations), (&cells::RNN_TANH, vec![]));
    assert_eq!((with("Sigmoid").cell, with("Sigmoid").activations), (&cells::RNN_TANH, vec![Activation::Sigmoid]));
    assert_eq!(with("Elu").activations, vec![Activation::ELU]);
}

#[test]
fn what_this_build_has_not_is_refused_by_name() {
    let message = |name: &str, value: Value<'_>| match small(22, &[], &[(name, value)], &[]) {
        Err(e @ Error::Unsupported { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let mismatch = |name: &str, value: Value<'_>| match small(22, &[], &[(name, value)], &[]) {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    for clip in [0.0, f32::NAN] {
        let message = mismatch("clip", Value::Float(clip));
        assert!(message.starts_with("m.onnx: RNN h: clip: expected a float above 0, or below 0 for none"), "{message}");
    }
    let mish = mismatch("activations", Value::Texts(&["Mish"]));
    assert_eq!(mish, "m.onnx: RNN h: activations: expected one of ONNX's 11, got Mish");
    let infinite = [("activations", Value::Texts(&["Elu"])), ("activation_alpha", Value::Floats(&[f32::INFINITY]))];
    let infinite = small(22, &[], &infinite, &[]).expect_err("refused").to_string();
    assert!(infinite.contains("expected finite alpha and beta"), "{infinite}");
    assert!(message("output_sequence", Value::Int(1)).contains("attribute output_sequence: RNN has no such attribute"));
    let old = small(6, &[], &[], &[]).expect_err("opset 6").to_string();
    assert!(old.starts_with("not supported: m.onnx: opset 6: "), "{old}");
}

#[test]
fn states_are_constants_zeros_or_a_runs() {
    let state = |more: &[Vec<u8>], name: &str| small(22, &["", "", name], &[], more).expect("a node").h0;
    assert_eq!(state(&[], ""), Source::Absent);
    assert_eq!(state(&[], "fed"), Source::Runtime("fed".into()));
    let made = |op: &str, inputs: &[&str], attributes: &[(&str, Value<'_>)]| node(op, "", inputs, &["s"], attributes);
    let value = |v: f64, dims: &[usize]| Value::Tensor(tensor("", dims, Stored::Floats, &[v]));
    let constant = made("Constant", &[], &[("value", value(5.0, &[1, 1, 1]))]);
    assert_eq!(state(&[constant], "s"), Source::Constant(Tensor { data: vec![5.0], shape: vec![1, 1, 1] }));
    assert_eq!(state(&[made("ConstantOfShape", &["fed"], &[])], "s"), Source::Absent);
    assert_eq!(state(&[made("ConstantOfShape", &["fed"], &[("value", value(0.0, &[1]))])], "s"), Source::Absent);
    let ones = made("ConstantOfShape", &["fed"], &[("value", value(1.0, &[1]))]);
    // One row for any batch.
    assert_eq!(state(&[ones], "s"), Source::Constant(Tensor { data: vec![1.0], shape: vec![1, 1, 1] }));
    let zero = node("Constant", "", &[], &["z"], &[("value", value(0.0, &[1]))]);
    assert_eq!(state(&[zero, made("Expand", &["z", "fed"], &[])], "s"), Source::Absent);
    assert_eq!(state(&[made("Identity", &["fed"], &[])], "s"), Source::Runtime("s".into()));
}

#[test]
fn nodes_are_found_by_name_and_inside_other_nodes() {
    let rnn = |name: &str, output: &str| node("RNN", name, &["X", "W", "R"], &[output], &[]);
    let weights = [tensor("W", &[1, 1, 1], Stored::Floats, &[2.0]), tensor("R", &[1, 1, 1], Stored::Floats, &[3.0])];
    let branch = graph(&[rnn("inner", "c")], &[], &[]);
    let nodes = [
        rnn("twice", "a"),
        rnn("twice", "b"),
        node("If", "if", &["fed"], &["out"], &[("then_branch", Value::Graph(branch))]),
        node("GRU", "", &["X", "W", "R"], &["unnamed"], &[]),
    ];
    let file = open(model(17, &graph(&nodes, &weights, &["X"])));
    let names: Vec<String> = file.nodes().map(|label| format!("{} {}", label.op, label.name)).collect();
    assert_eq!(names, ["RNN twice", "RNN twice", "GRU unnamed", "RNN inner"]);
    assert_eq!(file.opset(), 17);
    assert_eq!(file.node("inner").expect("a node").weights.layers[0].w, [2.0]);
    assert_eq!(file.node("b").expect("by its output").outputs[0].as_deref(), Some("b"));
    let message = |name| file.node(name).expect_err("refused").to_string();
    let all = "RNN twice, RNN twice, GRU unnamed, RNN inner";
    assert_eq!(message("twice"), format!("m.onnx: node: expected one named twice, got 2 of {all}"));
    assert_eq!(message("conv"), format!("m.onnx: node: expected one named conv, got 0 of {all}"));
    assert_eq!(message("unnamed"), "m.onnx: GRU unnamed: W: expected [D, G·H, I] = [1, 3, 1], got [1, 1, 1]");
    let many = file.only_node().expect_err("four").to_string();
    assert_eq!(many, format!("m.onnx: node: expected one RNN, LSTM or GRU, got 4 of {all}"));
    let none = open(model(17, &graph(&[], &[], &[]))).only_node().expect_err("none").to_string();
    assert_eq!(none, "m.onnx: node: expected one RNN, LSTM or GRU, got no recurrent node");
}
