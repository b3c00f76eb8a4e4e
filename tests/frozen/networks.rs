//! Networks: one or more per rule, one of every operation, the published blocks.

use super::stacks::Runs;
use std::sync::Arc;
use wgpu_rnn::blocks::{Mamba, Mamba2, Model, Rwkv4, Rwkv6, Rwkv7, Rwkv7Names};
use wgpu_rnn::expr::{Expr, sigmoid, silu};
use wgpu_rnn::network::{Builder, Network, NetworkOptions, Norm, Op, Operand, Parallel, Part};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{DeviceClass, Direction, Memory, Result, RnnConfig, Shape, cells, rules};

pub struct Net {
    pub name: String,
    pub network: Arc<Network>,
    pub shape: Shape,
    pub options: NetworkOptions,
    pub runs: Runs,
    /// Whether sequences have lengths of their own, and episodes begin inside them.
    pub ragged: bool,
}

impl Net {
    /// Trained, three chunks of the time, one of them shorter.
    fn new(name: impl Into<String>, network: Result<Network>, parallel: Parallel) -> Self {
        let options = NetworkOptions { train: true, parallel: Some(parallel), chunk: Some(4), ..Default::default() };
        let network = Arc::new(network.expect("a network"));
        let shape = Shape { time: 9, batch: 3 };
        Self { name: name.into(), network, shape, options, runs: Runs::Cpu, ragged: true }
    }

    fn with(self, change: impl FnOnce(NetworkOptions) -> NetworkOptions) -> Self {
        Self { options: change(self.options), ..self }
    }

    /// On the GPU too, in the sizes of stacks there.
    fn everywhere(self) -> Self {
        Self { runs: Runs::Everywhere, shape: Shape { time: 5, batch: 4 }, ..self }
    }

    /// Every sequence's length, from 1 to T.
    pub fn lengths(&self) -> Option<Vec<usize>> {
        let Shape { time, batch } = self.shape;
        self.ragged.then(|| (0..batch).map(|b| 1 + (b * 4 + time - 1) % time).collect())
    }

    /// Where episodes begin: inside a chunk, at its first step, and where another begins one step later.
    pub fn resets(&self) -> Option<Vec<bool>> {
        let Shape { time, batch } = self.shape;
        let mut flags = vec![false; time * batch];
        [(2, 0), (3, 0), (4, 2), (1, 1)].into_iter().for_each(|(t, b)| flags[t * batch + b] = true);
        self.ragged.then_some(flags)
    }

    pub fn has_rule(&self, rule: &Rule) -> bool {
        self.network.nodes.iter().any(|n| matches!(&n.op, Op::Scan(scan) if scan.rule == rule))
    }
}

/// Numbers as a port, input or parameter of that name has them: logarithms of decays are below 0, rates are above.
pub fn like(name: &str, values: Vec<f32>) -> Vec<f32> {
    let of = |v: f32| match name {
        "g" | "gamma" => -v.abs() - 0.01,
        "beta" | "dt" => v.abs() + 0.1,
        _ => v,
    };
    values.into_iter().map(of).collect()
}

/// Every entry.
pub fn all() -> Vec<Net> {
    let mut list = of_rules();
    for (way, parallel) in WAYS {
        list.push(Net::new(format!("everything-{way}"), everything(), parallel));
    }
    let infer = |o| NetworkOptions { train: false, ..o };
    let keep = |o| NetworkOptions { memory: Memory::Checkpoint(64), resets: false, ..o };
    list.push(Net::new("everything-inference", everything(), Parallel::Chunked).with(infer));
    list.push(Net { ragged: false, ..Net::new("everything-checkpoint", everything(), Parallel::Chunked).with(keep) });
    list.push(Net::new("small-mamba", small_mamba(), Parallel::Recurrent).everywhere());
    list.push(Net::new("small-mingru", scan_of(&rules::MINGRU, [6, 1, 1], true), Parallel::Chunked).everywhere());
    list.push(Net::new("small-gla", scan_of(&rules::GLA, [2, 3, 4], false), Parallel::Products).everywhere());
    for (name, model) in models() {
        list.push(Net::new(name, model.network(), Parallel::Recurrent));
    }
    list.extend(larger());
    list
}

const WAYS: [(&str, Parallel); 3] =
    [("recurrent", Parallel::Recurrent), ("chunked", Parallel::Chunked), ("products", Parallel::Products)];

