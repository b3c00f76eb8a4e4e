//! The recurrent layers among the tensors of a file: found by their names, whichever tool gave them.
//!
//! A file's layers are found by what their tools call the parameters (`layers/conventions.rs`, a row per class of a tool: PyTorch,
//! candle, equinox, MLX, Flax, burn), and given by the names that PyTorch and this crate have for them. What is not in a file,
//! a caller says: which of the cells of that many gates it is.

mod conventions;
mod weight_norm;
mod write;

pub use conventions::Convention;

use crate::element::Element;
use crate::tensors::Tensors;
use conventions::{CONVENTIONS, PYTORCH, Parameter};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use weight_norm::Weights;
use wgpu_rnn::io::NamedTensors;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::{Parameter as Expected, parameters};
use wgpu_rnn::{Bias, Cell, Direction, Error, Recurrence, Result, RnnConfig, cells};

/// So many names of a longer list are shown in an error.
const LISTED: usize = 8;
/// What trainers and compilers put around a module: no part of a layer's name.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// A recurrent layer, or a stack of layers, that a file has. `{}` prints it on a line.
pub struct Layer<'a> {
    weights: Arc<Weights<'a>>,
    prefix: String,
    convention: &'static Convention,
    /// By the names that PyTorch would have for them.
    parameters: BTreeMap<String, Pieces>,
}

/// The tensors that a parameter is made of, one below the other.
struct Pieces {
    shape: Vec<usize>,
    /// Names of weights; `None` where the values are 0.
    of: Vec<Option<String>>,
    transposed: bool,
}

impl Tensors {
    /// Every recurrent layer in the file, in the order of their names.
    pub fn layers(&self) -> Vec<Layer<'_>> {
        let weights = Arc::new(Weights::new(self));
        let mut found = stacks(&weights);
        found.extend(single(&weights));
        found.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        found
    }

    /// The layer of that name, which is the prefix of its tensors without the dot at the end; `None`: the only one of the file. What
    /// stands before the name (`state_dict.`, `module.`, `_orig_mod.`) may be left out where that is clear.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is none or several, with those that there are.
    pub fn layer(&self, name: Option<&str>) -> Result<Layer<'_>> {
        let mut layers = self.layers();
        let known: Vec<String> = layers.iter().map(|layer| format!("{:?}", layer.name())).collect();
        if let Some(name) = name {
            // The name as it is, then without what wraps modules, then its end.
            let ways: [&dyn Fn(&Layer<'_>) -> bool; 3] = [
                &|layer| layer.name() == name.trim_end_matches('.'),
                &|layer| plain(layer.name()) == plain(name),
                &|layer| format!(".{}", plain(layer.name())).ends_with(&format!(".{}", plain(name))),
            ];
            let way = ways.iter().find(|fits| layers.iter().any(fits));
            layers.retain(|layer| way.is_some_and(|fits| fits(layer)));
        }
        if let [_] = layers.as_slice() {
            return Ok(layers.remove(0));
        }
        let expected = match name {
            Some(name) => format!("one named {name:?}"),
            None if known.is_empty() => {
                "a recurrent layer by the names of PyTorch, candle, equinox, MLX, Flax or burn".into()
            }
            None => "one, or the name of one of several".into(),
        };
        let (kind, list) = match known.as_slice() {
            [] => ("none of them; the file has the tensors", self.names().map(String::from).collect()),
            _ => ("those of the file are", known),
        };
        let got = format!("{}; {kind} {}", layers.len(), listed(&list));
        Err(Error::mismatch(format!("{}: recurrent layer", self.path().display()), expected, got))
    }
}

