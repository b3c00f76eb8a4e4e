//! Operations that work row by row, but for products, and convolutions.

use super::fold::Given;
use super::kernel::Kernel;
use super::program::{Build, Lanes};
use super::text::{reader, writers};
use crate::expr::Expr;
use crate::model::network::{Norm, Op, Operand, ParamId, Part, Source};
use std::fmt::Write as _;

const NORM: &str = include_str!("../../../shaders/network/norm_statistics.wgsl");
const NORM_FORWARD: &str = include_str!("../../../shaders/network/norm_forward.wgsl");
const NORM_BACKWARD: &str = include_str!("../../../shaders/network/norm_backward.wgsl");
const CONV: &str = include_str!("../../../shaders/network/conv.wgsl");
const CONV_FORWARD: &str = include_str!("../../../shaders/network/conv_forward.wgsl");
const CONV_STATE: &str = include_str!("../../../shaders/network/conv_state.wgsl");
const CONV_BACKWARD: &str = include_str!("../../../shaders/network/conv_backward.wgsl");
const CONV_STATE_BACKWARD: &str = include_str!("../../../shaders/network/conv_state_backward.wgsl");
const CONV_WEIGHT: &str = include_str!("../../../shaders/network/conv_weight.wgsl");
const SUM_FORWARD: &str = include_str!("../../../shaders/network/sum_forward.wgsl");
const SUM_BACKWARD: &str = include_str!("../../../shaders/network/sum_backward.wgsl");
const CONCAT: &str = include_str!("../../../shaders/network/concat.wgsl");
const MAP_FORWARD: &str = include_str!("../../../shaders/network/map_forward.wgsl");
const MAP_BACKWARD: &str = include_str!("../../../shaders/network/map_backward.wgsl");

/// Weights whose gradients keep a GPU busy by themselves: of fewer, rows are cut into blocks.
const BUSY: usize = 1 << 20;

