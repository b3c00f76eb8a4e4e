//! Pointwise expressions.

use super::Dispatches;
use crate::expr::Expr;
use crate::model::network::{Map, Operand};
use crate::plan::network::fold::Given;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::{Build, Lanes};
use crate::plan::network::text::{reader, writers};
use std::fmt::Write as _;

const MAP_FORWARD: &str = include_str!("../../../../shaders/network/map_forward.wgsl");
const MAP_BACKWARD: &str = include_str!("../../../../shaders/network/map_backward.wgsl");

impl Dispatches for Map {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.map(n, &self.expr, &self.operands);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.map_backward(n, &self.expr, &self.operands);
    }
}

impl Build<'_> {
    fn readers(&self, operands: &[Operand]) -> String {
        operands.iter().enumerate().map(|(n, operand)| reader(&self.plan.network, n, operand)).collect()
    }

    fn map(&mut self, n: usize, expr: &Expr, operands: &[Operand]) {
        let width = self.width(self.plan.network.nodes[n].value);
        let mut text = self.readers(operands);
        let value = expr.wgsl(&|n| format!("p{n}"));
        let lets = map_lets(operands, std::slice::from_ref(expr));
        let _ = writeln!(text, "fn value_of(row: u32, c: u32) -> f32 {{\n{lets}    return {value};\n}}");
        let kernel = Kernel::new("network.map", &[MAP_FORWARD], self.rows() * width).size("WIDTH", width);
        let kernel = self.with_operands(kernel.functions(&text), operands).word("y", self.made(n));
        self.push(kernel);
    }

    fn map_backward(&mut self, n: usize, expr: &Expr, operands: &[Operand]) {
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
