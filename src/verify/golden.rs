//! Golden files: safetensors with a network (`w.*`), its input (`in.*`) and what another implementation made of it (`out.*`);
//! and, if it recorded gradients, the upstream ones (`up.y`, `up.hn`, `up.cn`), the loss `out.loss` = Σ up·out that they are
//! the gradients of, and `grad.x`, `grad.h0`, `grad.c0`, `grad.<parameter>` (all that the network and its input have).
//!
//! The metadata entry `config` is JSON: `kind` (RNN, LSTM, GRU), `nonlinearity` (RNN: tanh, relu), `T`, `B`, `input_size`,
//! `hidden_size`, and optionally `num_layers`, `bidirectional`, `bias`, `batch_first`, `proj_size`, `packed` (then there is
//! `in.lengths`), `has_state` (then there is `in.h0` and, for an LSTM, `in.c0`), `unbatched`. Names, gate order and shapes are
//! PyTorch's; `tests/data/make_torch_golden.py` writes such files. Everything in a file is checked before any of it is used.

use super::tolerance::{self, Recorded};
use crate::cell::Cell;
use crate::cells;
use crate::config::{Bias, Direction, Layout, RnnConfig, Shape};
use crate::error::{Error, Result};
use crate::io::safetensors::TensorFile;
use crate::session::Output;
use crate::tensor::Tensor;
use crate::weights::{self, Weights};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// A recorded run of a recurrent stack. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The file's name without `.safetensors`.
    pub name: String,
    /// The stack.
    pub config: RnnConfig,
    /// T and B.
    pub shape: Shape,
    /// Its parameters.
    pub weights: Weights<f64>,
    /// x `[T, B, I]`, `[B, T, I]` or, unbatched, `[T, I]`.
    pub x: Tensor<f64>,
    /// Each sequence's length, if the batch is ragged.
    pub lengths: Option<Vec<usize>>,
    /// h0 `[L·D, B, P or H]`, if not zeros.
    pub h0: Option<Tensor<f64>>,
    /// c0 `[L·D, B, H]`, if not zeros.
    pub c0: Option<Tensor<f64>>,
    /// Gradients of the recorded loss with respect to y, hn and cn, in their shapes; `None` where nothing of the way back
    /// was recorded.
    pub upstream: Option<Output<f64>>,
    /// What was recorded: `out.y`, `out.hn` and, for cells with a cell state, `out.cn`; with [`Self::upstream`] also
    /// `out.loss` and every `grad.*`.
    pub truths: Vec<Truth>,
}

/// One recorded result.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Its name in the file, e.g. `out.y` or `grad.weight_ih_l0`.
    pub name: String,
    /// Its values; all finite.
    pub tensor: Tensor<f64>,
    /// What errors are measured against: max |value|, for `out.loss` Σ |up·out|.
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
        Reader::new(file)?.golden()
    }
}

/// The shapes of a golden's tensors.
struct Sizes<'a> {
    config: &'a RnnConfig,
    shape: Shape,
    unbatched: bool,
}

impl Sizes<'_> {
    /// `[T, B, width]`, `[B, T, width]` or, unbatched, `[T, width]`.
    fn sequence(&self, width: usize) -> Vec<usize> {
        match (self.unbatched, self.config.layout) {
            (true, _) => vec![self.shape.time, width],
            (false, Layout::TimeMajor) => vec![self.shape.time, self.shape.batch, width],
            (false, Layout::BatchFirst) => vec![self.shape.batch, self.shape.time, width],
        }
    }
    /// h: `[L·D, B, P or H]`
    fn h(&self) -> Vec<usize> {
        self.stacked(self.config.state_size())
    }
    /// c: `[L·D, B, H]`
    fn c(&self) -> Vec<usize> {
        self.stacked(self.config.hidden_size)
    }
    fn stacked(&self, width: usize) -> Vec<usize> {
        let stack = self.config.num_layers * self.config.directions();
        if self.unbatched { vec![stack, width] } else { vec![stack, self.shape.batch, width] }
    }
}

