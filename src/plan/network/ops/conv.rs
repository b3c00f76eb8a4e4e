//! Depthwise convolutions over time, and the shift by one step, which is one with a single tap of 1.

use super::Dispatches;
use crate::model::network::{Conv, ParamId, Part, Shift};
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const CONV: &str = include_str!("../../../../shaders/network/conv.wgsl");
const CONV_FORWARD: &str = include_str!("../../../../shaders/network/conv_forward.wgsl");
const CONV_STATE: &str = include_str!("../../../../shaders/network/conv_state.wgsl");
const CONV_BACKWARD: &str = include_str!("../../../../shaders/network/conv_backward.wgsl");
const CONV_STATE_BACKWARD: &str = include_str!("../../../../shaders/network/conv_state_backward.wgsl");
const CONV_WEIGHT: &str = include_str!("../../../../shaders/network/conv_weight.wgsl");

/// What the kernels go by.
struct Taps {
    x: Part,
    /// `None`: a tap of 1 at the step before.
    weight: Option<ParamId>,
    bias: Option<ParamId>,
    low: usize,
    taps: usize,
    /// Whether it reads no step to come, so that its last inputs are a state.
    carries: bool,
}

impl From<&Conv> for Taps {
    fn from(of: &Conv) -> Self {
        let Conv { x, weight, bias, low, high } = *of;
        Self { x, weight: Some(weight), bias, low, taps: low + 1 + high, carries: high == 0 }
    }
}

impl From<&Shift> for Taps {
    fn from(of: &Shift) -> Self {
        Self { x: of.x, weight: None, bias: None, low: 1, taps: 1, carries: true }
    }
}

impl Dispatches for Conv {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.conv(&self.into(), n);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.conv_backward(&self.into(), n);
    }
}

impl Dispatches for Shift {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.conv(&self.into(), n);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.conv_backward(&self.into(), n);
    }
}

impl Build<'_> {
    /// A kernel of a convolution or a shift; `items` per column.
    fn conv_kernel(&self, of: &Taps, n: usize, name: &'static str, body: &'static str, items: usize) -> Kernel {
        let Taps { x, weight, bias, low, taps, carries } = *of;
        let state = self.plan.states.iter().find(|s| s.node == n);
        let slot = |slot: Option<usize>| self.slot(slot);
        Kernel::new(name, &[CONV, body], items * x.width)
            .rounds(taps * (1 + taps))
            .flag("SHIFT", weight.is_none())
            .flag("STATEFUL", carries && low > 0)
            .flag("BIAS", bias.is_some())
            .size("WIDTH", x.width)
            .size("LOW", low)
            .size("TAPS", taps)
            .size("X_STRIDE", self.width(x.value))
            .offer("x", self.part(x))
            .offer("w", self.param(weight))
            .offer("bias", self.param(bias))
            .offer("y", self.made(n))
            .offer("initial", slot(state.map(|s| s.initial)))
            .offer("last", slot(state.map(|s| s.last)))
            .offer("d_initial", slot(state.and_then(|s| s.d_initial)))
            .offer("d_last", slot(state.and_then(|s| s.d_last)))
    }

    /// Places of a sequence's state.
    fn conv_places(&self, n: usize) -> usize {
        let width = self.width(self.plan.network.nodes[n].value);
        self.plan.states.iter().find(|s| s.node == n).map_or(0, |s| s.size / width)
    }

    fn conv(&mut self, of: &Taps, n: usize) {
        let kernel = self.conv_kernel(of, n, "network.conv", CONV_FORWARD, self.rows());
        self.push(kernel);
        let places = self.conv_places(n);
        if places > 0 {
            let items = self.plan.shape.batch * places;
            let kernel = self.conv_kernel(of, n, "network.conv_state", CONV_STATE, items);
            self.push(kernel);
        }
    }

    fn conv_backward(&mut self, of: &Taps, n: usize) {
        let (dy, rows) = (self.d_made(n), self.rows());
        let Taps { x, weight, bias, taps, .. } = *of;
        let kernel = self.conv_kernel(of, n, "network.conv_backward", CONV_BACKWARD, rows);
        let kernel = kernel.word("dy", dy).word("dx", self.gradient(x));
        self.push(kernel);
        let places = self.conv_places(n);
        if places > 0 {
            let items = self.plan.shape.batch * places;
            let kernel = self.conv_kernel(of, n, "network.conv_state_backward", CONV_STATE_BACKWARD, items);
            self.push(kernel.word("dy", dy));
        }
        let Some(weight) = weight else { return };
        let weights = x.width * taps;
        let (blocks, block) = self.blocks(weights);
        let partial = self.take(blocks * weights);
        let kernel = self.conv_kernel(of, n, "network.conv_weight", CONV_WEIGHT, blocks * taps);
        let kernel = kernel.word("dy", dy).word("rows", rows).word("block", block).word("to", partial);
        let kernel = kernel.rounds(block * (1 + taps));
        self.push(kernel);
        let to = self.d_param(weight);
        self.fold_blocks(partial, blocks, weights, to);
        self.fold_bias(n, bias);
    }
}
