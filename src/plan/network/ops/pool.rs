//! One row per sequence of the rows of its steps.

use super::Dispatches;
use crate::model::network::{Pool, Pooling};
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const POOL: &str = include_str!("../../../../shaders/network/pool.wgsl");
const FORWARD: &str = include_str!("../../../../shaders/network/pool_forward.wgsl");
const BACKWARD: &str = include_str!("../../../../shaders/network/pool_backward.wgsl");

impl Dispatches for Pool {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.pool_kernel(self, "network.pool", FORWARD);
        build.push(kernel.word("y", build.made(n)));
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.pool_kernel(self, "network.pool_backward", BACKWARD);
        build.push(kernel.word("dy", build.d_made(n)).word("dx", build.gradient(self.x)));
    }
}

impl Build<'_> {
    fn pool_kernel(&self, of: &Pool, name: &'static str, body: &'static str) -> Kernel {
        // Only maxima look for their step again on the way back.
        let kind = match of.kind {
            Pooling::Last => 0,
            Pooling::First => 1,
            Pooling::Mean => 2,
            Pooling::Max => 3,
        };
        Kernel::new(name, &[POOL, body], self.plan.shape.batch * of.x.width)
            .size("KIND", kind)
            .size("WIDTH", of.x.width)
            .size("X_STRIDE", self.width(of.x.value))
            .rounds(if kind < 2 { 0 } else { 2 * self.plan.shape.time })
            .offer("x", self.part(of.x))
    }
}
