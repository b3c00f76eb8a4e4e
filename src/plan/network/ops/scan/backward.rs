//! Scans, on the way back.

use super::products::GIVE;
use super::{Pass, side_by_side, step_rounds};
use crate::expr::Expr;
use crate::model::network::ScanShape;
use crate::model::rule::{Divisor, Extent};
use crate::plan::network::Parallel;
use crate::plan::network::fold::Given;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::{Build, Lanes};
use crate::plan::network::text::{RuleText, Share, sums, writers};

const COLUMNS: &str = concat!(
    include_str!("../../../../../shaders/network/scan_place.wgsl"),
    include_str!("../../../../../shaders/network/scan_columns.wgsl")
);
const ROWS: &str = include_str!("../../../../../shaders/network/scan_rows.wgsl");
const DIVIDE_BACKWARD: &str = include_str!("../../../../../shaders/network/scan_divide_backward.wgsl");

/// Columns of a state that a lane of `scan_rows` keeps in registers at a time, twice.
const COLUMNS_AT_ONCE: usize = 32;

/// Scratch of a scan's way back.
struct Scratch {
    /// The gradient of y, or of the sums before the division `[T·B, heads, columns]`.
    dy: usize,
    /// g of every step `[T·B, heads, columns]`, of rules with a correction.
    g: Option<usize>,
    /// Λ after every chunk, as the checkpoints.
    boundaries: usize,
}

