//! Stacks of recurrent layers: plans of their own, which run between the network's dispatches.

use super::Dispatches;
use crate::model::network::LayersShape;
use crate::plan::network::fold::Given;
use crate::plan::network::program::Build;

impl Dispatches for LayersShape {
    fn forward(&self, _: usize, build: &mut Build<'_>) {
        build.run_stack(0);
    }

    /// The gradient of x, which the stack gives, onto that of its value.
    fn backward(&self, _: usize, build: &mut Build<'_>) {
        let rows = build.rows();
        let dx = build.take(rows * self.x.width);
        build.run_stack(dx);
        let given = Given { at: dx, rows, first: 0, reverse: false, each: 1, padded: false };
        build.fold(&self.x.into(), given);
    }
}
