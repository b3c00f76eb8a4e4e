//! Sequences of length 0 ([`crate::Empty`]): what is cleared of them, after kernels that know nothing of them.
//!
//! They come last in the schedule and run at no step, so the recurrence, the products and the sums leave them out. store_state copies their
//! first states into hn and cn, and store_gradient the upstream gradients of those into the gradients of h0 and c0: [`Empty::Initial`].
//! For [`Empty::Zero`] executors put zeros in their rows afterwards, and no kernel has another text.
//!
//! [`Empty::Initial`]: crate::Empty::Initial
//! [`Empty::Zero`]: crate::Empty::Zero

use super::schedule::Schedule;
use super::{Dispatch, Plan, SlotId};
use crate::kernels::Kernel;
use std::ops::Range;

impl Plan {
    /// Values that are 0 after a dispatch whatever it wrote there: rows, neighbours together, of slots of states.
    pub(crate) fn cleared_after(&self, d: &Dispatch, schedule: &Schedule) -> Vec<(SlotId, Range<usize>)> {
        let slots = match d.kernel {
            _ if schedule.cleared().is_empty() => return Vec::new(),
            Kernel::StoreState => &d.slots[3..5],
            Kernel::StoreGradient => &d.slots[2..4],
            _ => return Vec::new(),
        };
        let with_batch = |slot: &&SlotId| self.slots[**slot].dims.len() == 3;
        let ranges = slots.iter().filter(with_batch).flat_map(|&slot| {
            let dims = &self.slots[slot].dims;
            let (planes, width) = (dims[0].1, dims[2].1);
            runs(schedule.cleared()).into_iter().flat_map(move |run| {
                let at = move |plane: usize, b: usize| (plane * self.shape.batch + b) * width;
                (0..planes).map(move |plane| (slot, at(plane, run.start)..at(plane, run.end)))
            })
        });
        ranges.collect()
    }
}

/// Ascending numbers as ranges.
fn runs(numbers: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &n in numbers {
        match runs.last_mut() {
            Some(run) if run.end == n => run.end += 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn neighbours_are_one_range() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[0, 1, 3, 6, 7, 8]), [0..2, 3..4, 6..9]);
    }
}