/// The prefixes at which there are layers of PyTorch.
fn stacks<'a>(weights: &Arc<Weights<'a>>) -> Vec<Layer<'a>> {
    let prefixes: BTreeSet<&str> = weights.names().filter_map(|n| n.strip_suffix("weight_hh_l0")).collect();
    let stack = |prefix: &str| {
        let of_stack = weights.under(prefix).filter(|n| n.strip_prefix(prefix).is_some_and(|rest| !rest.contains('.')));
        let whole = |name: &str| {
            let pieces =
                Pieces { shape: weights.shape(name)?.to_vec(), of: vec![Some(name.to_string())], transposed: false };
            Some((name.to_string(), pieces))
        };
        let parameters = of_stack.filter_map(whole).collect();
        Layer { weights: weights.clone(), prefix: prefix.to_string(), convention: &PYTORCH, parameters }
    };
    prefixes.into_iter().map(stack).collect()
}

/// The layers of other names, each one layer.
fn single<'a>(weights: &Arc<Weights<'a>>) -> impl Iterator<Item = Layer<'a>> {
    let mut found: BTreeMap<String, Layer<'a>> = BTreeMap::new();
    for convention in &CONVENTIONS {
        let mut new: BTreeMap<String, Layer<'a>> = BTreeMap::new();
        for (prefix, separator) in prefixes(weights, convention) {
            if !found.contains_key(&prefix) {
                new.extend(one(weights, convention, &prefix, separator).map(|layer| (prefix, layer)));
            }
        }
        both_ways(convention, &mut new);
        found.extend(new);
    }
    found.into_values()
}

/// Where the names of a convention could begin, and what stands between their parts.
fn prefixes(weights: &Weights<'_>, convention: &Convention) -> BTreeSet<(String, char)> {
    let recurrent = convention.parameters.iter().find(|p| p.name == "weight_hh").and_then(|p| p.from.first());
    let mut found = BTreeSet::new();
    for separator in ['.', '/'] {
        let Some(suffix) = recurrent.map(|name| with(name, separator)) else { continue };
        let starts = weights.names().filter_map(|name| name.strip_suffix(&suffix));
        let whole =
            starts.filter(|s| s.ends_with(separator) || s.is_empty() && (separator == '.' || suffix.contains('/')));
        found.extend(whole.map(|start| (start.to_string(), separator)));
    }
    found
}

/// The layer whose tensors have the convention's names behind `prefix`, all of them and no others that a convention knows.
fn one<'a>(
    weights: &Arc<Weights<'a>>,
    convention: &'static Convention,
    prefix: &str,
    separator: char,
) -> Option<Layer<'a>> {
    let full = |name: &str| format!("{prefix}{}", with(name, separator));
    let part = |name: &str| convention.parameters.iter().find(|p| p.name == name);
    let whole = |p: &Parameter| whole_shape(weights, p, full);
    let hidden = whole(part("weight_hh")?)?;
    let &[rows, hidden_size] = hidden.as_slice() else { return None };
    let gates = rows.checked_div(hidden_size)?;
    if gates * hidden_size != rows || !convention.cells.iter().any(|c| c.recurrent_gates() == gates) {
        return None;
    }
    let mut parameters = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for p in convention.parameters {
        let named: Vec<Option<String>> = p.from.iter().map(|n| (!n.is_empty()).then(|| full(n))).collect();
        let there = named.iter().flatten().filter(|n| weights.shape(n).is_some()).count();
        if there == 0 && p.name.starts_with("bias") {
            continue;
        }
        let mut shape = whole(p)?;
        // Gates of which there is no tensor: rows of 0.
        if named.contains(&None) {
            if shape != [there * hidden_size] {
                return None;
            }
            shape = vec![rows];
        }
        taken.extend(named.iter().flatten().cloned());
        let name = format!("{prefix}{}_l0", p.name);
        parameters.insert(name, Pieces { shape, of: named, transposed: p.transposed });
    }
    let others = CONVENTIONS.iter().flat_map(|c| c.parameters).flat_map(|p| p.from).filter(|n| !n.is_empty());
    let left_over = others.map(|n| full(n)).any(|n| !taken.contains(&n) && weights.shape(&n).is_some());
    (!left_over).then(|| Layer { weights: weights.clone(), prefix: prefix.to_string(), convention, parameters })
}

