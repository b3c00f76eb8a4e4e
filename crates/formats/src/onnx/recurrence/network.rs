//! A network that is an ONNX node, and how the node's tensors are the network's.
//!
//! | ONNX | network |
//! |---|---|
//! | query, key, value, decay, beta `[B, T, width]` | inputs `[T, B, width]` |
//! | input `[B, C, T]` | input `[T, B, C]` |
//! | weight, bias | parameters |
//! | `past_state`, `present_state` `[B, H_kv, d_k, d_v]` | states before and after, `[B, H_q, d_v, d_k]` |
//! | `past_state`, `present_state` `[B, C, k - 1]` | states before and after, `[B, k - 1, C]` |

use super::attention::{Heads, VALUES};
use super::{RecurrenceOp, Shapes};
use std::sync::Arc;
use wgpu_rnn::network::{
    Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkOutput, NetworkPlan, NetworkSession,
};
use wgpu_rnn::{Device, Element, Error, Result, Shape, Tensor, View};

/// A node's network for inputs of fixed shapes.
#[derive(Clone, Debug)]
pub struct RecurrenceNetwork {
    /// The operations.
    pub network: Arc<Network>,
    /// T and B.
    pub shape: Shape,
    /// Steps of a scan's chunk, where the node says so: for [`NetworkOptions::chunk`].
    pub chunk: Option<usize>,
    op: RecurrenceOp,
    /// Shapes of the node's inputs.
    inputs: Vec<Option<Vec<usize>>>,
    layout: Layout,
}

/// How the operator lays its tensors out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Layout {
    Attention(Heads),
    Convolution { channels: usize, taps: usize },
}

/// A node's inputs as a [`NetworkSession`] takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrenceFeed<T> {
    /// For [`NetworkSession::new`].
    pub params: Vec<T>,
    /// [`NetworkInput::values`]
    pub values: Vec<Tensor<T>>,
    /// [`NetworkInitial::Given`]; `None`: [`NetworkInitial::Empty`].
    pub states: Option<Vec<Tensor<T>>>,
}

impl<T: Element> RecurrenceFeed<T> {
    /// Runs a session of the network that it was made for.
    ///
    /// # Errors
    /// As [`NetworkSession::forward`].
    pub fn forward(&self, session: &mut NetworkSession<T>) -> Result<NetworkOutput<T>> {
        let values: Vec<View<'_, T>> = self.values.iter().map(Tensor::view).collect();
        let states: Option<Vec<View<'_, T>>> = self.states.as_ref().map(|s| s.iter().map(Tensor::view).collect());
        let initial = states.as_deref().map_or(NetworkInitial::Empty, NetworkInitial::Given);
        session.forward(&NetworkInput { initial, ..NetworkInput::new(&values) })
    }
}

impl RecurrenceNetwork {
    pub(super) fn new(
        shapes: &Shapes<'_>,
        network: Network,
        shape: Shape,
        chunk: Option<usize>,
        layout: Layout,
    ) -> Self {
        let inputs = (0..shapes.op.inputs().len()).map(|n| shapes.get(n).map(<[usize]>::to_vec)).collect();
        Self { network: Arc::new(network), shape, chunk, op: shapes.op, inputs, layout }
    }

    /// The shapes of the node's outputs: output and `present_state`.
    pub fn output_shapes(&self) -> [Vec<usize>; 2] {
        let Shape { time, batch } = self.shape;
        match &self.layout {
            Layout::Attention(heads) => heads.outputs(self.shape),
            Layout::Convolution { channels, taps } => [vec![batch, *channels, time], vec![batch, *channels, taps - 1]],
        }
    }

