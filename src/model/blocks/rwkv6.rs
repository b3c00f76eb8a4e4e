//! RWKV-6 ("Finch"), with the names of RWKV-LM's `x060` checkpoints.
//!
//! ```text
//! block   h = h + att(LayerNorm(h))      h = h + ffn(LayerNorm(h));  before the first: LayerNorm (ln0)
//! att     m_w, m_k, m_v, m_r, m_g = tanh((x + (x[t−1] − x)·maa_x) maa_w1) maa_w2          how much of the step before, per step
//!         x_i = x + (x[t−1] − x)·(maa_i + m_i)      w = decay + tanh(x_w decay_w1) decay_w2
//!         output(GroupNorm per head(scan(receptance(x_r), w, key(x_k), value(x_v); faaaa)) · silu(gate(x_g)))
//! ffn     x_i = x + (x[t−1] − x)·maa_i      σ(receptance(x_r)) · value(max(key(x_k), 0)²)
//! model   LayerNorm after the last block (ln_out)
//! ```
//!
//! Peng et al. 2024 (arXiv 2404.05892). Low-rank matrices are `[in, out]` in files. ε of the GroupNorm: 1e-5 · 8².

use super::{Layer, check_divisor, check_sizes};
use crate::error::Result;
use crate::expr::{Expr, silu, tanh};
use crate::model::network::{Builder, Norm, Part};
use crate::model::rules::RWKV6;

/// Sizes of an RWKV-6 model; the default are those of the published 1.6B model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv6 {
    /// Columns of the residual stream and of the time mixing.
    pub hidden_size: usize,
    /// K = V: columns of a head.
    pub head_size: usize,
    /// Columns of the channel mixing.
    pub intermediate_size: usize,
    /// Rank of what chooses the mix of a step and the one before.
    pub mix_rank: usize,
    /// Rank of what chooses the decay.
    pub decay_rank: usize,
    /// Blocks.
    pub num_layers: usize,
}

impl Default for Rwkv6 {
    fn default() -> Self {
        Self { hidden_size: 2048, head_size: 64, intermediate_size: 7168, mix_rank: 32, decay_rank: 64, num_layers: 1 }
    }
}

/// What is mixed, in the order of maa_w1's columns and maa_w2's slices.
const MIXED: [&str; 5] = ["w", "k", "v", "r", "g"];

const LAYER_NORM: (Norm, usize, f64) = (Norm::Layer, 1, 1e-5);

impl Rwkv6 {
    /// All blocks, the norm before the first and the one behind the last; `prefix`: what names begin with.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn model(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        let x = Layer::new(builder, prefix).norm("blocks.0.ln0", x, LAYER_NORM, true)?;
        let block = |x, n| self.block(builder, &format!("{prefix}blocks.{n}."), x);
        let x = (0..self.num_layers).try_fold(x, block)?;
        Layer::new(builder, prefix).norm("ln_out", x, LAYER_NORM, true)
    }

    /// Time mixing and channel mixing, both residual.
    ///
    /// # Errors
    /// As [`Rwkv6::model`].
    pub fn block(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("mix_rank", self.mix_rank),
            ("decay_rank", self.decay_rank),
        ])?;
        check_divisor("head_size", self.head_size, self.hidden_size)?;
        let mut layer = Layer::new(builder, prefix);
        let n = layer.norm("ln1", x, LAYER_NORM, true)?;
        let y = self.att(layer.within("att"), n)?;
        let x = layer.add("att.residual", x, y)?;
        let n = layer.norm("ln2", x, LAYER_NORM, true)?;
        let y = self.ffn(layer.within("ffn"), n)?;
        layer.add("ffn.residual", x, y)
    }

    fn att(&self, mut layer: Layer<'_>, x: Part) -> Result<Part> {
        let (width, size) = (self.hidden_size, self.head_size);
        let heads = width / size;
        let [w, k, v, r, g] = self.mixed(&mut layer, x)?;
        let low = layer.matmul(w, self.decay_rank, "time_decay_w1", None, None)?;
        let low = layer.map("decay", tanh(Expr::input(0)), &[low.into()])?;
        let decay = layer.param("time_decay", &[1, 1, width])?;
        let w = layer.matmul(low, width, "time_decay_w2", None, Some(decay))?;
        let mut linear = |name, x| layer.linear(name, x, width, false);
        let (r, k, v, g) = (linear("receptance", r)?, linear("key", k)?, linear("value", v)?, linear("gate", g)?);

        let bonus = layer.operand("time_faaaa", &[heads, size])?;
        let name = layer.name("scan");
        let operands = [r.into(), w.into(), k.into(), v.into(), bonus];
        let y = layer.builder.scan(&name, &RWKV6, [heads, size, size], &operands, false)?;
        let y = layer.norm("ln_x", y, (Norm::Layer, heads, 64e-5), true)?;
        let gated = layer.map("gated", Expr::input(0) * silu(Expr::input(1)), &[y.into(), g.into()])?;
        layer.linear("output", gated, width, false)
    }

    /// x_w, x_k, x_v, x_r, x_g
    fn mixed(&self, layer: &mut Layer<'_>, x: Part) -> Result<[Part; 5]> {
        let (width, rank) = (self.hidden_size, self.mix_rank);
        let before = layer.shift("time_shift", x)?;
        let xx = layer.lerp("maa_x", x, before, "time_maa_x")?;
        let low = layer.matmul(xx, MIXED.len() * rank, "time_maa_w1", None, None)?;
        let low = layer.map("maa", tanh(Expr::input(0)), &[low.into()])?;
        let mut all = [x; MIXED.len()];
        for (n, name) in MIXED.iter().enumerate() {
            let chosen =
                layer.matmul(low.columns(n * rank, rank)?, width, "time_maa_w2", Some((n, MIXED.len())), None)?;
            let fixed = layer.operand(&format!("time_maa_{name}"), &[1, 1, width])?;
            let (x_, before_) = (|| Expr::input(0), Expr::input(1));
            let expr = x_() + (before_ - x_()) * (Expr::input(2) + Expr::input(3));
            all[n] = layer.map(&format!("maa_{name}"), expr, &[x.into(), before.into(), fixed, chosen.into()])?;
        }
        Ok(all)
    }

    fn ffn(&self, mut layer: Layer<'_>, x: Part) -> Result<Part> {
        let before = layer.shift("time_shift", x)?;
        let (k, r) = (layer.lerp("maa_k", x, before, "time_maa_k")?, layer.lerp("maa_r", x, before, "time_maa_r")?);
        let k = layer.linear("key", k, self.intermediate_size, false)?;
        let k = layer.squared_relu("act", k)?;
        let (v, r) = (
            layer.linear("value", k, self.hidden_size, false)?,
            layer.linear("receptance", r, self.hidden_size, false)?,
        );
        layer.gated("gate", r, v)
    }
}
