//! The GPU executor: the plan's slots as buffers, its dispatches as compute passes, through wgpu.

mod device;
mod executor;
pub(crate) mod network;
mod pipeline;

pub(crate) use device::adapters;
pub use device::{Gpu, GpuInfo};
pub(crate) use executor::{Executor, written};
pub use executor::{IoBinding, IoBuffers};
