//! Lengths and episodes of a run of a network.

/// Lengths and resets of a run, as the operations over time see them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times {
    pub time: usize,
    pub batch: usize,
    pub lengths: Vec<usize>,
    /// `[T, B]`; empty: none.
    pub resets: Vec<bool>,
}

impl Times {
    /// The row of step `s` of sequence `b`, counted from its end if `reverse`.
    pub fn row(&self, b: usize, s: usize, reverse: bool) -> usize {
        (if reverse { self.lengths[b] - 1 - s } else { s }) * self.batch + b
    }

    /// Whether a row lies past its sequence's end: it may hold anything.
    pub fn is_padding(&self, row: usize) -> bool {
        row / self.batch >= self.lengths[row % self.batch]
    }

    /// Whether the state before step `s` is empty because an episode begins (or, in reverse, ends) there.
    pub fn is_reset(&self, b: usize, s: usize, reverse: bool) -> bool {
        match (self.resets.is_empty(), reverse) {
            (true, _) => false,
            (false, false) => self.resets[self.row(b, s, false)],
            // Before the step at time t it has seen t + 1 and later.
            (false, true) => s > 0 && self.resets[self.row(b, s - 1, true)],
        }
    }
}