    /// The node's inputs, in its order and with its axes, as the network's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for other shapes than the network was made for.
    pub fn feed<T: Element>(&self, inputs: &[Option<View<'_, T>>]) -> Result<RecurrenceFeed<T>> {
        self.check(inputs)?;
        let get = |n: usize| inputs.get(n).copied().flatten();
        let all = |n: usize| get(n).map_or(&[][..], |view| view.data);
        let Shape { time, batch } = self.shape;
        Ok(match &self.layout {
            Layout::Attention(heads) => {
                let value = |view: View<'_, T>| {
                    let width = view.shape[2];
                    Tensor {
                        data: permuted(view.data, [batch, time, width], [1, 0, 2]),
                        shape: vec![time, batch, width],
                    }
                };
                let state =
                    |view: View<'_, T>| vec![Tensor { data: heads.state(view.data), shape: vec![batch, heads.size()] }];
                let values = VALUES.into_iter().filter_map(get).map(value).collect();
                RecurrenceFeed { params: Vec::new(), values, states: get(3).map(state) }
            }
            &Layout::Convolution { channels, taps } => {
                let x = permuted(all(0), [batch, channels, time], [2, 0, 1]);
                let state = |view: View<'_, T>| {
                    let data = permuted(view.data, [batch, channels, taps - 1], [0, 2, 1]);
                    vec![Tensor { data, shape: vec![batch, (taps - 1) * channels] }]
                };
                let values = vec![Tensor { data: x, shape: vec![time, batch, channels] }];
                // One tap carries nothing.
                let states = get(3).filter(|_| taps > 1).map(state);
                RecurrenceFeed { params: [all(1), all(2)].concat(), values, states }
            }
        })
    }

    /// The node's outputs, with its axes, from the network's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for those of another network.
    pub fn outputs<T: Element>(&self, output: &NetworkOutput<T>) -> Result<[Tensor<T>; 2]> {
        let Shape { time, batch } = self.shape;
        let y = output.values.first().ok_or_else(|| Error::mismatch("outputs", "one", "none"))?;
        let width = self.network.outputs[0].1.width;
        y.view().check("output", &["T", "B", "width"], &[time, batch, width])?;
        let state = output.states.first();
        let size = match &self.layout {
            Layout::Attention(heads) => heads.size(),
            Layout::Convolution { channels, taps } => channels * (taps - 1),
        };
        match state {
            Some(state) => state.view().check("state", &["B", "size"], &[batch, size])?,
            None if size == 0 => {}
            None => return Err(Error::mismatch("states", "one", "none")),
        }
        let state = state.map_or(&[][..], |state| &state.data);
        let [y_shape, state_shape] = self.output_shapes();
        let (y, state) = match &self.layout {
            Layout::Attention(heads) => (permuted(&y.data, [time, batch, width], [1, 0, 2]), heads.present(state)),
            &Layout::Convolution { channels, taps } => {
                let state = permuted(state, [batch, taps - 1, channels], [0, 2, 1]);
                (permuted(&y.data, [time, batch, width], [1, 2, 0]), state)
            }
        };
        Ok([Tensor { data: y, shape: y_shape }, Tensor { data: state, shape: state_shape }])
    }

    /// Plans, runs once and gives output and `present_state`; whoever runs often keeps a [`NetworkSession`] of
    /// [`RecurrenceNetwork::network`]. The node's chunk size holds where `options` say nothing.
    ///
    /// # Errors
    /// As [`NetworkPlan::new`], [`RecurrenceNetwork::feed`] and [`NetworkSession::forward`].
    pub fn run<T: Element>(
        &self,
        device: &Device,
        options: &NetworkOptions,
        inputs: &[Option<View<'_, T>>],
    ) -> Result<[Tensor<T>; 2]> {
        let options = NetworkOptions { chunk: options.chunk.or(self.chunk), ..options.clone() };
        let plan = NetworkPlan::new(&self.network, self.shape, &device.caps(), &options)?;
        let feed = self.feed(inputs)?;
        let mut session = NetworkSession::new(device, plan, &feed.params)?;
        self.outputs(&feed.forward(&mut session)?)
    }

    fn check<T: Element>(&self, inputs: &[Option<View<'_, T>>]) -> Result<()> {
        if inputs.len() > self.inputs.len() {
            return Err(Error::mismatch("inputs", format!("at most {}", self.inputs.len()), inputs.len()));
        }
        for (n, (&(name, dimensions), expected)) in self.op.inputs().iter().zip(&self.inputs).enumerate() {
            match (expected, inputs.get(n).copied().flatten()) {
                (Some(sizes), Some(view)) => view.check(name, &[dimensions], sizes)?,
                (Some(_), None) => return Err(Error::mismatch(name, "an input", "none")),
                (None, Some(_)) => return Err(Error::mismatch(name, "none, as the network was made", "one")),
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// The axes of `sizes` in another order: axis i of the result is axis `order[i]`.
fn permuted<T: Copy>(values: &[T], sizes: [usize; 3], order: [usize; 3]) -> Vec<T> {
    let strides = [sizes[1] * sizes[2], sizes[2], 1];
    let ([a, b, c], [x, y, z]) = (order.map(|axis| sizes[axis]), order.map(|axis| strides[axis]));
    let at = (0..a).flat_map(|i| (0..b).flat_map(move |j| (0..c).map(move |k| i * x + j * y + k * z)));
    at.map(|at| values[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_by_hand() {
        assert_eq!(permuted(&[0, 1, 2, 3, 4, 5], [1, 2, 3], [2, 0, 1]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(permuted(&[0, 1, 2, 3, 4, 5], [3, 2, 1], [1, 0, 2]), [0, 2, 4, 1, 3, 5]);
        assert!(permuted::<u8>(&[], [2, 3, 0], [0, 2, 1]).is_empty());
    }
}
