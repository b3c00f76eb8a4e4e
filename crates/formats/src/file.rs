//! A file of whatever kind is read here, opened once: [`ModelFile`].

use crate::keras::KerasFile;
use crate::onnx::OnnxFile;
use crate::tensors::Tensors;
use crate::whole::WholeModel;
use std::path::Path;
use wgpu_rnn::io::Kind;
use wgpu_rnn::{Error, Result};

/// A model's file in memory, by what reads it. Its bytes tell what it is; its name does not count.
pub enum ModelFile {
    /// An ONNX model.
    Onnx(Box<OnnxFile>),
    /// A Keras model, or the weights of one.
    Keras(Box<KerasFile>),
    /// Named tensors.
    Tensors(Box<Tensors>),
}

impl ModelFile {
    /// Reads the file, and of an ONNX model and of an index the files beside it that it names.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, or of a kind that is not read here, with what helps; errors of its reader.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(path, std::fs::read(path).map_err(|e| Error::file(path, e))?)
    }

    /// The same from the file's bytes; `path` says where files beside it are.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        let path = path.as_ref();
        match Kind::of(&bytes) {
            Some(Kind::Onnx) => Ok(Self::Onnx(Box::new(OnnxFile::within_folder(path, bytes)?))),
            Some(Kind::Keras | Kind::Hdf5) => Ok(Self::Keras(Box::new(KerasFile::from_bytes(path, bytes)?))),
            Some(kind) if Tensors::reads(kind) => Ok(Self::Tensors(Box::new(Tensors::from_bytes(path, bytes)?))),
            Some(kind) => Err(Error::file(
                path,
                format!("no model (ONNX, Keras) and no file of named tensors (safetensors, .pt, .pth or .npz): {kind}"),
            )),
            None => Err(Error::file(path, "a file of no known format (or cut short, or from after this version)")),
        }
    }

    /// Whether it says what follows on what, and does not hold tensors alone.
    pub fn holds_a_whole_model(&self) -> bool {
        match self {
            Self::Onnx(_) => true,
            Self::Keras(file) => !file.is_weights_only(),
            Self::Tensors(_) => false,
        }
    }

    /// The whole model.
    ///
    /// # Errors
    /// [`Error::File`] for a file that holds no whole model; errors of its reader ([`KerasFile::network`]).
    pub fn whole(self) -> Result<WholeModel> {
        match self {
            Self::Onnx(file) => Ok(WholeModel::of_onnx(file)),
            Self::Keras(file) => WholeModel::of_keras(&file),
            Self::Tensors(file) => {
                let what = file.kind().what();
                Err(Error::file(file.path(), format!("no whole model, but {what}: only its layers can be taken")))
            }
        }
    }
}
