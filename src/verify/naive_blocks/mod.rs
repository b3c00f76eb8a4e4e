//! Naive loops of whole blocks, one number at a time and time step by time step, written from the published model code (named in each
//! file) and not from [`crate::blocks`]: no network, no plan, no rule, parameters as files hold them. Gradients by [`tape`].

mod mamba;
mod rwkv;
pub mod tape;

use super::naive::Scalar;
use crate::blocks::Model;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::HashMap;
use tape::{Tape, Var};

/// One row, or one matrix after the other.
type Row<'t, T> = Vec<Var<'t, T>>;

/// What a naive run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Naive {
    /// y `[T, B, hidden_size]`
    pub y: Tensor<f64>,
    /// ∂Σ dy·y/∂x `[T, B, hidden_size]`
    pub dx: Tensor<f64>,
    /// The same for parameters, by name, in the shapes they were given in.
    pub params: Vec<(String, Tensor<f64>)>,
}

/// Runs `model` over x `[T, B, hidden_size]` in precision `T`, and back from dy of the same shape.
///
/// # Errors
/// [`Error::Mismatch`] for parameters that are missing, or x of another shape.
pub fn run<T: Scalar>(
    model: &Model,
    params: &[(String, Tensor<f64>)],
    x: &Tensor<f64>,
    dy: &Tensor<f64>,
) -> Result<Naive> {
    let width = model.hidden_size();
    let &[time, batch, columns] = x.shape.as_slice() else {
        return Err(Error::mismatch("x", "[T, B, hidden_size]", format!("{:?}", x.shape)));
    };
    if columns != width || dy.shape != x.shape {
        return Err(Error::mismatch(
            "x and dy",
            format!("[T, B, {width}]"),
            format!("{:?} and {:?}", x.shape, dy.shape),
        ));
    }
    let mut y = vec![0.0; x.data.len()];
    let mut dx = vec![0.0; x.data.len()];
    let mut sums: Vec<Vec<T>> = params.iter().map(|(_, p)| vec![T::default(); p.data.len()]).collect();
    // A tape per sequence: gradients of parameters add up over them.
    for b in 0..batch {
        let tape = Tape::<T>::default();
        let vars = |data: &[f64]| data.iter().map(|&v| tape.var(v)).collect::<Row<'_, T>>();
        let held: HashMap<&str, Row<'_, T>> = params.iter().map(|(n, p)| (n.as_str(), vars(&p.data))).collect();
        let at = |t: usize| (t * batch + b) * width;
        let input: Vec<Row<'_, T>> = (0..time).map(|t| vars(&x.data[at(t)..][..width])).collect();
        let block = Named { held: &held, prefix: String::new() };
        let output = match model {
            Model::Mamba(m) => mamba::mamba(m, &block, &input)?,
            Model::Mamba2(m) => mamba::mamba2(m, &block, &input)?,
            Model::Rwkv4(m) => rwkv::rwkv4(m, &block, &input)?,
            Model::Rwkv6(m) => rwkv::rwkv6(m, &block, &input)?,
            Model::Rwkv7(m) => rwkv::rwkv7(m, &block, &input)?,
        };
        let mut upstream = Vec::new();
        for (t, row) in output.iter().enumerate() {
            for (c, var) in row.iter().enumerate() {
                y[at(t) + c] = var.value.to_f64();
                upstream.push((*var, T::from_f64(dy.data[at(t) + c])));
            }
        }
        let gradients = tape.gradients(&upstream);
        for (t, row) in input.iter().enumerate() {
            row.iter().enumerate().for_each(|(c, var)| dx[at(t) + c] = gradients.of(*var));
        }
        for ((name, _), sum) in params.iter().zip(&mut sums) {
            let vars = &held[name.as_str()];
            sum.iter_mut().zip(vars).for_each(|(s, v)| *s = *s + T::from_f64(gradients.of(*v)));
        }
    }
    let tensor = |(p, sum): (&(String, Tensor<f64>), Vec<T>)| {
        (p.0.clone(), Tensor { data: sum.into_iter().map(T::to_f64).collect(), shape: p.1.shape.clone() })
    };
    let params = params.iter().zip(sums).map(tensor).collect();
    Ok(Naive { y: Tensor { data: y, ..x.clone() }, dx: Tensor { data: dx, ..x.clone() }, params })
}

