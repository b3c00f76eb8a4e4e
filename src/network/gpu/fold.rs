//! Adding up what several lanes give one gradient.

use super::super::{Operand, Source};
use super::kernel::Kernel;
use super::program::Build;
use super::text::{Route, Share};

const FOLD: &str = include_str!("../../../shaders/network/fold.wgsl");

/// Rows that one lane adds up for a parameter; longer sums are made of blocks.
const BLOCK: usize = 128;

/// Where contributions are, and of which rows.
#[derive(Clone, Copy)]
pub(super) struct Given {
    /// Offset.
    pub at: usize,
    /// How many.
    pub rows: usize,
    /// The step of the first.
    pub first: usize,
    /// Steps are counted from each sequence's end.
    pub reverse: bool,
    /// Neighbouring contributions to a column of the operand.
    pub each: usize,
    /// Whether rows past a sequence's end hold nothing.
    pub padded: bool,
}

impl Build<'_> {
    /// Adds contributions to the gradient of what the operand reads.
    pub fn fold(&mut self, operand: &Operand, given: Given) {
        match operand.source {
            Source::Value(part) => {
                let (to, stride) = (self.gradient(part), self.width(part.value));
                let kernel = fold_kernel(operand, given, given.rows).word("scatter", 1).word("add", 1).word("block", 1);
                self.push(kernel.word("to", to).word("stride", stride));
            }
            Source::Param { param, first, .. } => {
                let to = self.d_param(param) + first;
                self.fold_rows(operand, given, to);
            }
        }
    }

    /// Adds contributions of all rows to `to`.
    fn fold_rows(&mut self, operand: &Operand, given: Given, to: usize) {
        let (width, mask) = (operand.source_width(), usize::from(given.padded));
        if given.rows <= 2 * BLOCK {
            let kernel = fold_kernel(operand, given, 1).word("mask", mask).word("add", 1).word("block", given.rows);
            return self.push(kernel.word("to", to));
        }
        let blocks = given.rows.div_ceil(BLOCK);
        let partial = self.take(blocks * width);
        let kernel = fold_kernel(operand, given, blocks).word("mask", mask).word("block", BLOCK);
        self.push(kernel.word("to", partial).word("stride", width));
        self.fold_blocks(partial, blocks, width, to);
    }

    /// Adds up blocks `[blocks, width]` to `to`.
    pub fn fold_blocks(&mut self, at: usize, blocks: usize, width: usize, to: usize) {
        let operand = Operand { source: Source::Param { param: 0, first: 0, width }, inner: width, repeat: 1 };
        let given = Given { at, rows: blocks, first: 0, reverse: false, each: 1, padded: false };
        self.push(fold_kernel(&operand, given, 1).word("add", 1).word("block", blocks).word("to", to));
    }

    /// Folds what [`Build::share`] left to fold: of every row, or sums of blocks.
    pub fn fold_share(&mut self, operand: &Operand, share: &Share, given: Given, blocks: usize) {
        let given = Given { at: share.at, ..given };
        match share.route {
            Route::Direct { .. } => {}
            Route::Rows => self.fold(operand, given),
            Route::Sums => self.fold(operand, Given { rows: blocks, first: 0, padded: false, ..given }),
        }
    }
}

/// One row of results per block; words left out are 0.
fn fold_kernel(operand: &Operand, given: Given, blocks: usize) -> Kernel {
    Kernel::new("network.fold", &[FOLD], blocks * operand.source_width())
        .word("width", operand.source_width())
        .word("inner", operand.inner)
        .word("repeat", operand.repeat)
        .word("each", given.each)
        .word("reverse", usize::from(given.reverse))
        .word("source", given.at)
        .word("rows", given.rows)
        .word("first", given.first)
}
