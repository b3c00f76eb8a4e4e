//! `wgpu_rnn._core`: what the Python package `wgpu_rnn` is made on. Python's side (`python/wgpu_rnn`) has the classes that people see, with
//! PyTorch's names and defaults; here are sessions, devices and files, and arrays go in and out.
//!
//! Every function that computes releases the interpreter's lock first, then takes the lock of what it works on: so threads of one
//! interpreter run side by side, and wait for one another only where they share a layer.

mod array;
mod command;
mod config;
mod device;
mod error;
mod layer;
mod model;
mod network;
mod pool;
mod sessions;
mod tape;

/// The extension module.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use super::command::run_command;
    #[pymodule_export]
    use super::device::{devices, forked};
    #[pymodule_export]
    use super::layer::Layer;
    #[pymodule_export]
    use super::model::{Model, Tensors, holds_tensors, inspect};
    #[pymodule_export]
    use super::network::{Network, NetworkBuilder, Predictor, Trainer};
    #[pymodule_export]
    use super::pool::Pool;
    #[pymodule_export]
    use super::tape::Tape;
}
