//! Files of weights alone: which recurrent layers their arrays are, and what the arrays do not say.

use super::Found;
use super::config::LayerConfig;
use super::hdf5::{Array, Tree};
use super::recurrent::{KerasCell, KerasLabel, label};
use super::store::{Inner, Store, legacy, legacy_root};
use serde_json::{Value, json};
use std::collections::HashSet;
use wgpu_rnn::{Activation, Error, Result};

/// What a file of weights alone does not say of a layer. Shapes tell the cell, its sizes and, of a GRU with biases, `reset_after`; for
/// the rest `None` is Keras's default. Whether y, its last step or both are the model's, and `go_backwards`, is not a matter of the
/// weights: run the layer as the model does.
///
/// ```
/// use wgpu_rnn::Activation;
/// use wgpu_rnn_formats::keras::Unsaid;
/// let unsaid = Unsaid { recurrent_activation: Some(Activation::HARD_SIGMOID), ..Default::default() };
/// # assert!(unsaid.activation.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unsaid {
    /// `activation`; the default is tanh.
    pub activation: Option<Activation>,
    /// `recurrent_activation`; the default is that of the Keras that wrote the file: `hard_sigmoid` before 2.3, `sigmoid` from 2.3 on.
    /// tf.keras before 2.3 had one of each and must be told.
    pub recurrent_activation: Option<Activation>,
    /// `reset_after` of a GRU without biases, which must be told.
    pub reset_after: Option<bool>,
}

impl Unsaid {
    /// The label with what is given in it.
    pub(super) fn complete(
        &self,
        mut label: KerasLabel,
        layer: &LayerConfig,
        version: Option<&str>,
    ) -> Result<KerasLabel> {
        if let Some(given) = self.reset_after {
            label.reset_after = given && label.cell == KerasCell::Gru;
        } else if layer.flag("reset_after_is_unsaid", false) {
            let expected =
                "true or false in Unsaid (--reset-after), for a GRU without biases looks the same either way";
            return Err(Error::mismatch("reset_after", expected, "none"));
        }
        let gates = label.cell != KerasCell::SimpleRnn;
        if !label.said && gates && label.recurrent_activation.is_none() && self.recurrent_activation.is_none() {
            let expected = "one in Unsaid (--recurrent-activation), for the default was hard_sigmoid in TensorFlow 1 and is sigmoid in 2";
            let got = format!("none in a file of tf.keras {}", version.unwrap_or_default());
            return Err(Error::mismatch("recurrent_activation", expected, got));
        }
        Ok(label)
    }
}

/// The recurrent layers of a file without a configuration.
pub(super) fn discover(tree: &Tree, version: Option<&str>) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    if let Some(root) = legacy_root(tree) {
        let recurrent = default_of(version.unwrap_or("1"));
        let mut seen = HashSet::new();
        for name in tree.texts(root, "layer_names").unwrap_or_default().into_iter().filter(|name| seen.insert(*name)) {
            let Store::Flat { group, names } = legacy(tree, root, name) else { continue };
            let cells = cells_of(&names);
            let store = |names: Vec<String>| Store::Flat { group: group.clone(), names };
            let directions = |side: &str| cells.iter().any(|cell| cell.iter().any(|path| path.contains(side)));
            match &cells[..] {
                [] => {}
                [one] => found.extend(layer(tree, name.into(), store(one.clone()), &[Inner::Cell], recurrent)?),
                [a, b] if directions("forward_") && directions("backward_") => {
                    let both = store([a.clone(), b.clone()].concat());
                    found.extend(layer(tree, name.into(), both, &[Inner::Forward, Inner::Backward], recurrent)?);
                }
                // A model in the model.
                several => {
                    for cell in several {
                        let name = cell.first().and_then(|path| path.rsplit_once('/')).map_or(name, |(group, _)| group);
                        found.extend(layer(tree, name.into(), store(cell.clone()), &[Inner::Cell], recurrent)?);
                    }
                }
            }
        }
        return Ok(found);
    }
    // Keras 3: every cell has a group of its name.
    let firsts: Vec<&str> = tree.paths("").filter_map(|path| path.strip_suffix("/cell/vars/0")).collect();
    for group in firsts {
        if group.ends_with("/backward_layer") {
            continue;
        }
        let (name, parts) = match group.strip_suffix("/forward_layer") {
            Some(name) => (name, &[Inner::Forward, Inner::Backward][..]),
            None => (group, &[Inner::Cell][..]),
        };
        found.extend(layer(tree, name.into(), Store::Groups(name.into()), parts, Some("sigmoid"))?);
    }
    Ok(found)
}

