//! [`NamedTensors`]: what layers and networks are read from.

use crate::error::Result;
use crate::io::safetensors::stack;
use crate::model::cell::Cell;
use crate::model::recurrence::Recurrence;
use crate::model::stack::RnnConfig;
use crate::model::weights::{Names, Weights};
use crate::num::Real;
use std::path::Path;

/// Tensors by their names, whatever file they lie in. [`crate::io::safetensors::TensorFile`] is one; `Tensors` of the crate
/// wgpu-rnn-formats is another, for the files of other tools.
pub trait NamedTensors {
    /// The file that they came from, as errors name it.
    fn path(&self) -> &Path;

    /// Every name.
    fn names(&self) -> Vec<String>;

    /// The shape of a tensor, or `None` if there is none of that name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Shape and values of a tensor, or `None` if there is none of that name.
    ///
    /// # Errors
    /// [`crate::Error`] for values that are no numbers of this kind, or that cannot be read.
    fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>>;

    /// What the file says of [`RnnConfig::recurrence`]; most say nothing, and that is [`Recurrence::Dense`].
    ///
    /// # Errors
    /// [`crate::Error::File`] for one that is not known.
    fn recurrence(&self) -> Result<Recurrence> {
        Ok(Recurrence::Dense)
    }

    /// The configuration that the tensors under `names` describe for `cell`: as
    /// [`crate::io::safetensors::TensorFile::config`].
    ///
    /// # Errors
    /// As there.
    fn config<'n>(&self, cell: &'static Cell, names: impl Into<Names<'n>>) -> Result<RnnConfig>
    where
        Self: Sized,
    {
        stack::config(self, cell, names.into())
    }

    /// The parameters of `config` from the tensors under `names`, no less and no more: as
    /// [`crate::io::safetensors::TensorFile::weights`].
    ///
    /// # Errors
    /// As there.
    fn weights<'n, T: Real>(&self, config: &RnnConfig, names: impl Into<Names<'n>>) -> Result<Weights<T>>
    where
        Self: Sized,
    {
        stack::weights(self, config, names.into())
    }

    /// The same of a part of the stack: as [`crate::io::safetensors::TensorFile::weights_partial`].
    ///
    /// # Errors
    /// As there.
    fn weights_partial<'n, T: Real>(&self, config: &RnnConfig, names: impl Into<Names<'n>>) -> Result<Weights<T>>
    where
        Self: Sized,
    {
        stack::weights_partial(self, config, names.into())
    }
}
