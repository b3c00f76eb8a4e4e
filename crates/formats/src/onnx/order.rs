//! Between ONNX's order of gates and axes and this crate's.
//!
//! | operator | row blocks of W and R there | here |
//! |---|---|---|
//! | LSTM | i, o, f, c | i, f, g, o (g is c) |
//! | LSTM, P | i, o, f | i, f, o |
//! | GRU | z, r, h | r, z, n (n is h) |
//! | RNN | i | h |
//!
//! Initial states are `[D, B, H]` there and here; with `layout` = 1 `[B, D, H]` there. Y is `[T, D, B, H]` there, with `layout` =
//! 1 `[B, T, D, H]`; here `[T, B, D·H]` and `[B, T, D·H]`.

use super::constant::Constant;
use super::operator::OnnxOp;
use wgpu_rnn::weights::{LayerWeights, Weights};
use wgpu_rnn::{Bias, InputMode, Layout, Result, RnnConfig, Tensor};

/// For every gate of this crate's order, its place in another's.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Row blocks of W, R and the biases.
    pub gates: &'static [usize],
    /// Peepholes p_i, p_f, p_o.
    pub peepholes: [usize; 3],
}

impl Order {
    /// ONNX's.
    pub fn onnx(op: OnnxOp) -> Self {
        let gates: &[usize] = match op {
            OnnxOp::Rnn => &[0],
            OnnxOp::Lstm => &[0, 2, 3, 1],
            OnnxOp::Gru => &[1, 0, 2],
        };
        Self { gates, peepholes: [0, 2, 1] }
    }

    /// Blocks of `block` values, from the other order into this crate's.
    pub fn canonical(self, values: &[f64], block: usize) -> Vec<f64> {
        gather(self.gates, values, block)
    }

    /// Blocks of `block` values, from this crate's order into the other.
    pub fn foreign(self, values: &[f64], block: usize) -> Vec<f64> {
        scatter(self.gates, values, block)
    }
}

/// Block n of the result is block `places[n]`.
fn gather(places: &[usize], values: &[f64], block: usize) -> Vec<f64> {
    places.iter().flat_map(|&place| &values[place * block..][..block]).copied().collect()
}

/// Block `places[n]` of the result is block n.
fn scatter(places: &[usize], values: &[f64], block: usize) -> Vec<f64> {
    let mut result = vec![0.0; places.len() * block];
    for (&place, from) in places.iter().zip(values.chunks(block)) {
        result[place * block..][..block].copy_from_slice(from);
    }
    result
}

/// The parameter tensors of a node.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// `[D, G·H, I]`
    pub w: Constant,
    /// `[D, G·H, H]`
    pub r: Constant,
    /// `[D, 2·G·H]`: b_w, then b_r.
    pub b: Option<Constant>,
    /// `[D, 3·H]`
    pub p: Option<Constant>,
}

impl Parameters {
    /// The parameters of `config`, which has been validated, out of tensors in `order`.
    ///
    /// # Errors
    /// [`wgpu_rnn::Error::Mismatch`] for a tensor of another shape or type.
    pub fn weights(&self, config: &RnnConfig, order: Order) -> Result<Weights<f64>> {
        let (d, h, i) = (config.directions(), config.hidden_size, config.input_size);
        let rows = order.gates.len() * h;
        self.w.expect("W", "[D, G·H, I]", &[d, rows, i])?;
        self.r.expect("R", "[D, G·H, H]", &[d, rows, h])?;
        let (w, r) = (self.w.reals("W")?, self.r.reals("R")?);
        let mut layers = Vec::new();
        for (w, r) in w.chunks(rows * i).zip(r.chunks(rows * h)) {
            let (w, r) = (order.canonical(w, h * i), order.canonical(r, h * h));
            layers.push(LayerWeights { w, r, ..Default::default() });
        }
        if let Some(b) = &self.b {
            b.expect("B", "[D, 2·G·H]", &[d, 2 * rows])?;
            for (layer, b) in layers.iter_mut().zip(b.reals("B")?.chunks(2 * rows)) {
                let (b_w, b_r) = b.split_at(rows);
                (layer.b_w, layer.b_r) = (order.canonical(b_w, h), order.canonical(b_r, h));
            }
        }
        if let Some(p) = &self.p {
            p.expect("P", "[D, 3·H]", &[d, 3 * h])?;
            for (layer, p) in layers.iter_mut().zip(p.reals("P")?.chunks(3 * h)) {
                layer.unit = gather(&order.peepholes, p, h);
            }
        }
        Ok(Weights { layers, ..Default::default() })
    }
}

/// The parameters of a layer of one depth in ONNX's order: W, R and, where there are any, B and P.
pub(super) struct OnnxTensors {
    pub w: Vec<f64>,
    pub r: Vec<f64>,
    pub b: Vec<f64>,
    pub p: Vec<f64>,
}

impl OnnxTensors {
    /// From validated weights of one layer. A single bias is b_w with a b_r of zeros, and no W is one of identities.
    pub fn new(config: &RnnConfig, weights: &Weights<f64>, order: Order) -> Self {
        let (h, i) = (config.hidden_size, config.input_size);
        let mut tensors = Self { w: Vec::new(), r: Vec::new(), b: Vec::new(), p: Vec::new() };
        for layer in &weights.layers {
            match config.input == InputMode::Skip {
                true => tensors.w.extend(identities(config.cell.input_gates(), h)),
                false => tensors.w.extend(order.foreign(&layer.w, h * i)),
            }
            tensors.r.extend(order.foreign(&layer.r, h * h));
            if config.bias != Bias::None {
                let b_w = order.foreign(&layer.b_w, h);
                let b_r = order.foreign(&layer.b_r, h);
                tensors.b.extend(b_w.into_iter().chain(b_r));
            }
            if !layer.unit.is_empty() {
                tensors.p.extend(scatter(&order.peepholes, &layer.unit, h));
            }
        }
        tensors
    }
}

