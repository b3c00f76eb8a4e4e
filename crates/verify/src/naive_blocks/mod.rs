//! Naive loops of whole blocks, one number at a time and time step by time step, written from the published model code (named in each
//! file) and not from [`wgpu_rnn::blocks`]: no network, no plan, no rule, parameters as files hold them. Gradients by [`super::tape`].

mod fla;
mod mamba;
mod rwkv;

use super::tape::{Number, Tape, Var};
use std::collections::HashMap;
use wgpu_rnn::blocks::{Model, Rwkv7Names};
use wgpu_rnn::{Error, Result, Tensor};

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
pub fn run<N: Number>(
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
        let got = format!("{:?} and {:?}", x.shape, dy.shape);
        return Err(Error::mismatch("x and dy", format!("[T, B, {width}]"), got));
    }
    let mut y = vec![0.0; x.data.len()];
    let mut dx = vec![0.0; x.data.len()];
    let mut sums: Vec<Vec<N>> = params.iter().map(|(_, p)| vec![N::constant(0.0); p.data.len()]).collect();
    // A tape per sequence: gradients of parameters add up over them.
    for b in 0..batch {
        let tape = Tape::<N>::new();
        let vars = |data: &[f64]| data.iter().map(|&v| tape.variable(N::constant(v))).collect::<Vec<_>>();
        let held: HashMap<&str, Vec<Var<'_, N>>> = params.iter().map(|(n, p)| (n.as_str(), vars(&p.data))).collect();
        let at = |t: usize| (t * batch + b) * width;
        let input: Vec<Vec<Var<'_, N>>> = (0..time).map(|t| vars(&x.data[at(t)..][..width])).collect();
        let mut upstream = Vec::new();
        for (t, row) in forward(model, &held, &input)?.into_iter().enumerate() {
            for (c, var) in row.into_iter().enumerate() {
                y[at(t) + c] = var.value();
                upstream.push((var, N::constant(dy.data[at(t) + c])));
            }
        }
        let gradients = tape.gradients(&upstream);
        for (t, row) in input.iter().enumerate() {
            row.iter().enumerate().for_each(|(c, var)| dx[at(t) + c] = gradients.of(*var).value());
        }
        for ((name, _), sum) in params.iter().zip(&mut sums) {
            sum.iter_mut().zip(&held[name.as_str()]).for_each(|(s, v)| *s = *s + gradients.of(*v));
        }
    }
    let tensor = |(p, sum): (&(String, Tensor<f64>), Vec<N>)| {
        (p.0.clone(), Tensor { data: sum.into_iter().map(N::value).collect(), shape: p.1.shape.clone() })
    };
    let params = params.iter().zip(sums).map(tensor).collect();
    Ok(Naive { y: Tensor { data: y, ..x.clone() }, dx: Tensor { data: dx, ..x.clone() }, params })
}

/// y of one sequence `[T][hidden_size]`.
fn forward<N: Number>(model: &Model, held: &HashMap<&str, Vec<N>>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let all = Named { held, prefix: String::new() };
    match model {
        Model::Mamba(m) => mamba::mamba(m, &all, x),
        Model::Mamba2(m) => mamba::mamba2(m, &all, x),
        Model::Rwkv4(m) => rwkv::rwkv4(m, &all, x),
        Model::Rwkv6(m) => rwkv::rwkv6(m, &all, x),
        Model::Rwkv7(m) if m.names == Rwkv7Names::RwkvLm => rwkv::rwkv7(m, &all, x),
        Model::Rwkv7(m) => fla::rwkv7(m, &all, x),
    }
}

/// Parameters whose names begin with `prefix`.
struct Named<'a, N> {
    held: &'a HashMap<&'a str, Vec<N>>,
    prefix: String,
}

impl<N: Number> Named<'_, N> {
    fn within(&self, name: &str) -> Self {
        Self { held: self.held, prefix: format!("{}{name}.", self.prefix) }
    }

    fn get(&self, name: &str) -> Result<&[N]> {
        let name = format!("{}{name}", self.prefix);
        let found = self.held.get(name.as_str()).map(Vec::as_slice);
        found.ok_or_else(|| Error::mismatch(name, "a parameter of the naive loop", "none"))
    }

    /// W x + b: W `name.weight` `[out, in]`; b only if there is one.
    fn linear(&self, name: &str, x: &[N]) -> Result<Vec<N>> {
        let weight = self.get(&format!("{name}.weight"))?;
        let mut y: Vec<N> = weight.chunks_exact(x.len()).map(|row| dot(row, x)).collect();
        if let Ok(bias) = self.get(&format!("{name}.bias")) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y = *y + *b);
        }
        Ok(y)
    }

    fn layer_norm(&self, name: &str, x: &[N], epsilon: f64) -> Result<Vec<N>> {
        self.group_norm(name, x, 1, epsilon)
    }

    fn group_norm(&self, name: &str, x: &[N], groups: usize, epsilon: f64) -> Result<Vec<N>> {
        let size = x.len() / groups;
        let count = N::constant(size as f64);
        let one = |group: &[N]| -> Vec<N> {
            let mean = sum(group) / count;
            let centred: Vec<N> = group.iter().map(|&v| v - mean).collect();
            let deviation = (dot(&centred, &centred) / count + N::constant(epsilon)).sqrt();
            centred.iter().map(|&v| v / deviation).collect()
        };
        let normed = x.chunks_exact(size).flat_map(one);
        let (gain, bias) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        Ok(normed.zip(gain.iter().zip(bias)).map(|(v, (g, b))| v * *g + *b).collect())
    }

    fn rms_norm(&self, name: &str, x: &[N], groups: usize, epsilon: f64) -> Result<Vec<N>> {
        let normed = x.chunks_exact(x.len() / groups).flat_map(|group| over_root_mean_square(group, epsilon));
        Ok(normed.zip(self.get(&format!("{name}.weight"))?).map(|(v, g)| v * *g).collect())
    }
}

/// x / √(mean x² + ε)
fn over_root_mean_square<N: Number>(x: &[N], epsilon: f64) -> Vec<N> {
    let root = (dot(x, x) / N::constant(x.len() as f64) + N::constant(epsilon)).sqrt();
    x.iter().map(|&v| v / root).collect()
}

fn sum<N: Number>(x: &[N]) -> N {
    x[1..].iter().fold(x[0], |s, &v| s + v)
}

fn dot<N: Number>(a: &[N], b: &[N]) -> N {
    a[1..].iter().zip(&b[1..]).fold(a[0] * b[0], |s, (&a, &b)| s + a * b)
}

fn added<N: Number>(a: &[N], b: &[N]) -> Vec<N> {
    a.iter().zip(b).map(|(&a, &b)| a + b).collect()
}

fn residual<N: Number>(x: &[Vec<N>], y: &[Vec<N>]) -> Vec<Vec<N>> {
    x.iter().zip(y).map(|(x, y)| added(x, y)).collect()
}

fn multiplied<N: Number>(a: &[N], b: &[N]) -> Vec<N> {
    a.iter().zip(b).map(|(&a, &b)| a * b).collect()
}

fn zeros<N: Number>(count: usize) -> Vec<N> {
    vec![N::constant(0.0); count]
}
