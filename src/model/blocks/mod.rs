//! Published blocks as operations of a network, under the names of their checkpoints.
//!
//! A block is a descriptor of sizes whose `block` adds one residual block to a [`Builder`], and whose `model` adds a stack of them with
//! what stands before and behind (norms; not the embedding: looking up rows is the caller's). Parameters have the names and shapes
//! of the published files, so that [`crate::network::NetworkData::load`] reads those.
//!
//! ```
//! use std::sync::Arc;
//! use wgpu_rnn::blocks::{Mamba, Model};
//! use wgpu_rnn::network::{NetworkInput, NetworkOptions, NetworkPlan, NetworkSession};
//! use wgpu_rnn::{Device, Shape, View};
//! # fn main() -> wgpu_rnn::Result<()> {
//! let mamba = Mamba { hidden_size: 8, intermediate_size: 16, state_size: 4, ..Default::default() };
//! let network = Arc::new(Model::Mamba(mamba).network()?);
//! let (device, shape) = (Device::cpu(), Shape { time: 5, batch: 1 });
//! let plan = NetworkPlan::new(&network, shape, &device.caps(), &NetworkOptions::default())?;
//! let params = vec![0.1; network.parameter_count()];
//! let mut session = NetworkSession::new(&device, plan, &params)?;
//! let x = [1.0f32; 40];
//! let y = session.forward(&NetworkInput::new(&[View::new(&x, &[5, 1, 8])]))?;
//! assert_eq!(y.values[0].shape, [5, 1, 8]);
//! # Ok(()) }
//! ```
//!
//! | model | names of | source |
//! |---|---|---|
//! | [`Mamba`] | transformers `MambaModel` | Gu and Dao 2023, arXiv 2312.00752 |
//! | [`Mamba`] with `mixer_epsilon` | transformers `FalconMambaModel` | Zuo et al. 2024, arXiv 2410.05355 |
//! | [`Mamba2`] | transformers `Mamba2Model` | Dao and Gu 2024, arXiv 2405.21060 |
//! | [`Rwkv4`] | transformers `RwkvModel` | Peng et al. 2023, arXiv 2305.13048 |
//! | [`Rwkv6`] | RWKV-LM `x060` | Peng et al. 2024, arXiv 2404.05892 |
//! | [`Rwkv7`] | RWKV-LM `x070`; flash-linear-attention `RWKV7Model`, by `names` | Peng et al. 2025, arXiv 2503.14456 |
//!
//! # Adding a block
//!
//! 1. `src/model/blocks/<name>.rs`: equations, names and source in the module doc; sizes as a struct with `block` and `model`, which put
//!    operations together through `Layer`.
//! 2. A variant of [`Model`], and a line in the table above.
//! 3. Its naive loop in `crates/verify/src/naive_blocks/`, written from the published code and not from the block.
//!
//! An operation that none of [`crate::network::Op`] is goes there first, with its twins on both executors.

mod mamba;
mod mamba2;
mod rwkv4;
mod rwkv6;
mod rwkv7;

pub use mamba::Mamba;
pub use mamba2::Mamba2;
pub use rwkv4::Rwkv4;
pub use rwkv6::Rwkv6;
pub use rwkv7::{Rwkv7, Rwkv7Names};

use crate::error::{Error, Result};
use crate::expr::{Expr, relu, sigmoid};
use crate::model::network::{Builder, Network, Norm, Operand, ParamId, Part, Stored};

/// A model of one of the published kinds, by its sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// Mamba.
    Mamba(Mamba),
    /// Mamba-2.
    Mamba2(Mamba2),
    /// RWKV-4.
    Rwkv4(Rwkv4),
    /// RWKV-6.
    Rwkv6(Rwkv6),
    /// RWKV-7.
    Rwkv7(Rwkv7),
}

impl Model {
    /// Columns of its input and of its output.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Mamba(m) => m.hidden_size,
            Self::Mamba2(m) => m.hidden_size,
            Self::Rwkv4(m) => m.hidden_size,
            Self::Rwkv6(m) => m.hidden_size,
            Self::Rwkv7(m) => m.hidden_size,
        }
    }

    /// Adds the whole model: embedded tokens in, what the head reads out; `prefix`: what parameters' names begin with.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that do not fit.
    pub fn add(&self, builder: &mut Builder, prefix: &str, x: Part) -> Result<Part> {
        match self {
            Self::Mamba(m) => m.model(builder, prefix, x),
            Self::Mamba2(m) => m.model(builder, prefix, x),
            Self::Rwkv4(m) => m.model(builder, prefix, x),
            Self::Rwkv6(m) => m.model(builder, prefix, x),
            Self::Rwkv7(m) => m.model(builder, prefix, x),
        }
    }

    /// Whether published files have a tensor of this name (what stands behind the model's prefix) that no part of the model reads, so that
    /// [`crate::network::NetworkData::load`] is to be told: v0, v1 and v2 of an RWKV-7's first block, which some files have and some do
    /// not. Embeddings and heads are not among them; they are the caller's.
    pub fn is_unread(&self, name: &str) -> bool {
        match self {
            Self::Rwkv7(m) => m.is_unread(name),
            Self::Mamba(_) | Self::Mamba2(_) | Self::Rwkv4(_) | Self::Rwkv6(_) => false,
        }
    }

    /// A network of the model alone: input `x`, output `y`, both `[T, B, hidden_size]`.
    ///
    /// # Errors
    /// As [`Model::add`].
    pub fn network(&self) -> Result<Network> {
        let mut builder = Builder::new();
        let x = builder.input("x", self.hidden_size())?;
        let y = self.add(&mut builder, "", x)?;
        builder.output("y", y)?;
        builder.finish()
    }
}

