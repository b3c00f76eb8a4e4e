//! Recurrent layers: what the configuration says of one, and its weights as this crate has them.

use super::KerasFile;
use super::activation::{HardSigmoid, of_cell};
use super::config::{LayerConfig, shown};
use super::hdf5::Array;
use super::store::{Inner, Store};
use std::borrow::Cow;
use wgpu_rnn::weights::KerasLayer;
use wgpu_rnn::{Activation, Bias, Cell, Direction, Error, Result, RnnConfig, View, Weights, cells};

/// The recurrent layers of Keras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KerasCell {
    /// `SimpleRNN`
    SimpleRnn,
    /// `GRU`, and `CuDNNGRU` of Keras 2
    Gru,
    /// `LSTM`, and `CuDNNLSTM` of Keras 2
    Lstm,
}

/// `Bidirectional(GRU), merge mode Sum`
impl std::fmt::Display for KerasLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layer = self.cell.name();
        match self.bidirectional {
            Some(merge) => write!(f, "Bidirectional({layer}), merge mode {merge:?}")?,
            None => f.write_str(layer)?,
        }
        if self.go_backwards {
            f.write_str(", go_backwards")?;
        }
        if !self.return_sequences {
            f.write_str(", the last step alone")?;
        }
        Ok(())
    }
}

impl KerasCell {
    /// Keras's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleRnn => "SimpleRNN",
            Self::Gru => "GRU",
            Self::Lstm => "LSTM",
        }
    }

    fn gates(self) -> usize {
        match self {
            Self::SimpleRnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }
}

