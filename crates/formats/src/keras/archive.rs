//! `.keras` archives: a zip file of `config.json`, `metadata.json` and `model.weights.h5`.

use std::io::{Cursor, Read};
use zip::ZipArchive;

/// The parts of an archive.
pub(super) struct Parts {
    /// `config.json`: the model.
    pub config: Vec<u8>,
    /// `metadata.json`: who wrote it.
    pub metadata: Vec<u8>,
    /// `model.weights.h5`
    pub weights: Vec<u8>,
}

/// Reads an archive; `budget`: bytes that all parts may have together.
pub(super) fn read(bytes: &[u8], mut budget: u64) -> Result<Parts, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| format!("not a zip archive: {e}"))?;
    let mut part = |name: &str| {
        let file = archive.by_name(name).map_err(|e| format!("{name}: {e}"))?;
        // What is declared is not believed: one byte over the budget shows that there is more.
        let mut data = Vec::new();
        file.take(budget.saturating_add(1)).read_to_end(&mut data).map_err(|e| format!("{name}: {e}"))?;
        budget = budget.checked_sub(data.len() as u64).ok_or_else(|| format!("{name}: unpacks to far too much"))?;
        Ok::<_, String>(data)
    };
    let config = part("config.json")?;
    let metadata = part("metadata.json")?;
    match part("model.weights.h5") {
        Ok(weights) => Ok(Parts { config, metadata, weights }),
        Err(_) if archive.index_for_name("model.weights.npz").is_some() => {
            Err("its weights are model.weights.npz: save it with weights_format=\"h5\", Keras's default".into())
        }
        Err(reason) => Err(reason),
    }
}
