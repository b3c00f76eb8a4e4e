//! Mamba, with the names of transformers' `MambaModel`; FalconMamba, with those of `FalconMambaModel`, which are the same.
//!
//! ```text
//! block     h' = h + mixer(RMSNorm(h))
//! mixer     x, z = in_proj(n)      u = silu(conv1d(x))      dt, B, C = x_proj(u)
//!           y = scan(u, dt_proj(dt), B, C; A_log, D)        out_proj(y · silu(z))
//! model     RMSNorm after the last block (norm_f)
//!
//! FalconMamba's mixer has between x_proj and the scan
//!           dt, B, C = RMSNorm(dt), RMSNorm(B), RMSNorm(C)          each by itself, without a gain
//! ```
//!
//! Gu and Dao 2023 (arXiv 2312.00752); FalconMamba: Zuo et al. 2024 (arXiv 2410.05355), the norms as transformers 5.23.0 has them
//! (`FalconMambaWeightlessRMSNorm`). The bias of dt_proj is the scan's `dt_bias`.

use super::{Layer, check_sizes};
use crate::error::Result;
use crate::expr::{Expr, silu};
use crate::model::network::{Builder, Norm, Part};
use crate::model::rules::MAMBA;

/// Sizes of a Mamba model; the default are those of the published 130M model, but for `hidden_size`s of a block's own choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Columns of the residual stream.
    pub hidden_size: usize,
    /// Channels of a mixer, usually twice `hidden_size`.
    pub intermediate_size: usize,
    /// N: values of a channel's state.
    pub state_size: usize,
    /// Taps of the causal convolution.
    pub conv_kernel: usize,
    /// Columns that dt_proj widens.
    pub time_step_rank: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Biases of in_proj and out_proj.
    pub use_bias: bool,
    /// Bias of the convolution.
    pub use_conv_bias: bool,
    /// ε of the norms.
    pub epsilon: f64,
    /// ε of the norms of dt, B and C (`mixer_rms_eps` of transformers' configuration, 1e-6 as published) of a FalconMamba; `None` for a
    /// Mamba, which has no such norms. These norms have no parameters. So a file's names and shapes do not tell the two apart, and a
    /// FalconMamba that runs without them gives other numbers: `model_type` in the `config.json` beside a checkpoint says which it is.
    pub mixer_epsilon: Option<f64>,
}

impl Default for Mamba {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 1536,
            state_size: 16,
            conv_kernel: 4,
            time_step_rank: 48,
            num_layers: 1,
            use_bias: false,
            use_conv_bias: true,
            epsilon: 1e-5,
            mixer_epsilon: None,
        }
    }
}

impl Mamba {
    /// All blocks and the norm behind them; `prefix`: what names begin with (`backbone.` in files of language models).
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn model(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        let block = |x, n| self.block(builder, &format!("{prefix}layers.{n}."), x);
        let x = (0..self.num_layers).try_fold(x, block)?;
        Layer::new(builder, prefix).norm("norm_f", x, self.rms(), false)
    }

    /// One residual block.
    ///
    /// # Errors
    /// As [`Mamba::model`].
    pub fn block(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("state_size", self.state_size),
            ("conv_kernel", self.conv_kernel),
            ("time_step_rank", self.time_step_rank),
        ])?;
        let mut layer = Layer::new(builder, prefix);
        let n = layer.norm("norm", x, self.rms(), false)?;
        let y = self.mixer(layer.within("mixer"), n)?;
        layer.add("residual", x, y)
    }

    fn rms(&self) -> (Norm, usize, f64) {
        (Norm::Rms, 1, self.epsilon)
    }

    fn mixer(&self, mut layer: Layer<'_>, n: Part) -> Result<Part> {
        let (channels, states, rank) = (self.intermediate_size, self.state_size, self.time_step_rank);
        let projected = layer.linear("in_proj", n, 2 * channels, self.use_bias)?;
        let (x, z) = (projected.columns(0, channels)?, projected.columns(channels, channels)?);
        let conv = layer.causal_conv("conv1d", x, self.conv_kernel, self.use_conv_bias)?;
        let u = layer.map("act", silu(Expr::input(0)), &[conv.into()])?;

        let selected = layer.linear("x_proj", u, rank + 2 * states, false)?;
        let mut part = |name: &str, first, width| {
            let part = selected.columns(first, width)?;
            let Some(epsilon) = self.mixer_epsilon else { return Ok(part) };
            let name = layer.name(name);
            layer.builder.norm(&name, part, (Norm::Rms, 1, epsilon), None, None)
        };
        let (dt, b, c) =
            (part("dt_norm", 0, rank)?, part("b_norm", rank, states)?, part("c_norm", rank + states, states)?);
        let dt = layer.linear("dt_proj", dt, channels, false)?;
        let a_log = layer.operand("A_log", &[channels, states])?;
        let (d, dt_bias) = (layer.operand("D", &[channels])?, layer.operand("dt_proj.bias", &[channels])?);
        let operands = [u.into(), dt.into(), b.into(), c.into(), a_log, d, dt_bias];
        let name = layer.name("scan");
        let y = layer.builder.scan(&name, &MAMBA, [channels, states, 1], &operands, false)?;

        let gated = layer.map("gate", Expr::input(0) * silu(Expr::input(1)), &[y.into(), z.into()])?;
        layer.linear("out_proj", gated, self.hidden_size, self.use_bias)
    }
}
