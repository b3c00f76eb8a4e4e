//! Sums of groups of columns.

use super::Dispatches;
use crate::model::network::Sum;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const SUM_FORWARD: &str = include_str!("../../../../shaders/network/sum_forward.wgsl");
const SUM_BACKWARD: &str = include_str!("../../../../shaders/network/sum_backward.wgsl");

impl Dispatches for Sum {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.sum_kernel(self, "network.sum", SUM_FORWARD, self.groups);
        build.push(kernel.word("x", build.part(self.x)).word("y", build.made(n)));
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.sum_kernel(self, "network.sum_backward", SUM_BACKWARD, self.x.width);
        build.push(kernel.word("dy", build.d_made(n)).word("dx", build.gradient(self.x)));
    }
}

impl Build<'_> {
    fn sum_kernel(&self, of: &Sum, name: &'static str, body: &'static str, items: usize) -> Kernel {
        Kernel::new(name, &[body], self.rows() * items)
            .size("GROUPS", of.groups)
            .size("SIZE", of.x.width / of.groups)
            .rounds(of.x.width / of.groups)
            .size("X_STRIDE", self.width(of.x.value))
    }
}
