//! Scans, forward.

use super::super::{Parallel, ScanShape};
use super::kernel::Kernel;
use super::program::Build;
use super::text::RuleText;
use crate::rule::{Divisor, EMPTY_MAXIMUM, Read};

const SCAN: &str = include_str!("../../../shaders/network/scan.wgsl");
const FORWARD: &str = concat!(
    include_str!("../../../shaders/network/scan_place.wgsl"),
    include_str!("../../../shaders/network/scan_forward.wgsl")
);
const CARRY: &str = include_str!("../../../shaders/network/scan_carry.wgsl");
const MAXIMA: &str = include_str!("../../../shaders/network/scan_maxima.wgsl");
const DIVIDE: &str = include_str!("../../../shaders/network/scan_divide.wgsl");

/// What a kernel of a scan goes over, as `PASS` of `scan.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Whole,
    Summary,
    Chunks,
}

impl Build<'_> {
    pub fn scan(&mut self, n: usize, shape: &ScanShape) {
        let slots = &self.plan.scans[n];
        if slots.maxima.is_some() {
            let items = self.plan.shape.batch * shape.heads;
            let kernel = self.scan_kernel(n, shape, ("network.scan_maxima", MAXIMA), items);
            self.push(kernel.float("EMPTY_MAXIMUM", EMPTY_MAXIMUM).functions(&RuleText::new(shape).gates()));
        }
        match self.plan.parallel {
            Parallel::Recurrent => self.scan_pass(n, shape, Pass::Whole, 0),
            Parallel::Chunked => {
                let summary = self.take(self.summary_len(shape));
                self.scan_pass(n, shape, Pass::Summary, summary);
                let state = self.plan.states.iter().find(|s| s.node == n);
                let kernel = self.carry_kernel(n, shape, false).word("summary", summary);
                let kernel = kernel.word("first", self.slot(state.map(|s| s.initial)));
                let kernel = kernel.word("end", self.slot(state.map(|s| s.last)));
                self.push(kernel.word("kept", self.slot(self.plan.scans[n].checkpoints)));
                self.scan_pass(n, shape, Pass::Chunks, 0);
            }
        }
        if let Some(divisor) = shape.divisor() {
            let items = self.rows() * shape.heads * shape.value_size;
            let kernel = self.scan_kernel(n, shape, ("network.scan_divide", DIVIDE), items);
            self.push(kernel.flag("AT_LEAST_ONE", divisor == Divisor::AtLeastOne).word("y", self.made(n)));
        }
    }

    /// States before all chunks (or, back, gradients of those after them): from `first`, into `kept`, to `end`.
    pub fn carry_kernel(&self, n: usize, shape: &ScanShape, back: bool) -> Kernel {
        let items = self.plan.shape.batch * shape.heads * shape.columns();
        self.scan_kernel(n, shape, ("network.scan_carry", CARRY), items).flag("BACK", back)
    }

    fn scan_pass(&mut self, n: usize, shape: &ScanShape, pass: Pass, summary: usize) {
        let slots = &self.plan.scans[n];
        let y = slots.sums.map_or(self.made(n), |s| self.slots[s]);
        let (span, spans) = self.spans(shape, pass);
        let items = spans * self.plan.shape.batch * shape.heads * self.lane_columns(shape, pass);
        let kernel = self.scan_kernel(n, shape, ("network.scan", FORWARD), items);
        let kernel = kernel
            .size("PASS", pass as usize)
            .flag("KEEP", slots.checkpoints.is_some())
            .flag("ERASED", slots.erased.is_some())
            .word("span", span)
            .word("summary", summary)
            .word("y", y);
        self.push(kernel);
    }

    /// Steps of a lane's span, and spans.
    pub fn spans(&self, shape: &ScanShape, pass: Pass) -> (usize, usize) {
        match pass {
            Pass::Whole => (self.plan.shape.time, 1),
            Pass::Summary | Pass::Chunks => (self.plan.chunk(shape), self.plan.chunks(shape)),
        }
    }

    /// Columns of a state, virtual ones included.
    pub fn lane_columns(&self, shape: &ScanShape, pass: Pass) -> usize {
        shape.columns() + if pass == Pass::Summary { virtual_columns(shape) } else { 0 }
    }

    /// Elements of the summaries of all chunks.
    pub fn summary_len(&self, shape: &ScanShape) -> usize {
        let columns = self.lane_columns(shape, Pass::Summary);
        self.plan.chunks(shape) * self.plan.shape.batch * shape.heads * columns * shape.key_size
    }

    /// A kernel of a scan with all that its rule says.
    pub fn scan_kernel(
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
            .word("chunk", self.plan.chunk(shape))
            .word("reverse", usize::from(shape.reverse))
            .word("initial", self.slot(state.map(|s| s.initial)))
            .word("last", self.slot(state.map(|s| s.last)))
            .word("checkpoints", self.slot(slots.checkpoints))
            .word("erased", self.slot(slots.erased))
            .word("sums", self.slot(slots.sums))
            .word("m", self.slot(slots.maxima))
            .word("m_before", self.m_before[n]);
        self.with_operands(kernel, &shape.operands)
    }
}

/// Columns that stand for the state before a chunk.
fn virtual_columns(shape: &ScanShape) -> usize {
    if shape.form().erase.is_some() { shape.key_size } else { 1 }
}
