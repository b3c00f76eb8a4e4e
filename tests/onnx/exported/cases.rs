//! What is exported: stacks and networks with their inputs, and how this crate runs them.

use super::{Named, ids, numbers};
use std::sync::Arc;
use wgpu_rnn::expr::{Expr, exp_m1, log, max, relu, silu, softplus, sqrt, step, tanh};
use wgpu_rnn::network::{Builder, Network, NetworkOptions, Norm, Pooling, Stored};
use wgpu_rnn::{
    Bias, Device, Direction, Element, Head, Initial, Input, Layout, Loss, Model, ModelOptions, RnnConfig, Session,
    Shape, Tensor, View, Weights, cells,
};
use wgpu_rnn_formats::onnx::Export;

/// A stack, and the shape that it runs in.
pub struct Stack {
    pub config: RnnConfig,
    pub export: Export,
    pub time: usize,
    pub batch: usize,
    pub lengths: Option<Vec<usize>>,
}

/// The inputs of a stack's model, in its order.
pub fn stack_inputs(stack: &Stack) -> Named {
    let Stack { config, export, time, batch, lengths } = stack;
    let outer = if config.layout == Layout::BatchFirst { [*batch, *time] } else { [*time, *batch] };
    let x = match config.vocabulary {
        Some(vocabulary) => ("ids".to_string(), ids(vocabulary, &outer)),
        None => ("x".to_string(), numbers(1, &[outer[0], outer[1], config.input_size])),
    };
    let mut inputs = vec![x];
    inputs.extend(lengths_input(*export, lengths.as_deref()));
    let rows = config.num_layers * config.directions();
    if export.states {
        inputs.push(("h0".into(), numbers(2, &[rows, *batch, config.state_size()])));
    }
    if export.states && config.cell.has_cell_state() {
        inputs.push(("c0".into(), numbers(3, &[rows, *batch, config.hidden_size])));
    }
    inputs
}

fn lengths_input(export: Export, lengths: Option<&[usize]>) -> Option<(String, Tensor<f64>)> {
    let lengths = lengths.filter(|_| export.lengths)?;
    let data = lengths.iter().map(|&l| l as f64).collect();
    Some(("sequence_lens".into(), Tensor { data, shape: vec![lengths.len()] }))
}

fn cast<T: Element>(tensor: &Tensor<f64>) -> Tensor<T> {
    Tensor { data: tensor.data.iter().map(|&v| T::from_f64(v)).collect(), shape: tensor.shape.clone() }
}

fn widened<T: Element>(tensor: Tensor<T>) -> Tensor<f64> {
    Tensor { data: tensor.data.iter().map(|v| v.to_f64()).collect(), shape: tensor.shape }
}

/// What a session of the stack gives in `T`, under the model's names.
pub fn run_stack<T: Element>(stack: &Stack, weights: &Weights<f64>) -> Named {
    let (config, shape) = (&stack.config, Shape { time: stack.time, batch: stack.batch });
    let inputs = stack_inputs(stack);
    let given = |name: &str| inputs.iter().find(|(n, _)| n == name).map(|(_, t)| cast::<T>(t));
    let mut session = Session::<T>::new(&Device::cpu(), config, shape, &weights.cast()).expect("a session");
    let (x, h0, c0) = (given("x"), given("h0"), given("c0"));
    let of_ids = inputs.iter().find(|(name, _)| name == "ids").map(|(_, t)| t);
    let whole: Vec<u32> = of_ids.map_or(Vec::new(), |t| t.data.iter().map(|&v| v as u32).collect());
    let initial = match &h0 {
        Some(h0) => Initial::Given { h0: Some(h0.view()), c0: c0.as_ref().map(Tensor::view) },
        None => Initial::Zero,
    };
    let nothing = View::new(&[], &[0]);
    let input = Input {
        ids: of_ids.map(|t| View::new(&whole, &t.shape)),
        lengths: stack.lengths.as_deref(),
        initial,
        ..Input::new(x.as_ref().map_or(nothing, Tensor::view))
    };
    session.write(&input).expect("written");
    session.run().expect("a run");
    let out = session.output().expect("results");
    let mut named = match config.head {
        Some(_) => vec![("logits".to_string(), widened(session.predictions().expect("predictions")))],
        None => vec![("y".to_string(), widened(out.y))],
    };
    named.push(("hn".into(), widened(out.hn)));
    named.extend(out.cn.map(|cn| ("cn".to_string(), widened(cn))));
    named
}

