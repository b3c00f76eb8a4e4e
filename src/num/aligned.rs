//! Memory that begins at a cache line.

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// Values that begin at a cache line, so that no register of a packed matrix lies in two.
pub(crate) struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { data: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let data = vec![T::default(); len + spare];
        // Where it cannot be told, unaligned memory is as good.
        let start = data.as_ptr().align_offset(LINE).min(spare);
        Self { data, start, len }
    }

    /// A copy.
    pub fn of(values: &[T]) -> Self {
        let mut copy = Self::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }

    /// At least `len` values, of any kind.
    pub fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self[..]
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.data[self.start..][..self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_at_a_line() {
        for len in [0, 1, 7, 100] {
            let (a, b) = (Aligned::<f32>::zeros(len), Aligned::<f64>::zeros(len));
            assert_eq!((a.len(), a.as_ptr() as usize % LINE), (len, 0));
            assert_eq!((b.len(), b.as_ptr() as usize % LINE), (len, 0));
        }
    }
}
