//! Scans: forward here, back in `backward.rs`, chunks as matrix products in `products.rs`.

mod backward;
mod products;

pub(in crate::plan::network) use products::pair_rounds;

use super::Dispatches;
use crate::model::network::ScanShape;
use crate::model::rule::{Divisor, EMPTY_MAXIMUM, Read};
use crate::plan::network::Parallel;
use crate::plan::network::kernel::{Kernel, LANES};
use crate::plan::network::program::{Build, STRETCH};
use crate::plan::network::text::RuleText;

const SCAN: &str = include_str!("../../../../../shaders/network/scan.wgsl");
const FORWARD: &str = concat!(
    include_str!("../../../../../shaders/network/scan_place.wgsl"),
    include_str!("../../../../../shaders/network/scan_forward.wgsl")
);
const CARRY: &str = include_str!("../../../../../shaders/network/scan_carry.wgsl");
const CARRY_FULL: &str = include_str!("../../../../../shaders/network/scan_carry_full.wgsl");
const MAXIMA: &str = include_str!("../../../../../shaders/network/scan_maxima.wgsl");
const DIVIDE: &str = include_str!("../../../../../shaders/network/scan_divide.wgsl");

/// What a kernel of a scan goes over, as `PASS` of `scan.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Whole,
    Summary,
    Chunks,
}

impl Dispatches for ScanShape {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        build.scan(n, self);
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        build.scan_backward(n, self);
    }
}

