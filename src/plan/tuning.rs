//! What was measured on a device, as a plan asks for it: tiles, blocks and strategies, by configuration and shape class.
//!
//! Tiles and blocks change no bits, and are looked up by configuration and shape class (T and B rounded up to powers of two). A
//! strategy changes bits, so one strategy holds for a configuration in every shape, as the table's does. Files of it are
//! `crate::tuning`'s.

use super::{Options, Strategy};
use crate::error::{Error, Result};
use crate::kernels::Tiles;
use crate::model::stack::{RnnConfig, Shape};

/// The register tiles that may be measured and chosen; what else [`Tiles`] has follows from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileChoice {
    /// Sequences per invocation in the recurrent kernels.
    pub tile: usize,
    /// Units per invocation in `step_backward`.
    pub back_units: usize,
    /// Columns and rows per invocation in `project`.
    pub project: (usize, usize),
    /// Rows and columns of the gradient per invocation in `weight_backward`.
    pub weight: (usize, usize),
    /// Features per invocation in `input_backward`.
    pub input: usize,
}

/// Every size of a register tile that is ever used.
pub const TILE_SIZES: [usize; 5] = [1, 2, 4, 8, 16];

impl TileChoice {
    /// Of a plan's tiles.
    pub fn of(tiles: &Tiles) -> Self {
        let Tiles { tile, back_units, project, weight, input, .. } = *tiles;
        Self { tile, back_units, project, weight, input }
    }

    /// `base` with these tiles. Through workgroup memory matrix products have 4 or 8 values to a lane and side; others do without.
    pub(crate) fn over(self, base: Tiles) -> Tiles {
        let Self { tile, back_units, project, weight, input } = self;
        let sides = [project.0, project.1, weight.0, weight.1, input];
        let shared = base.shared && sides.iter().all(|side| matches!(side, 4 | 8));
        Tiles { tile, back_units, project, weight, input, shared, ..base }
    }

    /// Refuses sizes that are not in [`TILE_SIZES`].
    pub(crate) fn validate(self) -> Result<()> {
        let Self { tile, back_units, project, weight, input } = self;
        let sizes = [tile, back_units, project.0, project.1, weight.0, weight.1, input];
        match sizes.into_iter().find(|size| !TILE_SIZES.contains(size)) {
            Some(size) => Err(Error::mismatch("size of a tile", format!("one of {TILE_SIZES:?}"), size)),
            None => Ok(()),
        }
    }
}

/// What is fastest for a configuration, shape class and strategy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The tiles.
    pub tiles: TileChoice,
    /// Steps per block, within what the device can do; `None`: as the table has it.
    pub block: Option<usize>,
    /// Its time over that of the table's choice.
    pub ratio: f64,
}

/// Whose measurements they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub adapter: String,
    pub driver: String,
    /// Of this crate: kernels differ from version to version.
    pub version: String,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// Tiles and blocks, for `shape` (a class), how it runs, and the strategy.
    Shape { shape: Shape, mode: String, strategy: Strategy, choice: Choice },
    /// The strategy of a configuration.
    Strategy(Strategy),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub machine: Machine,
    pub config: String,
    pub finding: Finding,
}

/// Measurements, as one device may use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    pub(crate) machine: Machine,
    /// Those of other machines and versions too: they are kept in the file.
    pub(crate) records: Vec<Record>,
}

impl Tuning {
    /// Records that the device may use, and those that it may not.
    pub fn counts(&self) -> (usize, usize) {
        let own = self.records.iter().filter(|r| r.machine == self.machine).count();
        (own, self.records.len() - own)
    }

    /// Sets what is fastest for a configuration in a shape's class, run as `options` say with `strategy`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a tile that is not of [`TILE_SIZES`], or a block of no steps.
    pub fn set(
        &mut self,
        config: &RnnConfig,
        shape: Shape,
        options: &Options,
        strategy: Strategy,
        choice: Choice,
    ) -> Result<()> {
        choice.tiles.validate()?;
        if choice.block == Some(0) {
            return Err(Error::mismatch("block", "at least 1 step", 0));
        }
        let finding = Finding::Shape { shape: class(shape), mode: mode(options), strategy, choice };
        self.put(Record { machine: self.machine.clone(), config: key(config), finding });
        Ok(())
    }

    /// Sets the strategy of a configuration, in all shapes.
    pub fn set_strategy(&mut self, config: &RnnConfig, strategy: Strategy) {
        let finding = Finding::Strategy(strategy);
        self.put(Record { machine: self.machine.clone(), config: key(config), finding });
    }

    /// What is fastest, if it was measured.
    pub fn choice(&self, config: &RnnConfig, shape: Shape, options: &Options, strategy: Strategy) -> Option<&Choice> {
        let (wanted, run) = (class(shape), mode(options));
        self.own(config).find_map(|finding| match finding {
            Finding::Shape { shape, mode, strategy: s, choice }
                if (*shape, *s) == (wanted, strategy) && *mode == run =>
            {
                Some(choice)
            }
            _ => None,
        })
    }

    /// The strategy of a configuration, if it was measured.
    pub fn strategy(&self, config: &RnnConfig) -> Option<Strategy> {
        self.own(config).find_map(|finding| match finding {
            Finding::Strategy(strategy) => Some(*strategy),
            Finding::Shape { .. } => None,
        })
    }

    fn own(&self, config: &RnnConfig) -> impl Iterator<Item = &Finding> {
        let config = key(config);
        self.records.iter().filter(move |r| r.machine == self.machine && r.config == config).map(|r| &r.finding)
    }

    /// In place of what was known of the same.
    pub(crate) fn put(&mut self, record: Record) {
        let same = |a: &Finding, b: &Finding| match (a, b) {
            (Finding::Strategy(_), Finding::Strategy(_)) => true,
            (
                Finding::Shape { shape, mode, strategy, .. },
                Finding::Shape { shape: other_shape, mode: other_mode, strategy: other, .. },
            ) => (shape, mode, strategy) == (other_shape, other_mode, other),
            _ => false,
        };
        self.records
            .retain(|r| r.machine != record.machine || r.config != record.config || !same(&r.finding, &record.finding));
        self.records.push(record);
    }
}

/// T and B rounded up to powers of two.
fn class(shape: Shape) -> Shape {
    let up = |n: usize| n.checked_next_power_of_two().unwrap_or(n);
    Shape { time: up(shape.time), batch: up(shape.batch) }
}

/// What of a configuration decides how fast it is.
fn key(config: &RnnConfig) -> String {
    let RnnConfig { input_size: i, hidden_size: h, proj_size: p, num_layers: l, .. } = *config;
    let (cell, direction, recurrence, input) = (config.cell.name, config.direction, config.recurrence, config.input);
    format!("{cell} I={i} H={h} P={p} L={l} {direction:?} {recurrence} {input:?} {:?}", config.layout)
}

/// How it runs.
fn mode(options: &Options) -> String {
    let Options { precision, weights, activations, train, memory, wavefront, .. } = options;
    let pass = if *train { format!("train {memory}") } else { "inference".into() };
    format!("{precision:?} {weights} {activations} {pass} {wavefront:?}")
}
