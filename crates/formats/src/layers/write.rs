//! Trained layers back into the tensors that they came from: the other way from [`super::Layer`]'s reading.

use super::{Layer, Pieces};
use crate::tensors::Rewrite;
use std::collections::BTreeMap;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::{Weights, parameters};
use wgpu_rnn::{Error, Result, RnnConfig, View};

/// The values of a layer's parameters by PyTorch's names behind its prefix.
type Values = BTreeMap<String, Vec<f64>>;

impl Rewrite<'_> {
    /// New values for a layer, or a stack, of the file: under the names of its tool, a tensor per gate and transposed where that tool has
    /// them so. `config` and `weights` are what [`Layer::read`] gave, trained.
    ///
    /// - Where a tool has one bias of a gate that this crate has two of (r and z of a GRU in MLX, equinox and Flax's linen), the gate
    ///   depends on their sum alone, and the sum is written, rounded once. Read again, it is b_w, and b_r is 0.
    /// - Of weight-normalised matrices, v is the new weight and g the length of each of its rows (or of all of it, where g is one number). A
    ///   row of zeros has g = 0 and a v of ones. Read again, g · v / ‖v‖ is the weight up to a rounding.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a layer of another file, for a configuration whose parameters are not the layer's, for weights that are
    /// not those of `config`, and for a bias that the tool has no place for; and as [`Rewrite::tensor`].
    pub fn layer<T: Real>(&mut self, layer: &Layer<'_>, config: &RnnConfig, weights: &Weights<T>) -> Result<()> {
        if !std::ptr::eq(layer.weights.file(), self.file()) {
            let of = |path: &std::path::Path| path.display().to_string();
            let got = format!("one of {}", of(layer.weights.file().path()));
            return Err(Error::mismatch("layer", format!("one of {}", of(self.file().path())), got));
        }
        weights.validate(config)?;
        let shapes = |config: &RnnConfig| parameters(config).into_iter().map(|p| (p.name, p.shape)).collect::<Vec<_>>();
        let own = layer.config(Some(config.cell))?;
        if shapes(&own) != shapes(config) {
            let what = format!("{}: layer {:?}", self.file().path().display(), layer.name());
            return Err(Error::mismatch(what, super::Summary(&own), super::Summary(config)));
        }
        let name = |parameter: &str| format!("{}{parameter}", layer.prefix);
        let mut values: Values = weights
            .named(config)
            .map(|(p, values)| (name(&p.name), values.iter().map(|v| v.to_f64()).collect()))
            .collect();
        for end in ["l0", "l0_reverse"] {
            layer.summed(&mut values, [&name(&format!("bias_ih_{end}")), &name(&format!("bias_hh_{end}"))])?;
        }
        for (name, values) in &values {
            let pieces = layer.parameters.get(name);
            let pieces = pieces.ok_or_else(|| layer.mismatch(name, "a tensor of the file", "none"))?;
            for (piece, values) in pieces.split(values) {
                for (tensor, values) in layer.weights.split(piece, &values) {
                    // As many as the file has: what it was read from.
                    let shape = self.file().shape(&tensor).unwrap_or_default().to_vec();
                    self.tensor(&tensor, View::new(&values, &shape))?;
                }
            }
        }
        Ok(())
    }
}

impl Layer<'_> {
    /// Puts b_r of gates that have no tensor of their own for it to b_w.
    fn summed(&self, values: &mut Values, [input, recurrent]: [&str; 2]) -> Result<()> {
        let Some(pieces) = self.parameters.get(recurrent).filter(|pieces| pieces.of.contains(&None)) else {
            return Ok(());
        };
        let Some(mut bias) = values.remove(recurrent) else { return Ok(()) };
        let rows = bias.len() / pieces.of.len();
        for (gate, moved) in bias.chunks_mut(rows).enumerate().filter(|(gate, _)| pieces.of[*gate].is_none()) {
            let to = values.get_mut(input).and_then(|input| input.get_mut(gate * rows..(gate + 1) * rows));
            let to =
                to.ok_or_else(|| self.mismatch(recurrent, "zeros, for the tool has no bias of this gate", "others"))?;
            for (to, moved) in to.iter_mut().zip(moved).filter(|(_, moved)| **moved != 0.0) {
                *to += std::mem::take(moved);
            }
        }
        values.insert(recurrent.to_string(), bias);
        Ok(())
    }

    fn mismatch(&self, name: &str, expected: &str, got: &str) -> Error {
        Error::mismatch(format!("{}: {name}", self.weights.file().path().display()), expected, got)
    }
}

impl Pieces {
    /// The weights that a parameter's values are, by their names, each the way round that the file has it.
    fn split<'a>(&'a self, values: &'a [f64]) -> impl Iterator<Item = (&'a str, Vec<f64>)> {
        let parts = values.chunks((values.len() / self.of.len().max(1)).max(1));
        self.of.iter().zip(parts).filter_map(|(piece, part)| {
            let columns = self.shape.get(1).copied().unwrap_or(1);
            let values = match self.transposed {
                true => (0..columns).flat_map(|c| part.iter().skip(c).step_by(columns).copied()).collect(),
                false => part.to_vec(),
            };
            Some((piece.as_deref()?, values))
        })
    }
}
