//! Networks and layers out of safetensors files, and into them. Other files are read by crates of their own.

mod foreign;
mod network;
pub mod safetensors;
