//! How much of a gradient arrives: the norm of dL/dx[t] by distance from the loss, for every cell and start.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::{
    Cell, Device, Input, Options, Plan, Precision, Result, RnnConfig, Session, Shape, Upstream, View, Weights, cells,
};

/// T.
pub const STEPS: usize = 200;
const BATCH: usize = 16;
const INPUT: usize = 8;
const HIDDEN: usize = 64;

/// A cell and the weights it starts from.
pub struct Start {
    /// What it is called in the picture.
    pub name: &'static str,
    cell: &'static Cell,
    /// What is changed of PyTorch's default, uniform in ±1/√H.
    change: fn(&mut Weights<f64>),
}

/// As PyTorch initialises them, and the LSTM as most people do.
pub fn usual() -> [Start; 4] {
    [
        Start { name: "RNN", cell: &cells::RNN_TANH, change: |_| {} },
        Start { name: "GRU", cell: &cells::GRU, change: |_| {} },
        Start { name: "LSTM", cell: &cells::LSTM, change: |_| {} },
        Start { name: "LSTM, forget bias 1", cell: &cells::LSTM, change: |w| set_bias(w, FORGET, |_| 1.0) },
    ]
}

/// Each started so as to carry a gradient over all steps, as far as its equations let it.
pub fn prepared() -> [Start; 3] {
    [
        Start { name: "RNN, orthogonal R", cell: &cells::RNN_TANH, change: |w| orthogonalise(&mut w.layers[0].r) },
        Start { name: "GRU, open update gate", cell: &cells::GRU, change: |w| set_bias(w, UPDATE, time_scale) },
        Start {
            name: "LSTM, open forget gate",
            cell: &cells::LSTM,
            change: |w| {
                set_bias(w, FORGET, time_scale);
                set_bias(w, INPUT_GATE, |unit| -time_scale(unit));
            },
        },
    ]
}

/// Gates by their place: the LSTM's i, f, g, o; the GRU's r, z, n.
const INPUT_GATE: usize = 0;
const FORGET: usize = 1;
const UPDATE: usize = 1;

/// The gate bias that lets a unit remember for u steps, ln(u - 1), u spread evenly over 2..T: Tallec & Ollivier 2018, "Can
/// recurrent neural networks warp time?" (there u is drawn at random).
fn time_scale(unit: usize) -> f64 {
    (1.0 + (STEPS - 3) as f64 * unit as f64 / (HIDDEN - 1) as f64).ln()
}

fn set_bias(weights: &mut Weights<f64>, gate: usize, value: fn(usize) -> f64) {
    let rows = gate * HIDDEN..(gate + 1) * HIDDEN;
    let layer = &mut weights.layers[0];
    layer.b_r[rows.clone()].fill(0.0);
    layer.b_w[rows].iter_mut().enumerate().for_each(|(unit, b)| *b = value(unit));
}

/// Gram-Schmidt over the rows: R then keeps every norm, and only the tanh shrinks a gradient.
fn orthogonalise(r: &mut [f64]) {
    for n in 0..HIDDEN {
        let (done, row) = r.split_at_mut(n * HIDDEN);
        let row = &mut row[..HIDDEN];
        for other in done.chunks_exact(HIDDEN) {
            let along: f64 = other.iter().zip(&*row).map(|(o, v)| o * v).sum();
            row.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
        }
        let length = norm(row);
        row.iter_mut().for_each(|v| *v /= length);
    }
}

/// The norm of dL/dx[t] at every distance T - 1 - t, root mean square over the batch. L is one random linear function of each
/// sequence's last state. In f64, on the CPU executor: f32 ends at 1e-45, long before the worst curve does.
pub fn measure(start: &Start) -> Result<Vec<f64>> {
    let config = RnnConfig { cell: start.cell, input_size: INPUT, hidden_size: HIDDEN, ..Default::default() };
    let mut weights = Weights::<f64>::random(&config, 1)?;
    (start.change)(&mut weights);

    let device = Device::cpu();
    let options = Options { train: true, precision: Precision::F64, ..Default::default() };
    let plan = Plan::new(&config, Shape { time: STEPS, batch: BATCH }, &device.caps(), &options)?;
    let mut session = Session::from_plan(&device, plan, &weights)?;

    let mut rng = SmallRng::seed_from_u64(2);
    let mut uniform = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let (x, direction) = (uniform(STEPS * BATCH * INPUT), uniform(HIDDEN));
    session.forward(&Input::new(View::new(&x, &[STEPS, BATCH, INPUT])))?;
    let dhn = direction.repeat(BATCH);
    let upstream = Upstream { y: None, hn: Some(View::new(&dhn, &[1, BATCH, HIDDEN])), cn: None };
    let dx = session.backward(&upstream)?.x.data; // [T, B, I]
    Ok(dx.chunks_exact(BATCH * INPUT).rev().map(|step| norm(step) / (BATCH as f64).sqrt()).collect())
}

/// The first distance at which less than a millionth of the gradient at distance 0 arrives.
pub fn millionth(norms: &[f64]) -> Option<usize> {
    norms.iter().position(|n| *n < 1e-6 * norms[0])
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}