impl Build<'_> {
    pub(super) fn scan_backward(&mut self, n: usize, shape: &ScanShape) {
        let (rows, columns) = (self.rows(), shape.heads * shape.columns());
        let dy = match shape.divisor() {
            None => self.d_made(n),
            Some(divisor) => self.divide_backward(n, shape, divisor),
        };
        let g = shape.form().erase.as_ref().map(|_| self.take(rows * columns));
        let states = self.plan.chunks(shape) * self.plan.shape.batch * columns * shape.key_size;
        let scratch = Scratch { dy, g, boundaries: self.take(states) };
        match self.plan.parallel {
            Parallel::Recurrent => self.columns_pass(n, shape, Pass::Whole, &scratch),
            _ if self.plan.products(shape) => self.columns_products(n, shape, &scratch),
            Parallel::Chunked | Parallel::Products => self.columns_chunked(n, shape, &scratch),
        }
        self.rows_passes(n, shape, &scratch);
    }

    /// The gradient of the sums, from that of y.
    fn divide_backward(&mut self, n: usize, shape: &ScanShape, divisor: Divisor) -> usize {
        let d_sums = self.take(self.rows() * shape.heads * shape.columns());
        let items = self.rows() * shape.heads;
        let kernel = self.scan_kernel(n, shape, ("network.scan_divide_backward", DIVIDE_BACKWARD), items);
        let kernel = kernel.flag("AT_LEAST_ONE", divisor == Divisor::AtLeastOne).word("d_sums", d_sums);
        self.push(kernel.word("y", self.made(n)).word("dy", self.d_made(n)));
        d_sums
    }

    /// Λ after all chunks first, then all chunks side by side.
    fn columns_chunked(&mut self, n: usize, shape: &ScanShape, scratch: &Scratch) {
        let (free, len) = (self.free, self.summary_len(shape, self.plan.chunks(shape)));
        let summary = self.take(len);
        let (kernel, _) = self.columns_kernel(n, shape, Pass::Summary, 0, scratch);
        self.push(kernel.word("summary", Some(summary)));
        let (span, count) = self.carry_spans(shape);
        for stretch in (0..count).rev() {
            let kernel = self.carry_kernel(n, shape, true).word("summary", summary);
            let kernel = kernel.word("before", self.after_stretch(n, stretch, count)).word("end", self.d_initial(n));
            let kernel = kernel.word("stretch", stretch).word("span", span);
            self.push(kernel.word("kept", scratch.boundaries));
        }
        self.free = free;
        self.columns_pass(n, shape, Pass::Chunks, scratch);
    }

    /// The same as matrix products, from the last window of chunks to the first.
    fn columns_products(&mut self, n: usize, shape: &ScanShape, scratch: &Scratch) {
        let batch = self.plan.shape.batch;
        let free = self.free;
        let mut blocks = self.take_blocks(shape, true);
        let (shares, text) = self.column_shares(shape, self.plan.chunks(shape), true);
        let given = blocks.place("y");
        for window in (0..blocks.windows).rev() {
            self.sum_blocks(n, shape, &mut blocks, window, Some(scratch.dy));
            let kernel = self.carry_kernel(n, shape, true).word("summary", blocks.place("summary"));
            let kernel = kernel.word("before", self.after_stretch(n, window, blocks.windows));
            let kernel = kernel.word("end", self.d_initial(n)).word("kept", scratch.boundaries);
            let kernel = kernel.word("stretch", window).word("span", blocks.window);
            self.push(kernel.word("summary_first", window * blocks.window));
            self.read_blocks(n, shape, &blocks, Some(scratch.boundaries), (scratch.g, given));
            let kernel = self.block_kernel(n, shape, &blocks, ("network.products_give", GIVE), shape.value_size);
            let kernel = kernel.functions(&text).rounds(self.plan.chunk(shape));
            self.push(with_shares(kernel, &shares));
        }
        self.fold_values(shape, &shares, self.plan.chunks(shape) * batch);
        self.free = free;
    }

    fn d_initial(&self, n: usize) -> Option<usize> {
        self.slot(self.plan.states.iter().find(|s| s.node == n).and_then(|s| s.d_initial))
    }

    /// The gradient of the state after a stretch: that after the last step, or what the stretch after left.
    fn after_stretch(&self, n: usize, stretch: usize, count: usize) -> Option<usize> {
        let state = self.plan.states.iter().find(|s| s.node == n);
        if stretch + 1 == count { self.slot(state.and_then(|s| s.d_last)) } else { self.d_initial(n) }
    }

    fn columns_pass(&mut self, n: usize, shape: &ScanShape, pass: Pass, scratch: &Scratch) {
        let spans = self.spans(shape, pass).1;
        let (free, mut shares) = (self.free, Vec::new());
        for stretch in (0..if pass == Pass::Whole { spans } else { 1 }).rev() {
            // Every stretch has the same places.
            self.free = free;
            let kernel;
            (kernel, shares) = self.columns_kernel(n, shape, pass, stretch, scratch);
            self.push(kernel.without("summary"));
        }
        self.fold_values(shape, &shares, spans * self.plan.shape.batch);
    }

    /// Folds the shares of columns, sums of so many blocks.
    fn fold_values(&mut self, shape: &ScanShape, shares: &[Share], blocks: usize) {
        for share in shares {
            let each = if shape.ports()[share.port].extent == Extent::Head { shape.value_size } else { 1 };
            let given = Given { at: 0, rows: self.rows(), first: 0, reverse: shape.reverse, each, padded: true };
            self.fold_share(&shape.operands[share.port], share, given, blocks);
        }
    }

    /// The gradients of what v is made of, over so many spans of steps, and what adds them.
    fn column_shares(&mut self, shape: &ScanShape, spans: usize, gives: bool) -> (Vec<Share>, String) {
        let (rule, batch) = (RuleText::new(shape), self.plan.shape.batch);
        let gradients = (0..shape.operands.len()).filter_map(|p| Some((p, rule.of_value(p)?)));
        let gradients: Vec<(usize, Expr)> = gradients.filter(|_| gives).collect();
        let mut shares = Vec::new();
        for (port, e) in &gradients {
            let each = if rule.ports[*port].extent == Extent::Head { shape.value_size } else { 1 };
            let lanes = Lanes { each, rows: self.rows(), blocks: Some(spans * batch) };
            shares.push(self.share(&shape.operands, *port, rule.gradient(e), &lanes));
        }
        let all: Vec<Expr> = gradients.into_iter().map(|(_, e)| e).collect();
        let column = ("h * VALUE + j", shape.heads * shape.value_size);
        let text = writers(&shares, "h: u32, j: u32, dv: f32", &rule.lets(&all), column, "false");
        let text = text + &sums(&shares, "j", column);
        (shares, text)
    }

    /// Lanes keep columns of Λ: gradients of what v is made of.
    fn columns_kernel(
        &mut self,
        n: usize,
        shape: &ScanShape,
        pass: Pass,
        stretch: usize,
        scratch: &Scratch,
    ) -> (Kernel, Vec<Share>) {
        let batch = self.plan.shape.batch;
        let (span, spans) = self.spans(shape, pass);
        let (shares, text) = self.column_shares(shape, spans, pass != Pass::Summary);
        let items = side_by_side(pass, spans) * batch * shape.heads * self.lane_columns(shape, pass);
        let kernel = self.scan_kernel(n, shape, ("network.scan_columns", COLUMNS), items);
        let kernel = kernel
            .size("PASS", pass as usize)
            .functions(&text)
            .rounds(span * step_rounds(shape) + 2 * (shape.key_size + 1))
            .word("span", span)
            .word("stretch", stretch)
            .word("after", self.after_stretch(n, stretch, spans))
            .word("d_initial", self.d_initial(n))
            .word("dy", scratch.dy)
            .word("g", scratch.g)
            .word("boundaries", scratch.boundaries);
        (with_shares(kernel, &shares), shares)
    }

    /// Lanes keep rows of S and Λ: gradients of what the coefficients of key indices are made of, a window of chunks at a time.
    fn rows_passes(&mut self, n: usize, shape: &ScanShape, scratch: &Scratch) {
        let rule = RuleText::new(shape);
        let gradients = (0..shape.operands.len()).filter_map(|p| Some((p, rule.of_key(p)?)));
        let gradients: Vec<(usize, Expr)> = gradients.collect();
        if gradients.is_empty() {
            return;
        }
        let (batch, chunk, chunks) = (self.plan.shape.batch, self.plan.chunk(shape), self.plan.chunks(shape));
        let key = shape.heads * shape.key_size;
        let parts = shape.columns().div_ceil(COLUMNS_AT_ONCE);
        let part = shape.columns().div_ceil(parts);
        let states = chunk * part * batch * key;
        let per_chunk = 4 * (states + gradients.len() * chunk * batch * key) as u64;
        let window = ((self.plan.options.window_bytes / per_chunk.max(1)) as usize).clamp(1, chunks);
        let kept = self.take(window * states);
        let mut shares = Vec::new();
        for (port, e) in &gradients {
            let each = if rule.ports[*port].extent == Extent::Head { shape.key_size } else { 1 };
            let lanes = Lanes { each, rows: window * chunk * batch, blocks: Some(chunks * batch) };
            shares.push(self.share(&shape.operands, *port, rule.gradient(e), &lanes));
        }
        let all: Vec<Expr> = gradients.into_iter().map(|(_, e)| e).collect();
        let column = ("h * KEY + n", key);
        let text = writers(&shares, "h: u32, n: u32, d: Coefficients", &rule.lets(&all), column, "later_part")
            + &sums(&shares, "n", column);
        for first in (0..chunks).step_by(window) {
            let count = window.min(chunks - first);
            let kernel = self.scan_kernel(n, shape, ("network.scan_rows", ROWS), count * batch * key);
            let kernel = kernel
                .functions(&text)
                .size("PART", part)
                .rounds(2 * parts * (chunk * (2 + part) + part + 2))
                .word("first", first)
                .word("window", kept)
                .word("dy", scratch.dy)
                .word("g", scratch.g)
                .word("boundaries", scratch.boundaries);
            self.push(with_shares(kernel, &shares));
            let steps = (count * chunk).min(self.plan.shape.time - first * chunk);
            for share in shares.iter().filter(|s| !s.is_sum()) {
                let given = self.of_keys(shape, share, steps * batch, first * chunk);
                self.fold_share(&shape.operands[share.port], share, given, 0);
            }
        }
        for share in shares.iter().filter(|s| s.is_sum()) {
            let given = self.of_keys(shape, share, 0, 0);
            self.fold_share(&shape.operands[share.port], share, given, chunks * batch);
        }
    }

    fn of_keys(&self, shape: &ScanShape, share: &Share, rows: usize, first: usize) -> Given {
        let each = if shape.ports()[share.port].extent == Extent::Head { shape.key_size } else { 1 };
        Given { at: 0, rows, first, reverse: shape.reverse, each, padded: true }
    }
}

/// The places of shares: `g<n>`.
fn with_shares(kernel: Kernel, shares: &[Share]) -> Kernel {
    shares.iter().fold(kernel, |kernel, share| kernel.word(format!("g{}", share.port), share.at))
}
