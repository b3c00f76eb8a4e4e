//! Which values of an operand's row the units of a packed matrix are multiplied by: those of their head
//! ([`crate::Recurrence`]); with one head all of them.

use crate::num::Lanes;

/// Lanes of the widest register (f32 in 512 bits).
const MAX_WIDTH: usize = 16;

/// `count` heads of `units` units each, which see `depth` values each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    pub count: usize,
    pub units: usize,
    pub depth: usize,
}

impl Heads {
    /// The first value that a unit sees.
    #[inline(always)]
    pub fn start(self, unit: usize) -> usize {
        if self.count == 1 { 0 } else { unit.min(self.count * self.units - 1) / self.units * self.depth }
    }

    /// The same for all units of a register from `first` on, if they are of one head.
    #[inline(always)]
    pub fn shared_start(self, first: usize, width: usize) -> Option<usize> {
        let start = self.start(first);
        (self.count == 1 || self.start(first + width - 1) == start).then_some(start)
    }

    /// The first value that each unit of a register from `first` on sees.
    #[inline(always)]
    pub fn starts(self, first: usize) -> [usize; MAX_WIDTH] {
        let mut starts = [0; MAX_WIDTH];
        // Counted on: a division for each lane would cost more than short heads do.
        let (mut head, mut left) = (first / self.units, self.units - first % self.units);
        for start in &mut starts {
            *start = head.min(self.count - 1) * self.depth;
            left -= 1;
            if left == 0 {
                (head, left) = (head + 1, self.units);
            }
        }
        starts
    }
}

/// Value `column` of what each lane's unit sees of `operand`.
#[inline(always)]
pub(super) fn gathered<V: Lanes>(isa: V::Isa, operand: &[V::Elem], starts: &[usize; MAX_WIDTH], column: usize) -> V {
    let mut values = [V::Elem::default(); MAX_WIDTH];
    for (value, start) in values.iter_mut().zip(starts).take(V::WIDTH) {
        *value = operand[start + column];
    }
    V::load(isa, &values)
}
