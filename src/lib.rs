//! Fused recurrent kernels for every GPU, in WGSL through wgpu, with a CPU executor where there is no GPU.
//!
//! ```text
//! x ──W──> pre-activations of every step ──┐             (1) project : one matrix product over all T·B rows
//!                                          ▼
//! h[t-1] ──R──> + ──> P ──> h[t], c[t]                   (2) recur   : the only sequential part
//!                                          │
//! dy ──> P* ──> dpre[t] ──Rᵀ──> dh[t-1]                  (3) recur backward, last step first
//! dpre ──> dx = dpre·W, dW = dpreᵀ·x, dR = dpreᵀ·h, db   (4) collect : matrix products over all T·B rows
//! ```
//!
//! `P` (and its adjoint `P*`) is the **cell**: the arithmetic of one hidden unit ([`cells`]). Everything else is shared by every cell. Data goes one
//! way, [`RnnConfig`] → [`Plan`] → [`Session`]; two executors run the same plan, the CPU one (in f64 the oracle of the tests)
//! and the GPU one. `Session` has the example; the `cell` module explains the contract that new cells follow.

mod activation;
mod activation_format;
pub mod blocks;
pub mod cell;
pub mod cells;
mod config;
pub mod cpu;
mod device;
mod entry;
mod error;
pub mod expr;
pub mod gpu;
pub mod io;
pub mod kernels;
pub mod network;
mod optimiser;
mod plan;
mod real;
mod recurrence;
pub mod rule;
pub mod rules;
mod schedule;
mod session;
mod tensor;
mod tuning;
pub mod verify;
pub mod weights;
mod zoneout;

pub use activation_format::ActivationFormat;
pub use cell::{Activation, Cell};
pub use config::{Bias, Direction, Dropout, Head, InputMode, Layout, Loss, RnnConfig, Shape, StageShape};
pub use device::Device;
pub use error::{Error, Result};
pub use gpu::{IoBinding, IoBuffers};
pub use optimiser::Optimiser;
pub use plan::{
    Amount, Caps, Choices, DeviceClass, Dims, Dispatch, DispatchWork, EmbeddingGradientIds, EmbeddingIds, Extent,
    Floor, GradientIds, HeadGradientIds, HeadIds, KernelWork, Memory, Options, Origin, PassWork, Plan, PlanData,
    Precision, Rates, Reset, Role, Shader, Slot, SlotId, SlotIds, Step, Strategy, UpdateIds, Wavefront, Work,
};
pub use real::Real;
pub use recurrence::Recurrence;
pub use schedule::Schedule;
pub use session::{
    Gradients, Initial, Input, KernelTime, Output, Session, Snapshot, Startup, TargetValues, Targets, Upstream,
};
pub use tensor::{Tensor, View};
pub use tuning::{Choice, TILE_SIZES, TileChoice, Tuning};
pub use weights::{Names, WeightFormat, Weights};
pub use wgpu;
pub use zoneout::Zoneout;

/// The examples of the README and of the guide run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// Those of the page on files, which export and read ONNX.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../docs/formats.md")]
struct Formats;
