//! Memory that several tasks write at once, each its own rows.

/// A slice whose parts are handed out to tasks. Safe as long as no part that one task writes is touched by another.
pub(crate) struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `Shared` is a borrowed slice; whoever calls `part` promises that parts written by one task are not touched by others.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), lifetime: std::marker::PhantomData }
    }

    /// Its elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// `len` elements from `at`, to be handed out in smaller parts.
    pub fn within(&self, at: usize, len: usize) -> Shared<'_, T> {
        assert!(at <= self.len && len <= self.len - at, "part {at}..+{len} of {}", self.len);
        Shared { data: self.data.wrapping_add(at), len, lifetime: std::marker::PhantomData }
    }

    /// Where an element is, for hints; it may be any.
    #[inline(always)]
    pub fn address(&self, at: usize) -> *const T {
        self.data.wrapping_add(at)
    }

    /// `len` elements from `at`.
    ///
    /// # Safety
    /// For as long as the returned slice lives, no other part that overlaps it may be alive.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one slice; the caller keeps them so")]
    #[inline(always)]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at, "part {at}..+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }

    /// `len` elements from `at`, to be read.
    ///
    /// # Safety
    /// For as long as the returned slice lives, no part that overlaps it may be written.
    #[inline(always)]
    pub unsafe fn seen(&self, at: usize, len: usize) -> &[T] {
        assert!(at <= self.len && len <= self.len - at, "part {at}..+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion; not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.add(at), len) }
    }
}