impl Build<'_> {
    /// Blocks of rows, and rows of one, for the gradient of a parameter of `len`.
    pub fn blocks(&self, len: usize) -> (usize, usize) {
        let blocks = self.rows().div_ceil(128).min((BUSY / len).max(1));
        let block = self.rows().div_ceil(blocks);
        (self.rows().div_ceil(block), block)
    }

    /// The gradient of a bias per column: the sum over rows of that of the operation's value.
    pub fn fold_bias(&mut self, n: usize, bias: Option<ParamId>) {
        let width = self.width(self.plan.network.nodes[n].value);
        self.fold_columns(self.d_made(n), width, bias);
    }

    fn fold_columns(&mut self, at: usize, width: usize, param: Option<ParamId>) {
        let Some(param) = param else { return };
        let operand = Operand { source: Source::Param { param, first: 0, width }, inner: width, repeat: 1 };
        let given = Given { at, rows: self.rows(), first: 0, reverse: false, each: 1, padded: true };
        self.fold(&operand, given);
    }

    fn norm_kernel(&self, n: usize, name: &'static str, body: &'static str) -> Kernel {
        let Op::Norm { x, kind, groups, epsilon, gain, bias } = &self.plan.network.nodes[n].op else {
            return Kernel::new(name, &[], 0);
        };
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

    pub fn norm(&mut self, n: usize) {
        let kernel = self.norm_kernel(n, "network.norm", NORM_FORWARD);
        self.push(kernel);
    }

    pub fn norm_backward(&mut self, n: usize) {
        let Op::Norm { x, gain, bias, .. } = self.plan.network.nodes[n].op else { return };
        let contributions = gain.map(|_| self.take(self.rows() * x.width));
        let kernel = self.norm_kernel(n, "network.norm_backward", NORM_BACKWARD);
        let kernel =
            kernel.word("dy", self.d_made(n)).word("dx", self.gradient(x)).word("contributions", contributions);
        self.push(kernel);
        if let Some(contributions) = contributions {
            self.fold_columns(contributions, x.width, gain);
        }
        self.fold_bias(n, bias);
    }

    fn sum_kernel(&self, name: &'static str, body: &'static str, (x, groups): (Part, usize), items: usize) -> Kernel {
        Kernel::new(name, &[body], self.rows() * items)
            .size("GROUPS", groups)
            .size("SIZE", x.width / groups)
            .rounds(x.width / groups)
            .size("X_STRIDE", self.width(x.value))
    }

    pub fn sum(&mut self, n: usize, x: Part, groups: usize) {
        let kernel = self.sum_kernel("network.sum", SUM_FORWARD, (x, groups), groups);
        let kernel = kernel.word("x", self.part(x)).word("y", self.made(n));
        self.push(kernel);
    }

    pub fn sum_backward(&mut self, n: usize, x: Part, groups: usize) {
        let kernel = self.sum_kernel("network.sum_backward", SUM_BACKWARD, (x, groups), x.width);
        let kernel = kernel.word("dy", self.d_made(n)).word("dx", self.gradient(x));
        self.push(kernel);
    }

    /// A kernel of a convolution or a shift; `items` per column.
    fn conv_kernel(&self, n: usize, name: &'static str, body: &'static str, items: usize) -> Kernel {
        let (x, weight, bias, [low, taps], stateful) = match self.plan.network.nodes[n].op {
            Op::Conv { x, weight, bias, low, high } => (x, Some(weight), bias, [low, low + 1 + high], high == 0),
            Op::Shift { x } => (x, None, None, [1, 1], true),
            _ => return Kernel::new(name, &[], 0),
        };
        let state = self.plan.states.iter().find(|s| s.node == n);
        let slot = |slot: Option<usize>| self.slot(slot);
        Kernel::new(name, &[CONV, body], items * x.width)
            .rounds(taps * (1 + taps))
            .flag("SHIFT", weight.is_none())
            .flag("STATEFUL", stateful && low > 0)
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

    pub fn conv(&mut self, n: usize) {
        let kernel = self.conv_kernel(n, "network.conv", CONV_FORWARD, self.rows());
        self.push(kernel);
        let places = self.conv_places(n);
        if places > 0 {
            let items = self.plan.shape.batch * places;
            let kernel = self.conv_kernel(n, "network.conv_state", CONV_STATE, items);
            self.push(kernel);
        }
    }

    pub fn conv_backward(&mut self, n: usize) {
        let (dy, rows) = (self.d_made(n), self.rows());
        let (x, params) = match self.plan.network.nodes[n].op {
            Op::Conv { x, weight, bias, low, high } => (x, Some((weight, bias, low + 1 + high))),
            Op::Shift { x } => (x, None),
            _ => return,
        };
        let kernel = self.conv_kernel(n, "network.conv_backward", CONV_BACKWARD, rows);
        let kernel = kernel.word("dy", dy).word("dx", self.gradient(x));
        self.push(kernel);
        let places = self.conv_places(n);
        if places > 0 {
            let items = self.plan.shape.batch * places;
            let kernel = self.conv_kernel(n, "network.conv_state_backward", CONV_STATE_BACKWARD, items);
            self.push(kernel.word("dy", dy));
        }
        let Some((weight, bias, taps)) = params else { return };
        let weights = x.width * taps;
        let (blocks, block) = self.blocks(weights);
        let partial = self.take(blocks * weights);
        let kernel = self.conv_kernel(n, "network.conv_weight", CONV_WEIGHT, blocks * taps);
        let kernel = kernel.word("dy", dy).word("rows", rows).word("block", block).word("to", partial);
        let kernel = kernel.rounds(block * (1 + taps));
        self.push(kernel);
        let to = self.d_param(weight);
        self.fold_blocks(partial, blocks, weights, to);
        self.fold_bias(n, bias);
    }

    fn readers(&self, operands: &[Operand]) -> String {
        operands.iter().enumerate().map(|(n, operand)| reader(&self.plan.network, n, operand)).collect()
    }

    pub fn concat(&mut self, n: usize, parts: &[Part], back: bool) {
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

    pub fn map(&mut self, n: usize, expr: &Expr, operands: &[Operand]) {
        let width = self.width(self.plan.network.nodes[n].value);
        let mut text = self.readers(operands);
        let value = expr.wgsl(&|n| format!("p{n}"));
        let lets = map_lets(operands, std::slice::from_ref(expr));
        let _ = writeln!(text, "fn value_of(row: u32, c: u32) -> f32 {{\n{lets}    return {value};\n}}");
        let kernel = Kernel::new("network.map", &[MAP_FORWARD], self.rows() * width).size("WIDTH", width);
        let kernel = self.with_operands(kernel.functions(&text), operands).word("y", self.made(n));
        self.push(kernel);
    }

    pub fn map_backward(&mut self, n: usize, expr: &Expr, operands: &[Operand]) {
        let (rows, width) = (self.rows(), self.width(self.plan.network.nodes[n].value));
        let slopes: Vec<Expr> = (0..operands.len()).map(|n| expr.derivative(n)).collect();
        let lanes = Lanes { each: 1, rows, blocks: None };
        let mut shares = Vec::new();
        for (n, slope) in slopes.iter().enumerate().filter(|(_, s)| **s != Expr::Constant(0.0)) {
            let value = format!("dy * {}", slope.wgsl(&|n| format!("p{n}")));
            shares.push(self.share(operands, n, value, &lanes));
        }
        let mut text = self.readers(operands);
        text += &writers(&shares, "c: u32, dy: f32", &map_lets(operands, &slopes), ("c", width), "false");
        let kernel = Kernel::new("network.map_backward", &[MAP_BACKWARD], rows * width).size("WIDTH", width);
        let mut kernel = self.with_operands(kernel.functions(&text), operands).word("dy", self.d_made(n));
        for share in &shares {
            kernel = kernel.word(format!("g{}", share.port), share.at);
        }
        self.push(kernel);
        for share in &shares {
            let given = Given { at: 0, rows, first: 0, reverse: false, each: 1, padded: true };
            self.fold_share(&operands[share.port], share, given, 0);
        }
    }
}

/// `let p<n> = …;` for the operands that any of the expressions uses.
fn map_lets(operands: &[Operand], expressions: &[Expr]) -> String {
    let used = |n: &usize| expressions.iter().any(|e| e.uses(*n));
    (0..operands.len()).filter(used).map(|n| format!("    let p{n} = port_{n}(row, c);\n")).collect()
}
