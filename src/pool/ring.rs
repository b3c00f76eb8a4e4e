//! Rows that come at one end and go at the other, in one piece of memory.

/// A queue of rows of one width.
pub(super) struct Ring<T> {
    data: Box<[T]>,
    // In few bytes: a pool goes over all of its streams in every tick.
    width: u32,
    /// Rows that there is room for: 0 or a power of two.
    capacity: u32,
    head: u32,
    len: u32,
}

/// Rows that a queue may have at most.
pub(super) const MOST: usize = 1 << 30;

/// Rows of an empty queue that keeps its memory.
const KEPT: u32 = 16;

impl<T: Copy + Default> Ring<T> {
    pub fn new(width: usize) -> Self {
        Self { data: Box::default(), width: width as u32, capacity: 0, head: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    fn width(&self) -> usize {
        self.width as usize
    }

    /// Bytes that it takes when it has room for so many rows.
    pub fn bytes_for(&self, rows: usize) -> u64 {
        let own = self.capacity as usize;
        let capacity = if rows <= own { own } else { rows.next_power_of_two() };
        (capacity * self.width() * size_of::<T>()) as u64
    }

    /// Makes room for so many rows in all.
    pub fn reserve(&mut self, rows: usize) {
        if rows > self.capacity as usize {
            self.resize(rows.next_power_of_two());
        }
    }

    fn resize(&mut self, capacity: usize) {
        let width = self.width();
        let mut data = vec![T::default(); capacity * width].into_boxed_slice();
        for n in 0..self.len() {
            data[n * width..][..width].copy_from_slice(self.row(n));
        }
        (self.data, self.capacity, self.head) = (data, capacity as u32, 0);
    }

    fn place(&self, n: usize) -> usize {
        ((self.head as usize + n) & (self.capacity as usize - 1)) * self.width()
    }

    /// Row `n` from the front, which must be there.
    #[inline]
    pub fn row(&self, n: usize) -> &[T] {
        debug_assert!(n < self.len(), "a row that is there");
        &self.data[self.place(n)..][..self.width()]
    }

    /// A row at the back, to be written.
    #[inline]
    pub fn push(&mut self) -> &mut [T] {
        self.reserve(self.len() + 1);
        let (at, width) = (self.place(self.len()), self.width());
        self.len += 1;
        &mut self.data[at..][..width]
    }

    /// Whole rows at the back.
    pub fn extend(&mut self, rows: &[T]) {
        let width = self.width().max(1);
        self.reserve(self.len() + rows.len() / width);
        let mut rest = rows;
        while !rest.is_empty() {
            // Until the end of the memory, or the rows before the front.
            let back = self.place(self.len());
            let (run, later) = rest.split_at(rest.len().min(self.data.len() - back));
            self.data[back..][..run.len()].copy_from_slice(run);
            self.len += (run.len() / width) as u32;
            rest = later;
        }
    }

    /// Calls `take` with all rows, in one or two pieces.
    pub fn all(&self, mut take: impl FnMut(&[T])) {
        if self.len == 0 {
            return;
        }
        let (front, all) = (self.place(0), self.len() * self.width());
        let first = all.min(self.data.len() - front);
        take(&self.data[front..][..first]);
        if first < all {
            take(&self.data[..all - first]);
        }
    }

    /// Takes rows from the front.
    #[inline]
    pub fn pop(&mut self, rows: usize) {
        self.len -= rows as u32;
        self.head = if self.len == 0 { 0 } else { (self.head + rows as u32) & (self.capacity - 1) };
    }

    /// Takes rows from the back, until there are so many.
    pub fn truncate(&mut self, rows: usize) {
        self.len = self.len().min(rows) as u32;
    }

    /// Gives back memory that an empty queue does not need.
    pub fn shrink(&mut self) {
        if self.len == 0 && self.capacity > KEPT {
            *self = Self::new(self.width());
        }
    }
}

impl<T: Copy + Default> Clone for Ring<T> {
    /// With room for what is there.
    fn clone(&self) -> Self {
        let mut other = Self::new(self.width());
        other.reserve(self.len());
        self.all(|rows| other.extend(rows));
        other
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;
    use std::collections::VecDeque;

    /// As a queue of the standard library, whatever comes and goes.
    #[test]
    fn rows_stay_in_order() {
        let (mut ring, mut truth, mut next) = (Ring::<u32>::new(3), VecDeque::new(), 0u32);
        let mut seed = 7u32;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let count = (seed >> 20) as usize % 5;
            match seed >> 30 {
                0 => {
                    let rows: Vec<u32> = (0..3 * count as u32).map(|n| next + n).collect();
                    ring.extend(&rows);
                    truth.extend(rows.chunks(3).map(<[u32]>::to_vec));
                    next += 3 * count as u32;
                }
                1 => {
                    ring.push().copy_from_slice(&[next, next + 1, next + 2]);
                    truth.push_back(vec![next, next + 1, next + 2]);
                    next += 3;
                }
                2 => {
                    let count = count.min(truth.len());
                    ring.pop(count);
                    truth.drain(..count);
                }
                _ => {
                    let count = truth.len() - count.min(truth.len());
                    ring.truncate(count);
                    truth.truncate(count);
                    ring.shrink();
                }
            }
            assert_eq!(ring.len(), truth.len());
            let mut all = Vec::new();
            ring.all(|rows| all.extend_from_slice(rows));
            assert_eq!(all, truth.iter().flatten().copied().collect::<Vec<_>>());
            assert!((0..truth.len()).all(|n| ring.row(n) == truth[n]));
            let copy = ring.clone();
            assert!((0..truth.len()).all(|n| copy.row(n) == truth[n]));
        }
    }
}
