//! A file of tensors written anew, some of them with other values: [`Rewrite`].

use super::Tensors;
use crate::element::Element;
use safetensors::{Dtype, View as Written};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use wgpu_rnn::io::Kind;
use wgpu_rnn::network::Network;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::{Names, Weights};
use wgpu_rnn::{Error, Result, RnnConfig, View};

/// The tensors of a file with other values for some of them, to be written as a safetensors file: trained weights back under the names
/// that they came from. [`Tensors::rewrite`] makes it.
///
/// Names, shapes and number formats are the file's. In a file of f16 or bf16 new values are rounded to the nearest number of that format.
/// Everything else stays, bit for bit: other tensors, and the texts in the header of a safetensors file.
///
/// | what was loaded by | is put back by |
/// |---|---|
/// | [`Tensors::layer`] and `Layer::read` | [`Rewrite::layer`] |
/// | `NamedTensors::weights` under names of PyTorch | [`Rewrite::stack`] |
/// | `Network::load` | [`Rewrite::network`] |
/// | [`Tensors::real`] | [`Rewrite::tensor`] |
///
/// ```
/// # use wgpu_rnn::{RnnConfig, Weights};
/// use wgpu_rnn_formats::Tensors;
/// # fn main() -> wgpu_rnn::Result<()> {
/// # let at = std::env::temp_dir().join(format!("wgpu-rnn-rewrite-{}", std::process::id()));
/// # let (path, trained) = (at.with_extension("safetensors"), at.with_extension("trained.safetensors"));
/// # let config = RnnConfig::gru(3, 4);
/// # Weights::<f32>::random(&config, 1)?.save(&config, &path, "rnn.")?;
/// let file = Tensors::open(&path)?; // "model.safetensors", or a .pt, or an .npz
/// let layer = file.layer(Some("rnn"))?;
/// let (config, mut weights) = layer.read::<f32>(None)?;
/// weights.layers[0].b_w[0] += 0.5; // in place of training
/// let mut changed = file.rewrite();
/// changed.layer(&layer, &config, &weights)?;
/// changed.save(&trained)?;
///
/// let (_, again) = Tensors::open(&trained)?.layer(Some("rnn"))?.read::<f32>(None)?;
/// assert_eq!(again, weights);
/// # for path in [path, trained] { std::fs::remove_file(path).expect("removed"); }
/// # Ok(()) }
/// ```
pub struct Rewrite<'a> {
    file: &'a Tensors,
    /// By the names that the file has.
    changed: BTreeMap<String, Vec<u8>>,
}

impl Tensors {
    /// The file's tensors, to be written with other values for some of them.
    pub fn rewrite(&self) -> Rewrite<'_> {
        Rewrite { file: self, changed: BTreeMap::new() }
    }
}

