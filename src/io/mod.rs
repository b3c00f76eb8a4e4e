//! File formats: safetensors (always), `.npy` (with the command line), ONNX (feature `onnx`).

mod foreign;
mod network;
#[cfg(feature = "cli")]
pub mod npy;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod safetensors;
