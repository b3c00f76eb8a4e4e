//! Memory that operations work in. Every thread keeps it from call to call, so that a run allocates nothing once it has run before.

use crate::num::Aligned;
use bytemuck::Pod;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps at most.
const MOST: usize = 64;
/// Words of the longest buffer that a thread keeps: longer ones (16 MiB) go back to the system.
const LONGEST: usize = 1 << 21;

thread_local! {
    static FREE: RefCell<Vec<Aligned<u64>>> = const { RefCell::new(Vec::new()) };
}

/// A slice of so many elements, given back to the thread when it is dropped.
pub(crate) struct Scratch<T> {
    words: Aligned<u64>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    /// With any values.
    pub fn any(len: usize) -> Self {
        let kept = FREE.try_with(|free| free.borrow_mut().pop());
        let mut words = kept.ok().flatten().unwrap_or_default();
        let needs = Self::words(len);
        words.at_least(needs);
        Self { words, len, element: PhantomData }
    }

    fn words(len: usize) -> usize {
        (len * size_of::<T>()).div_ceil(size_of::<u64>())
    }

    /// With one value everywhere.
    pub fn filled(len: usize, value: T) -> Self {
        let mut scratch = Self::any(len);
        scratch.fill(value);
        scratch
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.words[..Self::words(self.len)])[..self.len]
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.words[..Self::words(self.len)])[..self.len]
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        if words.len() <= LONGEST {
            // A thread that ends has no use for it.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < MOST {
                    free.push(words);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept() {
        let first = Scratch::filled(100, 1.5f32);
        let at = first.as_ptr();
        drop(first);
        let mut again = Scratch::<f64>::any(50);
        assert_eq!(again.as_ptr().cast(), at);
        again.fill(2.0);
        let other = Scratch::filled(3, 7usize);
        assert_eq!((again.len(), again[49], &other[..]), (50, 2.0, &[7, 7, 7][..]));
        assert!(Scratch::<f32>::any(0).is_empty());
        drop(again);
        assert_eq!(Scratch::<[usize; 4]>::any(3).len(), 3, "in a buffer of 50 words");
    }
}
