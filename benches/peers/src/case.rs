//! What everybody computes: one layer, one direction, the same weights and numbers.

use anyhow::Result;
use std::fmt;
use wgpu_rnn_verify::Numbers;
use wgpu_rnn::{Cell, Device, Options, Plan, Precision, RnnConfig, Session, Shape, Weights, cells};

/// A layer, its shape, and whether gradients are asked for.
#[derive(Clone, Copy)]
pub struct Case {
    /// `LSTM` or `GRU` (reset after, as PyTorch's).
    pub cell: &'static Cell,
    /// T, B, I, H
    pub size: [usize; 4],
    /// Forward and backward.
    pub train: bool,
}

/// The sizes that the peers are compared at: T, B, I, H.
pub const SIZES: [[usize; 4]; 4] = [[100, 1, 64, 64], [100, 16, 64, 64], [100, 16, 256, 256], [50, 32, 512, 512]];

/// The tables' cases: forward of both cells, forward and backward of the LSTM.
pub fn all() -> Vec<Case> {
    let kinds = [(&cells::LSTM, false), (&cells::GRU, false), (&cells::LSTM, true)];
    kinds.iter().flat_map(|&(cell, train)| SIZES.map(|size| Case { cell, size, train })).collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [t, b, i, h] = self.size;
        write!(f, "{} {}, T={t} B={b} I={i} H={h}", self.cell.name, self.pass())
    }
}

impl Case {
    /// What is timed.
    pub fn pass(&self) -> &'static str {
        if self.train { "forward+backward" } else { "forward" }
    }

    /// The layer.
    pub fn config(&self) -> RnnConfig {
        let [_, _, input_size, hidden_size] = self.size;
        RnnConfig { cell: self.cell, input_size, hidden_size, ..Default::default() }
    }

    /// T and B.
    pub fn shape(&self) -> Shape {
        Shape { time: self.size[0], batch: self.size[1] }
    }

    /// This crate's plan of it for a device.
    pub fn plan(&self, device: &Device, precision: Precision) -> Result<Plan> {
        let options = Options { precision, train: self.train, ..Default::default() };
        Ok(Plan::new(&self.config(), self.shape(), &device.caps(), &options)?)
    }
}

/// A case's numbers, all time-major.
pub struct Data {
    /// The layer's parameters, PyTorch's names and gate order.
    pub weights: Weights<f32>,
    /// x `[T, B, I]`; with gradients also dy `[T, B, H]` (dhn and dcn are zero).
    pub numbers: Numbers<f32>,
    /// What comes of them in f64.
    pub truth: Outcome<f64>,
}

/// What a run gave, in its own layout.
pub struct Outcome<T> {
    /// y, or the gradient of x where gradients are asked for.
    pub values: Vec<T>,
}

impl Data {
    /// Random weights and numbers, the same at every call, and the truth by the f64 CPU executor.
    pub fn new(case: &Case) -> Result<Self> {
        let cpu = Device::cpu();
        let weights = Weights::<f32>::random(&case.config(), 1)?;
        let mut numbers = Numbers::random(&case.plan(&cpu, Precision::F32)?, 2);
        if let Some(up) = &mut numbers.up {
            up.hn.data.fill(0.0);
            up.cn.iter_mut().for_each(|cn| cn.data.fill(0.0));
        }
        let mut session = Session::from_plan(&cpu, case.plan(&cpu, Precision::F64)?, &weights.cast::<f64>())?;
        let numbers_f64 = numbers.widen();
        let output = session.forward(&numbers_f64.input())?;
        let values = match numbers_f64.upstream() {
            Some(up) => session.backward(&up)?.x.data,
            None => output.y.data,
        };
        Ok(Self { weights, numbers, truth: Outcome { values } })
    }

    /// max |got − truth| / max |truth|
    pub fn error(&self, case: &Case, got: &Outcome<f32>, batch_first: bool) -> f64 {
        let [time, batch, ..] = case.size;
        let width = self.truth.values.len() / (time * batch);
        let scale = self.truth.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if got.values.len() != self.truth.values.len() {
            return f64::INFINITY;
        }
        let place = |t: usize, b: usize| if batch_first { b * time + t } else { t * batch + b } * width;
        let mut worst = 0.0f64;
        for t in 0..time {
            for b in 0..batch {
                let truth = &self.truth.values[(t * batch + b) * width..][..width];
                for (g, w) in got.values[place(t, b)..][..width].iter().zip(truth) {
                    let difference = (f64::from(*g) - w).abs();
                    worst = if difference.is_nan() { f64::INFINITY } else { worst.max(difference) };
                }
            }
        }
        worst / scale
    }

    /// `[T, B, width]` as `[B, T, width]`.
    pub fn batch_first(case: &Case, values: &[f32]) -> Vec<f32> {
        let [time, batch, ..] = case.size;
        let width = values.len() / (time * batch);
        let row = |b: usize, t: usize| &values[(t * batch + b) * width..][..width];
        (0..batch).flat_map(|b| (0..time).flat_map(move |t| row(b, t))).copied().collect()
    }

    /// A parameter by its PyTorch name.
    pub fn parameter(&self, case: &Case, name: &str) -> (Vec<usize>, Vec<f32>) {
        let config = case.config();
        let found = self.weights.named(&config).find(|(p, _)| p.name == name);
        let (parameter, values) = found.expect("the layer has it");
        (parameter.shape.clone(), values.to_vec())
    }
}
