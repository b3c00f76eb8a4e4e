//! What Python asks for, as the library's configuration and options.

use crate::error::Result;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wgpu_rnn::{
    Bias, Direction, Dropout, Empty, Error, Layout, Memory, Options, Reset, RnnConfig, WeightFormat, Zoneout, cells,
};

const DIRECTIONS: [(&str, Direction); 3] =
    [("forward", Direction::Forward), ("reverse", Direction::Reverse), ("bidirectional", Direction::Bidirectional)];
const BIASES: [(&str, Bias); 4] =
    [("two", Bias::Two), ("one", Bias::One), ("recurrent", Bias::Recurrent), ("none", Bias::None)];

/// The value of a name.
pub fn named<T: Copy>(what: &str, all: &[(&str, T)], name: &str) -> Result<T> {
    let names = || all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|(of, _)| *of == name);
    Ok(found.map(|(_, value)| *value).ok_or_else(|| Error::mismatch(what, names(), name))?)
}

/// The name of a value.
fn name<T: PartialEq>(all: &[(&'static str, T)], value: &T) -> &'static str {
    all.iter().find(|(_, of)| of == value).map_or("?", |(name, _)| name)
}

/// What a file's stack is, as [`Wish`] has it; `None` of one with its own activations, which layers of this package have not.
pub fn described<'py>(py: Python<'py>, config: &RnnConfig) -> PyResult<Option<Bound<'py, PyDict>>> {
    if config.activations() != RnnConfig::new(config.cell, 1, 1).activations() {
        return Ok(None);
    }
    let all = PyDict::new(py);
    all.set_item("cell", config.cell.name)?;
    all.set_item("input_size", config.input_size)?;
    all.set_item("hidden_size", config.hidden_size)?;
    all.set_item("num_layers", config.num_layers)?;
    all.set_item("bias", name(&BIASES, &config.bias))?;
    all.set_item("batch_first", config.layout == Layout::BatchFirst)?;
    all.set_item("direction", name(&DIRECTIONS, &config.direction))?;
    all.set_item("proj_size", config.proj_size)?;
    all.set_item("clip", config.clip)?;
    all.set_item("cell_clip", config.cell_clip)?;
    all.set_item("input_forget", config.input_forget)?;
    all.set_item("recurrence", config.recurrence.to_string())?;
    Ok(Some(all))
}

/// What `wgpu_rnn.layers` gives, all of it checked here.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Wish {
    cell: String,
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
    /// `two`, `one`, `recurrent` or `none`.
    bias: String,
    batch_first: bool,
    /// `forward`, `reverse` or `bidirectional`.
    direction: String,
    proj_size: usize,
    dropout: f32,
    input_dropout: f32,
    recurrent_dropout: f32,
    zoneout: (f32, f32),
    clip: Option<f32>,
    cell_clip: Option<f32>,
    input_forget: bool,
    recurrence: String,
    weight_format: String,
    memory: String,
    resets: Option<String>,
}

impl Wish {
    /// The stack.
    pub fn config(&self) -> Result<RnnConfig> {
        let names = || cells::ALL.map(|cell| cell.name).join(", ");
        let cell = cells::by_name(&self.cell).ok_or_else(|| Error::mismatch("cell", names(), &self.cell))?;
        let config = RnnConfig {
            cell,
            input_size: self.input_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            direction: named("direction", &DIRECTIONS, &self.direction)?,
            bias: named("bias", &BIASES, &self.bias)?,
            proj_size: self.proj_size,
            clip: self.clip,
            cell_clip: self.cell_clip,
            input_forget: self.input_forget,
            recurrence: self.recurrence.parse()?,
            layout: if self.batch_first { Layout::BatchFirst } else { Layout::TimeMajor },
            dropout: Dropout { layers: self.dropout, input: self.input_dropout, recurrent: self.recurrent_dropout },
            zoneout: Zoneout { hidden: self.zoneout.0, cell: self.zoneout.1 },
            ..RnnConfig::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// How it runs; for training and inference alike.
    pub fn options(&self) -> Result<Options> {
        let resets = match self.resets.as_deref() {
            None => None,
            Some("zero") => Some(Reset::Zero),
            Some("initial") => Some(Reset::Initial),
            Some(other) => return Err(Error::mismatch("resets", "None, \"zero\" or \"initial\"", other).into()),
        };
        let weights = self.weight_format.parse::<WeightFormat>()?;
        let memory = memory(&self.memory)?;
        // As where a sequence of no steps is another one's continuation: where it was is where it is.
        Ok(Options { weights, memory, resets, empty: Empty::Initial, ..Options::default() })
    }
}

/// `save`, `recompute`, `checkpoint=STEPS` or `auto=BYTES`, as on the command line.
pub fn memory(text: &str) -> Result<Memory> {
    let wrong = || {
        Error::mismatch(
            "memory",
            "\"save\", \"recompute\", \"checkpoint=STEPS\" or \"auto=BYTES\"",
            format!("{text:?}"),
        )
    };
    let (name, number) = text.split_once('=').map_or((text, None), |(name, number)| (name, Some(number)));
    let number = number.map(|n| n.parse::<u64>().map_err(|_| wrong())).transpose()?;
    match (name, number) {
        ("save", None) => Ok(Memory::Save),
        ("recompute", None) => Ok(Memory::Recompute),
        ("checkpoint", Some(steps)) if steps > 0 => {
            Ok(Memory::Checkpoint(usize::try_from(steps).map_err(|_| wrong())?))
        }
        ("auto", Some(bytes)) => Ok(Memory::Auto(bytes)),
        _ => Err(wrong().into()),
    }
}
