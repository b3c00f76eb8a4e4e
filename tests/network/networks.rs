//! The networks that the tests run: one per rule, and one of all operations.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::{Arc, LazyLock};
use wgpu_rnn::expr::{Expr, exp, silu, softplus, tanh};
use wgpu_rnn::network::{Builder, Network, NetworkOptions, NetworkPlan, NetworkSession, Norm, Operand, Pooling, Rows};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Device, Direction, Loss, Precision, Result, RnnConfig, Shape, cells, rules};

/// One GPU for all tests, so that they share what is compiled; its shaders check their indices.
pub fn gpu() -> Device {
    static GPU: LazyLock<Device> =
        LazyLock::new(|| Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked());
    GPU.clone()
}

/// Whether everything is asked for (`WGPU_RNN_ALL=1`): a driver compiles every text of a kernel anew, which takes it longer than all
/// runs together.
pub fn all() -> bool {
    std::env::var_os("WGPU_RNN_ALL").is_some_and(|v| v == "1")
}

/// A rule over inputs of its own, with parameters of its own.
pub fn of_rule(rule: &'static Rule, reverse: bool) -> Result<Arc<Network>> {
    let sizes = rule.state.sizes(match rule.state {
        HeadState::Scalar => [7, 1, 1],
        HeadState::Vector => [6, 5, 1],
        HeadState::Matrix => [4, 3, 5],
    });
    let heads = sizes[0];
    let mut b = Builder::new();
    let mut operands: Vec<Operand> = Vec::new();
    for port in rule.inputs {
        // B and C of Mamba belong to all channels, keys and queries of GLA to two heads each.
        let shared = match (rule.name, port.name) {
            ("mamba", "B" | "C") => heads,
            ("gla", "q" | "k") => 2,
            _ => 1,
        };
        operands.push(b.input(port.name, port.extent.width(sizes) / shared)?.into());
    }
    for port in rule.params {
        let param = b.param(port.name, &[heads, port.extent.width(sizes) / heads])?;
        operands.push(b.whole(param));
    }
    let y = b.scan("scan", rule, sizes, &operands, reverse)?;
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

/// Every operation once.
pub fn of_everything() -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let (w, bias) = (b.param("in.weight", &[12, 6])?, b.param("in.bias", &[12])?);
    let h = b.linear("in", x, w, Some(bias))?;
    let (gain, shift) = (b.param("norm.weight", &[12])?, b.param("norm.bias", &[12])?);
    let n = b.norm("norm", h, (Norm::Layer, 2, 1e-5), Some(gain), Some(shift))?;
    let rms = b.norm("rms", n.columns(0, 6)?, (Norm::Rms, 1, 1e-5), None, None)?;
    let l2 = b.norm("l2", n.columns(6, 6)?, (Norm::L2, 2, 1e-12), None, None)?;
    let (taps, taps_bias) = (b.param("conv.weight", &[6, 1, 4])?, b.param("conv.bias", &[6])?);
    let conv = b.conv("conv", rms, (taps, Some(taps_bias)), (3, 0))?;
    let wide = b.param("same.weight", &[6, 4])?;
    let same = b.conv("same", l2, (wide, None), (1, 2))?;
    let before = b.shift("before", conv)?;
    let mix = b.param("mix", &[6])?;
    let of = Expr::input;
    let mixed = b.map(
        "mixed",
        of(0) * of(2) + silu(of(1)) * of(3),
        &[before.into(), same.into(), b.whole(mix), Operand::from(h.columns(2, 2)?).each(3)],
    )?;
    let gates = b.map("gates", of(0) * 0.5.into(), &[Operand::from(h.columns(0, 3)?).groups(3, 2)])?;
    let forward = b.scan("forward", &rules::MINGRU, [6, 1, 1], &[gates.into(), mixed.into()], false)?;
    let back = b.scan("back", &rules::QRNN, [6, 1, 1], &[gates.into(), mixed.into()], true)?;
    let sum = b.map("sum", of(0) + of(1) + of(2), &[forward.into(), back.into(), x.into()])?;
    let lstm = RnnConfig {
        cell: &cells::LSTM,
        input_size: 6,
        hidden_size: 3,
        num_layers: 2,
        direction: Direction::Bidirectional,
        ..Default::default()
    };
    let layers = b.layers("lstm", sum, &lstm)?;
    let gru = RnnConfig { cell: &cells::GRU, input_size: 4, hidden_size: 5, ..Default::default() };
    let layers = b.layers("gru", layers.columns(1, 4)?, &gru)?;
    let wide = b.concat("wide", &[layers, h.columns(3, 2)?, layers.columns(2, 1)?])?;
    let operands: [Operand; 2] = [wide.into(), wide.into()];
    let top = b.bidirectional_scan("top", &rules::MINGRU, [8, 1, 1], [&operands, &operands])?;
    b.output("top", top)?;
    b.output("y", sum)?;
    b.output("part", h.columns(1, 5)?)?;
    Ok(Arc::new(b.finish()?))
}

