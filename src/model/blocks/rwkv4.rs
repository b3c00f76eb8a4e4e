//! RWKV-4, with the names of transformers' `RwkvModel`.
//!
//! ```text
//! block          h = h + attention(LayerNorm(h))      h = h + feed_forward(LayerNorm(h));  before the first: LayerNorm (pre_ln)
//! attention      x_m = m·x + (1 − m)·x[t−1] for key, value, receptance
//!                output(σ(receptance(x_r)) · scan(key(x_k), value(x_v); time_decay, time_first))
//! feed_forward   σ(receptance(x_r)) · value(max(key(x_k), 0)²)
//! model          LayerNorm after the last block (ln_out)
//! ```
//!
//! Peng et al. 2023 (arXiv 2305.13048).

use super::{Layer, check_sizes};
use crate::error::Result;
use crate::expr::Expr;
use crate::model::network::{Builder, Norm, Part};
use crate::model::rules::RWKV4;

/// Sizes of an RWKV-4 model; the default are those of the published 169M model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv4 {
    /// Columns of the residual stream.
    pub hidden_size: usize,
    /// Channels of the time mixing.
    pub attention_hidden_size: usize,
    /// Columns of the channel mixing.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_layers: usize,
    /// ε of the norms.
    pub epsilon: f64,
}

impl Default for Rwkv4 {
    fn default() -> Self {
        Self { hidden_size: 768, attention_hidden_size: 768, intermediate_size: 3072, num_layers: 1, epsilon: 1e-5 }
    }
}

impl Rwkv4 {
    /// All blocks, the norm before the first and the one behind the last; `prefix`: what names begin with (`rwkv.` in files of
    /// language models).
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn model(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        let x = Layer::new(builder, prefix).norm("blocks.0.pre_ln", x, self.layer_norm(), true)?;
        let block = |x, n| self.block(builder, &format!("{prefix}blocks.{n}."), x);
        let x = (0..self.num_layers).try_fold(x, block)?;
        Layer::new(builder, prefix).norm("ln_out", x, self.layer_norm(), true)
    }

    /// Time mixing and channel mixing, both residual.
    ///
    /// # Errors
    /// As [`Rwkv4::model`].
    pub fn block(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("attention_hidden_size", self.attention_hidden_size),
            ("intermediate_size", self.intermediate_size),
        ])?;
        let mut layer = Layer::new(builder, prefix);
        let n = layer.norm("ln1", x, self.layer_norm(), true)?;
        let y = self.attention(layer.within("attention"), n)?;
        let x = layer.add("attention.residual", x, y)?;
        let n = layer.norm("ln2", x, self.layer_norm(), true)?;
        let y = self.feed_forward(layer.within("feed_forward"), n)?;
        layer.add("feed_forward.residual", x, y)
    }

    fn layer_norm(&self) -> (Norm, usize, f64) {
        (Norm::Layer, 1, self.epsilon)
    }

    fn attention(&self, mut layer: Layer<'_>, x: Part) -> Result<Part> {
        let channels = self.attention_hidden_size;
        let before = layer.shift("time_shift", x)?;
        let mut mixed = |name: &str| {
            let x = mixed(&mut layer, name, x, before)?;
            layer.linear(name, x, channels, false)
        };
        let (k, v, r) = (mixed("key")?, mixed("value")?, mixed("receptance")?);
        let (decay, first) = (layer.operand("time_decay", &[channels])?, layer.operand("time_first", &[channels])?);
        let name = layer.name("scan");
        let y = layer.builder.scan(&name, &RWKV4, [channels, 1, 1], &[k.into(), v.into(), decay, first], false)?;
        let gated = layer.gated("gate", r, y)?;
        layer.linear("output", gated, self.hidden_size, false)
    }

    fn feed_forward(&self, mut layer: Layer<'_>, x: Part) -> Result<Part> {
        let before = layer.shift("time_shift", x)?;
        let (k, r) = (mixed(&mut layer, "key", x, before)?, mixed(&mut layer, "receptance", x, before)?);
        let k = layer.linear("key", k, self.intermediate_size, false)?;
        let k = layer.squared_relu("act", k)?;
        let (v, r) = (
            layer.linear("value", k, self.hidden_size, false)?,
            layer.linear("receptance", r, self.hidden_size, false)?,
        );
        layer.gated("gate", r, v)
    }
}

/// x·m + before·(1 − m), m: `time_mix_<name>`
fn mixed(layer: &mut Layer<'_>, name: &str, x: Part, before: Part) -> Result<Part> {
    let m = layer.operand(&format!("time_mix_{name}"), &[1, 1, x.width])?;
    let (x_, before_, m_) = (Expr::input(0), Expr::input(1), || Expr::input(2));
    let expr = x_ * m_() + before_ * (Expr::from(1.0) - m_());
    layer.map(&format!("mix_{name}"), expr, &[x.into(), before.into(), m])
}
