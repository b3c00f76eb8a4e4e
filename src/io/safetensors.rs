//! Weights from and to safetensors files with PyTorch's names, whole stacks by prefix; f64, f32, f16 and bf16 in, f64 and f32 out.

mod hints;
pub(super) mod stack;

use super::kind::Kind;
use super::named::NamedTensors;
use crate::error::{Error, Result};
use crate::model::recurrence::Recurrence;
use crate::model::stack::RnnConfig;
use crate::model::weights::{Names, Weights};
use crate::num::Real;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The header's name for [`RnnConfig::recurrence`].
const RECURRENCE: &str = "recurrence";

/// A safetensors file in memory.
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Metadata,
    /// Where the tensors' data begins.
    data_at: usize,
}

impl TensorFile {
    /// Reads the file and checks its header.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or is not safetensors; a PyTorch `.pt` or `.pth` file, an ONNX model, HDF5, GGUF, `.npy`
    /// and some others are called by their names, with what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = std::fs::read(&path).map_err(|e| Error::file(&path, e))?;
        Self::from_bytes(path, bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`TensorFile::open`], but for reading.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.into();
        let (header_bytes, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| Error::file(&path, format!("not safetensors: {}", why_not(&bytes, &e))))?;
        Ok(Self { path, bytes, header, data_at: size_of::<u64>() + header_bytes })
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The names in the file, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The header's string-to-string metadata.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.header.metadata().clone().unwrap_or_default()
    }

    /// A tensor's bytes; the header check has shown that they are there, and as many as its shape says.
    fn data(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        &self.bytes[self.data_at..][start..end]
    }

    /// Shape and values of a floating-point tensor, or `None` if the file has no such name.
    pub fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        let Some(info) = self.header.info(name) else { return Ok(None) };
        let data = self.data(info);
        let values = match info.dtype {
            Dtype::F64 => decode(data, f64::from_le_bytes),
            Dtype::F32 => decode(data, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F16 => decode(data, |b| half::f16::from_le_bytes(b).to_f64()),
            Dtype::BF16 => decode(data, |b| half::bf16::from_le_bytes(b).to_f64()),
            other => return Err(self.tensor_error(name, "F64, F32, F16 or BF16", format!("{other:?}"))),
        };
        Ok(Some((info.shape.clone(), values)))
    }

    /// Shape and values of an integer tensor, or `None` if the file has no such name.
    pub fn integers(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<i64>)>> {
        let Some(info) = self.header.info(name) else { return Ok(None) };
        let data = self.data(info);
        let values = match info.dtype {
            Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            Dtype::I32 => data.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
            other => return Err(self.tensor_error(name, "I64 or I32", format!("{other:?}"))),
        };
        Ok(Some((info.shape.clone(), values)))
    }

    /// A tensor's elements as the file has them, little-endian and row-major, or `None` if the file has no such name.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.header.info(name).map(|info| self.data(info))
    }

    /// The element type of a tensor, or `None` if the file has no such name. Hidden: the type is the `safetensors` crate's, and
    /// only golden files ask for it.
    #[doc(hidden)]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.header.info(name).map(|info| info.dtype)
    }

    fn tensor_error(&self, name: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(format!("{}: {name}", self.path.display()), expected, got)
    }
}

impl NamedTensors for TensorFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.header.info(name).map(|info| info.shape.clone())
    }

    fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        Self::real(self, name)
    }

    fn recurrence(&self) -> Result<Recurrence> {
        match self.metadata().get(RECURRENCE) {
            Some(text) => text.parse().map_err(|e| Error::file(&self.path, e)),
            None => Ok(Recurrence::Dense),
        }
    }
}

impl<T: Real> Weights<T> {
    /// Writes every parameter of `config` to a safetensors file, in `T`, under `names`: a prefix (`""` or `"lstm."`) with the names of
    /// [`crate::weights::parameters`] behind it, or [`Names`] with others for embedding and head. [`TensorFile::weights`] reads them
    /// back by the same names, and PyTorch's `load_state_dict` takes them for the cells that it has, where they are those of the module.
    /// An existing file is replaced. A recurrence that is not dense is written into the header, for [`TensorFile::config`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights are not those of `config`, or two parameters have one name; [`Error::File`] if the file
    /// cannot be written.
    pub fn save<'n>(&self, config: &RnnConfig, path: impl AsRef<Path>, names: impl Into<Names<'n>>) -> Result<()> {
        let names = names.into();
        names.validate()?;
        self.validate(config)?;
        let tensors: Vec<_> = self
            .named(config)
            .map(|(p, values)| (names.in_file(&p.name).into_owned(), Tensor(p.shape, values)))
            .collect();
        let mut seen = HashSet::new();
        if let Some((twice, _)) = tensors.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(Error::mismatch("names to save under", "a name for every parameter", format!("{twice} twice")));
        }
        // What loaders of PyTorch files look for.
        let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        if config.recurrence != Recurrence::Dense {
            metadata.insert(RECURRENCE.to_string(), config.recurrence.to_string());
        }
        let path = path.as_ref();
        safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| Error::file(path, e))
    }
}

/// What a file is that has no header of safetensors, or what is wrong with the header.
fn why_not(bytes: &[u8], error: &SafeTensorError) -> String {
    if let Some(other) = Kind::of(bytes).filter(|kind| *kind != Kind::Safetensors) {
        return other.to_string();
    }
    match (error, bytes.first_chunk()) {
        (SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength, Some(length)) => format!(
            "its first 8 bytes announce a header of {} bytes, but the file has {} (a file of another format, or cut short)",
            u64::from_le_bytes(*length),
            bytes.len()
        ),
        _ => error.to_string(),
    }
}

/// A tensor's shape and values, to be written.
struct Tensor<'a, T>(Vec<usize>, &'a [T]);

impl<T: Real> View for Tensor<'_, T> {
    fn dtype(&self) -> Dtype {
        if size_of::<T>() == size_of::<f64>() { Dtype::F64 } else { Dtype::F32 }
    }

    fn shape(&self) -> &[usize] {
        &self.0
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // Files are little-endian.
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(bytemuck::cast_slice(self.1));
        }
        let mut bytes = bytemuck::cast_slice(self.1).to_vec();
        bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        size_of_val(self.1)
    }
}

/// Little-endian elements of `N` bytes; a file with a wrong byte count is refused by the header check before this.
fn decode<T: Real, const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|b| T::from_f64(read(*b))).collect()
}