/// Each rule in one of the ways that it knows (products are of matrices), some backwards in time; a few in all.
fn of_rules() -> Vec<Net> {
    let mut list = Vec::new();
    let mut turn = 0;
    for rule in rules::ALL {
        let ways = if rule.state == HeadState::Matrix { 3 } else { 2 };
        let in_all = ["gla", "gated-delta", "mamba2"].contains(&rule.name);
        let own = turn % ways;
        turn += 1;
        for (n, (way, parallel)) in WAYS.into_iter().take(ways).enumerate() {
            if in_all || n == own {
                let reverse = (turn + n) % 2 == 0;
                let sizes = rule.state.sizes(if rule.state == HeadState::Matrix { [4, 3, 5] } else { [6, 5, 1] });
                let name = format!("{}-{way}{}", rule.name, if reverse { "-reverse" } else { "" });
                list.push(Net::new(name, scan_of(rule, sizes, reverse), parallel));
            }
        }
    }
    list
}

/// A rule over inputs and parameters of its own.
fn scan_of(rule: &'static Rule, sizes: [usize; 3], reverse: bool) -> Result<Network> {
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
    b.finish()
}

/// x·Wᵀ + b under a name.
fn linear(b: &mut Builder, name: &str, x: Part, out: usize) -> Result<Part> {
    let weight = b.param(&format!("{name}.weight"), &[out, x.width])?;
    let bias = b.param(&format!("{name}.bias"), &[out])?;
    b.linear(name, x, weight, Some(bias))
}

/// Every operation, and every form of it.
fn everything() -> Result<Network> {
    let of = Expr::input;
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let h = linear(&mut b, "in", x, 12)?;
    let (gain, shift) = (b.param("norm.weight", &[12])?, b.param("norm.bias", &[12])?);
    let norm = b.norm("norm", h, (Norm::Layer, 2, 1e-5), Some(gain), Some(shift))?;
    let rms = b.norm("rms", norm.columns(0, 6)?, (Norm::Rms, 1, 1e-5), None, None)?;
    let l2 = b.norm("l2", norm.columns(6, 6)?, (Norm::L2, 2, 1e-12), None, None)?;
    let (taps, taps_bias) = (b.param("conv.weight", &[6, 1, 4])?, b.param("conv.bias", &[6])?);
    let conv = b.conv("conv", rms, (taps, Some(taps_bias)), (3, 0))?;
    let around = b.param("around.weight", &[6, 4])?;
    let around = b.conv("around", l2, (around, None), (1, 2))?;
    let before = b.shift("before", conv)?;
    let sums = b.sum("sums", h, 3)?;
    let mix = b.param("mix", &[6])?;
    let operands = [before.into(), around.into(), b.whole(mix), Operand::from(sums.columns(0, 2)?).each(3)];
    let mixed = b.map("mixed", of(0) * of(2) + silu(of(1)) * of(3), &operands)?;
    let gates = b.map("gates", of(0) * 0.5.into(), &[Operand::from(h.columns(0, 3)?).groups(3, 2)])?;
    let there = b.scan("there", &rules::MINGRU, [6, 1, 1], &[gates.into(), mixed.into()], false)?;
    let back = b.scan("back", &rules::QRNN, [6, 1, 1], &[gates.into(), mixed.into()], true)?;
    let sum = b.map("sum", of(0) + of(1) + of(2), &[there.into(), back.into(), x.into()])?;
    let lstm = RnnConfig {
        cell: &cells::LSTM,
        input_size: 6,
        hidden_size: 4,
        proj_size: 3,
        num_layers: 2,
        direction: Direction::Bidirectional,
        ..Default::default()
    };
    let layers = b.layers("lstm", sum, &lstm)?;
    let gru = RnnConfig { cell: &cells::GRU, input_size: 4, hidden_size: 6, ..Default::default() };
    let layers = b.layers("gru", layers.columns(1, 4)?, &gru)?;
    let key = b.norm("key", layers, (Norm::L2, 2, 1e-6), None, None)?;
    let rate = b.map("rate", sigmoid(of(0)), &[h.columns(3, 2)?.into()])?;
    let delta = [x.into(), key.into(), norm.columns(2, 8)?.into(), rate.into()];
    let delta = b.scan("delta", &rules::DELTA, [2, 3, 4], &delta, false)?;
    let wide = b.concat("wide", &[delta, h.columns(3, 2)?, layers.columns(2, 1)?])?;
    let operands: [Operand; 2] = [wide.into(), wide.into()];
    let top = b.bidirectional_scan("top", &rules::MINGRU, [11, 1, 1], [&operands, &operands])?;
    b.output("top", top)?;
    b.output("y", sum)?;
    b.output("part", h.columns(1, 5)?)?;
    b.finish()
}

