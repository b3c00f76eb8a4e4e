//! RWKV-7 ("Goose"), with the names of RWKV-LM's `x070` checkpoints or of flash-linear-attention's ([`Rwkv7Names`]).
//!
//! ```text
//! block   h = h + att(LayerNorm(h))      h = h + ffn(LayerNorm(h));  before the first: LayerNorm (ln0)
//! att     x_i = x + (x[t−1] − x)·x_i for r, w, k, v, a, g
//!         r = receptance(x_r)      w = w0 + tanh(x_w w1) w2      k = key(x_k)      a = σ(a0 + x_a a1 a2)      g = σ(x_g g1) g2
//!         v = value(x_v); from the second block on: v + (v of the first block − v)·σ(v0 + x_v v1 v2)
//!         κ = k·k_k / ‖k·k_k‖ per head      k~ = k·(1 + (a − 1)·k_a)
//!         output((GroupNorm per head(scan(r, w, k~, v, −κ, κ·a)) + (Σ per head r·k~·r_k)·v) · g)
//! ffn     value(max(key(x + (x[t−1] − x)·x_k), 0)²)
//! model   LayerNorm after the last block (ln_out)
//! ```
//!
//! Peng et al. 2025 (arXiv 2503.14456). The published decay e^(−e^(−softplus(−w) − 1/2)) is the rule's e^(−e^(−1/2) σ(w)), for
//! e^(−softplus(−w)) = σ(w). RWKV-LM's low-rank matrices are `[in, out]` in files. Some files have v0, v1 and v2 in block 0 too, which
//! nothing reads ([`super::Model::is_unread`]). ε of the GroupNorm: [`Rwkv7Names::group_epsilon`]; of κ's norm: 1e-12, the least length
//! that it divides by. flash-linear-attention 0.6.0 divides by √(‖k·k_k‖² + 1e-6) instead where `fuse_norm` is true, as is its
//! default.

mod names;

pub use names::Rwkv7Names;

use super::{Layer, check_divisor, check_sizes};
use crate::error::Result;
use crate::expr::{Expr, sigmoid, tanh};
use crate::model::network::{Builder, Norm, Part};
use crate::model::rules::RWKV7;

/// Sizes of an RWKV-7 model; the default are those of the published 168M model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv7 {
    /// Columns of the residual stream and of the time mixing.
    pub hidden_size: usize,
    /// K = V: columns of a head.
    pub head_size: usize,
    /// Columns of the channel mixing.
    pub intermediate_size: usize,
    /// Rank of w1, w2: the decay.
    pub decay_rank: usize,
    /// Rank of a1, a2: the rate of in-context learning.
    pub rate_rank: usize,
    /// Rank of v1, v2: how much of the first block's values.
    pub value_rank: usize,
    /// Rank of g1, g2: the output gate.
    pub gate_rank: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Whose names the parameters have.
    pub names: Rwkv7Names,
}

impl Default for Rwkv7 {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            head_size: 64,
            intermediate_size: 3072,
            decay_rank: 64,
            rate_rank: 64,
            value_rank: 32,
            gate_rank: 128,
            num_layers: 1,
            names: Rwkv7Names::RwkvLm,
        }
    }
}

const LAYER_NORM: (Norm, usize, f64) = (Norm::Layer, 1, 1e-5);