/// Values per sequence: every pooling, of steps and of columns of them, a head of all that works row by row on top, and y beside it.
pub fn of_sequences() -> Result<Arc<Network>> {
    let (mut b, of) = (Builder::new(), Expr::input);
    let x = b.input("x", 5)?;
    let gru = RnnConfig {
        cell: &cells::GRU,
        input_size: 5,
        hidden_size: 3,
        direction: Direction::Bidirectional,
        ..Default::default()
    };
    let y = b.layers("gru", x, &gru)?;
    let last = b.last_of("last", y, &gru)?;
    let mean = b.pool("mean", y.columns(1, 4)?, Pooling::Mean)?;
    let max = b.pool("max", x, Pooling::Max)?;
    let first = b.pool("first", x.columns(2, 3)?, Pooling::First)?;
    let all = b.concat("all", &[last, mean, max, first])?;
    let (gain, shift) = (b.param("norm.weight", &[18])?, b.param("norm.bias", &[18])?);
    let norm = b.norm("norm", all, (Norm::Layer, 2, 1e-5), Some(gain), Some(shift))?;
    let scale = b.param("scale", &[18])?;
    let scaled = b.map("scaled", tanh(of(0)) * of(1), &[norm.into(), b.whole(scale)])?;
    let few = b.sum("few", scaled, 9)?;
    let (w, bias) = (b.param("head.weight", &[4, 9])?, b.param("head.bias", &[4])?);
    let head = b.linear("head", few, w, Some(bias))?;
    let class = b.sequence_input("class", 1)?;
    let counts = b.map("one", of(0) * of(0) + 0.5.into(), &[first.columns(0, 1)?.into()])?;
    b.output("counts", counts)?;
    let entropy = b.loss("entropy", head, class, None, Loss::CrossEntropy)?;
    let wanted = b.input("wanted", 6)?;
    let square = b.loss("square", y, wanted, None, Loss::MeanSquared)?;
    let each = b.input("each.class", 1)?;
    let steps = b.loss("steps", y.columns(1, 3)?, each, None, Loss::CrossEntropy)?;
    for (name, loss) in [("entropy", entropy), ("square", square), ("steps", steps)] {
        b.output(name, loss)?;
    }
    b.output("head", head)?;
    b.output("y", y)?;
    b.output("mean", mean)?;
    Ok(Arc::new(b.finish()?))
}

/// Embeddings of columns of an input and of a value per sequence, into tables of which some rows are never read; one table is the
/// head's too.
pub fn of_tokens() -> Result<Arc<Network>> {
    let (mut b, of) = (Builder::new(), Expr::input);
    let (ids, x) = (b.input("ids", 2)?, b.input("x", 3)?);
    let words = b.embedding("words", ids.columns(1, 1)?, 5, 7)?;
    let kinds = b.embedding("kinds", ids.columns(0, 1)?, 3, 3)?;
    let mixed = b.map("mixed", of(0) * of(1) + of(0), &[kinds.into(), x.into()])?;
    let speaker = b.sequence_input("speaker.ids", 1)?;
    let voice = b.embedding("voice", speaker, 4, 5)?;
    let gru = RnnConfig::gru(10, 7);
    let both = b.concat("both", &[words, mixed])?;
    let y = b.layers("gru", both, &gru)?;
    let tied = b.param_id("words.weight").expect("a table");
    let logits = b.linear("logits", y, tied, None)?;
    let next = b.input("next.class", 1)?;
    let loss = b.loss("loss", logits, next, None, Loss::CrossEntropy)?;
    for (name, part) in [("voice", voice), ("words", words), ("loss", loss), ("logits", logits)] {
        b.output(name, part)?;
    }
    Ok(Arc::new(b.finish()?))
}

