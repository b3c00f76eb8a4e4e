//! The library's errors as Python's exceptions, which `wgpu_rnn.errors` has.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wgpu_rnn::{Error, StreamError};

/// A result with an exception of this package.
pub type Result<T> = std::result::Result<T, Fault>;

/// An error on its way to Python: the library's, or an exception that there is already.
pub enum Fault {
    Ours(Error),
    Python(PyErr),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Python(error) => error,
            Fault::Ours(error) => Python::attach(|py| {
                let (class, fields) = of(&error);
                raised(py, class, &error.to_string(), &fields).unwrap_or_else(|e| e)
            }),
        }
    }
}

/// A call in a wrong order.
pub fn order(what: &str, expected: &str, got: &str) -> Fault {
    let message = Error::mismatch(what, expected, got).to_string();
    let fields = [("what", what.to_string()), ("expected", expected.to_string()), ("got", got.to_string())];
    Fault::Python(Python::attach(|py| raised(py, "OrderError", &message, &fields).unwrap_or_else(|e| e)))
}

/// The class of an error, and its fields.
fn of(error: &Error) -> (&'static str, Vec<(&'static str, String)>) {
    match error {
        Error::Mismatch { what, expected, got } => {
            ("MismatchError", vec![("what", what.clone()), ("expected", expected.clone()), ("got", got.clone())])
        }
        Error::File { path, .. } => ("FileError", vec![("path", path.display().to_string())]),
        Error::Limit { what, .. } => ("LimitError", vec![("what", what.clone())]),
        Error::NoAdapter { .. } => ("NoAdapterError", Vec::new()),
        Error::DeviceLost { .. } => ("DeviceLostError", Vec::new()),
        Error::Gpu { .. } => ("DeviceError", Vec::new()),
        Error::Stream(StreamError::Full { .. }) => ("StreamFullError", Vec::new()),
        Error::Stream(_) => ("StreamError", Vec::new()),
        Error::Unsupported { what, .. } => ("UnsupportedError", vec![("what", what.clone())]),
        // Of a later version of the library.
        _ => ("Error", Vec::new()),
    }
}

/// An exception of a class of `wgpu_rnn.errors`, or why there is none.
fn raised(py: Python<'_>, class: &str, message: &str, fields: &[(&str, String)]) -> PyResult<PyErr> {
    static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || py.import("wgpu_rnn.errors").map(Bound::unbind))?;
    let exception = classes.bind(py).getattr(class)?.call1((message,))?;
    for (name, value) in fields {
        exception.setattr(*name, value)?;
    }
    Ok(PyErr::from_value(exception))
}