/// More than any model has of anything, and few enough to be added up.
const LARGEST: usize = 1 << 24;

/// Refuses sizes of 0, and those that sums and products of sizes would overflow with.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        Some((name, size)) => Err(Error::mismatch(*name, format!("1..={LARGEST}"), size)),
        None => Ok(()),
    }
}

/// Refuses groups that do not divide a whole.
fn check_divisor(name: &str, size: usize, whole: usize) -> Result<()> {
    if size != 0 && whole.is_multiple_of(size) {
        return Ok(());
    }
    Err(Error::mismatch(name, format!("a divisor of {whole}"), size))
}

/// Where a block adds its operations: names below `prefix`, values by the name of the module that makes them.
struct Layer<'a> {
    builder: &'a mut Builder,
    prefix: String,
}

impl<'a> Layer<'a> {
    fn new(builder: &'a mut Builder, prefix: &str) -> Self {
        Self { builder, prefix: prefix.into() }
    }

    /// The module `name` within this one.
    fn within(&mut self, name: &str) -> Layer<'_> {
        Layer { prefix: self.name(&format!("{name}.")), builder: self.builder }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn param(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        self.builder.param(&self.name(name), shape)
    }

    /// A parameter as an operand.
    fn operand(&mut self, name: &str, shape: &[usize]) -> Result<Operand> {
        let param = self.param(name, shape)?;
        Ok(self.builder.whole(param))
    }

    /// `name.weight` `[out, x.width]` and, if `bias`, `name.bias` `[out]`.
    fn linear(&mut self, name: &str, x: Part, out: usize, bias: bool) -> Result<Part> {
        let weight = self.param(&format!("{name}.weight"), &[out, x.width])?;
        let bias = bias.then(|| self.param(&format!("{name}.bias"), &[out])).transpose()?;
        self.builder.linear(&self.name(name), x, weight, bias)
    }

    /// x·M + b, with M `[x.width, out]` in files, a matrix of its own or a slice of a tensor of several.
    fn matmul(
        &mut self,
        x: Part,
        out: usize,
        tensor: &str,
        slice: Option<(usize, usize)>,
        bias: Option<ParamId>,
    ) -> Result<Part> {
        let tensor = self.name(tensor);
        let name = slice.map_or(tensor.clone(), |(at, _)| format!("{tensor}.{at}"));
        let weight = self.builder.stored_param(&name, [out, x.width], Stored { tensor, slice, transposed: true })?;
        self.builder.linear(&format!("{name}.product"), x, weight, bias)
    }

    /// `name.weight` and, if `bias`, `name.bias`, a value per column.
    fn norm(&mut self, name: &str, x: Part, kind: (Norm, usize, f64), bias: bool) -> Result<Part> {
        let gain = self.param(&format!("{name}.weight"), &[x.width])?;
        let bias = bias.then(|| self.param(&format!("{name}.bias"), &[x.width])).transpose()?;
        self.builder.norm(&self.name(name), x, kind, Some(gain), bias)
    }

    /// `name.weight` `[x.width, 1, taps]` and, if `bias`, `name.bias`.
    fn causal_conv(&mut self, name: &str, x: Part, taps: usize, bias: bool) -> Result<Part> {
        let weight = self.param(&format!("{name}.weight"), &[x.width, 1, taps])?;
        let bias = bias.then(|| self.param(&format!("{name}.bias"), &[x.width])).transpose()?;
        self.builder.conv(&self.name(name), x, (weight, bias), (taps.saturating_sub(1), 0))
    }

    fn shift(&mut self, name: &str, x: Part) -> Result<Part> {
        self.builder.shift(&self.name(name), x)
    }

    fn map(&mut self, name: &str, expr: Expr, operands: &[Operand]) -> Result<Part> {
        self.builder.map(&self.name(name), expr, operands)
    }

    /// a + b
    fn add(&mut self, name: &str, a: Part, b: Part) -> Result<Part> {
        self.map(name, Expr::input(0) + Expr::input(1), &[a.into(), b.into()])
    }

    /// a · b
    fn multiply(&mut self, name: &str, a: Part, b: Part) -> Result<Part> {
        self.map(name, Expr::input(0) * Expr::input(1), &[a.into(), b.into()])
    }

    /// x + (shifted − x) · m, m `[1, 1, x.width]`: RWKV's token shift, versions 6 and 7.
    fn lerp(&mut self, name: &str, x: Part, shifted: Part, mix: &str) -> Result<Part> {
        let m = self.operand(mix, &[1, 1, x.width])?;
        self.lerp_by(name, x, shifted, m)
    }

    /// The same by an operand.
    fn lerp_by(&mut self, name: &str, x: Part, shifted: Part, m: Operand) -> Result<Part> {
        let (x_, s, m_) = (|| Expr::input(0), Expr::input(1), Expr::input(2));
        self.map(name, x_() + (s - x_()) * m_, &[x.into(), shifted.into(), m])
    }

    /// max(x, 0)²
    fn squared_relu(&mut self, name: &str, x: Part) -> Result<Part> {
        let x_ = || relu(Expr::input(0));
        self.map(name, x_() * x_(), &[x.into()])
    }

    /// σ(gate) · x
    fn gated(&mut self, name: &str, gate: Part, x: Part) -> Result<Part> {
        self.map(name, sigmoid(Expr::input(0)) * Expr::input(1), &[gate.into(), x.into()])
    }
}
