//! `wgpu-rnn run FILE` without a layer: the whole model, inputs and outputs by their names.

use super::model::PlaceArgs;
use std::path::{Path, PathBuf};
use wgpu_rnn::{Error, Result, Tensor, View};
use wgpu_rnn_formats::{ModelFile, WholeValue, npy};

/// What goes in and out, by name or, where there is one alone, without.
pub struct Ends<'a> {
    pub input: Option<&'a Path>,
    pub output: Option<&'a Path>,
    pub inputs: &'a [(String, PathBuf)],
    pub outputs: &'a [(String, PathBuf)],
}

pub fn run(file: ModelFile, ends: &Ends<'_>, place: &PlaceArgs) -> Result<()> {
    let model = file.whole()?;
    let from = named("--input", "--in", ends.input, ends.inputs, &model.inputs())?;
    let to = named("--output", "--out", ends.output, ends.outputs, &model.outputs())?;
    let tensors = from.iter().map(|(name, path)| Ok((name.as_str(), numbers(path)?))).collect::<Result<Vec<_>>>()?;
    let device = place.device()?;
    let views: Vec<(&str, View<'_, f32>)> = tensors.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
    let mut session = model.session_with::<f32>(&device, &place.network_options(&device)?, &views)?;
    session.layout().iter().for_each(|line| eprintln!("input: {line}"));
    eprintln!("device: {device}");
    let results = session.run(&views)?;
    for (name, path) in to {
        let found = results.iter().find(|(n, _)| *n == name);
        let (_, tensor) = found.ok_or_else(|| Error::mismatch("output", "one that the run gave", &name))?;
        eprintln!("output: {name} {:?}", tensor.shape);
        npy::write(path, tensor.view())?;
    }
    Ok(())
}

/// Files by the names of a model's inputs, or outputs.
fn named(
    short: &str,
    long: &str,
    only: Option<&Path>,
    given: &[(String, PathBuf)],
    values: &[WholeValue],
) -> Result<Vec<(String, PathBuf)>> {
    let list = || values.iter().map(|v| format!("{} {}", v.name, v.shape)).collect::<Vec<_>>().join(", ");
    match (only, values) {
        (Some(path), [value]) => Ok(vec![(value.name.clone(), path.into())]),
        (Some(_), _) => {
            let expected = format!("{long} NAME=FILE for each of {}, or a layer (--layer NAME)", list());
            Err(Error::mismatch(short, expected, format!("{} of the model", values.len())))
        }
        (None, _) => match given.iter().find(|(name, _)| !values.iter().any(|v| v.name == *name)) {
            Some((name, _)) => Err(Error::mismatch(long, list(), name)),
            None => Ok(given.to_vec()),
        },
    }
}

/// An array of numbers, or of token ids.
fn numbers(path: &Path) -> Result<Tensor<f32>> {
    let number = match npy::read::<f32>(path) {
        Ok(tensor) => return Ok(tensor),
        Err(e) => e,
    };
    // What it says of a file that is neither is about numbers.
    let Tensor { data, shape } = npy::read_integers(path).map_err(|_| number)?;
    let whole = |v: &i64| {
        let exact = (*v as f32) as i64 == *v;
        exact.then_some(*v as f32).ok_or_else(|| Error::file(path, format!("{v} is not exact in f32")))
    };
    Ok(Tensor { data: data.iter().map(whole).collect::<Result<_>>()?, shape })
}
