//! A stack of layers, its embedding and its head from a file: configuration and weights.

use super::TensorFile;
use super::hints::{Shapes, is_of_layers, listed, matrix_hint, names_hint, prefix_hint, settings};
use crate::error::{Error, Result};
use crate::io::named::NamedTensors;
use crate::model::cell::Cell;
use crate::model::recurrence::Recurrence;
use crate::model::stack::{Bias, Direction, Head, RnnConfig};
use crate::model::weights::{Names, Weights, parameters};
use crate::num::Real;
use std::collections::HashSet;

impl TensorFile {
    /// The parameters of `config` from the tensors under `names`: a prefix, such as `"lstm."`, with PyTorch's names behind it
    /// (`weight_ih_l0`, `bias_hh_l1_reverse`, …), or [`Names`] with others for embedding and head.
    ///
    /// What the file has of this stack must be what `config` asks for, no less and no more: half of a bidirectional layer, or one
    /// layer of two, is refused and not run as a smaller network ([`TensorFile::weights_partial`] reads a part). A tensor is of the
    /// stack if the rest of its name, behind the prefix, is that of a layer's parameter: `weight_`, `bias_` or `gain` and on to
    /// `_l` and a number, without a dot. So are an embedding and a head that `names` names. Other tensors may stand beside them,
    /// with an empty prefix and with any other: a file of a whole model need hold nothing else.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a tensor that is missing, of another shape, no floating-point one, or left over; each with what would
    /// help. Errors of [`RnnConfig::validate`].
    pub fn weights<'n, T: Real>(&self, config: &RnnConfig, names: impl Into<Names<'n>>) -> Result<Weights<T>> {
        weights(self, config, names.into())
    }

    /// [`TensorFile::weights`] of a part of the stack: tensors that `config` does not ask for stay unread. The first of two layers, the
    /// forward direction of a bidirectional layer, a layer without its bias.
    ///
    /// # Errors
    /// As [`TensorFile::weights`], but for what is left over.
    pub fn weights_partial<'n, T: Real>(&self, config: &RnnConfig, names: impl Into<Names<'n>>) -> Result<Weights<T>> {
        weights_partial(self, config, names.into())
    }

    /// The configuration that the tensors under `names` describe for `cell`: sizes, layers, directions, projection, bias; everything
    /// else is as in [`RnnConfig::default`]. Where `names` is [`Names`] with an embedding or a head, also
    /// [`RnnConfig::vocabulary`], the rows of the table, and [`RnnConfig::head`], of the matrix's rows. A file does not say what loss the
    /// head was trained for: there is none here ([`Head::loss`]), which is enough to predict; set one to train. With a prefix alone
    /// there is neither, whatever the file has.
    ///
    /// A recurrence that is not dense is one the header says (`recurrence`, as [`Weights::save`] writes it): shapes alone would not
    /// tell heads from a projection whose matrix is missing.
    /// A file without W of layer 0 is refused: whether that is [`crate::InputMode::Skip`] or a gap, only a caller knows, who sets the
    /// configuration and calls [`TensorFile::weights`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a prefix that the file does not have, with those it has; for shapes that are not the cell's, with the
    /// cells that they fit; for a stack with a gap.
    pub fn config<'n>(&self, cell: &'static Cell, names: impl Into<Names<'n>>) -> Result<RnnConfig> {
        config(self, cell, names.into())
    }
}

/// [`TensorFile::weights`] of any named tensors.
pub(in crate::io) fn weights<T: Real>(
    file: &impl NamedTensors,
    config: &RnnConfig,
    names: Names<'_>,
) -> Result<Weights<T>> {
    check_present(file, config, &names)?;
    let unread = unread(file, config, &names);
    if !unread.is_empty() {
        let settings = settings(config, &names, &unread, |name| file.shape(name));
        let help = if settings.is_empty() { String::new() } else { format!("set {settings}, or ") };
        let what = format!("{}: tensors under the prefix {:?}", file.path().display(), names.layers);
        let expected = format!("only those that the configuration reads ({})", network(config));
        let got = format!("{} more: {}; {help}call weights_partial to leave them out", unread.len(), listed(&unread));
        return Err(Error::mismatch(what, expected, got));
    }
    read(file, config, &names)
}

/// [`TensorFile::weights_partial`] of any named tensors.
pub(in crate::io) fn weights_partial<T: Real>(
    file: &impl NamedTensors,
    config: &RnnConfig,
    names: Names<'_>,
) -> Result<Weights<T>> {
    check_present(file, config, &names)?;
    read(file, config, &names)
}