impl Build<'_> {
    fn scan(&mut self, n: usize, shape: &ScanShape) {
        let slots = &self.plan.scans[n];
        if slots.maxima.is_some() {
            let items = self.plan.shape.batch * shape.heads;
            let (span, count) = cut(self.plan.shape.time, 1);
            for stretch in 0..count {
                let kernel = self.scan_kernel(n, shape, ("network.scan_maxima", MAXIMA), items);
                let kernel = kernel.word("before", self.before(n, stretch)).word("stretch", stretch).word("span", span);
                let kernel = kernel.float("EMPTY_MAXIMUM", EMPTY_MAXIMUM).functions(&RuleText::new(shape).gates());
                self.push(kernel.rounds(span));
            }
        }
        match self.plan.parallel {
            Parallel::Recurrent => {
                for stretch in 0..self.spans(shape, Pass::Whole).1 {
                    self.scan_pass(n, shape, Pass::Whole, stretch, None);
                }
            }
            _ if self.plan.products(shape) => self.scan_products(n, shape),
            Parallel::Chunked | Parallel::Products => {
                let summary = self.take(self.summary_len(shape, self.plan.chunks(shape)));
                self.scan_pass(n, shape, Pass::Summary, 0, Some(summary));
                let (span, count) = self.carry_spans(shape);
                for stretch in 0..count {
                    let kernel = self.carry_kernel(n, shape, false).word("summary", summary);
                    let kernel = kernel.word("before", self.before(n, stretch)).word("end", self.after(n));
                    let kernel = kernel.word("stretch", stretch).word("span", span);
                    self.push(kernel.word("kept", self.slot(self.plan.scans[n].checkpoints)));
                }
                self.scan_pass(n, shape, Pass::Chunks, 0, None);
            }
        }
        if let Some(divisor) = shape.divisor() {
            let items = self.rows() * shape.heads * shape.value_size;
            let kernel = self.scan_kernel(n, shape, ("network.scan_divide", DIVIDE), items);
            self.push(kernel.flag("AT_LEAST_ONE", divisor == Divisor::AtLeastOne).word("y", self.made(n)));
        }
    }

    /// Chunks as matrix products, a window of them after the other.
    fn scan_products(&mut self, n: usize, shape: &ScanShape) {
        let slots = &self.plan.scans[n];
        let y = slots.sums.map_or(self.made(n), |s| self.slots[s]);
        let (kept, erased) = (self.slot(slots.checkpoints), self.slot(slots.erased));
        let mut blocks = self.take_blocks(shape, false);
        for window in 0..blocks.windows {
            self.sum_blocks(n, shape, &mut blocks, window, None);
            let kernel = self.carry_kernel(n, shape, false).word("summary", blocks.place("summary"));
            let kernel = kernel.word("before", self.before(n, window)).word("end", self.after(n)).word("kept", kept);
            let kernel = kernel.word("stretch", window).word("span", blocks.window);
            self.push(kernel.word("summary_first", window * blocks.window));
            self.read_blocks(n, shape, &blocks, kept, (erased, Some(y)));
        }
    }

    /// The state before a stretch: that before the first step, or what the stretch before left.
    fn before(&self, n: usize, stretch: usize) -> Option<usize> {
        let state = self.plan.states.iter().find(|s| s.node == n);
        self.slot(state.map(|s| if stretch == 0 { s.initial } else { s.last }))
    }

    fn after(&self, n: usize) -> Option<usize> {
        self.slot(self.plan.states.iter().find(|s| s.node == n).map(|s| s.last))
    }

    /// States before all chunks (or, back, gradients of those after them): from `before`, into `kept`, to `end`.
    fn carry_kernel(&self, n: usize, shape: &ScanShape, back: bool) -> Kernel {
        let heads = self.plan.shape.batch * shape.heads;
        let (kernel, items) = match shape.form().erase {
            None => (("network.scan_carry", CARRY), heads * shape.columns() * shape.key_size),
            // A workgroup each.
            Some(_) => (("network.scan_carry_full", CARRY_FULL), heads * shape.columns().div_ceil(4) * LANES),
        };
        let rounds = self.carry_spans(shape).0 * carry_rounds(shape) + 2 * (shape.key_size + 8);
        self.scan_kernel(n, shape, kernel, items).flag("BACK", back).rounds(rounds)
    }

    fn scan_pass(&mut self, n: usize, shape: &ScanShape, pass: Pass, stretch: usize, summary: Option<usize>) {
        let slots = &self.plan.scans[n];
        let y = slots.sums.map_or(self.made(n), |s| self.slots[s]);
        let (span, spans) = self.spans(shape, pass);
        let items = side_by_side(pass, spans) * self.plan.shape.batch * shape.heads * self.lane_columns(shape, pass);
        let kernel = self.scan_kernel(n, shape, ("network.scan", FORWARD), items);
        let kernel = kernel
            .size("PASS", pass as usize)
            .flag("KEEP", slots.checkpoints.is_some())
            .flag("ERASED", slots.erased.is_some())
            .rounds(span * step_rounds(shape) + 2 * (shape.key_size + 1))
            .word("before", self.before(n, stretch))
            .word("stretch", stretch)
            .word("span", span)
            .word("summary", summary)
            .word("y", y);
        self.push(kernel);
    }

    /// Steps of a lane's span, and spans: of whole sequences one dispatch each, of chunks side by side.
    fn spans(&self, shape: &ScanShape, pass: Pass) -> (usize, usize) {
        match pass {
            Pass::Whole => cut(self.plan.shape.time, step_rounds(shape)),
            Pass::Summary | Pass::Chunks => (self.plan.chunk(shape), self.plan.chunks(shape)),
        }
    }

    /// Chunks that one dispatch carries the state over, and dispatches.
    fn carry_spans(&self, shape: &ScanShape) -> (usize, usize) {
        cut(self.plan.chunks(shape), carry_rounds(shape))
    }

    /// Columns of a state, virtual ones included.
    fn lane_columns(&self, shape: &ScanShape, pass: Pass) -> usize {
        shape.columns() + if pass == Pass::Summary { virtual_columns(shape) } else { 0 }
    }

    /// Elements of the summaries of so many chunks.
    fn summary_len(&self, shape: &ScanShape, chunks: usize) -> usize {
        let columns = self.lane_columns(shape, Pass::Summary);
        chunks * self.plan.shape.batch * shape.heads * columns * shape.key_size
    }

    /// A kernel of a scan with all that its rule says.
    fn scan_kernel(
        &self,
        n: usize,
        shape: &ScanShape,
        (name, body): (&'static str, &'static str),
        items: usize,
    ) -> Kernel {
        let rule = RuleText::new(shape);
        let (slots, state) = (&self.plan.scans[n], self.plan.states.iter().find(|s| s.node == n));
        let kernel = Kernel::new(name, &[SCAN, body], items)
            .size("HEADS", shape.heads)
            .size("KEY", shape.key_size)
            .size("VALUE", shape.value_size)
            .size("COLUMNS", shape.columns())
            .size("VIRTUAL", virtual_columns(shape))
            .size("STATE", shape.state_size())
            .flag("ERASE", rule.form.erase.is_some())
            .flag("BEFORE", rule.form.read == Read::Before)
            .flag("MAXIMA", slots.maxima.is_some())
            .functions(&rule.functions(&self.plan.network))
            .offer("chunk", self.plan.chunk(shape))
            .offer("reverse", usize::from(shape.reverse))
            .offer("summary_first", 0)
            .offer("last", self.slot(state.map(|s| s.last)))
            .offer("checkpoints", self.slot(slots.checkpoints))
            .offer("erased", self.slot(slots.erased))
            .offer("sums", self.slot(slots.sums))
            .offer("m", self.slot(slots.maxima))
            .offer("m_before", slots.maxima.map(|_| self.m_before[n]));
        self.with_operands(kernel, &shape.operands)
    }
}

/// Spans that one dispatch of a pass goes over.
fn side_by_side(pass: Pass, spans: usize) -> usize {
    if pass == Pass::Whole { 1 } else { spans }
}

/// `count` steps, of so many rounds each, in stretches: steps of one, and how many of them.
fn cut(count: usize, rounds: usize) -> (usize, usize) {
    let span = (STRETCH / rounds).clamp(1, count.max(1));
    (span, count.div_ceil(span))
}

/// Rounds of loops of a step, there and back, in `scan_forward` and `scan_columns`.
fn step_rounds(shape: &ScanShape) -> usize {
    8 + 4 * shape.key_size
}

/// Rounds of loops of a chunk in `scan_carry` and `scan_carry_full`.
fn carry_rounds(shape: &ScanShape) -> usize {
    let rows = shape.key_size.div_ceil(LANES);
    if shape.form().erase.is_some() { 8 + rows * (12 + shape.key_size) } else { 2 }
}

/// Columns that stand for the state before a chunk.
fn virtual_columns(shape: &ScanShape) -> usize {
    if shape.form().erase.is_some() { shape.key_size } else { 1 }
}
