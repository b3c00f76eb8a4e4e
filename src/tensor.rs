//! Slices with a shape.

use crate::error::{Error, Result};

/// Values with a shape, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// Row-major values.
    pub data: &'a [T],
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
}

impl<'a, T> View<'a, T> {
    /// `data` as a tensor of `shape`.
    pub fn new(data: &'a [T], shape: &'a [usize]) -> Self {
        Self { data, shape }
    }

    /// Checks the shape against named dimensions: `x: expected [T, B, I] = [100, 8, 64], got [100, 8, 63]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another shape, or another count of values than the shape says.
    pub fn check(&self, what: &str, names: &[&str], sizes: &[usize]) -> Result<()> {
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if self.shape != sizes {
            return Err(Error::mismatch(
                what,
                format!("[{}] = {sizes:?}", names.join(", ")),
                format!("{:?}", self.shape),
            ));
        }
        if count != Some(self.data.len()) {
            let count = count.map_or("too many".into(), |n| n.to_string());
            let expected = format!("{sizes:?} = {count} values");
            return Err(Error::mismatch(what, expected, format!("{} values", self.data.len())));
        }
        Ok(())
    }
}

/// Values with a shape, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    /// Row-major values.
    pub data: Vec<T>,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl<T> Tensor<T> {
    /// Borrows it.
    pub fn view(&self) -> View<'_, T> {
        View { data: &self.data, shape: &self.shape }
    }
}

/// Arrays of the `ndarray` crate (feature `ndarray`).
#[cfg(feature = "ndarray")]
mod arrays {
    use super::{Tensor, View};
    use crate::error::{Error, Result};
    use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};

    /// An array's values in their place, without a copy.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an array that does not lie in memory row by row, as a transposed one or a slice of columns.
    impl<'a, S: Data, D: Dimension> TryFrom<&'a ArrayBase<S, D>> for View<'a, S::Elem> {
        type Error = Error;

        fn try_from(array: &'a ArrayBase<S, D>) -> Result<Self> {
            match array.as_slice() {
                Some(data) => Ok(View { data, shape: array.shape() }),
                None => Err(Error::mismatch(
                    "array",
                    "values row by row, one after the other (as_standard_layout copies them so)",
                    format!("shape {:?} with strides {:?}", array.shape(), array.strides()),
                )),
            }
        }
    }

    /// The same values and shape; nothing is copied.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are not as many values as the shape has.
    impl<T> TryFrom<Tensor<T>> for ArrayD<T> {
        type Error = Error;

        fn try_from(Tensor { data, shape }: Tensor<T>) -> Result<Self> {
            let got = format!("{} values", data.len());
            let array = Self::from_shape_vec(IxDyn(&shape), data);
            array.map_err(|_| Error::mismatch("tensor", format!("as many values as {shape:?} has"), got))
        }
    }
}