/// The shape of a parameter from those of its tensors, which must be alike; `None` if one is missing.
fn whole_shape(weights: &Weights<'_>, p: &Parameter, full: impl Fn(&str) -> String) -> Option<Vec<usize>> {
    let mut shapes = p.from.iter().filter(|n| !n.is_empty()).map(|n| weights.shape(&full(n)));
    let mut shape = shapes.next()??.to_vec();
    let count = p.from.iter().filter(|n| !n.is_empty()).count();
    if !shapes.all(|s| s == Some(&shape)) || !matches!(shape.len(), 1 | 2) || p.transposed && shape.len() != 2 {
        return None;
    }
    if p.transposed {
        shape.reverse();
    }
    shape[0] = shape[0].checked_mul(count)?;
    Some(shape)
}

/// Two layers of one convention side by side, whose prefixes are its directions, are one that goes both ways.
fn both_ways<'a>(convention: &Convention, found: &mut BTreeMap<String, Layer<'a>>) {
    let &[forward, reverse] = convention.directions else { return };
    let starts: Vec<String> = found.keys().filter_map(|p| p.strip_suffix(forward).map(String::from)).collect();
    for prefix in starts.into_iter().filter(|p| p.is_empty() || p.ends_with('.')) {
        let (there, back) = (format!("{prefix}{forward}"), format!("{prefix}{reverse}"));
        if !found.contains_key(&back) {
            continue;
        }
        let (Some(mut layer), Some(other)) = (found.remove(&there), found.remove(&back)) else { continue };
        let renamed = |pieces: BTreeMap<String, Pieces>, from: &str, end: &str| {
            let name = |name: String| format!("{prefix}{}{end}", name.strip_prefix(from).unwrap_or(&name));
            pieces.into_iter().map(|(n, p)| (name(n), p)).collect::<BTreeMap<_, _>>()
        };
        layer.parameters = renamed(layer.parameters, &there, "");
        layer.parameters.extend(renamed(other.parameters, &back, "_reverse"));
        layer.prefix.clone_from(&prefix);
        found.insert(prefix, layer);
    }
}

/// A convention's name with what separates its parts in a file.
fn with(name: &str, separator: char) -> String {
    name.replace('.', &separator.to_string())
}

/// A name without what wraps modules.
fn plain(name: &str) -> String {
    let parts = name.trim_end_matches(['.', '/']).split(['.', '/']).filter(|part| !WRAPPERS.contains(part));
    parts.collect::<Vec<_>>().join(".")
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 if names.is_empty() => "none".into(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Layer<'_> {
    /// The prefix of its tensors, without what separates it from their names; empty where they have none.
    pub fn name(&self) -> &str {
        self.prefix.trim_end_matches(['.', '/'])
    }

    /// Whose names its tensors have.
    pub fn convention(&self) -> &'static Convention {
        self.convention
    }

    /// The number format of its recurrent matrix in the file.
    pub fn element(&self) -> Option<Element> {
        let pieces = self.parameters.get(&format!("{}weight_hh_l0", self.prefix))?;
        let stored = self.weights.stored(pieces.of.iter().flatten().next()?)?;
        self.weights.file().element(stored)
    }

    /// The cells that its tensors fit, by the number of gates and the biases, the likeliest first: of three gates, `gru` where it has
    /// the two biases that tell it from `gru-reset-before`, or none.
    pub fn cells(&self) -> Vec<&'static Cell> {
        let has = |p: Expected| {
            let found = self.parameters.get(&format!("{}{}", self.prefix, p.name));
            found.is_some_and(|found| found.shape == p.shape)
        };
        let config = |cell| NamedTensors::config(self, cell, &self.prefix).ok();
        let fits = |cell| config(cell).filter(|config| parameters(config).into_iter().all(has));
        let fitting: Vec<RnnConfig> = self.convention.cells.iter().filter_map(|cell| fits(cell)).collect();
        let one_bias = fitting.iter().any(|config| matches!(config.bias, Bias::One | Bias::Recurrent));
        let mut cells: Vec<_> = fitting.into_iter().map(|config| config.cell).collect();
        // Stable: the order of the others stays.
        cells.sort_by_key(|cell| one_bias && **cell == cells::GRU);
        cells
    }

    /// Its configuration as `cell`, or as the first of [`Layer::cells`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for shapes that are not the cell's, with the cells that they fit, and for a stack with a gap.
    pub fn config(&self, cell: Option<&'static Cell>) -> Result<RnnConfig> {
        let likeliest = || self.cells().into_iter().next().or_else(|| self.convention.cells.first().copied());
        let cell = cell.or_else(likeliest).unwrap_or(&cells::LSTM);
        NamedTensors::config(self, cell, &self.prefix)
    }

    /// Its configuration and its weights.
    ///
    /// # Errors
    /// As [`Layer::config`], and [`Error::File`] for values that the file does not have.
    pub fn read<T: Real>(&self, cell: Option<&'static Cell>) -> Result<(RnnConfig, wgpu_rnn::Weights<T>)> {
        let config = self.config(cell)?;
        let weights = NamedTensors::weights(self, &config, &self.prefix)?;
        Ok((config, weights))
    }
}

