//! Golden files: safetensors with parameters (`w.*`), an input (`in.*`) and what another implementation made of it (`out.*`,
//! `grad.*`, ...).
//!
//! The metadata entry `config` is JSON; its `kind` says what was run, and with it which other fields and tensors there are:
//! RNN, LSTM and GRU are [`Layers`], seq2seq_LSTM and seq2seq_GRU [`Seq2Seq`], train_adam is [`Training`], mamba_selective_scan and
//! rwkv4_wkv to rwkv7_wkv are [`Linear`], mamba_block, falconmamba_block, mamba2_block, rwkv4_block, rwkv6_block, rwkv7_block and
//! rwkv7fla_block [`Blocks`]. Names, gate order and shapes are
//! PyTorch's; `tests/data/make_torch_golden.py` writes such files. Everything in a file is checked before any
//! of it is used.

use super::blocks::Blocks;
use super::layers::Layers;
use super::linear::Linear;
use super::recurrence::RecurrentNode;
use super::seq2seq::Seq2Seq;
use super::tolerance::{Measure, Recorded};
use super::training::Training;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::num::memory;
use wgpu_rnn::weights::{LayerWeights, Parameter, Weights, parameters};
use wgpu_rnn::{Error, Result, RnnConfig, Tensor, cells};

/// The kinds that this build knows.
const KINDS: &str = "RNN, LSTM, GRU, seq2seq_LSTM, seq2seq_GRU, train_adam, mamba_selective_scan, rwkv4_wkv to rwkv7_wkv, \
    mamba_block, falconmamba_block, mamba2_block, rwkv4_block, rwkv6_block, rwkv7_block and rwkv7fla_block";

/// What one golden may take on any machine: a [`super::tape::Tape`] counts its operations in 32 bits, of about 100 bytes each.
const MAX_MEMORY: u64 = 1 << 38;

/// A recorded run of another implementation. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The file's name without `.safetensors`.
    pub name: String,
    /// What was run.
    pub case: Case,
    /// What was recorded: every result that the kind has.
    pub truths: Vec<Truth>,
}

/// What a golden ran.
#[derive(Clone, Debug)]
pub enum Case {
    /// A recurrent stack.
    Layers(Layers),
    /// An encoder and a decoder between embedding and cross entropy.
    Seq2Seq(Seq2Seq),
    /// Steps of an optimiser.
    Training(Training),
    /// A linear recurrence.
    Linear(Linear),
    /// A model of blocks.
    Blocks(Blocks),
    /// A node of ONNX that is a network.
    Recurrence(RecurrentNode),
}

/// One recorded result.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Its name in the file, e.g. `out.y` or `grad.weight_ih_l0`.
    pub name: String,
    /// Its values; all finite.
    pub tensor: Tensor<f64>,
    /// How far off a result is.
    pub measure: Measure,
    /// What errors are measured against: [`Measure::scale`], for the loss of [`Layers`] Σ |up·out|.
    pub scale: f64,
    /// What it was stored in.
    pub recorded: Recorded,
}

impl Golden {
    /// Reads a golden file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or is no golden, [`Error::Mismatch`] naming the tensor or field that is missing or
    /// does not fit, [`Error::Unsupported`] for a kind that this build does not know.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::read(&TensorFile::open(path)?)
    }

    /// The same from a file in memory.
    ///
    /// # Errors
    /// As [`Golden::open`].
    pub fn read(file: &TensorFile) -> Result<Self> {
        let mut reader = Reader::new(file)?;
        let kind = reader.kind()?;
        let (case, truths) = match kind.as_str() {
            "RNN" if reader.relu()? => Layers::read(&mut reader, &cells::RNN_RELU)?,
            "RNN" => Layers::read(&mut reader, &cells::RNN_TANH)?,
            "LSTM" => Layers::read(&mut reader, &cells::LSTM)?,
            "GRU" => Layers::read(&mut reader, &cells::GRU)?,
            "seq2seq_LSTM" => Seq2Seq::read(&mut reader, &cells::LSTM)?,
            "seq2seq_GRU" => Seq2Seq::read(&mut reader, &cells::GRU)?,
            "train_adam" => Training::read(&mut reader)?,
            "mamba_selective_scan" | "rwkv4_wkv" | "rwkv5_wkv" | "rwkv6_wkv" | "rwkv7_wkv" => {
                Linear::read(&mut reader, &kind)?
            }
            "mamba_block" | "falconmamba_block" | "mamba2_block" | "rwkv4_block" | "rwkv6_block" | "rwkv7_block"
            | "rwkv7fla_block" => Blocks::read(&mut reader, &kind)?,
            _ => {
                let what = reader.what(&format!("kind {}", shown(&kind.into())));
                return Err(Error::Unsupported { what, reason: format!("this build knows {KINDS}") });
            }
        };
        reader.refuse_unused()?;
        let name = file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, case, truths })
    }
}