/// W of a layer that adds x to its gates as it is.
fn identities(gates: usize, hidden: usize) -> impl Iterator<Item = f64> {
    let rows = (0..gates).flat_map(move |_| 0..hidden);
    rows.flat_map(move |row| (0..hidden).map(move |column| if row == column { 1.0 } else { 0.0 }))
}

/// Initial or last states as `[D, B, width of h or c]`, from ONNX's order of axes.
///
/// # Errors
/// [`wgpu_rnn::Error::Mismatch`] for another shape or type.
pub fn states(what: &str, config: &RnnConfig, state: &Constant) -> Result<Tensor<f64>> {
    let (d, h) = (config.directions(), config.hidden_size);
    let values = state.reals(what)?;
    if config.layout == Layout::TimeMajor {
        let [_, b, _] = state.sizes(what, "[D, B, H]")?;
        state.expect(what, "[D, B, H]", &[d, b, h])?;
        return Ok(Tensor { data: values.to_vec(), shape: vec![d, b, h] });
    }
    let [b, _, _] = state.sizes(what, "[B, D, H]")?;
    state.expect(what, "[B, D, H]", &[b, d, h])?;
    Ok(Tensor { data: swapped(values, b, d, h), shape: vec![d, b, h] })
}

/// Y as `[T, B, D·H]` or, with `layout` = 1, `[B, T, D·H]`, from ONNX's four axes.
///
/// # Errors
/// [`wgpu_rnn::Error::Mismatch`] for another shape or type.
pub fn outputs(what: &str, config: &RnnConfig, y: &Constant) -> Result<Tensor<f64>> {
    let (d, h) = (config.directions(), config.hidden_size);
    let values = y.reals(what)?;
    if config.layout == Layout::BatchFirst {
        let [b, t, _, _] = y.sizes(what, "[B, T, D, H]")?;
        y.expect(what, "[B, T, D, H]", &[b, t, d, h])?;
        return Ok(Tensor { data: values.to_vec(), shape: vec![b, t, d * h] });
    }
    let [t, _, b, _] = y.sizes(what, "[T, D, B, H]")?;
    y.expect(what, "[T, D, B, H]", &[t, d, b, h])?;
    // Of a hollow Y, whose other axes may be anything, there is nothing to swap.
    let step = values.len().checked_div(t).unwrap_or(0);
    let data = if step == 0 { Vec::new() } else { values.chunks(step).flat_map(|s| swapped(s, d, b, h)).collect() };
    Ok(Tensor { data, shape: vec![t, b, d * h] })
}

/// `[outer, inner, width]` as `[inner, outer, width]`.
fn swapped(values: &[f64], outer: usize, inner: usize, width: usize) -> Vec<f64> {
    let rows = (0..inner).flat_map(|i| (0..outer).map(move |o| o * inner + i));
    rows.flat_map(|row| &values[row * width..][..width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;

    #[test]
    fn orders_are_permutations_and_their_own_inverses() {
        for op in [OnnxOp::Rnn, OnnxOp::Lstm, OnnxOp::Gru] {
            let order = Order::onnx(op);
            assert_eq!(order.gates.len(), op.gates());
            let values: Vec<f64> = (0..2 * op.gates()).map(|n| n as f64).collect();
            assert_eq!(order.canonical(&order.foreign(&values, 2), 2), values, "{op}");
        }
        // i, o, f, c as i, f, c, o; z, r, h as r, z, h.
        assert_eq!(Order::onnx(OnnxOp::Lstm).canonical(&[1.0, 2.0, 3.0, 4.0], 1), [1.0, 3.0, 4.0, 2.0]);
        assert_eq!(Order::onnx(OnnxOp::Gru).canonical(&[1.0, 2.0, 3.0], 1), [2.0, 1.0, 3.0]);
    }

    #[test]
    fn axes_by_hand() {
        let bidirectional =
            |layout| RnnConfig { direction: wgpu_rnn::Direction::Bidirectional, layout, ..RnnConfig::lstm(1, 1) };
        let constant = |shape: &[usize]| {
            let values = (0..shape.iter().product()).map(|n: usize| n as f64).collect();
            Constant::from_reals("x", shape.to_vec(), Element::F64, values).expect("fits")
        };
        // [T, D, B, H] = [2, 2, 3, 1]: step 0 is forward 0 1 2, reverse 3 4 5.
        let y = outputs("Y", &bidirectional(Layout::TimeMajor), &constant(&[2, 2, 3, 1])).expect("fits");
        assert_eq!((y.shape, &y.data[..6]), (vec![2, 3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0][..]));
        // [B, D, H] = [3, 2, 1]: sequence 0 is forward 0, reverse 1.
        let h = states("h", &bidirectional(Layout::BatchFirst), &constant(&[3, 2, 1])).expect("fits");
        assert_eq!((h.shape, h.data), (vec![2, 3, 1], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]));
        let wrong = states("initial_h", &bidirectional(Layout::TimeMajor), &constant(&[3, 2, 1]));
        assert_eq!(
            wrong.expect_err("not [2, B, 1]").to_string(),
            "initial_h: expected [D, B, H] = [2, 2, 1], got [3, 2, 1]"
        );
    }
}
