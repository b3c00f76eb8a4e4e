//! How far a value is from what it should have been.

use super::Dispatches;
use crate::model::network::Compared;
use crate::model::stack::Loss;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const LOSS: &str = include_str!("../../../../shaders/network/loss.wgsl");
const FORWARD: &str = include_str!("../../../../shaders/network/loss_forward.wgsl");
const BACKWARD: &str = include_str!("../../../../shaders/network/loss_backward.wgsl");

impl Dispatches for Compared {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.loss_kernel(self, "network.loss", FORWARD);
        build.push(kernel.word("y", build.made(n)));
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.loss_kernel(self, "network.loss_backward", BACKWARD);
        build.push(kernel.word("dy", build.d_made(n)).word("dx", build.gradient(self.x)));
    }
}

impl Build<'_> {
    fn loss_kernel(&self, of: &Compared, name: &'static str, body: &'static str) -> Kernel {
        Kernel::new(name, &[LOSS, body], self.rows())
            .flag("CLASSES", of.loss == Loss::CrossEntropy)
            .flag("WEIGHTS", of.weights.is_some())
            .size("WIDTH", of.x.width)
            .size("X_STRIDE", self.width(of.x.value))
            .size("TARGET_STRIDE", self.width(of.targets.value))
            .size("WEIGHT_STRIDE", of.weights.map_or(0, |w| self.width(w.value)))
            .rounds(3 * of.x.width)
            .word("x", self.part(of.x))
            .word("targets", self.part(of.targets))
            .word("weights", of.weights.map(|w| self.part(w)))
    }
}