/// Every operation but layers, `width` (a multiple of 3) columns wide or twice that, with operands repeated both ways.
pub fn wide(width: usize) -> Result<Arc<Network>> {
    let (mut b, of) = (Builder::new(), Expr::input);
    let x = b.input("x", width)?;
    let (w, bias) = (b.param("in.weight", &[2 * width, width])?, b.param("in.bias", &[2 * width])?);
    let h = b.linear("in", x, w, Some(bias))?;
    let (gain, shift) = (b.param("norm.weight", &[2 * width])?, b.param("norm.bias", &[2 * width])?);
    let n = b.norm("norm", h, (Norm::Layer, 2, 1e-5), Some(gain), Some(shift))?;
    let gain = b.param("rms.weight", &[width])?;
    let rms = b.norm("rms", n.columns(0, width)?, (Norm::Rms, 1, 1e-5), Some(gain), None)?;
    let l2 = b.norm("l2", n.columns(width, width)?, (Norm::L2, width / 3, 1e-12), None, None)?;
    let (taps, bias) = (b.param("conv.weight", &[width, 1, 4])?, b.param("conv.bias", &[width])?);
    let conv = b.conv("conv", rms, (taps, Some(bias)), (3, 0))?;
    let taps = b.param("same.weight", &[width, 4])?;
    let same = b.conv("same", l2, (taps, None), (1, 2))?;
    let before = b.shift("before", conv)?;
    let third = width / 3;
    let (mix, each, groups) = (b.param("mix", &[width])?, b.param("each", &[third])?, b.param("groups", &[third])?);
    let (mix, each, groups) = (b.whole(mix), b.whole(each).each(3), b.whole(groups).groups(third, 3));
    let spread = Operand::from(h.columns(2, third)?).each(3);
    let mixed = of(0) * of(2) + silu(of(1)) * of(3) + tanh(of(4)) * exp(of(5) * of(0)) / (softplus(of(0)) + 1.0.into());
    let mixed = b.map("mixed", mixed, &[before.into(), same.into(), mix, spread, each, groups])?;
    let gates = b.map("gates", of(0) * 0.5.into(), &[Operand::from(h.columns(0, third)?).groups(third, 3)])?;
    let forward = b.scan("forward", &rules::MINGRU, [width, 1, 1], &[gates.into(), mixed.into()], false)?;
    let back = b.scan("back", &rules::QRNN, [width, 1, 1], &[gates.into(), mixed.into()], true)?;
    let sum = b.map("sum", of(0) + of(1) + of(2), &[forward.into(), back.into(), x.into()])?;
    let few = b.sum("few", sum, third)?;
    let top = b.concat("top", &[few, h.columns(3, 2)?, sum.columns(2, 1)?])?;
    b.output("top", top)?;
    b.output("y", sum)?;
    b.output("part", h.columns(1, 5)?)?;
    Ok(Arc::new(b.finish()?))
}

/// A session on the CPU executor in f64, and its parameters.
pub fn session(
    network: &Arc<Network>,
    shape: Shape,
    options: &NetworkOptions,
) -> Result<(NetworkSession<f64>, Vec<f64>)> {
    let params = random(network.parameter_count(), 5);
    Ok((bound(network, shape, options, &params)?, params))
}

/// The same with given parameters.
pub fn bound(
    network: &Arc<Network>,
    shape: Shape,
    options: &NetworkOptions,
    params: &[f64],
) -> Result<NetworkSession<f64>> {
    let device = Device::cpu();
    let options = NetworkOptions { precision: Precision::F64, ..options.clone() };
    NetworkSession::new(&device, NetworkPlan::new(network, shape, &device.caps(), &options)?, params)
}

/// Numbers in -1..1.
pub fn random(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Rows of a value.
pub fn rows(rows: Rows, shape: Shape) -> usize {
    if rows == Rows::Steps { shape.time * shape.batch } else { shape.batch }
}

/// The shape of a value.
pub fn shape_of(network: &Network, value: usize, shape: Shape) -> Vec<usize> {
    let value = &network.values[value];
    match value.rows {
        Rows::Steps => vec![shape.time, shape.batch, value.width],
        Rows::Sequences => vec![shape.batch, value.width],
    }
}

/// Inputs of a network, `[T, B, width]` each.
pub fn inputs(network: &Network, shape: Shape, seed: u64) -> Vec<Vec<f64>> {
    let of = |&v: &usize| {
        let value = &network.values[v];
        let all = random(rows(value.rows, shape) * value.width, seed + v as u64);
        // Classes and ids are whole numbers.
        if value.name.ends_with("class") || value.name.ends_with("ids") {
            all.iter().map(|v| (v.abs() * 2.99).floor()).collect()
        } else {
            all
        }
    };
    network.inputs.iter().map(of).collect()
}
