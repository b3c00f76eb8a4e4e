//! Whose names an RWKV-7's parameters have, and how its files hold them.
//!
//! | RWKV-LM | flash-linear-attention | |
//! |---|---|---|
//! | `blocks.0.ln0`, `ln_out` | `layers.0.pre_norm`, `norm` | |
//! | `blocks.N.ln1`, `ln2` | `layers.N.attn_norm`, `ffn_norm` | |
//! | `att.receptance`, `key`, `value`, `output` | `attn.r_proj`, `k_proj`, `v_proj`, `o_proj` | |
//! | `att.ln_x` | `attn.g_norm` | |
//! | `att.x_r`, `x_w`, `x_k`, `x_v`, `x_a`, `x_g` | the same, or slices of `attn.x_x` in that order | |
//! | `att.w1`, `w2`, `w0` (a, v and g likewise) | `attn.w_lora.lora.0.weight`, `2.weight`, `2.bias` | transposed |
//! | `att.k_k`, `k_a`, `r_k`, `ffn.x_k`, `key`, `value` | the same | |

use super::super::Layer;
use crate::error::Result;
use crate::model::network::{Operand, Part, Stored};

/// Whose names an RWKV-7's parameters have. The network is the same, but for the ε of [`Rwkv7Names::group_epsilon`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rwkv7Names {
    /// RWKV-LM's `x070` checkpoints: `blocks.0.att.receptance.weight`, `blocks.0.att.w1` `[in, out]`.
    #[default]
    RwkvLm,
    /// flash-linear-attention's `RWKV7Model` (0.6.0 was read): `layers.0.attn.r_proj.weight`, `layers.0.attn.w_lora.lora.0.weight`
    /// `[out, in]`; behind `model.` in files of language models. With `norm_first`, `norm_bias` and a `value_dim` of the hidden size, as
    /// published.
    Fla,
    /// The same from before x_r to x_g had tensors of their own: `layers.0.attn.x_x` `[6, hidden_size]`.
    FlaStacked,
}

/// What is mixed with the step before, in the order of `x_x`.
const MIXED: [&str; 6] = ["r", "w", "k", "v", "a", "g"];

impl Rwkv7Names {
    /// ε of the norm behind the scan: 64e-5 in RWKV-LM's, `head_size` · 1e-5 in flash-linear-attention's, which are one for heads of 64.
    pub fn group_epsilon(self, head_size: usize) -> f64 {
        match self {
            Self::RwkvLm => 64e-5,
            Self::Fla | Self::FlaStacked => head_size as f64 * 1e-5,
        }
    }

    /// Whether files have a tensor of this name that nothing reads: the first block mixes in no earlier block's values, but RWKV-LM's
    /// older checkpoints have its v0, v1 and v2, and flash-linear-attention's first had its v_lora.
    pub(super) fn is_unread(self, name: &str) -> bool {
        match self {
            Self::RwkvLm => ["blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"].contains(&name),
            Self::Fla | Self::FlaStacked => name.starts_with("layers.0.attn.v_lora.lora."),
        }
    }

    /// What comes behind the prefix of block `n`.
    pub(super) fn block(self, n: usize) -> String {
        match self {
            Self::RwkvLm => format!("blocks.{n}."),
            Self::Fla | Self::FlaStacked => format!("layers.{n}."),
        }
    }

    /// The name of a module that has another in flash-linear-attention, by RWKV-LM's.
    pub(super) fn of(self, name: &'static str) -> &'static str {
        if self == Self::RwkvLm {
            return name;
        }
        match name {
            "blocks.0.ln0" => "layers.0.pre_norm",
            "ln_out" => "norm",
            "ln1" => "attn_norm",
            "ln2" => "ffn_norm",
            "att" => "attn",
            "receptance" => "r_proj",
            "key" => "k_proj",
            "value" => "v_proj",
            "output" => "o_proj",
            "ln_x" => "g_norm",
            same => same,
        }
    }

    /// Dimensions of k_k, k_a and the channel mixing's x_k.
    pub(super) fn row(self, width: usize) -> Vec<usize> {
        match self {
            Self::RwkvLm => vec![1, 1, width],
            Self::Fla | Self::FlaStacked => vec![width],
        }
    }

    /// How much of the step before there is in what `name` of [`MIXED`] reads, per column.
    pub(super) fn mix(self, layer: &mut Layer<'_>, name: &str, width: usize) -> Result<Operand> {
        let own = format!("x_{name}");
        if self != Self::FlaStacked {
            return layer.operand(&own, &[1, 1, width]);
        }
        let at = MIXED.iter().position(|n| *n == name).unwrap_or_default();
        let stored = Stored { tensor: layer.name("x_x"), slice: Some((at, MIXED.len())), transposed: false };
        let name = layer.name(&own);
        let param = layer.builder.stored_param(&name, [1, width], stored)?;
        Ok(layer.builder.whole(param))
    }

    /// x times the narrow matrix of `name`, one of w, a, v and g.
    pub(super) fn narrow(self, layer: &mut Layer<'_>, name: &str, x: Part, rank: usize) -> Result<Part> {
        match self {
            Self::RwkvLm => layer.matmul(x, rank, &format!("{name}1"), None, None),
            Self::Fla | Self::FlaStacked => layer.linear(&format!("{name}_lora.lora.0"), x, rank, false),
        }
    }

    /// And times the wide one, plus the bias.
    pub(super) fn widen(self, layer: &mut Layer<'_>, name: &str, x: Part, width: usize, bias: bool) -> Result<Part> {
        match self {
            Self::RwkvLm => {
                let bias = bias.then(|| layer.param(&format!("{name}0"), &[1, 1, width])).transpose()?;
                layer.matmul(x, width, &format!("{name}2"), None, bias)
            }
            Self::Fla | Self::FlaStacked => layer.linear(&format!("{name}_lora.lora.2"), x, width, bias),
        }
    }
}
