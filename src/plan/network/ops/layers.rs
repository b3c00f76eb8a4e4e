//! Stacks of recurrent layers: plans of their own, which run between the network's dispatches.

use super::Dispatches;
use crate::model::network::LayersShape;
use crate::plan::network::fold::Given;
use crate::plan::network::program::Build;

impl Dispatches for LayersShape {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.call(n, 0);
    }

    /// The gradient of x, which the stack gives, onto that of its value.
    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let rows = build.rows();
        let dx = build.take(rows * self.x.width);
        build.call(n, dx);
        let given = Given { at: dx, rows, first: 0, reverse: false, each: 1, padded: false };
        build.fold(&self.x.into(), given);
    }
}
