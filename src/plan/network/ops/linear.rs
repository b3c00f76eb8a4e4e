//! Products, forward and back: in registers, or on GPUs through workgroup memory too, with the same bits.

use super::Dispatches;
use crate::model::network::{Linear, ParamId, Part};
use crate::plan::DeviceClass;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const ROWS: &str = include_str!("../../../../shaders/network/linear_rows.wgsl");
const WEIGHT: &str = include_str!("../../../../shaders/network/linear_weight.wgsl");
const TILE: &str = include_str!("../../../../shaders/network/linear_tile.wgsl");

/// Rows and columns of a workgroup's tile, as `TILE` of `linear_tile.wgsl`, and its lanes.
const SIDE: usize = 64;
/// Fewer rows leave most of a tile idle.
const FEW: usize = 16;

/// A product as `linear_tile` takes it.
struct Tiles {
    /// What it sums over, as `SUM` of the kernel.
    sum: usize,
    /// Rows and columns.
    result: [usize; 2],
    /// Terms of a sum, all blocks together.
    depth: usize,
    /// How many, and how much of the depth each sums.
    blocks: (usize, usize),
    /// Of the left operand, the right one and the result.
    strides: [usize; 3],
}

impl Dispatches for Linear {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.linear(n, self.x, self.weight, self.bias);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.linear_backward(n, self.x, self.weight, self.bias);
    }
}

impl Build<'_> {
    fn tiled(&self, rows: usize) -> bool {
        let rows = self.nominal_rows().unwrap_or(rows);
        self.plan.options.kernels.unwrap_or(self.plan.caps.class) == DeviceClass::Gpu && rows >= FEW
    }

    fn linear(&mut self, n: usize, x: Part, weight: ParamId, bias: Option<ParamId>) {
        let (rows, out, stride) = (self.rows(), self.width(self.plan.network.nodes[n].value), self.width(x.value));
        let kernel = if self.tiled(rows) {
            let blocks = (1, x.width);
            tiles(&Tiles { sum: 0, result: [rows, out], depth: x.width, blocks, strides: [stride, x.width, out] })
        } else {
            let kernel = row_kernel("network.linear", [rows, out], x.width, false);
            kernel.size("X_STRIDE", stride).size("Y_STRIDE", out).size("W_COLUMN", x.width).size("W_DEPTH", 1)
        };
        let kernel = kernel
            .flag("BIAS", bias.is_some())
            .word("x", self.part(x))
            .word("w", self.param(Some(weight)))
            .word("bias", self.param(bias))
            .word("y", self.made(n));
        self.push(kernel);
    }

    fn linear_backward(&mut self, n: usize, x: Part, weight: ParamId, bias: Option<ParamId>) {
        let (rows, out, stride) = (self.rows(), self.width(self.plan.network.nodes[n].value), self.width(x.value));
        let kernel = if self.tiled(rows) {
            let blocks = (1, out);
            tiles(&Tiles { sum: 1, result: [rows, x.width], depth: out, blocks, strides: [out, x.width, stride] })
        } else {
            let kernel = row_kernel("network.linear_backward", [rows, x.width], out, true);
            kernel.size("X_STRIDE", out).size("Y_STRIDE", stride).size("W_COLUMN", 1).size("W_DEPTH", x.width)
        };
        let kernel = kernel
            .flag("BIAS", false)
            .word("x", self.d_made(n))
            .word("w", self.param(Some(weight)))
            .without("bias")
            .word("y", self.gradient(x));
        self.push(kernel);
        self.linear_weight(n, x, weight);
        self.fold_bias(n, bias);
    }

    fn linear_weight(&mut self, n: usize, x: Part, weight: ParamId) {
        let (rows, out, stride) = (self.rows(), self.width(self.plan.network.nodes[n].value), self.width(x.value));
        let weights = out * x.width;
        let (blocks, block) = self.blocks(weights);
        let partial = self.take(blocks * weights);
        let kernel = if self.tiled(rows) {
            let (result, strides) = ([out, x.width], [out, stride, x.width]);
            let kernel = tiles(&Tiles { sum: 2, result, depth: rows, blocks: (blocks, block), strides });
            let kernel = kernel.flag("BIAS", false).without("bias");
            kernel.word("x", self.d_made(n)).word("w", self.part(x)).word("y", partial)
        } else {
            Kernel::new("network.linear_weight", &[WEIGHT], blocks * out.div_ceil(4) * x.width.div_ceil(4))
                .size("IN", x.width)
                .size("OUT", out)
                .rounds(block)
                .size("X_STRIDE", stride)
                .word("rows", rows)
                .word("block", block)
                .word("x", self.part(x))
                .word("dy", self.d_made(n))
                .word("to", partial)
        };
        self.push(kernel);
        let to = self.d_param(weight);
        self.fold_blocks(partial, blocks, weights, to);
    }
}

/// A kernel of `linear_rows`, but for its strides and places.
fn row_kernel(name: &'static str, [rows, columns]: [usize; 2], depth: usize, back: bool) -> Kernel {
    Kernel::new(name, &[ROWS], rows.div_ceil(4) * columns.div_ceil(4))
        .flag("BACK", back)
        .size("COLUMNS", columns)
        .size("DEPTH", depth)
        .rounds(depth)
        .word("rows", rows)
}

/// A kernel of `linear_tile`, but for its places.
fn tiles(t: &Tiles) -> Kernel {
    let count = t.blocks.0 * t.result[0].div_ceil(SIDE) * t.result[1].div_ceil(SIDE);
    Kernel::new("network.linear_tile", &[TILE], count * SIDE)
        .size("SUM", t.sum)
        // A loop over tiles of the depth, and one over a tile's own.
        .rounds(2 * t.blocks.1)
        .size("COLUMNS", t.result[1])
        .size("X_STRIDE", t.strides[0])
        .size("W_STRIDE", t.strides[1])
        .size("Y_STRIDE", t.strides[2])
        .word("high", t.result[0])
        .word("depth", t.depth)
        .word("blocks", t.blocks.0)
        .word("block", t.blocks.1)
}
