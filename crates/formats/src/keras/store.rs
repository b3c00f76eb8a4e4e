//! Which arrays of a file are a layer's.
//!
//! | written by | where | order |
//! |---|---|---|
//! | Keras 1 and 2, tf.keras, and `.h5` of Keras 3 | group of the layer's name, at the root or in `model_weights` | attribute `weight_names` |
//! | `.keras` and `.weights.h5` | `layers/<class>_<n>/…/vars/0` and on; `_layer_checkpoint_dependencies` for `layers` in tf.keras 2.13 | by number |

use super::config::ModelConfig;
use super::hdf5::{Array, Tree};
use std::collections::BTreeMap;

/// Parts of an array's name in which its layer's is looked for.
const MOST_PARTS: usize = 16;

/// Where a layer's arrays are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Store {
    /// The model itself.
    Root,
    /// Arrays in the order of `get_weights()`, by their names in a group.
    Flat { group: String, names: Vec<String> },
    /// A group with a group for every part of the layer.
    Groups(String),
}

/// Which of a layer's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner {
    /// Its own.
    Own,
    /// Those of its recurrent cell.
    Cell,
    /// Those of the cell that a `Bidirectional` runs forward.
    Forward,
    /// Those of the other.
    Backward,
    /// Those of the layer in a `TimeDistributed`.
    Wrapped,
}

impl Store {
    /// The arrays, in Keras's order.
    pub fn arrays<'t>(&self, tree: &'t Tree, inner: Inner) -> Result<Vec<&'t Array>, String> {
        match self {
            Self::Root => Err("the model itself has no arrays".into()),
            Self::Flat { group, names } => {
                let half = names.len() / 2;
                let names = match inner {
                    Inner::Forward => &names[..half],
                    Inner::Backward => &names[half..],
                    Inner::Own | Inner::Cell | Inner::Wrapped => &names[..],
                };
                names.iter().map(|name| tree.array(&format!("{group}/{name}"))).collect()
            }
            Self::Groups(group) => {
                let inside = match inner {
                    Inner::Own => "",
                    Inner::Cell => "/cell",
                    Inner::Forward => "/forward_layer/cell",
                    Inner::Backward => "/backward_layer/cell",
                    Inner::Wrapped => "/layer",
                };
                let prefix = format!("{group}{inside}/vars/");
                let number = |path: &str| path.get(prefix.len()..).and_then(|n| n.parse::<usize>().ok());
                let mut found: Vec<(usize, &str)> =
                    tree.paths(&prefix).filter_map(|path| Some((number(path)?, path))).collect();
                found.sort_unstable();
                found.into_iter().map(|(_, path)| tree.array(path)).collect()
            }
        }
    }

    /// Those of a model's layers, in their order, where this is the model's.
    pub fn of_layers(&self, model: &ModelConfig, tree: &Tree) -> Vec<Self> {
        let names = model.layers.iter().map(|layer| layer.name.as_str());
        match self {
            Self::Root => match legacy_root(tree) {
                Some(root) => names.map(|name| legacy(tree, root, name)).collect(),
                None => grouped(model, tree, ""),
            },
            // The arrays of all layers one after the other, each with its layer's name in its own.
            Self::Flat { group, names: all } => {
                let of = |layer: &str| {
                    let parts = |name: &&String| name.split('/').take(MOST_PARTS).any(|part| part == layer);
                    all.iter().filter(parts).cloned().collect()
                };
                names.map(|layer| Self::Flat { group: group.clone(), names: of(layer) }).collect()
            }
            Self::Groups(group) => grouped(model, tree, &format!("{group}/")),
        }
    }
}

/// The group that holds the layers' groups, of a file with a list of layers' names.
pub(super) fn legacy_root(tree: &Tree) -> Option<&'static str> {
    ["model_weights", ""].into_iter().find(|root| tree.texts(root, "layer_names").is_some())
}

/// The arrays of a layer in such a file.
pub(super) fn legacy(tree: &Tree, root: &str, layer: &str) -> Store {
    let group = if root.is_empty() { layer.to_string() } else { format!("{root}/{layer}") };
    let names = tree.texts(&group, "weight_names").unwrap_or_default();
    Store::Flat { names: names.into_iter().map(str::to_string).collect(), group }
}

/// Groups by classes, numbered from the second layer of a class on.
fn grouped(model: &ModelConfig, tree: &Tree, prefix: &str) -> Vec<Store> {
    let container = ["layers", "_layer_checkpoint_dependencies"].map(|name| format!("{prefix}{name}/"));
    let container = container.into_iter().find(|path| tree.paths(path).next().is_some()).unwrap_or_default();
    // The numbers that there are, by class.
    let mut numbers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for path in tree.paths(&container) {
        let name = path[container.len()..].split('/').next().unwrap_or_default();
        let numbered = name.rsplit_once('_').and_then(|(class, n)| Some((class, n.parse::<usize>().ok()?)));
        let (class, number) = numbered.unwrap_or((name, 0));
        let all = numbers.entry(class).or_default();
        if all.last() != Some(&number) {
            all.push(number);
        }
    }
    for all in numbers.values_mut() {
        all.sort_unstable();
        all.dedup();
    }
    let classes: Vec<String> = model.layers.iter().map(|layer| snake_case(&layer.class)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    classes.iter().for_each(|class| *counts.entry(class).or_default() += 1);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut stores = Vec::new();
    for class in &classes {
        let n = met.entry(class).or_default();
        let all = numbers.get(class.as_str()).map_or(&[][..], Vec::as_slice);
        let count = counts.get(class.as_str()).copied().unwrap_or(0);
        // tf.keras 2.13 counts layers twice: then they are in order, but not numbered by it.
        let skips = all.last().is_some_and(|&last| last >= count);
        let number = if skips { all.get(*n).copied().unwrap_or(usize::MAX) } else { *n };
        let name = if number == 0 { class.clone() } else { format!("{class}_{number}") };
        stores.push(Store::Groups(format!("{container}{name}")));
        *n += 1;
    }
    stores
}

/// Keras's name of a class in paths.
fn snake_case(class: &str) -> String {
    let all: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut name = String::new();
    for (n, &c) in all.iter().enumerate() {
        let word = c.is_uppercase() && all.get(n + 1).is_some_and(|next| next.is_lowercase());
        let after = n > 0 && all[n - 1].is_lowercase() && c.is_uppercase();
        if n > 0 && (word || after) {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes() {
        let names = [
            ("LSTM", "lstm"),
            ("SimpleRNN", "simple_rnn"),
            ("ReLU", "re_lu"),
            ("PReLU", "p_re_lu"),
            ("Conv1D", "conv1d"),
            ("BatchNormalization", "batch_normalization"),
            ("GlobalAveragePooling1D", "global_average_pooling1d"),
        ];
        for (class, name) in names {
            assert_eq!(snake_case(class), name);
        }
    }
}
