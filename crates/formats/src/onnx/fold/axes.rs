//! Axes and places: tensors are rows of values, the last axis' neighbours being neighbours.

use wgpu_rnn::{Error, Result};

/// How far apart neighbours along each axis are.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for n in (1..shape.len()).rev() {
        strides[n - 1] = strides[n].saturating_mul(shape[n]);
    }
    strides
}

/// An axis from the front, of one that may count from the back.
pub fn normal_axis(axis: i64, rank: usize) -> Result<usize> {
    let count = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis.saturating_add(count) } else { axis };
    let within = usize::try_from(from_front).ok().filter(|&n| n < rank);
    within.ok_or_else(|| Error::mismatch("axis", format!("one of {rank}"), axis))
}

/// The shape that both have when sizes of 1, and axes that are missing in front, are repeated.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], n: usize| (n + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let both = |n: usize| match (size(a, n), size(b, n)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(Error::mismatch("shapes", format!("one that fits {a:?}"), format!("{b:?}"))),
    };
    (0..rank).map(both).collect()
}

/// Places of the elements of `shape` in row-major order, in a tensor where neighbours along axis n are `steps[n]` apart.
pub struct Places {
    shape: Vec<usize>,
    steps: Vec<isize>,
    index: Vec<usize>,
    at: isize,
    left: usize,
}

impl Places {
    /// All of them from the place `first` on; the count of `shape` has been checked.
    pub fn new(shape: &[usize], first: isize, steps: Vec<isize>) -> Self {
        let left = shape.iter().product();
        Self { shape: shape.to_vec(), index: vec![0; shape.len()], steps, at: first, left }
    }

    /// Those of a tensor of the shape `from` that is repeated to `shape`.
    pub fn repeated(from: &[usize], shape: &[usize]) -> Self {
        let own = strides(from);
        let step = |n: usize| match (n + from.len()).checked_sub(shape.len()) {
            Some(at) if from[at] != 1 => own[at] as isize,
            _ => 0,
        };
        Self::new(shape, 0, (0..shape.len()).map(step).collect())
    }
}

impl Iterator for Places {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let here = self.at;
        for n in (0..self.shape.len()).rev() {
            self.index[n] += 1;
            self.at += self.steps[n];
            if self.index[n] < self.shape[n] {
                break;
            }
            self.at -= self.steps[n] * self.shape[n] as isize;
            self.index[n] = 0;
        }
        // Beyond any tensor: what takes places gives 0 there.
        Some(usize::try_from(here).unwrap_or(usize::MAX))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
