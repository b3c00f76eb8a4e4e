//! Networks and layers out of safetensors files, and into them. Other files are read by crates of their own, which give their
//! tensors by [`NamedTensors`].

pub mod kind;
mod named;
mod network;
pub mod safetensors;

pub use kind::Kind;
pub use named::NamedTensors;
