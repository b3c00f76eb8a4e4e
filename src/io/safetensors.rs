//! Weights from and to safetensors files with PyTorch's names, whole stacks by prefix; f64, f32, f16 and bf16 in, f64 and f32 out.

use crate::cell::Cell;
use crate::config::{Bias, Direction, RnnConfig};
use crate::error::{Error, Result};
use crate::real::Real;
use crate::recurrence::Recurrence;
use crate::weights::{Weights, parameters};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What the names of parameters begin with, before the layer's number.
const KINDS: [&str; 7] =
    ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l", "weight_hr_l", "weight_unit_l", "gain_l"];

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
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = std::fs::read(&path).map_err(|e| Error::file(&path, e))?;
        Self::from_bytes(path, bytes)
    }

    /// The same from bytes in memory; `name` stands for the path in errors.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.into();
        let (header_bytes, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| Error::file(&path, format!("not safetensors: {e}")))?;
        Ok(Self { path, bytes, header, data_at: size_of::<u64>() + header_bytes })
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub(crate) fn size(&self) -> usize {
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

    /// The element type of a tensor, or `None` if the file has no such name.
    pub(crate) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.header.info(name).map(|info| info.dtype)
    }

    fn tensor_error(&self, name: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(format!("{}: {name}", self.path.display()), expected, got)
    }

    /// The stack of `config` from tensors named `prefix` + PyTorch's names (`weight_ih_l0`, `bias_hh_l1_reverse`, …).
    pub fn weights<T: Real>(&self, config: &RnnConfig, prefix: &str) -> Result<Weights<T>> {
        Weights::from_named(config, |name| self.real(&format!("{prefix}{name}"))).map_err(|e| match e {
            Error::Mismatch { what, expected, got } => self.tensor_error(&format!("{prefix}{what}"), expected, got),
            other => other,
        })
    }

    /// The configuration that the tensors under `prefix` describe for `cell`: sizes, layers, directions, projection, bias. A
    /// recurrence that is not dense is one the header says (`recurrence`, as [`Weights::save`] writes it): shapes alone would not tell
    /// heads from a projection whose matrix is missing.
    pub fn config(&self, cell: &'static Cell, prefix: &str) -> Result<RnnConfig> {
        let shape = |name: &str| self.header.info(&format!("{prefix}{name}")).map(|info| info.shape.clone());
        let matrix = |name: &str| match shape(name) {
            Some(s) if s.len() == 2 => Ok(s),
            other => {
                let got = other.map_or("none".into(), |s| format!("{s:?}"));
                Err(self.tensor_error(&format!("{prefix}{name}"), "a matrix", got))
            }
        };
        let (w, r) = (matrix("weight_ih_l0")?, matrix("weight_hh_l0")?);
        let recurrence = match self.metadata().get(RECURRENCE) {
            Some(text) => text.parse().map_err(|e| Error::file(&self.path, e))?,
            None => Recurrence::Dense,
        };
        let gates = cell.input_gates();
        let hidden_size = w[0] / gates;
        if hidden_size == 0 || w[0] % gates != 0 {
            return Err(self.tensor_error(
                &format!("{prefix}weight_ih_l0"),
                format!("[{gates}·H, I] for {}", cell.name),
                format!("{w:?}"),
            ));
        }
        let mut num_layers = 1;
        while shape(&format!("weight_ih_l{num_layers}")).is_some() {
            num_layers += 1;
        }
        let config = RnnConfig {
            cell,
            input_size: w[1],
            hidden_size,
            num_layers,
            direction: match shape("weight_ih_l0_reverse") {
                Some(_) => Direction::Bidirectional,
                None => Direction::Forward,
            },
            bias: match (shape("bias_ih_l0"), shape("bias_hh_l0")) {
                (None, None) => Bias::None,
                (None, Some(_)) => Bias::Recurrent,
                (Some(_), None) => Bias::One,
                (Some(_), Some(_)) => Bias::Two,
            },
            proj_size: match shape("weight_hr_l0") {
                Some(projection) if recurrence != Recurrence::Dense => projection.first().copied().unwrap_or(0),
                Some(_) => r[1],
                None => 0,
            },
            recurrence,
            ..Default::default()
        };
        config.validate()?;
        self.check_all_used(&config, prefix)?;
        Ok(config)
    }

    /// Refuses parameters under `prefix` that `config` would leave out: a file with a gap (layer 2 without layer 1, R of a
    /// reverse direction without its W, a bias that only some layers have) must not run as a smaller network.
    fn check_all_used(&self, config: &RnnConfig, prefix: &str) -> Result<()> {
        let known: HashSet<String> = parameters(config).into_iter().map(|p| p.name).collect();
        let is_parameter = |name: &str| {
            let layer = KINDS.iter().find_map(|kind| name.strip_prefix(kind));
            layer.is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
        };
        let mut names = self.names();
        names.sort_unstable();
        for name in &names {
            let Some(parameter) = name.strip_prefix(prefix) else { continue };
            if is_parameter(parameter) && !known.contains(parameter) {
                let RnnConfig { cell, num_layers, direction, bias, .. } = config;
                let network = format!("{}, layers: {num_layers}, {direction:?}, bias {bias:?}", cell.name);
                let expected = format!("none, for the other tensors make a network without it ({network})");
                return Err(self.tensor_error(name, expected, "one"));
            }
        }
        Ok(())
    }
}

impl<T: Real> Weights<T> {
    /// Writes every parameter of `config` to a safetensors file, in `T`, under `prefix` + the names of
    /// [`crate::weights::parameters`]: what [`TensorFile::weights`] reads back and PyTorch's `load_state_dict` takes for the cells
    /// that it has (with an empty prefix, or that of the module in a larger model, `"lstm."`). An existing file is replaced.
    /// A recurrence that is not dense is written into the header, for [`TensorFile::config`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights are not those of `config`; [`Error::File`] if the file cannot be written.
    pub fn save(&self, config: &RnnConfig, path: impl AsRef<Path>, prefix: &str) -> Result<()> {
        self.validate(config)?;
        let tensors = self.named(config).map(|(p, values)| (format!("{prefix}{}", p.name), Tensor(p.shape, values)));
        // What loaders of PyTorch files look for.
        let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        if config.recurrence != Recurrence::Dense {
            metadata.insert(RECURRENCE.to_string(), config.recurrence.to_string());
        }
        let path = path.as_ref();
        safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| Error::file(path, e))
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
