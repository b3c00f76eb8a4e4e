//! Arrays in and out.

use crate::error::Result;
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wgpu_rnn::{Element, Precision, Tensor, View};

/// What layers compute in: `f32` or `f64`.
pub trait Float: Element + numpy::Element {
    /// NumPy's name for it.
    const DTYPE: &'static str;
    /// A plan's.
    const PRECISION: Precision;
}

impl Float for f32 {
    const DTYPE: &'static str = "float32";
    const PRECISION: Precision = Precision::F32;
}

impl Float for f64 {
    const DTYPE: &'static str = "float64";
    const PRECISION: Precision = Precision::F64;
}

/// An argument's values, in their place where they lie row by row and are of the type; else of a copy.
pub struct Given<'py, T: Float>(PyReadonlyArrayDyn<'py, T>);

impl<T: Float> Given<'_, T> {
    /// The values.
    pub fn view(&self) -> View<'_, T> {
        // Aligned and contiguous, as was seen when it was made.
        View::new(self.0.as_slice().unwrap_or_default(), self.0.shape())
    }
}

fn in_place<'py, T: Float>(value: &Bound<'py, PyAny>) -> Option<Given<'py, T>> {
    let array = value.cast::<PyArrayDyn<T>>().ok()?;
    if !array.is_c_contiguous() {
        return None;
    }
    let array = array.try_readonly().ok()?;
    array.as_slice().is_ok().then_some(Given(array))
}

/// Reads an argument: an array of the type, or anything with `__dlpack__` whose values are in the CPU's memory.
///
/// # Errors
/// `TypeError`s of `wgpu_rnn.errors` for anything else.
pub fn read<'py, T: Float>(what: &str, value: &Bound<'py, PyAny>) -> Result<Given<'py, T>> {
    if let Some(given) = in_place(value) {
        return Ok(given);
    }
    static PREPARE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let prepare = PREPARE.get_or_try_init(py, || py.import("wgpu_rnn._arrays")?.getattr("prepare").map(Bound::unbind));
    let array = prepare?.bind(py).call1((value, what, T::DTYPE))?;
    in_place(&array).ok_or_else(|| {
        let type_name = array.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        wgpu_rnn::Error::mismatch(what, format!("an array of {} that nobody else writes to", T::DTYPE), type_name)
            .into()
    })
}

/// The same of an argument that may be `None`.
pub fn read_some<'py, T: Float>(what: &str, value: Option<&Bound<'py, PyAny>>) -> Result<Option<Given<'py, T>>> {
    value.filter(|value| !value.is_none()).map(|value| read(what, value)).transpose()
}

/// Whole numbers: a list, an array or a tensor.
pub fn read_lengths(value: Option<&Bound<'_, PyAny>>) -> Result<Option<Vec<usize>>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let list = match value.hasattr(intern!(value.py(), "tolist"))? {
        true => value.call_method0(intern!(value.py(), "tolist"))?,
        false => value.clone(),
    };
    let wrong = |_| {
        let got = list.repr().map_or_else(|_| "?".into(), |r| r.to_string());
        wgpu_rnn::Error::mismatch("lengths", "[B] whole numbers of at least 0", got)
    };
    Ok(Some(list.extract::<Vec<usize>>().map_err(wrong)?))
}

/// Flags `[T, B]` or `[B, T]`, as x has them: an array or a tensor of booleans.
pub fn read_flags(value: Option<&Bound<'_, PyAny>>) -> Result<Option<Vec<bool>>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let wrong = |_| {
        let got = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        wgpu_rnn::Error::mismatch("resets", "an array of booleans", got)
    };
    let array = value.extract::<PyReadonlyArrayDyn<'_, bool>>().map_err(wrong)?;
    Ok(Some(array.as_array().iter().copied().collect()))
}

/// Below so many values a copy into memory of NumPy's own takes less time than what tells NumPy about memory of ours.
const SMALL: usize = 4096;

/// An array of a result, which owns its memory.
pub fn give<T: Float>(py: Python<'_>, Tensor { data, shape }: Tensor<T>) -> Result<Bound<'_, PyArrayDyn<T>>> {
    if data.len() > SMALL {
        let got = format!("{} values", data.len());
        let array = ArrayD::from_shape_vec(IxDyn(&shape), data);
        let array = array.map_err(|_| wgpu_rnn::Error::mismatch("result", format!("{shape:?}"), got))?;
        return Ok(PyArrayDyn::from_owned_array(py, array));
    }
    let array = PyArrayDyn::<T>::zeros(py, IxDyn(&shape), false);
    if let Ok(mut to) = array.try_readwrite()
        && let Ok(to) = to.as_slice_mut()
    {
        to.copy_from_slice(&data);
    }
    Ok(array)
}
