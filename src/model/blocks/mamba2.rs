//! Mamba-2, with the names of transformers' `Mamba2Model`.
//!
//! ```text
//! block     h' = h + mixer(RMSNorm(h))
//! mixer     z, xBC, dt = in_proj(n)      x, B, C = silu(conv1d(xBC))      y = scan(x, dt, B, C; A_log, D, dt_bias)
//!           out_proj(RMSNorm(y · silu(z)) over each of n_groups parts)
//! model     RMSNorm after the last block (norm_f)
//! ```
//!
//! Dao and Gu 2024 (arXiv 2405.21060). A group's B and C serve `num_heads / n_groups` neighbouring heads. Δ is not limited
//! (`time_step_limit` of (0, ∞), as published).
//!
//! The norm behind the scan goes over each group's channels by itself. So mamba_ssm 2.3.2 trains them (`RMSNormGated` with `group_size` =
//! d_inner / ngroups and `norm_before_gate` false), and so transformers 5.23.0 runs them. transformers up to 5.21.0 goes over all channels
//! at once (but for the CUDA kernel that it trains with), and gives other numbers where there are several groups.

use super::{Layer, check_divisor, check_sizes};
use crate::error::Result;
use crate::expr::{Expr, silu};
use crate::model::network::{Builder, Norm, Part};
use crate::model::rules::MAMBA2;

/// Sizes of a Mamba-2 model; the default are those of the published 130M model.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// Columns of the residual stream.
    pub hidden_size: usize,
    /// Heads.
    pub num_heads: usize,
    /// P: channels of a head.
    pub head_dim: usize,
    /// N: values of a channel's state.
    pub state_size: usize,
    /// Groups of heads that share B and C.
    pub n_groups: usize,
    /// Taps of the causal convolution.
    pub conv_kernel: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Biases of in_proj and out_proj.
    pub use_bias: bool,
    /// Bias of the convolution.
    pub use_conv_bias: bool,
    /// ε of the norms.
    pub epsilon: f64,
}

impl Default for Mamba2 {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_heads: 24,
            head_dim: 64,
            state_size: 128,
            n_groups: 1,
            conv_kernel: 4,
            num_layers: 1,
            use_bias: false,
            use_conv_bias: true,
            epsilon: 1e-5,
        }
    }
}

impl Mamba2 {
    /// All blocks and the norm behind them; `prefix`: what names begin with (`backbone.` in files of language models).
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn model(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        let block = |x, n| self.block(builder, &format!("{prefix}layers.{n}."), x);
        let x = (0..self.num_layers).try_fold(x, block)?;
        Layer::new(builder, prefix).norm("norm_f", x, (Norm::Rms, 1, self.epsilon), false)
    }

    /// One residual block.
    ///
    /// # Errors
    /// As [`Mamba2::model`].
    pub fn block(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_heads", self.num_heads),
            ("head_dim", self.head_dim),
            ("state_size", self.state_size),
            ("conv_kernel", self.conv_kernel),
        ])?;
        check_divisor("n_groups", self.n_groups, self.num_heads)?;
        let mut layer = Layer::new(builder, prefix);
        let n = layer.norm("norm", x, (Norm::Rms, 1, self.epsilon), false)?;
        let y = self.mixer(layer.within("mixer"), n)?;
        layer.add("residual", x, y)
    }

    fn mixer(&self, mut layer: Layer<'_>, n: Part) -> Result<Part> {
        let (heads, channels, shared) =
            (self.num_heads, self.num_heads * self.head_dim, self.n_groups * self.state_size);
        let convolved = channels + 2 * shared;
        let projected = layer.linear("in_proj", n, channels + convolved + heads, self.use_bias)?;
        let (z, dt) = (projected.columns(0, channels)?, projected.columns(channels + convolved, heads)?);
        let conv = projected.columns(channels, convolved)?;
        let conv = layer.causal_conv("conv1d", conv, self.conv_kernel, self.use_conv_bias)?;
        let xbc = layer.map("act", silu(Expr::input(0)), &[conv.into()])?;

        let (x, b, c) =
            (xbc.columns(0, channels)?, xbc.columns(channels, shared)?, xbc.columns(channels + shared, shared)?);
        let mut per_head = |name| layer.operand(name, &[heads]);
        let operands =
            [x.into(), dt.into(), b.into(), c.into(), per_head("A_log")?, per_head("D")?, per_head("dt_bias")?];
        let (name, sizes) = (layer.name("scan"), [heads, self.state_size, self.head_dim]);
        let y = layer.builder.scan(&name, &MAMBA2, sizes, &operands, false)?;

        let gated = layer.map("gate", Expr::input(0) * silu(Expr::input(1)), &[y.into(), z.into()])?;
        let normed = layer.norm("norm", gated, (Norm::Rms, self.n_groups, self.epsilon), false)?;
        layer.linear("out_proj", normed, self.hidden_size, self.use_bias)
    }
}