impl<'a> Rewrite<'a> {
    /// The file whose tensors they are.
    pub fn file(&self) -> &'a Tensors {
        self.file
    }

    /// New values for a tensor of that name and shape; dimensions of 1 do not count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that the file does not have, for another shape, for a tensor that is no floating-point one, for a value
    /// beyond the range of its number format, and for two different values of a tensor that has two names in the file.
    pub fn tensor<T: Real>(&mut self, name: &str, values: View<'_, T>) -> Result<()> {
        let mismatch = |expected: &dyn ToString, got: &dyn ToString| {
            Error::mismatch(format!("{}: {name}", self.file.path.display()), expected.to_string(), got.to_string())
        };
        let stored = self.file.tensors.get(name);
        let stored = stored.ok_or_else(|| mismatch(&"a tensor of the file", &"none"))?;
        let wide = |shape: &[usize]| shape.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
        let count = stored.shape.iter().product::<usize>();
        if wide(&stored.shape) != wide(values.shape) || values.data.len() != count {
            return Err(mismatch(&format!("{:?}, as in the file", stored.shape), &format!("{:?}", values.shape)));
        }
        if !stored.element.is_real() {
            return Err(mismatch(&"a floating-point tensor in the file", &stored.element.name()));
        }
        let beyond = |value: f64| mismatch(&format!("values that {} of the file holds", stored.element.name()), &value);
        let bytes = stored.element.encoded(values.data).map_err(beyond)?;
        let kept = self.file.kept.tied.get(name).map_or(name, String::as_str);
        match self.changed.get(kept) {
            Some(other) if *other != bytes => {
                Err(mismatch(&format!("the values of {kept}, whose tensor it shares in the file"), &"others"))
            }
            _ => {
                self.changed.insert(kept.to_string(), bytes);
                Ok(())
            }
        }
    }

    /// New values for the parameters of a stack, its embedding and its head, under the names that [`wgpu_rnn::io::NamedTensors::weights`]
    /// read them from.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights are not those of `config`; and as [`Rewrite::tensor`].
    pub fn stack<'n, T: Real>(
        &mut self,
        config: &RnnConfig,
        weights: &Weights<T>,
        names: impl Into<Names<'n>>,
    ) -> Result<()> {
        let names = names.into();
        weights.validate(config)?;
        weights
            .named(config)
            .try_for_each(|(p, values)| self.tensor(&names.in_file(&p.name), View::new(values, &p.shape)))
    }

    /// New values for the parameters of a network, under `prefix` and the names that `Network::load` read them from. `params`: one
    /// after the other, as sessions have them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another number of parameters; and as [`Rewrite::tensor`].
    pub fn network<T: Real>(&mut self, network: &Network, params: &[T], prefix: &str) -> Result<()> {
        let named = network.named(params)?;
        named.iter().try_for_each(|(name, tensor)| self.tensor(&format!("{prefix}{name}"), tensor.view()))
    }

    /// Writes all tensors of the file as a safetensors file, whatever the file was: a `.pt` keeps its tensors and nothing else, of an index
    /// the tensors of all its files are in one. An existing file is replaced, which may be the one that was read.
    ///
    /// # Errors
    /// [`Error::File`] for tensors whose values cannot be read, and if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        safetensors::serialize_to_file(self.tensors()?, self.metadata(), path).map_err(|e| Error::file(path, e))
    }

    /// The bytes of that file.
    ///
    /// # Errors
    /// As [`Rewrite::save`].
    pub fn bytes(&self) -> Result<Vec<u8>> {
        safetensors::serialize(self.tensors()?, self.metadata()).map_err(|e| Error::file(&self.file.path, e))
    }

    fn tensors(&self) -> Result<Vec<(String, Tensor<'_>)>> {
        let mut all = Vec::new();
        for (name, stored) in self.file.tensors.iter().filter(|(name, _)| !self.file.kept.tied.contains_key(*name)) {
            let data = match self.changed.get(name) {
                Some(bytes) => Cow::Borrowed(bytes.as_slice()),
                None => Cow::Owned(self.file.read(name, stored)?),
            };
            all.push((name.clone(), Tensor { dtype: dtype(stored.element), shape: &stored.shape, data }));
        }
        for (name, dtype, shape, read) in &self.file.kept.unread {
            let data = read().map_err(|reason| Error::file(&self.file.path, format!("{name}: {reason}")))?;
            all.push((name.clone(), Tensor { dtype: *dtype, shape, data: Cow::Owned(data) }));
        }
        Ok(all)
    }

    /// The header's texts: those of the file, and for what PyTorch wrote what loaders of PyTorch files look for.
    fn metadata(&self) -> Option<HashMap<String, String>> {
        let mut metadata: HashMap<String, String> = self.file.kept.metadata.clone().into_iter().collect();
        if matches!(self.file.kind, Kind::PyTorchZip | Kind::PyTorchLegacy | Kind::PyTorchTar) {
            metadata.insert("format".into(), "pt".into());
        }
        (!metadata.is_empty()).then_some(metadata)
    }
}

/// A tensor to be written.
struct Tensor<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data: Cow<'a, [u8]>,
}

impl Written for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// What safetensors call a number format.
fn dtype(element: Element) -> Dtype {
    match element {
        Element::F64 => Dtype::F64,
        Element::F32 => Dtype::F32,
        Element::F16 => Dtype::F16,
        Element::Bf16 => Dtype::BF16,
        Element::I64 => Dtype::I64,
        Element::I32 => Dtype::I32,
        Element::I16 => Dtype::I16,
        Element::I8 => Dtype::I8,
        Element::U64 => Dtype::U64,
        Element::U32 => Dtype::U32,
        Element::U16 => Dtype::U16,
        Element::U8 => Dtype::U8,
        Element::Bool => Dtype::BOOL,
    }
}
