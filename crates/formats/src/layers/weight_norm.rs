//! Tensors by the names that they have without weight normalisation: w = g · v / ‖v‖, a row at a time, in both of PyTorch's
//! spellings (torch 2.15.0): `weight_ih_l0_g` with `weight_ih_l0_v` (torch/nn/utils/weight_norm.py), and
//! `parametrizations.weight_ih_l0.original0` with `original1` (torch/nn/utils/parametrizations.py).

use crate::tensors::Tensors;
use std::collections::BTreeMap;
use std::ops::Bound;
use wgpu_rnn::Result;
use wgpu_rnn::num::Real;

/// How the file has a weight.
enum Weight {
    Plain,
    /// The names of g and v.
    Normed(String, String),
}

/// The weights of a file.
pub(super) struct Weights<'a> {
    file: &'a Tensors,
    by_name: BTreeMap<String, Weight>,
}

impl<'a> Weights<'a> {
    pub fn new(file: &'a Tensors) -> Self {
        let mut by_name: BTreeMap<_, _> = file.names().map(|name| (name.to_string(), Weight::Plain)).collect();
        for g in file.names() {
            let Some((name, v)) = normed(g) else { continue };
            // One g for every row, or one for all.
            let fits = |g: &[usize], v: &[usize]| {
                let count = g.iter().product::<usize>();
                count == 1 || v.first() == Some(&count) && g.first() == Some(&count)
            };
            let both = file.shape(g).zip(file.shape(&v));
            if both.is_some_and(|(g, v)| fits(g, v)) && !by_name.contains_key(&name) {
                // In their place.
                by_name.remove(g);
                by_name.remove(&v);
                by_name.insert(name, Weight::Normed(g.to_string(), v));
            }
        }
        Self { file, by_name }
    }

    pub fn file(&self) -> &'a Tensors {
        self.file
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The names that begin so.
    pub fn under<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = &'s str> {
        let from = self.by_name.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(prefix))
    }

    /// The name of the tensor that has the weight's shape.
    pub fn stored(&self, name: &str) -> Option<&str> {
        match self.by_name.get_key_value(name)? {
            (name, Weight::Plain) => Some(name),
            (_, Weight::Normed(_, v)) => Some(v),
        }
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.shape(self.stored(name)?)
    }

    /// Shape and values; `None` if there is no such weight.
    pub fn real<T: Real>(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<T>)>> {
        match self.by_name.get(name) {
            None => Ok(None),
            Some(Weight::Plain) => self.file.real(name),
            Some(Weight::Normed(g, v)) => {
                let (Some((_, g)), Some((shape, v))) = (self.file.real::<f64>(g)?, self.file.real::<f64>(v)?) else {
                    return Ok(None);
                };
                let row = v.len().checked_div(g.len()).unwrap_or(0).max(1);
                let scaled = v.chunks(row).zip(&g).flat_map(|(row, g)| {
                    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                    row.iter().map(move |v| T::from_f64(g * v / norm))
                });
                Ok(Some((shape, scaled.collect())))
            }
        }
    }

    /// The tensors that a weight of these values is in the file, as many values as it has: the weight itself, or g and v.
    pub fn split(&self, name: &str, values: &[f64]) -> Vec<(String, Vec<f64>)> {
        let Some(Weight::Normed(g, v)) = self.by_name.get(name) else {
            return vec![(name.to_string(), values.to_vec())];
        };
        let count = self.file.shape(g).map_or(1, |shape| shape.iter().product::<usize>()).max(1);
        let mut direction = values.to_vec();
        let mut lengths = Vec::new();
        for row in direction.chunks_mut((values.len() / count).max(1)) {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            // Of zeros there is no direction; any other has the length that g says.
            if length == 0.0 {
                row.fill(1.0);
            }
            lengths.push(length);
        }
        vec![(g.clone(), lengths), (v.clone(), direction)]
    }
}

/// The name of the weight whose g has this name, and that of its v.
fn normed(g: &str) -> Option<(String, String)> {
    if let Some(weight) = g.strip_suffix("_g") {
        return Some((weight.to_string(), format!("{weight}_v")));
    }
    let parametrized = g.strip_suffix(".original0")?;
    let (module, weight) = parametrized.rsplit_once("parametrizations.")?;
    Some((format!("{module}{weight}"), format!("{parametrized}.original1")))
}
