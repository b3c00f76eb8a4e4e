//! The named tensors of a file, whatever program wrote it: [`Tensors`].
//!
//! | container | of | here |
//! |---|---|---|
//! | one safetensors file, or several with an index | Hugging Face, PyTorch, MLX, candle, burn, JAX | `safetensors` |
//! | `.pt`, `.pth`: zip, stacked pickles, tar | PyTorch | `pytorch` |
//! | `.npz` | NumPy, JAX, MLX | `npz` |
//!
//! A container is a row of `CONTAINERS` and a file in the folder `tensors`.

mod npz;
mod pytorch;
mod safetensors;
mod write;

pub use write::Rewrite;

use crate::element::Element;
use ::safetensors::Dtype;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::{Kind, NamedTensors};
use wgpu_rnn::num::Real;
use wgpu_rnn::{Error, Recurrence, Result};

/// Reads the tensors of a kind of file. `path` names the file in errors, and says where files beside it are.
type Open = fn(path: &Path, bytes: Vec<u8>) -> Result<Contents>;

/// Which files have named tensors.
const CONTAINERS: [(Kind, Open); 6] = [
    (Kind::Safetensors, safetensors::file),
    (Kind::SafetensorsIndex, safetensors::index),
    (Kind::PyTorchZip, pytorch::open),
    (Kind::PyTorchLegacy, pytorch::open),
    (Kind::PyTorchTar, pytorch::open),
    (Kind::Npz, npz::open),
];

/// Values may take so many times the bytes of their file: more than packing gains on numbers, and than views of one storage share.
const EXPANDED: usize = 64;

/// What a container holds.
#[derive(Default)]
struct Contents {
    tensors: Vec<(String, Stored)>,
    /// What the file says of [`wgpu_rnn::RnnConfig::recurrence`].
    recurrence: Recurrence,
    /// What only who writes the file anew needs.
    kept: Kept,
}

/// What a file has beside tensors that are read.
#[derive(Default)]
struct Kept {
    /// Its header's texts.
    metadata: BTreeMap<String, String>,
    /// Names that the file does not have, and the names whose tensors they are.
    tied: BTreeMap<String, String>,
    /// Tensors of number formats that are not read: names, formats and shapes, and what gives their bytes.
    unread: Vec<(String, Dtype, Vec<usize>, Read)>,
}

/// Gives values: little-endian, row-major, as many as a shape says.
type Read = Box<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

/// A tensor whose values are not read yet.
struct Stored {
    shape: Vec<usize>,
    element: Element,
    read: Read,
}

/// The named tensors of a file in memory. Values are read when they are asked for.
///
/// ```no_run
/// # fn main() -> wgpu_rnn::Result<()> {
/// use wgpu_rnn_formats::Tensors;
/// let file = Tensors::open("model.pt")?;
/// for name in file.names() {
///     println!("{name} {:?} {}", file.shape(name).unwrap_or_default(), file.element(name).map_or("", |e| e.name()));
/// }
/// for layer in file.layers() {
///     println!("{layer}");
/// }
/// let (config, weights) = file.layer(None)?.read::<f32>(None)?; // the only recurrent layer, or stack, of the file
/// # Ok(())
/// # }
/// ```
pub struct Tensors {
    path: PathBuf,
    kind: Kind,
    size: usize,
    tensors: BTreeMap<String, Stored>,
    recurrence: Recurrence,
    kept: Kept,
}

impl Tensors {
    /// Reads the file: a safetensors file or the index of several, a `.pt` or `.pth` of any PyTorch, or a `.npz`. It is known by its
    /// bytes; its name does not count.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or is damaged, or is another kind of file: that says which, and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors, and in front of the files that an index names.
    ///
    /// # Errors
    /// As [`Tensors::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.into();
        let (kind, size) = (Kind::of(&bytes), bytes.len());
        let known = CONTAINERS.iter().find(|(of, _)| Some(*of) == kind);
        let Some((kind, open)) = known else {
            let expected = "no file of named tensors (safetensors, .pt, .pth or .npz)";
            return Err(Error::file(path, kind.map_or(expected.into(), |kind| format!("{expected}: {kind}"))));
        };
        let Contents { tensors, recurrence, kept } = open(&path, bytes)?;
        Ok(Self { path, kind: *kind, size, tensors: tensors.into_iter().collect(), recurrence, kept })
    }

    /// Whether files of this kind have named tensors that are read here.
    pub fn reads(kind: Kind) -> bool {
        CONTAINERS.iter().any(|(of, _)| *of == kind)
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of file it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many bytes the file has; of an index, without the files that it names.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Every name, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, or `None` if there is none of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// The number format of a tensor in the file, or `None` if there is none of that name.
    pub fn element(&self, name: &str) -> Option<Element> {
        self.tensors.get(name).map(|t| t.element)
    }

    /// Shape and values of a tensor, rounded to `T`, or `None` if there is none of that name. Whole numbers are numbers too.
    ///
    /// # Errors
    /// [`Error::File`] for values that the file does not have.
    pub fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        let bytes = self.read(name, tensor)?;
        Ok(Some((tensor.shape.clone(), tensor.element.real(&bytes))))
    }

    /// Shape and values of a tensor of whole numbers, or `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::File`] for values that the file does not have, [`Error::Mismatch`] for a floating-point tensor and for a number
    /// that no i64 holds.
    pub fn integers(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<i64>)>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        let bytes = self.read(name, tensor)?;
        let values = tensor.element.integers(&bytes).ok_or_else(|| {
            let what = format!("{}: {name}", self.path.display());
            Error::mismatch(what, "whole numbers within i64", tensor.element.name())
        })?;
        Ok(Some((tensor.shape.clone(), values)))
    }

    fn read(&self, name: &str, tensor: &Stored) -> Result<Vec<u8>> {
        let bytes = (tensor.read)().map_err(|reason| Error::file(&self.path, format!("{name}: {reason}")))?;
        let count = tensor.shape.iter().try_fold(tensor.element.size(), |n, &d| n.checked_mul(d));
        if count != Some(bytes.len()) {
            let expected = format!("{:?} of {}", tensor.shape, tensor.element.name());
            return Err(Error::file(&self.path, format!("{name}: expected {expected}, got {} bytes", bytes.len())));
        }
        Ok(bytes)
    }
}

/// Layers and networks are read by the names in the file: PyTorch's. [`Tensors::layers`] knows those of other tools too.
impl NamedTensors for Tensors {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|t| t.shape.clone())
    }

    fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        Self::real(self, name)
    }

    fn recurrence(&self) -> Result<Recurrence> {
        Ok(self.recurrence)
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} tensors of {}", self.path.display(), self.tensors.len(), self.kind.what())
    }
}