/// By PyTorch's names behind the prefix.
impl NamedTensors for Layer<'_> {
    fn path(&self) -> &Path {
        self.weights.file().path()
    }

    fn names(&self) -> Vec<String> {
        self.parameters.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.parameters.get(name).map(|p| p.shape.clone())
    }

    fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        let Some(Pieces { shape, of, transposed }) = self.parameters.get(name) else { return Ok(None) };
        let count: usize = shape.iter().product();
        let mut values = Vec::new();
        for piece in of {
            let Some(piece) = piece else {
                values.extend(vec![T::default(); count.checked_div(of.len()).unwrap_or(0)]);
                continue;
            };
            let Some((stored, data)) = self.weights.real::<T>(piece)? else { return Ok(None) };
            match (transposed, stored.as_slice()) {
                (true, &[rows, columns]) => {
                    values.extend(
                        (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| data[r * columns + c]),
                    );
                }
                _ => values.extend(data),
            }
        }
        Ok(Some((shape.clone(), values)))
    }

    fn recurrence(&self) -> Result<Recurrence> {
        NamedTensors::recurrence(self.weights.file())
    }
}

/// `encoder: gru, input_size 40, hidden_size 64, 2 layers, bidirectional, …`
impl fmt::Display for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name().is_empty() { "(no name)" } else { self.name() };
        match self.config(None) {
            Ok(config) => write!(f, "{name}: {}", Summary(&config)),
            Err(e) => write!(f, "{name}: {e}"),
        }
    }
}

/// A configuration on a line.
pub struct Summary<'a>(pub &'a RnnConfig);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RnnConfig { cell, input_size, hidden_size, num_layers, direction, bias, proj_size, .. } = self.0;
        write!(f, "{}, input_size {input_size}, hidden_size {hidden_size}", cell.name)?;
        if *proj_size > 0 {
            write!(f, ", proj_size {proj_size}")?;
        }
        write!(f, ", {num_layers} layer{}", if *num_layers == 1 { "" } else { "s" })?;
        match direction {
            Direction::Forward => {}
            Direction::Reverse => write!(f, ", reverse")?,
            Direction::Bidirectional => write!(f, ", bidirectional")?,
        }
        match bias {
            Bias::None => write!(f, ", no bias"),
            Bias::One => write!(f, ", one bias"),
            Bias::Recurrent => write!(f, ", recurrent bias"),
            Bias::Two => write!(f, ", two biases"),
        }
    }
}