/// A network, and the shape that it runs in.
pub struct Net {
    pub network: Arc<Network>,
    pub export: Export,
    pub time: usize,
    pub batch: usize,
    pub lengths: Option<Vec<usize>>,
    /// Inputs of token ids, and the size of their vocabulary.
    pub ids: Vec<(&'static str, usize)>,
}

impl Net {
    fn of(b: Builder) -> Self {
        let network = Arc::new(b.finish().expect("a network"));
        Self { network, export: Export::default(), time: 5, batch: 3, lengths: None, ids: Vec::new() }
    }

    pub fn ragged(self) -> Self {
        let export = Export { lengths: true, ..self.export };
        Self { export, lengths: Some(vec![3, 5, 0]), ..self }
    }

    pub fn params(&self) -> Vec<f64> {
        numbers(5, &[self.network.parameter_count()]).data.iter().map(|v| f64::from((0.7 * v) as f32)).collect()
    }
}

/// The inputs of a network's model, in its order.
pub fn net_inputs(net: &Net) -> Named {
    let of = |(n, &value): (usize, &usize)| {
        let value = &net.network.values[value];
        let mut shape = match value.rows {
            wgpu_rnn::network::Rows::Steps => vec![net.time, net.batch],
            wgpu_rnn::network::Rows::Sequences => vec![net.batch],
        };
        let vocabulary = net.ids.iter().find(|(name, _)| *name == value.name).map(|(_, vocabulary)| *vocabulary);
        if let Some(vocabulary) = vocabulary {
            return (value.name.clone(), ids(vocabulary, &shape));
        }
        shape.push(value.width);
        (value.name.clone(), numbers(10 + n, &shape))
    };
    let mut inputs: Named = net.network.inputs.iter().enumerate().map(of).collect();
    inputs.extend(lengths_input(net.export, net.lengths.as_deref()));
    inputs
}

/// What the network gives in `T`.
pub fn run_net<T: Element>(net: &Net) -> Named {
    let params: Vec<T> = net.params().into_iter().map(T::from_f64).collect();
    let options = ModelOptions { plan: NetworkOptions::default(), ..Default::default() };
    let mut model = Model::with_options(&Device::cpu(), &net.network, &params, &options).expect("a model");
    let inputs: Vec<(String, Tensor<T>)> = net_inputs(net)
        .iter()
        .filter(|(name, _)| name != "sequence_lens")
        .map(|(name, tensor)| {
            let mut tensor = cast(tensor);
            // A network's ids have a column.
            if net.ids.iter().any(|(of, _)| of == name) {
                tensor.shape.push(1);
            }
            (name.clone(), tensor)
        })
        .collect();
    let views: Vec<(&str, View<'_, T>)> = inputs.iter().map(|(name, t)| (name.as_str(), t.view())).collect();
    let out = model.forward(&views, net.lengths.as_deref()).expect("a run");
    out.values.into_iter().map(|(name, tensor)| (name, widened(tensor))).collect()
}

/// An embedding, a bidirectional stack, and a head on what stands at the end, whose matrix the embedding's table is.
pub fn label() -> Net {
    let mut b = Builder::new();
    let ids = b.input("ids", 1).expect("ids");
    let x = b.embedding("embed", ids, 11, 4).expect("a table");
    let config = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..RnnConfig::gru(4, 3) };
    let y = b.layers("gru", x, &config).expect("a stack");
    let last = b.last_of("last", y, &config).expect("ends");
    let (w, bias) = (b.param("down.weight", &[4, 6]).expect("w"), b.param("down.bias", &[4]).expect("b"));
    let down = b.linear("down", last, w, Some(bias)).expect("a product");
    let table = b.param_id("embed.weight").expect("a table");
    let logits = b.linear("logits", down, table, None).expect("a product");
    b.output("logits", logits).expect("logits");
    b.output("y", y).expect("y");
    Net { ids: vec![("ids", 11)], ..Net::of(b) }
}

/// All pools over one stack, side by side.
pub fn pools() -> Net {
    let mut b = Builder::new();
    let x = b.input("x", 3).expect("x");
    let y = b.layers("rnn", x, &RnnConfig::rnn(3, 4)).expect("a stack");
    let parts: Vec<_> =
        Pooling::ALL.iter().map(|kind| b.pool(&format!("{kind:?}"), y, *kind).expect("a pool")).collect();
    let all = b.concat("all", &parts).expect("side by side");
    b.output("all", all).expect("all");
    b.output("some", all.columns(3, 7).expect("columns")).expect("some");
    Net::of(b)
}

/// Norms over all columns and over groups, with what stands around them.
pub fn norms() -> Net {
    let mut b = Builder::new();
    let x = b.input("x", 6).expect("x");
    let (gain, bias) = (b.param("gain", &[6]).expect("gain"), b.param("bias", &[1, 6]).expect("bias"));
    let kinds = [(Norm::Layer, 1e-5), (Norm::Rms, 1e-6), (Norm::L2, 1e-6)];
    for (n, (kind, epsilon)) in kinds.into_iter().enumerate() {
        let whole = b.norm(&format!("whole.{n}"), x, (kind, 1, epsilon), Some(gain), Some(bias)).expect("a norm");
        let groups = b.norm(&format!("groups.{n}"), x, (kind, 2, epsilon), Some(gain), None).expect("a norm");
        let sum =
            b.map(&format!("sum.{n}"), Expr::input(0) + Expr::input(1), &[whole.into(), groups.into()]).expect("a sum");
        b.output(&format!("y.{n}"), sum).expect("y");
    }
    let groups = b.sum("of groups", x, 3).expect("sums");
    b.output("sums", groups).expect("sums");
    Net::of(b)
}

/// Every function of expressions, operands repeated and cut, of values and parameters.
pub fn pointwise() -> Net {
    let mut b = Builder::new();
    let (x, z) = (b.input("x", 6).expect("x"), b.input("z", 3).expect("z"));
    let p = b.param("p", &[2, 6]).expect("p");
    let i = Expr::input;
    let y = silu(i(0)) * i(1) + softplus(i(2)) / (relu(i(3)) + 1.5.into());
    let whole = b.whole(p);
    let half = wgpu_rnn::network::Operand {
        source: wgpu_rnn::network::Source::Param { param: p, first: 3, width: 6 },
        inner: 6,
        repeat: 1,
    };
    let operands =
        [x.into(), wgpu_rnn::network::Operand::from(z).each(2), wgpu_rnn::network::Operand::from(z).groups(3, 2), half];
    let y = b.map("y", y, &operands).expect("an expression");
    let all = tanh(i(0)) + exp_m1(i(1)) + log(sqrt(i(0) * i(0) + 1.0.into())) + step(i(0) - i(1)) - max(i(0), i(1));
    let twice = b.map("twice", all, &[wgpu_rnn::network::Operand::from(y).groups(6, 2), whole]).expect("an expression");
    let constant = b.map("constant", Expr::input(1) + 0.25.into(), &[x.into(), half]).expect("the same everywhere");
    for (name, part) in [("y", y), ("twice", twice), ("constant", constant)] {
        b.output(name, part).expect("an output");
    }
    Net::of(b)
}

/// The steps beside a step.
pub fn over_time() -> Net {
    let mut b = Builder::new();
    let x = b.input("x", 6).expect("x");
    let y = b.layers("gru", x, &RnnConfig::gru(6, 4)).expect("a stack");
    let bias = b.param("bias", &[4]).expect("a bias");
    for (name, low, high) in [("around", 1, 1), ("causal", 2, 0)] {
        let taps = b.param(&format!("{name}.taps"), &[4, 1, 3]).expect("taps");
        let y = b.conv(name, y, (taps, Some(bias)), (low, high)).expect("a convolution");
        b.output(name, y).expect("an output");
    }
    let before = b.shift("before", y).expect("the step before");
    b.output("before", before).expect("an output");
    Net::of(b)
}

/// Two stacks, one after the other and on a part of a value, a gate between them, a value per sequence beside, and a loss that no
/// model has.
pub fn gated() -> Net {
    let mut b = Builder::new();
    let (x, of_all) = (b.input("x", 5).expect("x"), b.sequence_input("speaker", 1).expect("ids"));
    let speaker = b.embedding("speakers", of_all, 4, 3).expect("a table");
    let one = b.layers("one", x.columns(1, 3).expect("columns"), &RnnConfig::lstm(3, 4)).expect("a stack");
    let stored = Stored { tensor: "turned.weight".into(), slice: None, transposed: true };
    let w = b.stored_param("gate.weight", [4, 5], stored).expect("a matrix");
    let gate = b.linear("gate", x, w, None).expect("a product");
    let gated = b
        .map("gated", Expr::input(0) * wgpu_rnn::expr::sigmoid(Expr::input(1)), &[one.into(), gate.into()])
        .expect("a gate");
    let config = RnnConfig {
        cell: &cells::GRU_RESET_BEFORE,
        bias: Bias::One,
        direction: Direction::Reverse,
        ..RnnConfig::gru(4, 3)
    };
    let two = b.layers("two", gated, &config).expect("a stack");
    let first = b.last_of("first", two, &config).expect("ends");
    let both = b.concat("both", &[first, speaker]).expect("side by side");
    let target = b.sequence_input("target", 6).expect("targets");
    b.loss("loss", both, target, None, Loss::MeanSquared).expect("a loss");
    b.output("both", both).expect("both");
    b.output("two", two).expect("two");
    Net { ids: vec![("speaker", 4)], ..Net::of(b) }
}

/// The recorded stacks, by name.
pub fn stacks() -> Vec<(&'static str, Stack)> {
    let base = || RnnConfig { input_size: 3, hidden_size: 4, ..Default::default() };
    let plain = |config: RnnConfig| Stack { config, export: Export::default(), time: 6, batch: 3, lengths: None };
    let both = Export { states: true, lengths: true };
    let ragged = |config: RnnConfig, export: Export| Stack { export, lengths: Some(vec![4, 6, 1]), ..plain(config) };
    let bidirectional = Direction::Bidirectional;
    let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
    vec![
        ("lstm", plain(base())),
        ("lstm_3_layers", plain(RnnConfig { num_layers: 3, ..base() })),
        ("lstm_bidirectional_ragged", ragged(RnnConfig { num_layers: 2, direction: bidirectional, ..base() }, both)),
        ("lstm_reverse", plain(RnnConfig { direction: Direction::Reverse, bias: Bias::One, ..base() })),
        ("lstm_projection", plain(RnnConfig { num_layers: 2, direction: bidirectional, proj_size: 3, ..base() })),
        ("peephole", ragged(RnnConfig { cell: &cells::LSTM_PEEPHOLE, num_layers: 2, ..base() }, both)),
        ("gru", plain(RnnConfig { num_layers: 2, direction: bidirectional, ..RnnConfig::gru(3, 4) })),
        ("gru_reset_before", ragged(RnnConfig { cell: &cells::GRU_RESET_BEFORE, num_layers: 3, ..base() }, both)),
        ("rnn", ragged(RnnConfig { num_layers: 2, direction: bidirectional, ..RnnConfig::rnn(3, 4) }, both)),
        ("rnn_relu_no_bias", plain(RnnConfig { cell: &cells::RNN_RELU, bias: Bias::None, ..base() })),
        (
            "tagger_batch_first",
            ragged(
                RnnConfig {
                    vocabulary: Some(11),
                    head,
                    layout: Layout::BatchFirst,
                    num_layers: 2,
                    direction: bidirectional,
                    ..base()
                },
                Export { lengths: true, ..Export::default() },
            ),
        ),
        ("tokens", plain(RnnConfig { vocabulary: Some(11), head, ..RnnConfig::gru(3, 4) })),
        (
            "regression",
            plain(RnnConfig { head: Some(Head { size: 2, loss: None }), layout: Layout::BatchFirst, ..base() }),
        ),
    ]
}

/// The recorded networks, by name.
pub fn nets() -> Vec<(&'static str, Net)> {
    vec![
        ("label", label()),
        ("label_ragged", label().ragged()),
        ("pools", pools()),
        ("pools_ragged", pools().ragged()),
        ("norms", norms()),
        ("pointwise", pointwise()),
        ("pointwise_ragged", pointwise().ragged()),
        ("gated", gated()),
        ("gated_ragged", gated().ragged()),
        ("over_time", over_time()),
        ("over_time_ragged", over_time().ragged()),
    ]
}
