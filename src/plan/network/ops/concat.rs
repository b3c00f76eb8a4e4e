//! Parts side by side.

use super::Dispatches;
use crate::model::network::{Concat, Part};
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const CONCAT: &str = include_str!("../../../../shaders/network/concat.wgsl");

impl Dispatches for Concat {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.concat(n, &self.parts, false);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.concat(n, &self.parts, true);
    }
}

impl Build<'_> {
    fn concat(&mut self, n: usize, parts: &[Part], back: bool) {
        let width = self.width(self.plan.network.nodes[n].value);
        let mut y = if back { self.d_made(n) } else { self.made(n) };
        for &part in parts {
            let kernel = Kernel::new("network.concat", &[CONCAT], self.rows() * part.width)
                .size("PART", part.width)
                .size("X_STRIDE", self.width(part.value))
                .size("WIDTH", width)
                .flag("BACK", back)
                .word("x", if back { self.gradient(part) } else { self.part(part) })
                .word("y", y);
            self.push(kernel);
            y += part.width;
        }
    }
}
