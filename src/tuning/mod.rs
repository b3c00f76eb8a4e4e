//! What was measured on a device, so that plans for it need not rely on the table by device class.
//!
//! `wgpu-rnn tune` measures and writes a file; [`Tuning::load`] reads what it says of one device, and [`crate::Options::tuning`]
//! hands it to a plan. The library reads and writes files only where a caller names them. Records belong to an adapter, its
//! driver and a version of this crate; others are kept in the file, but never used.
//!
//! Tiles and blocks change no bits, and are looked up by configuration and shape class (T and B rounded up to powers of two). A
//! strategy changes bits, so one strategy holds for a configuration in every shape, as the table's does.

mod file;

use crate::config::{RnnConfig, Shape};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::Tiles;
use crate::plan::{Options, Strategy};
use std::path::{Path, PathBuf};

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
    fn validate(self) -> Result<()> {
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
struct Machine {
    adapter: String,
    driver: String,
    /// Of this crate: kernels differ from version to version.
    version: String,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
enum Finding {
    /// Tiles and blocks, for `shape` (a class), how it runs, and the strategy.
    Shape { shape: Shape, mode: String, strategy: Strategy, choice: Choice },
    /// The strategy of a configuration.
    Strategy(Strategy),
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    machine: Machine,
    config: String,
    finding: Finding,
}

/// Measurements, as one device may use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    machine: Machine,
    /// Those of other machines and versions too: they are kept in the file.
    records: Vec<Record>,
}

/// The crate's version, and how often its kernels have changed so much that what was measured before says nothing.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", kernels 2");

impl Tuning {
    /// Nothing measured yet on a device.
    pub fn new(device: &Device) -> Self {
        let (adapter, driver) = match device.gpu_info() {
            Some(info) => (format!("{} ({})", info.name, info.backend), info.driver.clone()),
            None => (device.to_string(), std::env::consts::ARCH.to_string()),
        };
        Self { machine: Machine { adapter, driver, version: VERSION.into() }, records: Vec::new() }
    }

    /// What a file says of a device. Records of other adapters, drivers and versions are not used.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, is longer than 4 MiB, or does not hold exactly what [`Tuning::store`] writes.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let records = file::read(path.as_ref())?;
        Ok(Self { records, ..Self::new(device) })
    }

    /// Writes everything into a file, with what others have written there since: under another name, which then takes the place
    /// of the file, so that whoever reads it sees all of the old or all of the new. Of two that write at the same moment the
    /// later wins. A file that [`Tuning::load`] refuses is replaced.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn store(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut merged = Self { records: file::read(path.as_ref()).unwrap_or_default(), ..self.clone() };
        self.records.iter().for_each(|record| merged.put(record.clone()));
        file::write(path.as_ref(), &merged.records)
    }

    /// Where the command line keeps its file: `wgpu-rnn/tuning.json` in `XDG_CACHE_HOME` or the platform's directory for caches;
    /// `None` where the environment names none.
    pub fn default_path() -> Option<PathBuf> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let platform = || match std::env::consts::OS {
            "windows" => absolute("LOCALAPPDATA"),
            "macos" => absolute("HOME").map(|home| home.join("Library/Caches")),
            _ => absolute("HOME").map(|home| home.join(".cache")),
        };
        absolute("XDG_CACHE_HOME").or_else(platform).map(|cache| cache.join("wgpu-rnn").join("tuning.json"))
    }

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
    fn put(&mut self, record: Record) {
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
