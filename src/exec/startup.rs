//! What binding a plan to a device took.

use std::fmt;
use std::time::Duration;

/// What making a session took, from [`crate::Session::startup`].
///
/// A device compiles a kernel's text once, so a session for another shape of a configuration (whose tiles are the same) compiles
/// nothing, and neither does the same session made again. Distinct texts are compiled by as many threads as there are cores; how
/// far that helps is the driver's affair. Some put part of it off until a kernel first runs, and then it is in the first run, not
/// here: Mesa's llvmpipe makes machine code there, one kernel after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Distinct kernels of the plan; 0 on the CPU executor, whose kernels are compiled with this crate.
    pub pipelines: usize,
    /// Those that had to be compiled.
    pub compiled: usize,
    /// How long that took, from the first to the last.
    pub compile: Duration,
    /// The rest: packing and uploading weights, making buffers and bind groups.
    pub buffers: Duration,
}

/// `14 kernels, 12 compiled in 1.20s; weights and buffers in 3.10ms`.
impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipelines, compiled, compile, buffers } = self;
        write!(f, "{pipelines} kernels, {compiled} compiled in {compile:.2?}; weights and buffers in {buffers:.2?}")
    }
}
