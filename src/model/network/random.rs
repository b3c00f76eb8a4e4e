//! Parameters to begin training with.

use super::{NetworkData, Op};
use crate::error::Result;
use crate::model::weights::Weights;
use crate::num::Real;
use rand::{RngExt, SeedableRng};

impl NetworkData {
    /// All parameters, one after the other as [`crate::network::NetworkSession::new`] takes them, drawn as PyTorch's layers draw theirs:
    /// stacks as [`Weights::random`]; matrices and biases of `linear` uniform in ±1/√in, those of `conv` in ±1/√taps; gains of norms 1 and
    /// their biases 0; tables of embeddings uniform in ±1; every other parameter uniform in ±1/√(its last dimension). A seed and a
    /// network always give the same numbers.
    ///
    /// # Errors
    /// Errors of [`Weights::random`].
    pub fn random<T: Real>(&self, seed: u64) -> Result<Vec<T>> {
        let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(seed);
        let last = |p: usize| self.params[p].shape.last().copied().unwrap_or(1);
        // Of every parameter the bound, or the one number that all of it is.
        let mut bounds: Vec<(f64, Option<f64>)> =
            (0..self.params.len()).map(|p| ((last(p) as f64).sqrt().recip(), None)).collect();
        for node in &self.nodes {
            match &node.op {
                Op::Linear(of) => {
                    let bound = (of.x.width as f64).sqrt().recip();
                    [Some(of.weight), of.bias].into_iter().flatten().for_each(|p| bounds[p] = (bound, None));
                }
                Op::Conv(of) => {
                    let bound = ((of.low + 1 + of.high) as f64).sqrt().recip();
                    [Some(of.weight), of.bias].into_iter().flatten().for_each(|p| bounds[p] = (bound, None));
                }
                Op::Norm(of) => {
                    of.gain.iter().for_each(|&p| bounds[p] = (0.0, Some(1.0)));
                    of.bias.iter().for_each(|&p| bounds[p] = (0.0, Some(0.0)));
                }
                Op::Embedding(of) => bounds[of.table] = (1.0, None),
                _ => {}
            }
        }
        let mut all: Vec<T> = Vec::with_capacity(self.parameter_count());
        for (p, &(bound, fixed)) in self.params.iter().zip(&bounds) {
            all.extend((0..p.len()).map(|_| {
                let drawn: f64 = rng.random_range(-1.0..1.0) * bound;
                T::from_f64(fixed.unwrap_or(drawn))
            }));
        }
        for (n, node) in self.nodes.iter().enumerate() {
            if let Op::Layers(of) = &node.op {
                let first = self.param_offset(of.first);
                let weights = Weights::<T>::random(&of.config, seed.wrapping_add(n as u64))?.flat::<T>(&of.config);
                all[first..first + weights.len()].copy_from_slice(&weights);
            }
        }
        Ok(all)
    }
}
