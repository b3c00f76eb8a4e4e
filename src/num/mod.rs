//! Numbers: the two element types, registers of them, memory for them, and random bits. Imports nothing else of the crate.

mod aligned;
mod clock;
pub(crate) mod instructions;
mod lanes;
mod memory;
pub mod random;
mod real;
mod shared;

pub(crate) use aligned::Aligned;
pub(crate) use clock::Clock;
pub use instructions::InstructionSet;
pub use lanes::{F32s, F64s, Lanes};
#[doc(hidden)] // For the crates of this workspace that read files.
pub use memory::memory;
pub use real::{Family, Pair, Real};
pub(crate) use shared::Shared;