/// Parameters whose names begin with `prefix`.
struct Named<'a, 't, T> {
    held: &'a HashMap<&'a str, Row<'t, T>>,
    prefix: String,
}

impl<'t, T: Scalar> Named<'_, 't, T> {
    fn within(&self, name: &str) -> Self {
        Self { held: self.held, prefix: format!("{}{name}.", self.prefix) }
    }

    fn get(&self, name: &str) -> Result<&[Var<'t, T>]> {
        let name = format!("{}{name}", self.prefix);
        let found = self.held.get(name.as_str()).map(Vec::as_slice);
        found.ok_or_else(|| Error::mismatch(name, "a parameter of the naive loop", "none"))
    }

    /// W x + b: W `name.weight` `[out, in]`; b only if there is one.
    fn linear(&self, name: &str, x: &[Var<'t, T>]) -> Result<Row<'t, T>> {
        let weight = self.get(&format!("{name}.weight"))?;
        let mut y: Row<'t, T> = weight.chunks_exact(x.len()).map(|row| dot(row, x)).collect();
        if let Ok(bias) = self.get(&format!("{name}.bias")) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y = *y + *b);
        }
        Ok(y)
    }

    fn layer_norm(&self, name: &str, x: &[Var<'t, T>], epsilon: f64) -> Result<Row<'t, T>> {
        self.group_norm(name, x, 1, epsilon)
    }

    fn group_norm(&self, name: &str, x: &[Var<'t, T>], groups: usize, epsilon: f64) -> Result<Row<'t, T>> {
        let size = x.len() / groups;
        let one = |group: &[Var<'t, T>]| -> Row<'t, T> {
            let mean = sum(group).times(1.0 / size as f64);
            let centred: Row<'t, T> = group.iter().map(|&v| v - mean).collect();
            let deviation = dot(&centred, &centred).times(1.0 / size as f64).plus(epsilon).sqrt();
            centred.iter().map(|&v| v / deviation).collect()
        };
        let normed = x.chunks_exact(size).flat_map(one);
        let (gain, bias) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        Ok(normed.zip(gain.iter().zip(bias)).map(|(v, (g, b))| v * *g + *b).collect())
    }

    fn rms_norm(&self, name: &str, x: &[Var<'t, T>], groups: usize, epsilon: f64) -> Result<Row<'t, T>> {
        let size = x.len() / groups;
        let one = |group: &[Var<'t, T>]| -> Row<'t, T> {
            let root = dot(group, group).times(1.0 / size as f64).plus(epsilon).sqrt();
            group.iter().map(|&v| v / root).collect()
        };
        let normed = x.chunks_exact(size).flat_map(one);
        Ok(normed.zip(self.get(&format!("{name}.weight"))?).map(|(v, g)| v * *g).collect())
    }
}

fn sum<'t, T: Scalar>(x: &[Var<'t, T>]) -> Var<'t, T> {
    x[1..].iter().fold(x[0], |s, &v| s + v)
}

fn dot<'t, T: Scalar>(a: &[Var<'t, T>], b: &[Var<'t, T>]) -> Var<'t, T> {
    a[1..].iter().zip(&b[1..]).fold(a[0] * b[0], |s, (&a, &b)| s + a * b)
}

fn added<'t, T: Scalar>(a: &[Var<'t, T>], b: &[Var<'t, T>]) -> Row<'t, T> {
    a.iter().zip(b).map(|(&a, &b)| a + b).collect()
}

fn multiplied<'t, T: Scalar>(a: &[Var<'t, T>], b: &[Var<'t, T>]) -> Row<'t, T> {
    a.iter().zip(b).map(|(&a, &b)| a * b).collect()
}

fn zeros<'t, T: Scalar>(like: Var<'t, T>, count: usize) -> Row<'t, T> {
    vec![like.constant(0.0); count]
}