impl Rwkv7 {
    /// All blocks, the norm before the first and the one behind the last; `prefix`: what names begin with.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn model(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        let mut x = Layer::new(builder, prefix).norm(self.names.of("blocks.0.ln0"), x, LAYER_NORM, true)?;
        let mut first = None;
        for n in 0..self.num_layers {
            let (y, v) = self.block(builder, &format!("{prefix}{}", self.names.block(n)), x, first)?;
            (x, first) = (y, first.or(Some(v)));
        }
        Layer::new(builder, prefix).norm(self.names.of("ln_out"), x, LAYER_NORM, true)
    }

    /// Time mixing and channel mixing, both residual; `first`: the values of the first block, `None` in it. Also gives the block's
    /// values.
    ///
    /// # Errors
    /// As [`Rwkv7::model`].
    pub fn block(&self, builder: &mut Builder, prefix: &str, x: Part, first: Option<Part>) -> Result<(Part, Part)> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("decay_rank", self.decay_rank),
            ("rate_rank", self.rate_rank),
            ("value_rank", self.value_rank),
            ("gate_rank", self.gate_rank),
        ])?;
        check_divisor("head_size", self.head_size, self.hidden_size)?;
        let mut layer = Layer::new(builder, prefix);
        let n = layer.norm(self.names.of("ln1"), x, LAYER_NORM, true)?;
        let (y, v) = self.att(layer.within(self.names.of("att")), n, first)?;
        let x = layer.add("att.residual", x, y)?;
        let n = layer.norm(self.names.of("ln2"), x, LAYER_NORM, true)?;
        let y = self.ffn(layer.within("ffn"), n)?;
        Ok((layer.add("ffn.residual", x, y)?, v))
    }

    pub(super) fn is_unread(&self, name: &str) -> bool {
        self.names.is_unread(name)
    }

    fn att(&self, mut layer: Layer<'_>, x: Part, first: Option<Part>) -> Result<(Part, Part)> {
        let (width, size) = (self.hidden_size, self.head_size);
        let heads = width / size;
        let before = layer.shift("time_shift", x)?;
        let mut mixed = |name: &str| {
            let m = self.names.mix(&mut layer, name, width)?;
            layer.lerp_by(&format!("mix_{name}"), x, before, m)
        };
        let (xr, xw, xk, xv, xa, xg) = (mixed("r")?, mixed("w")?, mixed("k")?, mixed("v")?, mixed("a")?, mixed("g")?);

        let r = layer.linear(self.names.of("receptance"), xr, width, false)?;
        let w = self.low_rank(&mut layer, "w", xw, (self.decay_rank, Some(tanh(Expr::input(0)))), true)?;
        let k = layer.linear(self.names.of("key"), xk, width, false)?;
        let v = self.values(&mut layer, xv, first)?;
        let a = self.low_rank(&mut layer, "a", xa, (self.rate_rank, None), true)?;
        let a = layer.map("rate", sigmoid(Expr::input(0)), &[a.into()])?;
        let g = self.low_rank(&mut layer, "g", xg, (self.gate_rank, Some(sigmoid(Expr::input(0)))), false)?;

        let row = self.names.row(width);
        let (along, much) = (layer.operand("k_k", &row)?, layer.operand("k_a", &row)?);
        let direction = layer.map("direction", Expr::input(0) * Expr::input(1), &[k.into(), along])?;
        let name = layer.name("direction.norm");
        let direction = layer.builder.norm(&name, direction, (Norm::L2, heads, 1e-12), None, None)?;
        let scaled = Expr::input(0) * (Expr::from(1.0) + (Expr::input(1) - Expr::from(1.0)) * Expr::input(2));
        let k = layer.map("key.scaled", scaled, &[k.into(), a.into(), much])?;
        let minus = layer.map("erase", -Expr::input(0), &[direction.into()])?;
        let replaced = layer.multiply("replace", direction, a)?;

        let name = layer.name("scan");
        let operands = [r, w, k, v, minus, replaced].map(Into::into);
        let y = layer.builder.scan(&name, &RWKV7, [heads, size, size], &operands, false)?;
        let y = layer.norm(self.names.of("ln_x"), y, (Norm::Layer, heads, self.names.group_epsilon(size)), true)?;
        let out = self.with_bonus(&mut layer, (y, r, k, v), g)?;
        Ok((layer.linear(self.names.of("output"), out, width, false)?, v))
    }

    /// value(x), from the second block on mixed with the first block's.
    fn values(&self, layer: &mut Layer<'_>, x: Part, first: Option<Part>) -> Result<Part> {
        let v = layer.linear(self.names.of("value"), x, self.hidden_size, false)?;
        let Some(first) = first else { return Ok(v) };
        let much = self.low_rank(layer, "v", x, (self.value_rank, None), true)?;
        let v_ = || Expr::input(0);
        let expr = v_() + (Expr::input(1) - v_()) * sigmoid(Expr::input(2));
        layer.map("value.mixed", expr, &[v.into(), first.into(), much.into()])
    }

    /// (y + (Σ per head r·k·r_k) v) · g
    fn with_bonus(&self, layer: &mut Layer<'_>, (y, r, k, v): (Part, Part, Part, Part), g: Part) -> Result<Part> {
        let heads = self.hidden_size / self.head_size;
        let weights = layer.operand("r_k", &[heads, self.head_size])?;
        let product = Expr::input(0) * Expr::input(1) * Expr::input(2);
        let product = layer.map("bonus.product", product, &[r.into(), k.into(), weights])?;
        let name = layer.name("bonus");
        let bonus =
            crate::model::network::Operand::from(layer.builder.sum(&name, product, heads)?).each(self.head_size);
        let expr = (Expr::input(0) + Expr::input(1) * Expr::input(2)) * Expr::input(3);
        layer.map("gated", expr, &[y.into(), bonus, v.into(), g.into()])
    }

    /// f(x `<name>1`) `<name>2` + `<name>0`
    fn low_rank(
        &self,
        layer: &mut Layer<'_>,
        name: &str,
        x: Part,
        (rank, f): (usize, Option<Expr>),
        bias: bool,
    ) -> Result<Part> {
        let mut low = self.names.narrow(layer, name, x, rank)?;
        if let Some(f) = f {
            low = layer.map(&format!("{name}1.act"), f, &[low.into()])?;
        }
        self.names.widen(layer, name, low, self.hidden_size, bias)
    }

    fn ffn(&self, mut layer: Layer<'_>, x: Part) -> Result<Part> {
        let before = layer.shift("time_shift", x)?;
        let m = layer.operand("x_k", &self.names.row(x.width))?;
        let k = layer.lerp_by("mix_k", x, before, m)?;
        let k = layer.linear("key", k, self.intermediate_size, false)?;
        let k = layer.squared_relu("act", k)?;
        layer.linear("value", k, self.hidden_size, false)
    }
}
