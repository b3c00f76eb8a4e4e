//! A stack of recurrent layers as an operation of a network: its configuration, its parameters, and its state.
//!
//! The network's plan holds a [`Plan`] per such operation, its executors a [`crate::Session`] each; x, y, states and their gradients
//! go from the network's memory to the session's and back on the device.

use super::super::{Builder, Network, ParamId, Part, Rows};
use super::Operation;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::stack::{Direction, Layout, RnnConfig};
use crate::model::weights::parameters;
use std::ops::Range;

/// A configuration with what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LayersShape {
    /// x, the whole of a value.
    pub x: Part,
    /// The stack: time-major, without vocabulary and head.
    pub config: Box<RnnConfig>,
    /// The first of its parameters, which follow one another in the order of [`crate::weights::parameters`].
    pub first: ParamId,
}

/// What a network cannot have of a configuration.
fn check(name: &str, x: Part, config: &RnnConfig) -> Result<()> {
    config.validate()?;
    if config.input_size != x.width {
        return Err(Error::mismatch(format!("input_size of {name}"), x.width, config.input_size));
    }
    let refused = [
        (config.layout != Layout::TimeMajor, "layout", "networks are time-major"),
        (config.vocabulary.is_some(), "vocabulary", "its input is a value of the network"),
        (config.head.is_some(), "head", "its output is a value of the network; add an operation"),
    ];
    match refused.into_iter().find(|(refused, ..)| *refused) {
        Some((_, what, reason)) => {
            Err(Error::Unsupported { what: format!("{what} of {name} in a network"), reason: reason.into() })
        }
        None => Ok(()),
    }
}

impl LayersShape {
    /// Values of h of a sequence, all layers and directions, and of its cell states.
    fn parts(&self) -> [usize; 2] {
        let config = &self.config;
        let layers = config.num_layers * config.directions();
        [layers * config.state_size(), layers * config.cell_size()]
    }

    /// Values of a sequence's state: h `[L·D, P or H]`, and behind them the cell states `[L·D, S·H]`.
    pub fn state_size(&self) -> usize {
        self.parts().iter().sum()
    }

    /// Where h and the cell states of all sequences are in the state's slot, `[L·D, B, ·]` each: first element and count.
    pub(crate) fn state_places(&self, batch: usize) -> [(usize, usize); 2] {
        let [h, c] = self.parts();
        [(0, h * batch), (h * batch, c * batch)]
    }

    /// Where the state of sequence `b` is in the slot, piece by piece.
    pub(crate) fn state_pieces(&self, batch: usize, b: usize) -> impl Iterator<Item = Range<usize>> {
        let layers = self.config.num_layers * self.config.directions();
        let widths = self.parts().map(|all| all / layers);
        let pieces = self.state_places(batch).into_iter().zip(widths).flat_map(move |((first, _), width)| {
            (0..layers).map(move |layer| first + (layer * batch + b) * width).map(move |at| at..at + width)
        });
        pieces.filter(|piece| !piece.is_empty())
    }

    /// For every element of a state `[B, size]` its place in the slot.
    pub(crate) fn state_order(&self, batch: usize) -> Vec<usize> {
        (0..batch).flat_map(|b| self.state_pieces(batch, b)).flatten().collect()
    }

    /// Its parameters.
    pub(crate) fn own(&self) -> Range<ParamId> {
        self.first..self.first + parameters(&self.config).len()
    }

    /// The elements of its parameters among all of the network's.
    pub(crate) fn params(&self, network: &Network) -> Range<usize> {
        let first = network.param_offset(self.first);
        first..first + parameters(&self.config).iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
    }
}

impl Operation for LayersShape {
    fn state_size(&self) -> Option<usize> {
        Some(LayersShape::state_size(self))
    }

    fn waits_for(&self) -> Option<&'static str> {
        (self.config.direction != Direction::Forward).then_some("it reads time backwards")
    }
}

impl Builder {
    /// A stack of recurrent layers over x; parameters are `<name>.weight_ih_l0` and so on, as in PyTorch
    /// ([`crate::weights::parameters`]). Where x is part of a value, `<name>.x` is a copy of it.
    ///
    /// # Errors
    /// As [`RnnConfig::validate`]; [`Error::Mismatch`] for an `input_size` that is not x's width; [`Error::Unsupported`] for what
    /// networks do not have: batch-first layout, a vocabulary, a head.
    ///
    /// ```
    /// use wgpu_rnn::network::Builder;
    /// use wgpu_rnn::{Direction, RnnConfig, cells, rules};
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let mut b = Builder::new();
    /// let (z, h) = (b.input("z", 6)?, b.input("h", 6)?);
    /// let y = b.scan("mingru", &rules::MINGRU, [6, 1, 1], &[z.into(), h.into()], false)?;
    /// let lstm = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 4, direction: Direction::Bidirectional, ..Default::default() };
    /// let y = b.layers("lstm", y, &lstm)?;
    /// assert_eq!(y.width, 8);
    /// b.output("y", y)?;
    /// assert!(b.finish()?.param("lstm.weight_hh_l0_reverse").is_some());
    /// # Ok(()) }
    /// ```
    pub fn layers(&mut self, name: &str, x: Part, config: &RnnConfig) -> Result<Part> {
        self.stack(name, &format!("{name}."), x, config)
    }

    /// The same, where the names of its parameters begin with `prefix`.
    pub(in crate::model::network) fn stack(
        &mut self,
        name: &str,
        prefix: &str,
        x: Part,
        config: &RnnConfig,
    ) -> Result<Part> {
        self.steps(name, x)?;
        check(name, x, config)?;
        self.whole_or_nothing(|b| {
            let whole = b.network.values.get(x.value).is_some_and(|v| v.width == x.width);
            let x = if whole { x } else { b.map(&format!("{name}.x"), Expr::input(0), &[x.into()])? };
            let first = b.network.params.len();
            for p in parameters(config) {
                b.param(&format!("{prefix}{}", p.name), &p.shape)?;
            }
            let shape = LayersShape { x, config: Box::new(config.clone()), first };
            b.node(name, config.output_size(), Rows::Steps, shape)
        })
    }
}
