//! The GPU executor of networks.
//!
//! ```text
//! NetworkPlan ──> Program: where everything is in one arena, and the dispatches ──> Executor: buffers, pipelines, one bind group
//! ```
//!
//! One storage buffer, the arena, holds every slot of the plan, the gradients of parameters and scratch, so that all kernels share
//! one bind group; a dispatch is a text, the words of its uniform block (offsets and sizes) and a grid. Texts depend on an
//! operation's structure and sizes alone: layers of equal shape share pipelines. A text is `frame.wgsl`, constants and functions made
//! of the operation's expressions and operands ([`text`]), and a kernel of `shaders/network`. Every sum has a fixed order.

mod executor;
mod fold;
mod kernel;
mod linear;
mod products;
mod program;
mod rows;
mod scan;
mod scan_backward;
mod text;

pub(crate) use executor::Executor;
pub(crate) use products::pair_rounds;
pub(crate) use program::{Program, STRETCH};
