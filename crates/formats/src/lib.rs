//! Files that [`wgpu_rnn`] is not made of, for its networks: ONNX models ([`onnx`]), read and written, and NumPy's arrays
//! ([`npy`]). The library itself reads safetensors ([`wgpu_rnn::io::safetensors`]).

pub mod keras;
pub mod npy;
pub mod onnx;

/// The examples of the page on files run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/formats.md")]
struct Formats;