/// A file and its description, not yet believed.
struct Reader<'a> {
    file: &'a TensorFile,
    fields: Map<String, Value>,
    names: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a TensorFile) -> Result<Self> {
        let metadata = file.metadata();
        let text =
            metadata.get("config").ok_or_else(|| Error::file(file.path(), "no golden: metadata lacks config"))?;
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self { file, fields, names: file.names().into_iter().collect() }),
            Ok(other) => Err(Error::mismatch(Self::what(file, "config"), "a JSON object", shown(&other))),
            Err(e) => Err(Error::file(file.path(), format!("metadata config is not JSON: {e}"))),
        }
    }

    fn golden(&self) -> Result<Golden> {
        let unbatched = self.flag("unbatched", false)?;
        let (config, shape) = (self.config()?, self.shape()?);
        if unbatched && shape.batch != 1 {
            return Err(self.mismatch("B of an unbatched golden", "1", shape.batch));
        }
        // Before anything is sized by it: a layer has tensors, so the file bounds the layers.
        if config.num_layers > self.names.len() {
            let got = format!("{} tensors in the file", self.names.len());
            return Err(self.mismatch("num_layers", format!("tensors of {} layers", config.num_layers), got));
        }
        let weights = self.file.weights::<f64>(&config, "w.")?;
        let sizes = Sizes { config: &config, shape, unbatched };
        let cell_state = config.cell.has_cell_state();

        let x = self.tensor("in.x", &sizes.sequence(config.input_size))?;
        let has_state = self.flag("has_state", self.names.contains("in.h0"))?;
        let h0 = has_state.then(|| self.tensor("in.h0", &sizes.h())).transpose()?;
        let c0 = (has_state && cell_state).then(|| self.tensor("in.c0", &sizes.c())).transpose()?;
        let packed = self.flag("packed", self.names.contains("in.lengths"))?;
        let lengths = packed.then(|| self.lengths(shape)).transpose()?;
        let mut truths =
            vec![self.truth("out.y", &sizes.sequence(config.output_size()))?, self.truth("out.hn", &sizes.h())?];
        if cell_state {
            truths.push(self.truth("out.cn", &sizes.c())?);
        }
        let backward = |name: &String| name.starts_with("up.") || name.starts_with("grad.") || name == "out.loss";
        let mut upstream = None;
        if self.names.iter().any(backward) {
            let up = self.upstream(&sizes)?;
            truths.push(self.loss(&up, &truths)?);
            truths.push(self.truth("grad.x", &x.shape)?);
            for (name, state) in [("grad.h0", &h0), ("grad.c0", &c0)] {
                truths.extend(state.as_ref().map(|s| self.truth(name, &s.shape)).transpose()?);
            }
            for p in weights::parameters(&config) {
                truths.push(self.truth(&format!("grad.{}", p.name), &p.shape)?);
            }
            upstream = Some(up);
        }
        let name = self.name();
        let golden = Golden { name, config, shape, weights, x, lengths, h0, c0, upstream, truths };
        self.refuse_unused(&golden)?;
        Ok(golden)
    }

    fn upstream(&self, sizes: &Sizes<'_>) -> Result<Output<f64>> {
        let cell_state = sizes.config.cell.has_cell_state();
        Ok(Output {
            y: self.tensor("up.y", &sizes.sequence(sizes.config.output_size()))?,
            hn: self.tensor("up.hn", &sizes.h())?,
            cn: cell_state.then(|| self.tensor("up.cn", &sizes.c())).transpose()?,
        })
    }

    /// Σ up·out; its scale is that of the recorded outputs.
    fn loss(&self, up: &Output<f64>, outputs: &[Truth]) -> Result<Truth> {
        let mut truth = self.truth("out.loss", &[1])?;
        let pairs = [Some(&up.y), Some(&up.hn), up.cn.as_ref()].into_iter().flatten().zip(outputs);
        truth.scale = pairs.map(|(up, out)| tolerance::product(&up.data, &out.tensor.data, f64::abs)).sum();
        Ok(truth)
    }

    fn name(&self) -> String {
        self.file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn config(&self) -> Result<RnnConfig> {
        let bias = if self.flag("bias", true)? { Bias::Two } else { Bias::None };
        let bidirectional = self.flag("bidirectional", false)?;
        let batch_first = self.flag("batch_first", false)?;
        let config = RnnConfig {
            cell: self.cell()?,
            input_size: self.size("input_size", None)?,
            hidden_size: self.size("hidden_size", None)?,
            num_layers: self.size("num_layers", Some(1))?,
            direction: if bidirectional { Direction::Bidirectional } else { Direction::Forward },
            bias,
            proj_size: self.size("proj_size", Some(0))?,
            activations: Vec::new(),
            layout: if batch_first { Layout::BatchFirst } else { Layout::TimeMajor },
            ..Default::default()
        };
        config.validate().map_err(|e| self.in_file(e))?;
        Ok(config)
    }

    fn shape(&self) -> Result<Shape> {
        let shape = Shape { time: self.size("T", None)?, batch: self.size("B", None)? };
        shape.validate().map_err(|e| self.in_file(e))?;
        Ok(shape)
    }

    fn cell(&self) -> Result<&'static Cell> {
        let text = |name: &str| self.fields.get(name).and_then(Value::as_str);
        match (text("kind"), text("nonlinearity")) {
            (Some("RNN"), Some("tanh") | None) => Ok(&cells::RNN_TANH),
            (Some("RNN"), Some("relu")) => Ok(&cells::RNN_RELU),
            (Some("RNN"), Some(other)) => Err(self.mismatch("nonlinearity", "tanh or relu", shown(&other.into()))),
            (Some("LSTM"), _) => Ok(&cells::LSTM),
            (Some("GRU"), _) => Ok(&cells::GRU),
            (Some(other), _) => Err(Error::Unsupported {
                what: Self::what(self.file, &format!("kind {}", shown(&other.into()))),
                reason: "this build knows RNN, LSTM and GRU".into(),
            }),
            (None, _) => Err(self.mismatch("kind", "RNN, LSTM or GRU", shown_or_none(self.fields.get("kind")))),
        }
    }

    fn size(&self, field: &str, default: Option<usize>) -> Result<usize> {
        let value = self.fields.get(field);
        let size = match (value, default) {
            (None, Some(default)) => Some(default),
            _ => value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        };
        size.ok_or_else(|| self.mismatch(field, "a size", shown_or_none(value)))
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.fields.get(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.mismatch(field, "true or false", shown(other))),
        }
    }

    fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor<f64>> {
        match self.file.real::<f64>(name)? {
            Some((shape, data)) if shape == expected => Ok(Tensor { data, shape }),
            Some((shape, _)) => Err(self.mismatch(name, format!("{expected:?}"), format!("{shape:?}"))),
            None => Err(self.mismatch(name, format!("a tensor of shape {expected:?}"), "none")),
        }
    }

    fn truth(&self, name: &str, expected: &[usize]) -> Result<Truth> {
        let tensor = self.tensor(name, expected)?;
        // An infinite truth would make every bound infinite, a NaN would compare with nothing.
        if let Some(at) = tensor.data.iter().position(|v| !v.is_finite()) {
            let got = format!("{} at index {at}", tensor.data[at]);
            return Err(self.mismatch(name, "finite numbers", got));
        }
        let Some(dtype) = self.file.dtype(name) else { return Err(self.mismatch(name, "a tensor", "none")) };
        let recorded = Recorded::from_dtype(&Self::what(self.file, name), dtype)?;
        Ok(Truth { name: name.into(), scale: tolerance::scale(&tensor.data), tensor, recorded })
    }

    fn lengths(&self, shape: Shape) -> Result<Vec<usize>> {
        let name = "in.lengths";
        let expected = [shape.batch];
        let Some((got, values)) = self.file.integers(name)? else {
            return Err(self.mismatch(name, format!("a tensor of shape {expected:?}"), "none"));
        };
        if got != expected {
            return Err(self.mismatch(name, format!("{expected:?}"), format!("{got:?}")));
        }
        let length = |(b, &l): (usize, &i64)| match usize::try_from(l) {
            Ok(l) if (1..=shape.time).contains(&l) => Ok(l),
            _ => Err(self.mismatch(&format!("{name}[{b}]"), format!("1..={}", shape.time), l)),
        };
        values.iter().enumerate().map(length).collect()
    }

    /// A tensor of the network, its input or its result that would go unused means the file describes something else.
    fn refuse_unused(&self, golden: &Golden) -> Result<()> {
        let mut used: HashSet<String> =
            weights::parameters(&golden.config).iter().map(|p| format!("w.{}", p.name)).collect();
        let given = [
            Some("in.x"),
            golden.h0.as_ref().map(|_| "in.h0"),
            golden.c0.as_ref().map(|_| "in.c0"),
            golden.lengths.as_ref().map(|_| "in.lengths"),
            golden.upstream.as_ref().map(|_| "up.y"),
            golden.upstream.as_ref().map(|_| "up.hn"),
            golden.upstream.as_ref().and_then(|up| up.cn.as_ref()).map(|_| "up.cn"),
        ];
        used.extend(given.into_iter().flatten().map(String::from));
        used.extend(golden.truths.iter().map(|t| t.name.clone()));
        let belongs =
            |name: &&String| ["w.", "in.", "out.", "up.", "grad."].iter().any(|prefix| name.starts_with(prefix));
        match self.names.iter().filter(belongs).filter(|name| !used.contains(*name)).min() {
            Some(name) => Err(self.mismatch(&shortened(name), "no such tensor with this config", "one")),
            None => Ok(()),
        }
    }

    fn what(file: &TensorFile, what: &str) -> String {
        format!("{}: {what}", file.path().display())
    }

    fn mismatch(&self, what: &str, expected: impl ToString, got: impl ToString) -> Error {
        Error::mismatch(Self::what(self.file, what), expected, got)
    }

    /// Puts the file's name before a message about a field of it.
    fn in_file(&self, error: Error) -> Error {
        match error {
            Error::Mismatch { what, expected, got } => self.mismatch(&what, expected, got),
            Error::Unsupported { what, reason } => Error::Unsupported { what: Self::what(self.file, &what), reason },
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
