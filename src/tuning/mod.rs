//! What was measured on a device, so that plans for it need not rely on the table by device class.
//!
//! `wgpu-rnn tune` measures and writes a file; [`Tuning::load`] reads what it says of one device, and [`crate::Options::tuning`]
//! hands it to a plan. The library reads and writes files only where a caller names them. Records belong to an adapter, its
//! driver and a version of this crate; others are kept in the file, but never used.

mod file;

use crate::error::Result;
use crate::exec::Device;
use crate::plan::tuning::{Machine, Tuning};
use std::path::{Path, PathBuf};

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
    /// [`crate::Error::File`] if it cannot be read, is longer than 4 MiB, or does not hold exactly what [`Tuning::store`] writes.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let records = file::read(path.as_ref())?;
        Ok(Self { records, ..Self::new(device) })
    }

    /// Writes everything into a file, with what others have written there since: under another name, which then takes the place
    /// of the file, so that whoever reads it sees all of the old or all of the new. Of two that write at the same moment the
    /// later wins. A file that [`Tuning::load`] refuses is replaced.
    ///
    /// # Errors
    /// [`crate::Error::File`] where it cannot be written.
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
}