/// A Mamba block in little, a layer behind it: what a GPU runs of most operations.
fn small_mamba() -> Result<Network> {
    let of = Expr::input;
    let mut b = Builder::new();
    let x = b.input("x", 5)?;
    let gain = b.param("norm.weight", &[5])?;
    let norm = b.norm("norm", x, (Norm::Rms, 1, 1e-5), Some(gain), None)?;
    let h = linear(&mut b, "in", norm, 6)?;
    let taps = b.param("conv.weight", &[6, 1, 3])?;
    let u = b.conv("conv", h, (taps, None), (2, 0))?;
    let u = b.map("act", silu(of(0)), &[u.into()])?;
    let ports = linear(&mut b, "ports", u, 10)?;
    let [a, d, bias] =
        [("A_log", [6, 2]), ("D", [6, 1]), ("dt_bias", [6, 1])].map(|(name, shape)| b.param(name, &shape));
    let [a, d, bias] = [b.whole(a?), b.whole(d?), b.whole(bias?)];
    let [dt, keys, queries] = [ports.columns(0, 6)?, ports.columns(6, 2)?, ports.columns(8, 2)?];
    let operands = [u.into(), dt.into(), keys.into(), queries.into(), a, d, bias];
    let y = b.scan("scan", &rules::MAMBA, [6, 2, 1], &operands, false)?;
    let gru = RnnConfig { cell: &cells::GRU, input_size: 6, hidden_size: 9, ..Default::default() };
    let y = b.layers("gru", y, &gru)?;
    b.output("y", y)?;
    b.finish()
}

/// The published blocks, two of each.
fn models() -> [(&'static str, Model); 5] {
    let mamba = Mamba {
        hidden_size: 7,
        intermediate_size: 11,
        state_size: 3,
        conv_kernel: 3,
        time_step_rank: 2,
        num_layers: 2,
        use_bias: true,
        use_conv_bias: false,
        epsilon: 1e-5,
        mixer_epsilon: None,
    };
    let mamba2 = Mamba2 {
        hidden_size: 9,
        num_heads: 6,
        head_dim: 2,
        state_size: 5,
        n_groups: 3,
        conv_kernel: 4,
        num_layers: 2,
        use_bias: true,
        use_conv_bias: true,
        epsilon: 1e-5,
    };
    let rwkv4 = Rwkv4 { hidden_size: 6, attention_hidden_size: 8, intermediate_size: 13, num_layers: 2, epsilon: 1e-5 };
    let rwkv6 =
        Rwkv6 { hidden_size: 6, head_size: 3, intermediate_size: 11, mix_rank: 2, decay_rank: 4, num_layers: 2 };
    let rwkv7 = Rwkv7 {
        hidden_size: 6,
        head_size: 3,
        intermediate_size: 11,
        decay_rank: 2,
        rate_rank: 3,
        value_rank: 4,
        gate_rank: 5,
        num_layers: 2,
        names: Rwkv7Names::RwkvLm,
    };
    [
        ("block-mamba", Model::Mamba(mamba)),
        ("block-mamba2", Model::Mamba2(mamba2)),
        ("block-rwkv4", Model::Rwkv4(rwkv4)),
        ("block-rwkv6", Model::Rwkv6(rwkv6)),
        ("block-rwkv7", Model::Rwkv7(rwkv7)),
    ]
}

/// Plans of the sizes that people have, where the planner chooses.
fn larger() -> Vec<Net> {
    let large = |name: &str, network, time: usize, options: NetworkOptions| {
        let net = Net::new(name, network, Parallel::Recurrent);
        Net { shape: Shape { time, batch: 4 }, options, runs: Runs::Nowhere, ragged: false, ..net }
    };
    let auto = NetworkOptions::default;
    let train = || NetworkOptions { train: true, ..auto() };
    let mamba = || Mamba { hidden_size: 64, intermediate_size: 128, ..Default::default() };
    let as_gpu = NetworkOptions { kernels: Some(DeviceClass::Gpu), ..train() };
    vec![
        large("large-gla", scan_of(&rules::GLA, [4, 64, 64], false), 512, train()),
        large("large-delta", scan_of(&rules::GATED_DELTA, [4, 32, 48], false), 300, auto()),
        large("large-mingru", scan_of(&rules::MINGRU, [256, 1, 1], true), 1000, train()),
        large("large-mamba", Model::Mamba(mamba()).network(), 200, train()),
        large("large-everything", everything(), 200, as_gpu),
    ]
}
