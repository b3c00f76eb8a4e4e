//! A stack of recurrent layers as an operation of a network: its configuration, its parameters, and its state.
//!
//! The network's plan holds a [`Plan`] per such operation, its executors a [`crate::Session`] each; x, y, states and their gradients
//! go from the network's memory to the session's and back on the device.

use super::{Network, ParamId, Part};
use crate::config::{Dropout, Layout, RnnConfig, Shape};
use crate::error::{Error, Result};
use crate::plan::{Caps, Options, Plan, Reset};
use crate::weights::parameters;
use crate::zoneout::Zoneout;

use super::plan::NetworkOptions;

/// A configuration with what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LayersShape {
    /// x, the whole of a value.
    pub x: Part,
    /// The stack: time-major, without vocabulary, head, dropout and zoneout.
    pub config: Box<RnnConfig>,
    /// The first of its parameters, which follow one another in the order of [`crate::weights::parameters`].
    pub first: ParamId,
}

/// What a network cannot have of a configuration.
pub(super) fn check(name: &str, x: Part, config: &RnnConfig) -> Result<()> {
    config.validate()?;
    if config.input_size != x.width {
        return Err(Error::mismatch(format!("input_size of {name}"), x.width, config.input_size));
    }
    let refused = [
        (config.layout != Layout::TimeMajor, "layout", "networks are time-major"),
        (config.vocabulary.is_some(), "vocabulary", "its input is a value of the network"),
        (config.head.is_some(), "head", "its output is a value of the network; add an operation"),
        (config.dropout != Dropout::default(), "dropout", "masks are drawn by Session"),
        (config.zoneout != Zoneout::default(), "zoneout", "masks are drawn by Session"),
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
    pub(super) fn state_places(&self, batch: usize) -> [(usize, usize); 2] {
        let [h, c] = self.parts();
        [(0, h * batch), (h * batch, c * batch)]
    }

    /// For every element of a state `[B, size]` its place in the slot.
    pub(super) fn state_order(&self, batch: usize) -> Vec<usize> {
        let layers = self.config.num_layers * self.config.directions();
        let [h, c] = self.parts();
        let place = |b: usize, n: usize| {
            let (first, n, width) = if n < h { (0, n, h / layers) } else { (h * batch, n - h, c / layers) };
            first + (n / width * batch + b) * width + n % width
        };
        (0..batch).flat_map(|b| (0..h + c).map(move |n| place(b, n))).collect()
    }

    /// Its parameters.
    pub(super) fn own(&self) -> std::ops::Range<ParamId> {
        self.first..self.first + parameters(&self.config).len()
    }

    /// The elements of its parameters among all of the network's.
    pub(super) fn params(&self, network: &Network) -> std::ops::Range<usize> {
        let first = network.param_offset(self.first);
        first..first + parameters(&self.config).iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
    }

    /// How it runs within a network.
    pub(super) fn plan(&self, name: &str, shape: Shape, caps: &Caps, options: &NetworkOptions) -> Result<Plan> {
        let options = Options {
            train: options.train,
            precision: options.precision,
            kernels: options.kernels,
            memory: options.memory,
            resets: options.resets.then_some(Reset::Zero),
            ..Default::default()
        };
        let named = |error| match error {
            Error::Limit { what, needs, limit, unit, limit_name, hint } => {
                Error::Limit { what: format!("{what} of {name}"), needs, limit, unit, limit_name, hint }
            }
            other => other,
        };
        Plan::new(&self.config, shape, caps, &options).map_err(named)
    }
}
