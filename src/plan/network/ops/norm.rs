//! Norms over groups of columns.

use super::Dispatches;
use crate::model::network::{Norm, Normalise};
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const NORM: &str = include_str!("../../../../shaders/network/norm_statistics.wgsl");
const NORM_FORWARD: &str = include_str!("../../../../shaders/network/norm_forward.wgsl");
const NORM_BACKWARD: &str = include_str!("../../../../shaders/network/norm_backward.wgsl");

impl Dispatches for Normalise {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        let kernel = build.norm_kernel(self, n, "network.norm", NORM_FORWARD);
        build.push(kernel);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let contributions = self.gain.map(|_| build.take(build.rows() * self.x.width));
        let kernel = build.norm_kernel(self, n, "network.norm_backward", NORM_BACKWARD);
        let kernel = kernel.word("dy", build.d_made(n)).word("dx", build.gradient(self.x));
        build.push(kernel.word("contributions", contributions));
        if let Some(contributions) = contributions {
            build.fold_columns(contributions, self.x.width, self.gain);
        }
        build.fold_bias(n, self.bias);
    }
}

impl Build<'_> {
    fn norm_kernel(&self, of: &Normalise, n: usize, name: &'static str, body: &'static str) -> Kernel {
        let Normalise { x, kind, groups, epsilon, gain, bias } = of;
        Kernel::new(name, &[NORM, body], self.rows() * groups)
            .size("RMS", 0)
            .size("LAYER", 1)
            .size("L2", 2)
            .size(
                "KIND",
                match kind {
                    Norm::Rms => 0,
                    Norm::Layer => 1,
                    Norm::L2 => 2,
                },
            )
            .float("EPSILON", *epsilon)
            .size("GROUPS", *groups)
            .size("SIZE", x.width / groups)
            .rounds(4 * x.width / groups)
            .size("X_STRIDE", self.width(x.value))
            .flag("GAIN", gain.is_some())
            .flag("BIAS", bias.is_some())
            .offer("x", self.part(*x))
            .offer("gain", self.param(*gain))
            .offer("bias", self.param(*bias))
            .offer("y", self.made(n))
    }
}