/// [`TensorFile::config`] of any named tensors.
pub(in crate::io) fn config(file: &impl NamedTensors, cell: &'static Cell, names: Names<'_>) -> Result<RnnConfig> {
    names.validate()?;
    let prefix = names.layers;
    let shape = |name: &str| file.shape(&format!("{prefix}{name}"));
    let layer_0 = |name: &str| match shape(name) {
        Some(s) if s.len() == 2 => Ok(s),
        Some(s) => Err(tensor_error(file, &format!("{prefix}{name}"), "a matrix", format!("{s:?}"))),
        None => {
            let got = format!("none{}", prefix_hint(file, prefix));
            Err(tensor_error(file, &format!("{prefix}{name}"), "a matrix", got))
        }
    };
    let (w, r) = (layer_0("weight_ih_l0")?, layer_0("weight_hh_l0")?);
    let recurrence = file.recurrence()?;
    let shapes = Shapes {
        w: &w,
        r: &r,
        projection: shape("weight_hr_l0"),
        recurrence,
        unit: shape("weight_unit_l0").is_some(),
        gains: shape("gain_l0").is_some(),
    };
    let hidden_size = shapes
        .hidden_size(cell)
        .map_err(|(name, expected, got)| tensor_error(file, &format!("{prefix}{name}"), expected, got))?;
    let mut num_layers = 1;
    while shape(&format!("weight_ih_l{num_layers}")).is_some() {
        num_layers += 1;
    }
    let mut config = RnnConfig {
        cell,
        input_size: w[1],
        hidden_size,
        num_layers,
        direction: match shape("weight_ih_l0_reverse") {
            Some(_) => Direction::Bidirectional,
            None => Direction::Forward,
        },
        bias: match (shape("bias_ih_l0"), shape("bias_hh_l0")) {
            (None, None) => Bias::None,
            (None, Some(_)) => Bias::Recurrent,
            (Some(_), None) => Bias::One,
            (Some(_), Some(_)) => Bias::Two,
        },
        proj_size: match shape("weight_hr_l0") {
            Some(projection) if recurrence != Recurrence::Dense => projection.first().copied().unwrap_or(0),
            Some(_) => r[1],
            None => 0,
        },
        recurrence,
        ..Default::default()
    };
    config.validate()?;
    if let Some(name) = names.embedding {
        config.vocabulary = Some(rows(file, name, "V, I", config.input_size)?);
    }
    if let Some(name) = names.head {
        let size = rows(file, name, "O, D·P", config.output_size())?;
        config.head = Some(Head { size, loss: None });
    }
    config.validate()?;
    // A file with a gap (layer 2 without layer 1, R of a reverse direction without its W, a bias that only some layers have) must
    // not run as a smaller network.
    if let Some(name) = unread(file, &config, &names).first() {
        let expected = format!("none, for the other tensors make a network without it ({})", network(&config));
        return Err(tensor_error(file, name, expected, "one"));
    }
    Ok(config)
}

fn tensor_error(file: &impl NamedTensors, name: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::mismatch(format!("{}: {name}", file.path().display()), expected, got)
}

/// The rows of the matrix `name`, which has so many columns.
fn rows(file: &impl NamedTensors, name: &str, axes: &str, columns: usize) -> Result<usize> {
    match file.shape(name) {
        Some(shape) if shape.len() == 2 && shape[1] == columns => Ok(shape[0]),
        Some(shape) => {
            let expected = format!("[{axes}] with {columns} columns, for that is what the layers have");
            Err(tensor_error(file, name, expected, format!("{shape:?}")))
        }
        None => {
            let got = format!("none{}", matrix_hint(file, columns));
            Err(tensor_error(file, name, format!("a matrix [{axes}] with {columns} columns"), got))
        }
    }
}

/// Refuses a file that lacks a parameter of `config`.
fn check_present(file: &impl NamedTensors, config: &RnnConfig, names: &Names<'_>) -> Result<()> {
    names.validate()?;
    config.validate()?;
    for p in parameters(config) {
        let name = names.in_file(&p.name);
        if file.shape(&name).is_none() {
            let hint = match p.name.as_str() {
                "embedding.weight" | "head.weight" => names_hint(file, &p.shape),
                _ => prefix_hint(file, names.layers),
            };
            let expected = format!("a tensor of shape {:?}", p.shape);
            return Err(tensor_error(file, &name, expected, format!("none{hint}")));
        }
    }
    Ok(())
}

/// Reads what is there.
fn read<T: Real>(file: &impl NamedTensors, config: &RnnConfig, names: &Names<'_>) -> Result<Weights<T>> {
    let mut weights = Weights::empty(config);
    for p in parameters(config) {
        let name = names.in_file(&p.name);
        let expected = format!("{:?}", p.shape);
        match file.real(&name)? {
            Some((shape, data)) if shape == p.shape => *weights.get_mut(p.place) = data,
            Some((shape, data)) => {
                return Err(tensor_error(file, &name, expected, format!("{shape:?}, {} values", data.len())));
            }
            None => return Err(tensor_error(file, &name, expected, "none")),
        }
    }
    Ok(weights)
}

/// The tensors of the stack under `names` that `config` does not ask for, in the order of their names.
fn unread(file: &impl NamedTensors, config: &RnnConfig, names: &Names<'_>) -> Vec<String> {
    let parameters = parameters(config);
    let known: HashSet<_> = parameters.iter().map(|p| names.in_file(&p.name)).collect();
    let named = |name: &str| {
        names.embedding == Some(name)
            || names.head.is_some() && [names.in_file("head.weight"), names.in_file("head.bias")].contains(&name.into())
    };
    let of_stack = |name: &String| name.strip_prefix(names.layers).is_some_and(is_of_layers) || named(name);
    let mut unread: Vec<String> =
        file.names().into_iter().filter(|n| of_stack(n) && !known.contains(n.as_str())).collect();
    unread.sort_unstable();
    unread
}

/// The configuration in a few words.
fn network(config: &RnnConfig) -> String {
    let RnnConfig { cell, num_layers, direction, bias, .. } = config;
    format!("{}, layers: {num_layers}, {direction:?}, bias {bias:?}", cell.name)
}
