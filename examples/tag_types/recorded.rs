//! What the package's own code said of three texts (models/typeseg_mamba/cases.*).

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Error, Result};

/// One recorded text.
pub struct Case {
    pub text: String,
    /// The rows of the embedding that it read.
    pub ids: Vec<usize>,
    /// `[bytes, labels]`
    pub logits: Vec<f32>,
    /// Scans of the first and the last layer, in the order of `Tagged::scans`; none for most texts.
    pub scans: Vec<Vec<f32>>,
}

/// The tensors of [`Case::scans`].
pub const SCANS: [&str; 4] = ["layer0.fw.y", "layer0.bw.y", "layer5.fw.y", "layer5.bw.y"];

/// Reads them all.
pub fn cases(folder: impl AsRef<Path>) -> Result<Vec<Case>> {
    let path = folder.as_ref().join("cases.json");
    let refused = |reason: String| Error::File { path: path.clone(), reason };
    let list = std::fs::read(&path).map_err(|e| refused(e.to_string()))?;
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).map_err(|e| refused(e.to_string()))?;
    let file = TensorFile::open(folder.as_ref().join("cases.safetensors"))?;
    let case = |(n, v): (usize, &serde_json::Value)| {
        let missing = |name: &str| refused(format!("text {n} lacks {name}"));
        let (_, ids) = file.integers(&format!("{n}.ids"))?.ok_or_else(|| missing("ids"))?;
        let (_, logits) = file.real(&format!("{n}.logits"))?.ok_or_else(|| missing("logits"))?;
        let mut scans = Vec::new();
        for name in SCANS {
            if let Some((shape, values)) = file.real::<f32>(&format!("{n}.{name}"))? {
                // Those from the last byte were recorded in the order they ran.
                scans.push(if name.contains("bw") { reversed(&values, shape[1]) } else { values });
            }
        }
        let text = v["text"].as_str().ok_or_else(|| missing("text"))?.to_string();
        Ok(Case { text, ids: ids.iter().map(|&i| i as usize).collect(), logits, scans })
    };
    list.iter().enumerate().map(case).collect()
}

fn reversed(values: &[f32], width: usize) -> Vec<f32> {
    values.chunks_exact(width).rev().flatten().copied().collect()
}
