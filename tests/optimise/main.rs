//! Updates of the parameters: against the equations, and the laws that they keep.

#[path = "../harness/mod.rs"]
mod harness;

mod ends;
mod laws;
mod refusals;
mod rules;
mod saving;