/// The default of `recurrent_activation` in a version of Keras; `None` where it had two.
fn default_of(version: &str) -> Option<&'static str> {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u64>().unwrap_or(0));
    match [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)] >= [2, 3] {
        true => Some("sigmoid"),
        false if version.ends_with("-tf") => None,
        false => Some("hard_sigmoid"),
    }
}

/// The arrays of every recurrent cell among a layer's.
fn cells_of(paths: &[String]) -> Vec<Vec<String>> {
    // Keras 1: W, U and b of every gate, and nothing else in the layer.
    if paths.iter().any(|path| path.ends_with("_U_i") || path.ends_with("_U_z")) {
        return vec![paths.to_vec()];
    }
    let last = |n: usize| paths.get(n).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let recurrent = (1..paths.len()).filter(|&n| last(n).starts_with("recurrent_kernel") || last(n).ends_with("_U"));
    let cell = |n: usize| {
        let biased = last(n + 1).starts_with("bias") || last(n + 1).ends_with("_b");
        paths[n - 1..=n + usize::from(biased)].to_vec()
    };
    recurrent.map(cell).collect()
}

/// A layer whose settings are those that the shapes of its arrays tell.
fn layer(
    tree: &Tree,
    name: String,
    store: Store,
    parts: &[Inner],
    recurrent: Option<&str>,
) -> Result<Option<Found>, String> {
    let Some(&first) = parts.first() else { return Ok(None) };
    let Some(mut config) = settings(&store.arrays(tree, first)?) else { return Ok(None) };
    config["config"]["name"] = name.as_str().into();
    config["config"]["activation"] = "tanh".into();
    config["config"]["recurrent_activation"] = recurrent.into();
    if parts.len() == 2 {
        let (inner, unsaid) = (config.clone(), config["config"]["reset_after_is_unsaid"].clone());
        let around = json!({"name": name, "merge_mode": "concat", "layer": inner, "reset_after_is_unsaid": unsaid});
        config = json!({"class_name": "Bidirectional", "config": around});
    }
    let layer = LayerConfig::new(&config)?;
    let label = label(&layer, name.clone(), false).transpose();
    Ok(label.map(|label| Found { name, layer, store, label }))
}

/// Class and sizes by the shapes of kernel, recurrent kernel and bias; `None` if they are no cell's.
fn settings(arrays: &[&Array]) -> Option<Value> {
    if let &[_, recurrent, ..] = arrays
        && arrays.len() > 3
    {
        let class = match arrays.len() {
            9 => "GRU",
            12 => "LSTM",
            _ => return None,
        };
        return Some(json!({"class_name": class, "config": {"units": recurrent.shape.first()?}}));
    }
    let (&[kernel, recurrent] | &[kernel, recurrent, _]) = arrays else { return None };
    let (&[_, columns], &[units, own]) = (&kernel.shape[..], &recurrent.shape[..]) else { return None };
    if columns != own || units == 0 || columns % units != 0 {
        return None;
    }
    let bias = arrays.get(2).map(|bias| &bias.shape[..]);
    let twice = columns.checked_mul(2)?;
    let mut config = json!({"units": units});
    let class = match (columns / units, bias) {
        (1, _) => "SimpleRNN",
        (3, Some([two, _])) => {
            config["reset_after"] = (*two == 2).into();
            "GRU"
        }
        (3, Some([all])) if *all == twice => "CuDNNGRU",
        (3, Some(_)) => "GRU",
        (3, None) => {
            config["reset_after_is_unsaid"] = true.into();
            "GRU"
        }
        (4, Some([all])) if *all == twice => "CuDNNLSTM",
        (4, _) => "LSTM",
        _ => return None,
    };
    Some(json!({"class_name": class, "config": config}))
}
