//! The command line.

use pyo3::prelude::*;
use std::ffi::OsString;

/// Runs the command `wgpu-rnn` and gives its exit code.
#[pyfunction]
pub fn run_command(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| wgpu_rnn_cli::run(args))
}