impl std::fmt::Display for KerasCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a `Bidirectional` makes of its two results (`merge_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Side by side, the forward one first: y of this crate.
    Concat,
    /// Their sum.
    Sum,
    /// Their mean.
    Ave,
    /// Their product.
    Mul,
    /// Two results (`merge_mode=None`).
    Apart,
}

impl Merge {
    fn new(layer: &LayerConfig) -> Result<Self> {
        Ok(match layer.text("merge_mode") {
            Some("concat") => Self::Concat,
            Some("sum") => Self::Sum,
            Some("ave") => Self::Ave,
            Some("mul") => Self::Mul,
            None => Self::Apart,
            Some(other) => return Err(Error::mismatch("merge_mode", "concat, sum, ave, mul or null", shown(other))),
        })
    }
}

/// A recurrent layer as the file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasLabel {
    /// Its name; behind the names of the models around it and a slash where it is in a model inside the model. In a file of weights
    /// alone that has no names of layers the group that holds its arrays.
    pub name: String,
    /// Which layer.
    pub cell: KerasCell,
    /// `Bidirectional`, and what it does with its results.
    pub bidirectional: Option<Merge>,
    /// H
    pub units: usize,
    /// The activation by Keras's name; `None`: linear.
    pub activation: Option<String>,
    /// That of the gates, which `SimpleRNN` does not have; `None` in a file of weights alone whose version had two defaults.
    pub recurrent_activation: Option<String>,
    /// Whether a GRU's reset gate comes after the product.
    pub reset_after: bool,
    /// Whether it reads from the last step to the first. Keras then gives y in that order: its y\[0\] is that of the last step.
    pub go_backwards: bool,
    /// Whether it gives y; otherwise its last step.
    pub return_sequences: bool,
    /// Whether it gives its last state too.
    pub return_state: bool,
    /// Whether the file says all of this. A file of weights alone does not: then the activations are Keras's defaults
    /// ([`super::Unsaid`]), `bidirectional` is [`Merge::Concat`], and how the model runs the layer is not known (false).
    pub said: bool,
}

/// A recurrent layer to run.
#[derive(Clone, Debug)]
pub struct KerasRnn {
    /// What the file says of it.
    pub label: KerasLabel,
    /// One layer, time-major. `go_backwards` is [`Direction::Reverse`], whose y stays at the steps of x: Keras's y is this one from
    /// the last step to the first. A `Bidirectional` is [`Direction::Bidirectional`], before `label.bidirectional` merges.
    pub config: RnnConfig,
    /// Its parameters in this crate's order.
    pub weights: Weights<f64>,
}

/// The layer that holds the cell's settings, and the one that holds what is done with the results: the same but for `RNN`.
struct Described {
    cell: KerasCell,
    /// Its arrays are in cuDNN's order.
    cudnn: bool,
    settings: LayerConfig,
    around: LayerConfig,
}

impl Described {
    /// `None` for a layer that is not recurrent.
    fn new(layer: &LayerConfig) -> Result<Option<Self>> {
        let class = |layer: &LayerConfig| match layer.class.as_str() {
            "SimpleRNN" | "SimpleRNNCell" => Some((KerasCell::SimpleRnn, false)),
            "GRU" | "GRUCell" => Some((KerasCell::Gru, false)),
            "LSTM" | "LSTMCell" => Some((KerasCell::Lstm, false)),
            "CuDNNGRU" => Some((KerasCell::Gru, true)),
            "CuDNNLSTM" => Some((KerasCell::Lstm, true)),
            _ => None,
        };
        let settings = match layer.class.as_str() {
            "RNN" => layer.wrapped("cell")?,
            _ => layer.clone(),
        };
        let around = layer.clone();
        let found = class(&settings).map(|(cell, cudnn)| Self { cell, cudnn, settings, around });
        let recurrent = ["RNN", "LSTM", "GRU"].iter().any(|kind| layer.class.contains(kind));
        match found {
            None if recurrent => {
                let reason = "its layers are SimpleRNN, GRU and LSTM, and RNN of one of their cells".into();
                Err(Error::Unsupported { what: shown(&layer.class), reason })
            }
            found => Ok(found),
        }
    }

    fn label(&self, name: String, bidirectional: Option<Merge>, said: bool) -> Result<KerasLabel> {
        let gates = self.cell != KerasCell::SimpleRnn;
        let (activation, recurrent) = match self.cudnn {
            // What cuDNN has.
            true => (Some("tanh".into()), Some("sigmoid".into())),
            false => (
                self.settings.activation(&["activation"]),
                self.settings.activation(&["recurrent_activation", "inner_activation"]).filter(|_| gates),
            ),
        };
        if self.around.flag("time_major", false) {
            let reason = "expected batch-first inputs, as all other layers have".into();
            return Err(Error::Unsupported { what: "time_major".into(), reason });
        }
        Ok(KerasLabel {
            name,
            cell: self.cell,
            bidirectional,
            units: self.settings.size(&["units", "output_dim"])?,
            activation,
            recurrent_activation: recurrent,
            reset_after: self.cell == KerasCell::Gru && self.settings.flag("reset_after", self.cudnn),
            go_backwards: self.around.flag("go_backwards", false),
            return_sequences: self.around.flag("return_sequences", false),
            return_state: self.around.flag("return_state", false),
            said,
        })
    }
}

/// A layer's description; `None` for one that is not recurrent.
pub(super) fn label(layer: &LayerConfig, name: String, said: bool) -> Result<Option<KerasLabel>> {
    if layer.class != "Bidirectional" {
        return Described::new(layer)?.map(|d| d.label(name, None, said)).transpose();
    }
    let merge = Merge::new(layer)?;
    let Some(forward) = Described::new(&layer.wrapped("layer")?)? else { return Ok(None) };
    let label = forward.label(name, Some(merge), said)?;
    if label.go_backwards {
        let reason = "expected a layer that goes forward, whose copy then goes backwards".into();
        return Err(Error::Unsupported { what: "Bidirectional of a layer with go_backwards".into(), reason });
    }
    if layer.field("backward_layer").is_some() {
        let backward = Described::new(&layer.wrapped("backward_layer")?)?;
        let backward = backward.map(|d| d.label(label.name.clone(), Some(merge), said)).transpose()?;
        let mirrored = KerasLabel { go_backwards: true, ..label.clone() };
        if backward != Some(mirrored) {
            let reason = "expected a copy of the forward layer with go_backwards".into();
            return Err(Error::Unsupported { what: "a backward_layer of its own kind".into(), reason });
        }
    }
    Ok(Some(label))
}

impl KerasFile {
    /// A layer of that description, with the arrays of its store.
    pub(super) fn rnn(
        &self,
        layer: &LayerConfig,
        store: &Store,
        label: KerasLabel,
        given: [Option<Activation>; 2],
    ) -> Result<KerasRnn> {
        let activations = activations(&label, self.hard_sigmoid, given)?;
        let cudnn = match label.bidirectional {
            Some(_) => Described::new(&layer.wrapped("layer")?)?.is_some_and(|d| d.cudnn),
            None => Described::new(layer)?.is_some_and(|d| d.cudnn),
        };
        let parts = match label.bidirectional {
            Some(_) => &[Inner::Forward, Inner::Backward][..],
            None => &[Inner::Cell],
        };
        let mut directions = Vec::new();
        for &part in parts {
            let arrays = store
                .arrays(&self.tree, part)
                .map_err(|reason| Error::mismatch("arrays", "all of the layer's", reason))?;
            directions.push(Fused::new(label.cell, &arrays, cudnn)?);
        }
        let cell = cell(&label, &activations);
        let biases = directions.iter().filter(|fused| fused.bias.is_some()).count();
        let config = RnnConfig {
            cell,
            input_size: directions.first().and_then(|fused| fused.kernel.shape.first()).copied().unwrap_or(0),
            hidden_size: label.units,
            direction: match (label.bidirectional, label.go_backwards) {
                (Some(_), _) => Direction::Bidirectional,
                (None, true) => Direction::Reverse,
                (None, false) => Direction::Forward,
            },
            bias: match (biases, label.cell, label.reset_after) {
                (0, ..) => Bias::None,
                (_, KerasCell::Gru, true) => Bias::Two,
                _ => Bias::One,
            },
            activations: if cell.activations.iter().map(|a| a.1).eq(activations.iter().copied()) {
                Vec::new()
            } else {
                activations
            },
            ..Default::default()
        };
        let layers: Vec<KerasLayer<'_, f64>> = directions.iter().map(Fused::layer).collect();
        let weights = Weights::from_keras(&config, &layers)?;
        Ok(KerasRnn { label, config, weights })
    }
}

/// The cell's activations in its own order: of the gates, of the candidate and, of an LSTM, of c.
fn activations(label: &KerasLabel, hard: HardSigmoid, given: [Option<Activation>; 2]) -> Result<Vec<Activation>> {
    let of =
        |given: Option<Activation>, name: &Option<String>| given.map_or_else(|| of_cell(name.as_deref(), hard), Ok);
    let activation = of(given[0], &label.activation)?;
    Ok(match label.cell {
        KerasCell::SimpleRnn => vec![activation],
        KerasCell::Gru => vec![of(given[1], &label.recurrent_activation)?, activation],
        KerasCell::Lstm => vec![of(given[1], &label.recurrent_activation)?, activation, activation],
    })
}

fn cell(label: &KerasLabel, activations: &[Activation]) -> &'static Cell {
    match (label.cell, label.reset_after) {
        (KerasCell::SimpleRnn, _) if activations == [Activation::Relu] => &cells::RNN_RELU,
        (KerasCell::SimpleRnn, _) => &cells::RNN_TANH,
        (KerasCell::Gru, true) => &cells::GRU,
        (KerasCell::Gru, false) => &cells::GRU_RESET_BEFORE,
        (KerasCell::Lstm, _) => &cells::LSTM,
    }
}

/// The arrays of one direction, gates side by side in the order of Keras 2.
struct Fused<'a> {
    kernel: Cow<'a, Array>,
    recurrent: Cow<'a, Array>,
    bias: Option<Cow<'a, Array>>,
}

impl<'a> Fused<'a> {
    fn new(cell: KerasCell, arrays: &[&'a Array], cudnn: bool) -> Result<Self> {
        let borrowed = |array: &&'a Array| Cow::Borrowed(*array);
        match arrays {
            [kernel, recurrent] if !cudnn => {
                Ok(Self { kernel: borrowed(kernel), recurrent: borrowed(recurrent), bias: None })
            }
            [kernel, recurrent, bias] if !cudnn => {
                Ok(Self { kernel: borrowed(kernel), recurrent: borrowed(recurrent), bias: Some(borrowed(bias)) })
            }
            [kernel, recurrent, bias] => Self::of_cudnn(cell, kernel, recurrent, bias),
            // Keras 1: W, U and b of every gate; an LSTM's gates are i, c, f, o there.
            [..] if arrays.len() == 3 * cell.gates() && cell != KerasCell::SimpleRnn => {
                let order: &[usize] = if cell == KerasCell::Lstm { &[0, 2, 1, 3] } else { &[0, 1, 2] };
                let of = |part: usize| {
                    let gates: Vec<&Array> =
                        order.iter().filter_map(|gate| arrays.get(3 * gate + part).copied()).collect();
                    side_by_side(&gates).map(Cow::Owned)
                };
                Ok(Self { kernel: of(0)?, recurrent: of(1)?, bias: Some(of(2)?) })
            }
            _ => {
                let expected = format!("a kernel, a recurrent kernel and at most a bias of {cell}");
                Err(Error::mismatch("arrays", expected, format!("{} arrays", arrays.len())))
            }
        }
    }

    /// `CuDNNLSTM` and `CuDNNGRU`: every gate's matrix is the transposed one, its input kernel moreover in Fortran's order; there are two
    /// biases, which only a GRU keeps apart.
    fn of_cudnn(cell: KerasCell, kernel: &Array, recurrent: &Array, bias: &Array) -> Result<Self> {
        let gates = cell.gates();
        let by_gate = |what: &str, array: &Array, at: &dyn Fn(usize, usize, usize, usize) -> (usize, usize)| {
            let &[rows, columns] = &array.shape[..] else {
                return Err(Error::mismatch(what, "[rows, gates · H]", format!("{:?}", array.shape)));
            };
            if columns % gates != 0 || rows == 0 || columns == 0 {
                return Err(Error::mismatch(what, "[rows, gates · H]", format!("{:?}", array.shape)));
            }
            let units = columns / gates;
            let value = |n: usize| {
                let (row, gate, unit) = (n / columns, n % columns / units, n % units);
                let (row, unit) = at(row, unit, rows, units);
                array.data.get(row * columns + gate * units + unit).copied().unwrap_or(0.0)
            };
            Ok(Array { shape: array.shape.clone(), data: (0..array.data.len()).map(value).collect() })
        };
        // The gate's values one after the other are those of its transpose.
        let input = |row: usize, unit: usize, rows: usize, units: usize| {
            let n = row + unit * rows;
            (n / units, n % units)
        };
        let square =
            |row: usize, unit: usize, rows: usize, units: usize| if rows == units { (unit, row) } else { (row, unit) };
        let kernel = by_gate("kernel", kernel, &input)?;
        let recurrent = by_gate("recurrent_kernel", recurrent, &square)?;
        let half = bias.data.len() / 2;
        let (of_x, of_h) = bias.data.split_at(half);
        let bias = match cell {
            KerasCell::Gru => Array { shape: vec![2, half], data: bias.data.clone() },
            _ => Array { shape: vec![half], data: of_x.iter().zip(of_h).map(|(x, h)| x + h).collect() },
        };
        Ok(Self { kernel: Cow::Owned(kernel), recurrent: Cow::Owned(recurrent), bias: Some(Cow::Owned(bias)) })
    }

    fn layer(&self) -> KerasLayer<'_, f64> {
        fn view(array: &Array) -> View<'_, f64> {
            View::new(&array.data, &array.shape)
        }
        KerasLayer {
            kernel: view(&self.kernel),
            recurrent_kernel: view(&self.recurrent),
            bias: self.bias.as_deref().map(view),
        }
    }
}

/// Matrices, or vectors, side by side.
fn side_by_side(gates: &[&Array]) -> Result<Array> {
    let first = gates.first().ok_or_else(|| Error::mismatch("arrays", "those of the gates", "none"))?;
    if let Some(other) = gates.iter().find(|gate| gate.shape != first.shape) {
        return Err(Error::mismatch("arrays of the gates", format!("{:?}", first.shape), format!("{:?}", other.shape)));
    }
    let columns = first.shape.last().copied().unwrap_or(1).max(1);
    let rows = first.data.len() / columns;
    let row = |row: usize| gates.iter().flat_map(move |gate| gate.data.iter().skip(row * columns).take(columns));
    let mut shape = first.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = columns * gates.len();
    }
    Ok(Array { shape, data: (0..rows).flat_map(row).copied().collect() })
}
