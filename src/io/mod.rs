//! File formats: safetensors (always), `.npy` (with the command line).

#[cfg(feature = "cli")]
pub mod npy;
pub mod safetensors;
