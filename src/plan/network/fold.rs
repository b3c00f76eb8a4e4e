//! Adding up what several lanes give one gradient.

use super::kernel::Kernel;
use super::program::{Build, STRETCH};
use super::text::{Route, Share};
use crate::model::network::{Operand, ParamId, Source};

const FOLD: &str = include_str!("../../../shaders/network/fold.wgsl");

/// Rows that one lane adds up for a parameter; longer sums are made of blocks.
const BLOCK: usize = 128;
/// Blocks that one lane adds up at most.
const MOST: usize = 1 << 13;

/// Weights whose gradients keep a GPU busy by themselves: of fewer, rows are cut into blocks.
const BUSY: usize = 1 << 20;

/// Where contributions are, and of which rows.
#[derive(Clone, Copy)]
pub(in crate::plan::network) struct Given {
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

    /// The same for `[rows, width]` at a place of scratch.
    pub fn fold_columns(&mut self, at: usize, width: usize, param: Option<ParamId>) {
        let Some(param) = param else { return };
        let operand = Operand { source: Source::Param { param, first: 0, width }, inner: width, repeat: 1 };
        let given = Given { at, rows: self.rows(), first: 0, reverse: false, each: 1, padded: true };
        self.fold(&operand, given);
    }

    /// Adds contributions to the gradient of what the operand reads.
    pub fn fold(&mut self, operand: &Operand, given: Given) {
        match operand.source {
            Source::Value(part) => {
                let (to, stride) = (self.gradient(part), self.width(part.value));
                let sums = Sums { scatter: true, add: true, mask: false, to, stride: Some(stride) };
                self.push(fold_kernel(operand, given, (given.rows, 1), sums));
            }
            Source::Param { param, first, .. } => {
                let to = self.d_param(param) + first;
                self.fold_rows(operand, given, to);
            }
        }
    }

    /// Adds contributions of all rows to `to`.
    fn fold_rows(&mut self, operand: &Operand, given: Given, to: usize) {
        let (width, mask) = (operand.source_width(), given.padded);
        let block = (STRETCH / 2 / rounds(operand, given)).clamp(1, BLOCK);
        if given.rows <= 2 * block {
            let sums = Sums { scatter: false, add: true, mask, to, stride: None };
            return self.push(fold_kernel(operand, given, (1, given.rows), sums));
        }
        let blocks = given.rows.div_ceil(block);
        let partial = self.take(blocks * width);
        let sums = Sums { scatter: false, add: false, mask, to: partial, stride: Some(width) };
        self.push(fold_kernel(operand, given, (blocks, block), sums));
        self.fold_blocks(partial, blocks, width, to);
    }

    /// Adds up blocks `[blocks, width]` to `to`.
    pub fn fold_blocks(&mut self, at: usize, blocks: usize, width: usize, to: usize) {
        let operand = Operand { source: Source::Param { param: 0, first: 0, width }, inner: width, repeat: 1 };
        let given = Given { at, rows: blocks, first: 0, reverse: false, each: 1, padded: false };
        if blocks > MOST {
            // Blocks of blocks first.
            let fewer = blocks.div_ceil(BLOCK);
            let partial = self.take(fewer * width);
            let sums = Sums { scatter: false, add: false, mask: false, to: partial, stride: Some(width) };
            self.push(fold_kernel(&operand, given, (fewer, BLOCK), sums));
            return self.fold_blocks(partial, fewer, width, to);
        }
        let sums = Sums { scatter: false, add: true, mask: false, to, stride: None };
        self.push(fold_kernel(&operand, given, (1, blocks), sums));
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

/// Where sums go.
#[derive(Clone, Copy)]
struct Sums {
    /// Every row of contributions has its own row of sums, a step of a sequence.
    scatter: bool,
    /// Onto what is there.
    add: bool,
    /// Rows past a sequence's end hold nothing.
    mask: bool,
    /// Offset.
    to: usize,
    /// Between two rows of sums, where there are several.
    stride: Option<usize>,
}

/// One row of results per block of so many rows.
fn fold_kernel(operand: &Operand, given: Given, (blocks, block): (usize, usize), sums: Sums) -> Kernel {
    Kernel::new("network.fold", &[FOLD], blocks * operand.source_width())
        .word("width", operand.source_width())
        .word("inner", operand.inner)
        .word("repeat", operand.repeat)
        .word("each", given.each)
        .word("reverse", usize::from(given.reverse))
        .word("source", given.at)
        .word("rows", given.rows)
        .word("first", given.first)
        .word("block", block)
        .word("scatter", usize::from(sums.scatter))
        .word("add", usize::from(sums.add))
        .word("mask", usize::from(sums.mask))
        .word("to", sums.to)
        .word("stride", sums.stride)
        .rounds(block * rounds(operand, given))
}

/// Rounds of loops of a row.
fn rounds(operand: &Operand, given: Given) -> usize {
    3 + operand.repeat * (2 + given.each)
}
