//! A network's parameters by name, as files hold them, from and to the flat order in which a session takes them.

use crate::error::{Error, Result};
use crate::io::named::NamedTensors;
use crate::model::network::{NetworkData, Param};
use crate::num::Real;
use crate::tensor::Tensor;

/// A tensor of a file and the parameters that lie in it.
struct Held<'a> {
    name: &'a str,
    params: Vec<(usize, &'a Param)>,
    /// Its dimensions in the file.
    shape: Vec<usize>,
}

impl NetworkData {
    /// All parameters from tensors of a file named `prefix` + their names, one after the other as [`crate::network::NetworkSession::new`]
    /// takes them. Dimensions of 1 in shapes do not count: `[1, 1, C]` is `[C]`. Tensors under `prefix` that no parameter asks for
    /// are refused, unless `others` is true of the rest of their name (an embedding that the caller looks up).
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a tensor that is missing, of another shape, no floating-point one, or left over.
    pub fn load<T: Real>(
        &self,
        file: &impl NamedTensors,
        prefix: &str,
        others: impl Fn(&str) -> bool,
    ) -> Result<Vec<T>> {
        let in_file = |e| match e {
            Error::Mismatch { what, expected, got } => {
                Error::mismatch(format!("{}: {prefix}{what}", file.path().display()), expected, got)
            }
            other => other,
        };
        let flat =
            self.flat(|name| Ok(file.real(&format!("{prefix}{name}"))?.map(|(shape, data)| Tensor { data, shape })));
        let flat = flat.map_err(in_file)?;
        let held = self.held();
        let mut names = file.names();
        names.sort_unstable();
        let left_over = names
            .iter()
            .filter_map(|n| n.strip_prefix(prefix))
            .find(|n| !others(n) && held.iter().all(|h| h.name != *n));
        match left_over {
            Some(name) => {
                Err(in_file(Error::mismatch(name, "none, for no parameter of the network has this name", "one")))
            }
            None => Ok(flat),
        }
    }

    /// All parameters, one after the other, from what `tensor` gives under their names in files.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a tensor that is missing or of another shape; errors of `tensor`.
    pub fn flat<T: Real>(&self, mut tensor: impl FnMut(&str) -> Result<Option<Tensor<T>>>) -> Result<Vec<T>> {
        let mut flat = vec![T::default(); self.parameter_count()];
        for held in self.held() {
            let Some(found) = tensor(held.name)? else {
                return Err(Error::mismatch(held.name, format!("a tensor of shape {:?}", held.shape), "none"));
            };
            let count = held.shape.iter().product::<usize>();
            if wide(&found.shape) != wide(&held.shape) || found.data.len() != count {
                return Err(Error::mismatch(held.name, format!("{:?}", held.shape), format!("{:?}", found.shape)));
            }
            for (param, p) in &held.params {
                let values = &found.data[p.slice() * p.len()..][..p.len()];
                let to = &mut flat[self.param_offset(*param)..][..p.len()];
                match p.is_transposed() {
                    true => transpose(values, p.shape[0], to),
                    false => to.copy_from_slice(values),
                }
            }
        }
        Ok(flat)
    }

    /// Parameters, or their gradients, by the names and in the shapes of files: what [`NetworkData::flat`] takes. `flat`: one after the
    /// other.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another number of values.
    pub fn named<T: Real>(&self, flat: &[T]) -> Result<Vec<(String, Tensor<T>)>> {
        if flat.len() != self.parameter_count() {
            return Err(Error::mismatch("parameters", self.parameter_count(), flat.len()));
        }
        let tensor = |held: &Held<'_>| {
            let mut data = vec![T::default(); held.shape.iter().product()];
            for (param, p) in &held.params {
                let values = &flat[self.param_offset(*param)..][..p.len()];
                let to = &mut data[p.slice() * p.len()..][..p.len()];
                match p.is_transposed() {
                    true => transpose(values, p.shape[1], to),
                    false => to.copy_from_slice(values),
                }
            }
            (held.name.to_string(), Tensor { data, shape: held.shape.clone() })
        };
        Ok(self.held().iter().map(tensor).collect())
    }

    fn held(&self) -> Vec<Held<'_>> {
        let mut all: Vec<Held<'_>> = Vec::new();
        for (n, p) in self.params.iter().enumerate() {
            let name = p.stored.as_ref().map_or(&p.name, |s| &s.tensor);
            if let Some(held) = all.iter_mut().find(|h| h.name == name) {
                held.params.push((n, p));
                continue;
            }
            let mut shape = p.shape.clone();
            if p.is_transposed() {
                shape.reverse();
            }
            if let Some((_, count)) = p.stored.as_ref().and_then(|s| s.slice) {
                shape.insert(0, count);
            }
            all.push(Held { name, params: vec![(n, p)], shape });
        }
        all
    }
}

impl Param {
    /// Which of its tensor's slices it is.
    fn slice(&self) -> usize {
        self.stored.as_ref().and_then(|s| s.slice).map_or(0, |(at, _)| at)
    }
    fn is_transposed(&self) -> bool {
        self.stored.as_ref().is_some_and(|s| s.transposed)
    }
}

/// Dimensions that are not 1.
fn wide(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&d| d != 1).collect()
}

/// `to` `[columns, rows]` of `from` `[rows, columns]`.
fn transpose<T: Copy>(from: &[T], columns: usize, to: &mut [T]) {
    let rows = from.len() / columns;
    for (n, value) in to.iter_mut().enumerate() {
        *value = from[n % rows * columns + n / rows];
    }
}
