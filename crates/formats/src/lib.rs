//! Files that [`wgpu_rnn`] is not made of, for its networks: whole models ([`WholeModel`]); the named tensors of other tools' files, and the recurrent layers among
//! them ([`Tensors`], [`layers`]); Keras models ([`keras`]); ONNX models ([`onnx`]), read and written; and NumPy's arrays ([`npy`]). What
//! a file is, its bytes tell ([`Kind`]). The library itself reads safetensors ([`wgpu_rnn::io::safetensors`]).

mod blocks;
mod element;
mod file;
mod inspect;
pub mod keras;
pub mod layers;
pub mod npy;
pub mod onnx;
pub mod tensors;
mod whole;

pub use blocks::Blocks;
pub use element::Element;
#[doc(inline)]
pub use file::ModelFile;
pub use inspect::{Inspection, Is, Part, Whole, inspect};
pub use tensors::{Rewrite, Tensors};
pub use wgpu_rnn::io::Kind;
#[doc(inline)]
pub use whole::{WholeModel, WholeSession, WholeValue};

/// The examples of the page on files run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/formats.md")]
struct Formats;
