//! Everything that a path stands for: goldens, ONNX's test cases, WebNN's.

use super::golden::Golden;
use super::onnx_case::{entries, is_case, is_folder, read_file, read_folder, stem};
use super::{Report, verify, webnn_case};
use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Error, Precision, Result, Strategy};

/// A case by name, and how it went.
#[derive(Debug)]
pub struct Verified {
    /// The golden's name, or the path of what could not be read.
    pub name: String,
    /// Its comparisons.
    pub report: Result<Report>,
}

/// Verifies everything at `path`, as [`super::verify_file`] does: a golden file, a safetensors file of an ONNX test case, a
/// folder of one (`model.onnx`, `test_data_set_*`), a JSON list of WebNN cases; a folder stands for all of these directly in it.
/// Never empty: what holds no case has proven nothing, and is an error.
pub fn verify_path(
    path: impl AsRef<Path>,
    device: &Device,
    strategy: Option<Strategy>,
    precision: Precision,
) -> Vec<Verified> {
    let path = path.as_ref();
    let run = |(name, golden): (String, Result<Golden>)| {
        let report = golden.and_then(|golden| verify(&golden, device, strategy, precision));
        Verified { name, report }
    };
    match goldens(path) {
        Ok(goldens) => goldens.into_iter().map(run).collect(),
        Err(error) => vec![Verified { name: path.display().to_string(), report: Err(error) }],
    }
}

/// The goldens that a path stands for, each read or refused.
///
/// # Errors
/// [`Error::File`] for a path that holds none.
pub fn goldens(path: impl AsRef<Path>) -> Result<Vec<(String, Result<Golden>)>> {
    let path = path.as_ref();
    if !path.is_dir() || is_folder(path) {
        return Ok(of_one(path));
    }
    let mut cases = Vec::new();
    for entry in entries(path)? {
        let taken = match extension(&entry) {
            Some("safetensors") => true,
            // Other JSON may well lie beside the cases.
            Some("json") => matches!(webnn_case::list(&entry), Ok(Some(_))),
            _ => is_folder(&entry),
        };
        if taken {
            cases.extend(of_one(&entry));
        }
    }
    if cases.is_empty() {
        return Err(Error::file(path, "a folder without *.safetensors, ONNX or WebNN test cases"));
    }
    Ok(cases)
}

/// Those of a file, or of the folder of an ONNX test case.
fn of_one(path: &Path) -> Vec<(String, Result<Golden>)> {
    let several = match extension(path) {
        _ if path.is_dir() => read_folder(path),
        Some("json") => webnn(path),
        _ => return vec![(stem(path), one(path))],
    };
    several.unwrap_or_else(|error| vec![(stem(path), Err(error))])
}

fn one(path: &Path) -> Result<Golden> {
    let file = TensorFile::open(path)?;
    if is_case(&file) { read_file(&file) } else { Golden::read(&file) }
}

fn webnn(path: &Path) -> Result<Vec<(String, Result<Golden>)>> {
    let none = || Error::file(path, "no list of WebNN test cases of lstm, lstmCell, gru or gruCell");
    let cases = webnn_case::list(path)?.ok_or_else(none)?;
    Ok(cases.iter().map(|case| webnn_case::read(path, case)).collect())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|e| e.to_str())
}
