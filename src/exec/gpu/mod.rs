//! The GPU executor: the plan's slots as buffers, its dispatches as compute passes, through wgpu.

mod choose;
mod device;
mod executor;
pub(crate) mod network;
mod pipeline;
mod read;
#[cfg(not(target_family = "wasm"))]
mod rounds;
mod states;
mod streams;
mod transduce;

pub(crate) use choose::{Choose, ChoosePorts};
pub(crate) use device::adapters;
pub use device::{Gpu, GpuInfo};
pub(crate) use executor::Executor;
#[cfg(not(target_family = "wasm"))]
pub(crate) use executor::written;
pub use executor::{IoBinding, IoBuffers};
pub use network::{NetworkBinding, NetworkBuffers};
pub(crate) use states::{Moved, Moves, States, Target};
pub(crate) use streams::{RowsAt, StreamEncoder};
pub(crate) use transduce::{Transduce, TransducePorts, TransduceRun};
