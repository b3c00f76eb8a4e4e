//! Weights from Keras, as `layer.get_weights()` gives them: kernel `[I, G·H]`, recurrent kernel `[H, G·H]` and bias, which are the
//! transposes of W and R with the gates along the columns.
//!
//! | Keras 2 and 3 | gates there | here | bias | [`Bias`] |
//! |---|---|---|---|---|
//! | `SimpleRNN` | h | [`cells::RNN_TANH`], [`cells::RNN_RELU`] | `[H]` | `One` |
//! | `LSTM` | i, f, c, o | [`cells::LSTM`] (c is g) | `[4·H]` | `One` |
//! | `GRU` (`reset_after=True`) | z, r, h | [`cells::GRU`] (r, z, n) | `[2, 3·H]` | `Two` |
//! | `GRU(reset_after=False)` | z, r, h | [`cells::GRU_RESET_BEFORE`] | `[3·H]` | `One` |
//! | any, `use_bias=False` | | | none | `None` |
//!
//! `Bidirectional(merge_mode="concat")` is [`crate::Direction::Bidirectional`]: its forward layer's arrays, then its backward
//! layer's. Keras 1, and files of its time, have `hard_sigmoid` as recurrent activation; that is another cell. Source:
//! `keras/src/layers/rnn/{simple_rnn,lstm,gru}.py`.

use super::{LayerWeights, Weights};
use crate::error::{Error, Result};
use crate::model::cell::Cell;
use crate::model::cells;
use crate::model::recurrence::Recurrence;
use crate::model::stack::{Bias, InputMode, RnnConfig};
use crate::num::Real;
use crate::tensor::View;

/// The arrays of one Keras layer in one direction.
#[derive(Clone, Copy, Debug)]
pub struct KerasLayer<'a, T> {
    /// `kernel` `[I, G·H]`.
    pub kernel: View<'a, T>,
    /// `recurrent_kernel` `[H, G·H]`.
    pub recurrent_kernel: View<'a, T>,
    /// `bias` `[G·H]` or, of a GRU with `reset_after`, `[2, G·H]`: input, recurrent; none with `use_bias=False`.
    pub bias: Option<View<'a, T>>,
}

impl<T: Real> Weights<T> {
    /// The stack of `config` from Keras's arrays, one entry per layer and direction as in [`Weights::layers`]; the table above
    /// says which cell and [`Bias`] a Keras layer is.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an array of another shape, and for another number of layers; [`Error::Unsupported`] for a
    /// configuration that Keras's layers cannot be: another cell, a projection, a recurrence that is not dense, an embedding, a
    /// head, no W in layer 0.
    pub fn from_keras(config: &RnnConfig, layers: &[KerasLayer<'_, T>]) -> Result<Self> {
        config.validate()?;
        let places = places(config)?;
        let entries = config.num_layers * config.directions();
        if layers.len() != entries {
            return Err(Error::mismatch("layers", format!("[layers · directions] = {entries}"), layers.len()));
        }
        let (h, gates) = (config.hidden_size, places.len());
        let mut weights = Self::default();
        for (n, layer) in layers.iter().enumerate() {
            let (what, i) = (|part: &str| format!("{part} {n}"), config.layer_input_size(n / config.directions()));
            layer.kernel.check(&what("kernel"), &["I", "G·H"], &[i, gates * h])?;
            layer.recurrent_kernel.check(&what("recurrent_kernel"), &["H", "G·H"], &[h, gates * h])?;
            let (b_w, b_r) = match (config.bias, layer.bias) {
                (Bias::None, None) => (Vec::new(), Vec::new()),
                (Bias::One, Some(bias)) => {
                    bias.check(&what("bias"), &["G·H"], &[gates * h])?;
                    (rows(bias.data, 1, places, h), Vec::new())
                }
                (Bias::Two, Some(bias)) => {
                    bias.check(&what("bias"), &["2", "G·H"], &[2, gates * h])?;
                    let (b_w, b_r) = bias.data.split_at(gates * h);
                    (rows(b_w, 1, places, h), rows(b_r, 1, places, h))
                }
                (bias, given) => {
                    let got = given.map_or("none".into(), |b| format!("{:?}", b.shape));
                    return Err(Error::mismatch(what("bias"), format!("that of Bias::{bias:?}"), got));
                }
            };
            let (w, r) = (rows(layer.kernel.data, i, places, h), rows(layer.recurrent_kernel.data, h, places, h));
            weights.layers.push(LayerWeights { w, r, b_w, b_r, ..Default::default() });
        }
        Ok(weights)
    }
}

/// For every gate of this crate's order, its place in Keras's.
fn places(config: &RnnConfig) -> Result<&'static [usize]> {
    let is = |cells: [&Cell; 2]| cells.contains(&config.cell);
    let places: Option<&'static [usize]> = if is([&cells::RNN_TANH, &cells::RNN_RELU]) {
        Some(&[0])
    } else if is([&cells::LSTM, &cells::LSTM]) {
        Some(&[0, 1, 2, 3])
    } else if is([&cells::GRU, &cells::GRU_RESET_BEFORE]) {
        Some(&[1, 0, 2])
    } else {
        None
    };
    let around = config.recurrence != Recurrence::Dense
        || config.input == InputMode::Skip
        || config.proj_size > 0
        || config.vocabulary.is_some()
        || config.head.is_some();
    places.filter(|_| !around).ok_or_else(|| Error::Unsupported {
        what: format!("{} with these options from Keras's arrays", config.cell.name),
        reason:
            "its layers are SimpleRNN, LSTM and GRU, with W, without projection, heads of the recurrence, embedding \
                 or head"
                .into(),
    })
}

/// Columns of `[inputs, G·H]`, in Keras's order of gates, as the rows of `[G·H, inputs]`.
fn rows<T: Real>(values: &[T], inputs: usize, places: &[usize], hidden: usize) -> Vec<T> {
    let columns = places.len() * hidden;
    let column = places.iter().flat_map(|&place| (0..hidden).map(move |unit| place * hidden + unit));
    column.flat_map(|column| (0..inputs).map(move |input| values[input * columns + column])).collect()
}
