//! The backward pass, over the registry of cells: derivatives against differences in f64 ([`derivatives`]), the GPU against
//! the CPU ([`executors`]), the laws that hold bit for bit ([`laws`]), gradients from kept states alone ([`recompute`]),
//! episodes ([`resets`]) and windows ([`windows`]) of a stream, and what is refused ([`refusals`]).

#[path = "../harness/mod.rs"]
mod harness;

mod derivatives;
mod executors;
mod laws;
mod recompute;
mod refusals;
mod resets;
mod windows;
