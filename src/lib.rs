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

mod decode;
mod error;
pub mod exec;
pub mod expr;
mod face;
pub mod io;
pub mod kernels;
mod model;
pub mod num;
mod plan;
mod pool;
mod session;
mod tensor;
mod tuning;

pub use decode::{
    Beam, DecodeHook, DecodeRow, Decoder, DecoderOptions, Decoding, Ended, Hypothesis, Prompt, Sampling, TokenRules,
    Transcript, Transducer, TransducerOptions,
};
pub use error::{Error, Result, StreamError};
pub use exec::gpu::{IoBinding, IoBuffers};
pub use exec::{Device, Element, Startup, gpu};
pub use face::{Model, ModelOptions, ModelOutput, Rnn, RnnOptions};
pub use model::activation_format::ActivationFormat;
pub use model::cell::{Activation, Cell};
pub use model::optimiser::Optimiser;
pub use model::recurrence::Recurrence;
pub use model::stack::{Bias, Direction, Dropout, Head, InputMode, Layout, Loss, RnnConfig, Shape, StageShape};
pub use model::weights::{Names, WeightFormat, Weights};
pub use model::zoneout::Zoneout;
pub use model::{blocks, cell, cells, rule, rules, weights};
pub use num::InstructionSet;
pub use num::Real;
pub use plan::schedule::Schedule;
pub use plan::tuning::{Choice, TILE_SIZES, TileChoice, Tuning};
pub use plan::{
    Amount, Caps, Choices, DeviceClass, Dims, Dispatch, DispatchWork, EmbeddingGradientIds, EmbeddingIds, Empty,
    Extent, Floor, GradientIds, HeadGradientIds, HeadIds, KernelWork, LossIds, Memory, Options, Origin, PassWork, Plan,
    PlanData, Precision, Rates, Reset, Role, Shader, Slot, SlotId, SlotIds, Step, Strategy, UpdateIds, Wavefront, Work,
};
pub use pool::{
    History, Keep, Policy, PoolOptions, PoolStatistics, Recovered, StreamId, StreamPool, StreamSnapshot, Tick,
};
#[cfg(not(target_family = "wasm"))]
pub use session::KernelTime;
pub use session::{Gradients, Initial, Input, Output, Session, Snapshot, State, TargetValues, Targets, Upstream};
pub use tensor::{Tensor, View};
pub use wgpu;

pub mod network {
    //! Networks of linear recurrences and what stands around them: blocks as operations over values `[T, B, width]`.
    //!
    //! ```text
    //! Network (operations, parameters by name)  ──>  NetworkPlan (sizes, strategy, memory)  ──>  NetworkSession (on a device)
    //!
    //! linear   x·Wᵀ + b                      norm   RMS, layer or L2, over groups of columns
    //! conv     depthwise over time           map    a pointwise expression of several operands
    //! shift    the step before               scan   a linear recurrence (crate::rule)
    //! sum      of groups of columns          layers a stack of LSTM, GRU, … (crate::RnnConfig)
    //! concat   parts side by side            pool   of a sequence the last, first, mean or largest row of its steps
    //! loss     how far from targets          embedding  rows of a table by token ids
    //! ```
    //!
    //! An operation makes one new value; it reads parts of values (ranges of columns), so that what one product gives several readers
    //! take without a copy. Each has its adjoint, and the backward pass walks the operations in reverse: gradients of values and
    //! parameters are sums over their readers, in that fixed order. Operations over time (conv, shift, scan, layers) know lengths and resets and
    //! carry a state from run to run, so that a network runs whole, in pieces or step by step; all others work row by row.
    //!
    //! Published blocks are functions that add their operations to a network, in `crate::blocks`.

    pub use crate::exec::gpu::{NetworkBinding, NetworkBuffers};
    pub use crate::model::network::*;
    pub use crate::plan::network::{NetworkOptions, NetworkPlan, NetworkPlanData, NetworkSlot, Parallel};
    #[cfg(not(target_family = "wasm"))]
    pub use crate::session::OperationTime;
    pub use crate::session::{
        NetworkGradients, NetworkInitial, NetworkInput, NetworkOutput, NetworkSession, NetworkUpstream,
    };
}

/// The examples of the README and of the guide run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
