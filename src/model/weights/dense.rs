//! Block-diagonal R as the full matrix that it stands for.

use super::Weights;
use crate::error::Result;
use crate::model::recurrence::Recurrence;
use crate::model::stack::RnnConfig;
use crate::num::Real;

impl<T: Real> Weights<T> {
    /// The same network with [`Recurrence::Dense`]: its configuration, and weights whose R `[gates·H, K]` is 0 wherever a unit sees
    /// nothing. For what knows no heads, as ONNX; it takes n times the memory and work.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] if the weights are not those of `config`.
    pub fn to_dense(&self, config: &RnnConfig) -> Result<(RnnConfig, Self)> {
        self.validate(config)?;
        let (mut weights, width) = (self.clone(), config.state_size());
        let heads = config.recurrence.heads(width);
        let (units, depth) = (config.hidden_size / heads, width / heads);
        for layer in weights.layers.iter_mut().filter(|_| heads > 1) {
            let mut full = vec![T::default(); layer.r.len() * heads];
            for (row, (to, from)) in full.chunks_exact_mut(width).zip(layer.r.chunks_exact(depth)).enumerate() {
                to[row % config.hidden_size / units * depth..][..depth].copy_from_slice(from);
            }
            layer.r = full;
        }
        Ok((RnnConfig { recurrence: Recurrence::Dense, ..config.clone() }, weights))
    }
}