/// A file and its description, not yet believed, and the names of the tensors that were asked for.
pub(super) struct Reader<'a> {
    file: &'a TensorFile,
    fields: Map<String, Value>,
    names: HashSet<String>,
    used: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a TensorFile) -> Result<Self> {
        let metadata = file.metadata();
        let text =
            metadata.get("config").ok_or_else(|| Error::file(file.path(), "no golden: metadata lacks config"))?;
        let (names, used) = (file.names().into_iter().collect(), HashSet::new());
        let reader = |fields| Self { file, fields, names, used };
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(reader(fields)),
            Ok(other) => Err(reader(Map::new()).mismatch("config", "a JSON object", shown(&other))),
            Err(e) => Err(Error::file(file.path(), format!("metadata config is not JSON: {e}"))),
        }
    }

    fn kind(&self) -> Result<String> {
        let kind = self.fields.get("kind");
        let text = kind.and_then(Value::as_str).map(String::from);
        text.ok_or_else(|| self.mismatch("kind", format!("one of {KINDS}"), shown_or_none(kind)))
    }

    /// Whether the nonlinearity is relu; without one it is tanh.
    fn relu(&self) -> Result<bool> {
        match self.fields.get("nonlinearity").and_then(Value::as_str) {
            Some("tanh") | None => Ok(false),
            Some("relu") => Ok(true),
            Some(other) => Err(self.mismatch("nonlinearity", "tanh or relu", shown(&other.into()))),
        }
    }

    /// A field that is a size; `default`: what its absence means.
    pub fn size(&self, field: &str, default: Option<usize>) -> Result<usize> {
        let value = self.fields.get(field);
        let size = match (value, default) {
            (None, Some(default)) => Some(default),
            _ => value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        };
        size.ok_or_else(|| self.mismatch(field, "a size", shown_or_none(value)))
    }

    /// A field that is true or false.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.fields.get(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.mismatch(field, "true or false", shown(other))),
        }
    }

    /// A field of `N` finite numbers: a list, or for one the number itself.
    pub fn numbers<const N: usize>(&self, field: &str) -> Result<[f64; N]> {
        let value = self.fields.get(field);
        let list = match value {
            Some(Value::Array(list)) => list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>(),
            other => other.and_then(Value::as_f64).map(|number| vec![number]),
        };
        let numbers = list.and_then(|list| <[f64; N]>::try_from(list).ok()).filter(|n| n.iter().all(|v| v.is_finite()));
        let expected = if N == 1 { "a number".into() } else { format!("{N} numbers") };
        numbers.ok_or_else(|| self.mismatch(field, expected, shown_or_none(value)))
    }

    /// Whether the file has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether it has one that `of` is true of.
    pub fn has_any(&self, of: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| of(name))
    }

    /// Refuses a stack with more layers than the file has tensors, before anything is sized by it.
    pub fn check_config(&self, config: &RnnConfig) -> Result<()> {
        config.validate().map_err(|e| self.in_file(e))?;
        self.check_layers("num_layers", config.num_layers)
    }

    /// Refuses more layers than the file has tensors.
    pub fn check_layers(&self, field: &str, layers: usize) -> Result<()> {
        if layers > self.names.len() {
            let got = format!("{} tensors in the file", self.names.len());
            return Err(self.mismatch(field, format!("tensors of {layers} layers"), got));
        }
        Ok(())
    }

    /// Refuses sizes of more values than the file has bytes, where the file has to have a tensor that is as large.
    pub fn check_values(&self, what: &str, sizes: [usize; 3]) -> Result<()> {
        let values = sizes.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        if values > self.file.size() {
            let expected = format!("at most as many values as the file has bytes ({})", self.file.size());
            return Err(self.mismatch(what, expected, format!("{sizes:?}")));
        }
        Ok(())
    }

    /// Refuses a run whose `what`, which is in no file, takes more memory than there is: `sizes` values of `bytes` each.
    pub fn check_memory(&self, what: &str, sizes: &[usize], bytes: u64) -> Result<()> {
        let needs = sizes.iter().fold(bytes, |n, &size| n.saturating_mul(size as u64));
        let limit = memory().min(MAX_MEMORY);
        if needs > limit {
            let limit_name =
                if limit < MAX_MEMORY { "this machine's memory" } else { "this crate's limit for a golden" };
            let hint = "; a golden of fewer steps or sequences takes less".into();
            return Err(Error::Limit { what: self.what(what), needs, limit, unit: "bytes", limit_name, hint });
        }
        Ok(())
    }

    /// A floating-point tensor of this shape.
    pub fn tensor(&mut self, name: &str, expected: &[usize]) -> Result<Tensor<f64>> {
        self.used.insert(name.into());
        match self.file.real::<f64>(name)? {
            Some((shape, data)) if shape == expected => Ok(Tensor { data, shape }),
            Some((shape, _)) => Err(self.mismatch(name, format!("{expected:?}"), format!("{shape:?}"))),
            None => Err(self.mismatch(name, format!("a tensor of shape {expected:?}"), "none")),
        }
    }

    /// An integer tensor of this shape, every value from `first` to `last`.
    pub fn integers(&mut self, name: &str, expected: &[usize], first: usize, last: usize) -> Result<Vec<usize>> {
        self.used.insert(name.into());
        let Some((shape, values)) = self.file.integers(name)? else {
            return Err(self.mismatch(name, format!("a tensor of shape {expected:?}"), "none"));
        };
        if shape != expected {
            return Err(self.mismatch(name, format!("{expected:?}"), format!("{shape:?}")));
        }
        let checked = |(at, &value): (usize, &i64)| match usize::try_from(value) {
            Ok(v) if (first..=last).contains(&v) => Ok(v),
            _ => Err(self.mismatch(&format!("{name}[{at}]"), format!("{first}..={last}"), value)),
        };
        values.iter().enumerate().map(checked).collect()
    }

    /// Token ids below `vocabulary` (which has been checked).
    pub fn ids(&mut self, name: &str, shape: &[usize], vocabulary: usize) -> Result<Tensor<u32>> {
        let values = self.integers(name, shape, 0, vocabulary - 1)?;
        Ok(Tensor { data: values.into_iter().map(|v| v as u32).collect(), shape: shape.to_vec() })
    }

    /// The parameters of `config`; `name` gives their names in the file.
    pub fn weights(&mut self, config: &RnnConfig, name: impl Fn(&Parameter) -> String) -> Result<Weights<f64>> {
        let layers = vec![LayerWeights::default(); config.num_layers * config.directions()];
        let mut weights = Weights { layers, ..Default::default() };
        for p in parameters(config) {
            *weights.get_mut(p.place) = self.tensor(&name(&p), &p.shape)?.data;
        }
        Ok(weights)
    }

    /// A result, held to its largest error.
    pub fn truth(&mut self, name: &str, expected: &[usize]) -> Result<Truth> {
        self.measured(name, expected, Measure::Largest)
    }

    /// A result.
    pub fn measured(&mut self, name: &str, expected: &[usize], measure: Measure) -> Result<Truth> {
        let tensor = self.tensor(name, expected)?;
        // An infinite truth would make every bound infinite, a NaN would compare with nothing.
        if let Some(at) = tensor.data.iter().position(|v| !v.is_finite()) {
            let got = format!("{} at index {at}", tensor.data[at]);
            return Err(self.mismatch(name, "finite numbers", got));
        }
        let Some(dtype) = self.file.dtype(name) else { return Err(self.mismatch(name, "a tensor", "none")) };
        let recorded = Recorded::from_dtype(&self.what(name), dtype)?;
        Ok(Truth { name: name.into(), scale: measure.scale(&tensor.data), tensor, measure, recorded })
    }

    /// One result for every parameter of `config`.
    pub fn truths(
        &mut self,
        config: &RnnConfig,
        measure: Measure,
        name: impl Fn(&Parameter) -> String,
    ) -> Result<Vec<Truth>> {
        parameters(config).iter().map(|p| self.measured(&name(p), &p.shape, measure)).collect()
    }

    /// A tensor of the network, its input or its result that would go unused means the file describes something else.
    fn refuse_unused(&self) -> Result<()> {
        let belongs = |name: &&String| {
            let group =
                name.split_once('.').map_or("", |(group, _)| group.trim_end_matches(|c: char| c.is_ascii_digit()));
            ["w", "in", "out", "up", "grad"].contains(&group)
        };
        match self.names.iter().filter(belongs).filter(|name| !self.used.contains(*name)).min() {
            Some(name) => Err(self.mismatch(&shortened(name), "no such tensor with this config", "one")),
            None => Ok(()),
        }
    }

    fn what(&self, what: &str) -> String {
        format!("{}: {what}", self.file.path().display())
    }

    /// [`Error::Mismatch`] with the file's name in front.
    pub fn mismatch(&self, what: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(self.what(what), expected, got)
    }

    /// Puts the file's name before a message about a field of it.
    pub fn in_file(&self, error: Error) -> Error {
        match error {
            Error::Mismatch { what, expected, got } => self.mismatch(&what, expected, got),
            Error::Unsupported { what, reason } => Error::Unsupported { what: self.what(&what), reason },
            Error::Limit { what, needs, limit, unit, limit_name, hint } => {
                Error::Limit { what: self.what(&what), needs, limit, unit, limit_name, hint }
            }
            other => other,
        }
    }
}

fn shown_or_none(value: Option<&Value>) -> String {
    value.map_or("none".into(), shown)
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A file's own text in a message, cut to a length that a person reads.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
