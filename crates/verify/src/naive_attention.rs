//! The calibrator of ONNX's LinearAttention and CausalConvWithState: their equations as loops over ONNX's own axes, std `exp`, one
//! multiply and one add at a time. It shares no arithmetic with the executors, and no layout with the network that a node becomes.

use super::naive::Scalar;
use wgpu_rnn::{Error, Result, Tensor};
use wgpu_rnn_formats::onnx::{CausalConv, LinearAttention};

/// output `[B, T, H_q·d_v]` and `present_state` `[B, H_kv, d_k, d_v]`, from query, key, value, `past_state`, decay, beta.
pub(super) fn attention<T: Scalar>(node: &LinearAttention, inputs: &[Option<Tensor<T>>]) -> Result<[Tensor<T>; 2]> {
    let (query, key, value) = (needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?);
    let (past, decay, beta) = (given(inputs, 3), given(inputs, 4), given(inputs, 5));
    let (hq, hkv) = (node.q_num_heads, node.kv_num_heads);
    let (batch, time) = (query.shape[0], query.shape[1]);
    let (dk, dv) = (query.shape[2] / hq, value.shape[2] / hkv);
    let zero = T::from_f64(0.0);
    let scale = node.scale.map_or_else(|| T::from_f64(1.0) / T::from_f64(dk as f64).sqrt(), T::from_f64);
    let mut state = past.map_or_else(|| vec![zero; batch * hkv * dk * dv], |p| p.data.clone());
    let mut output = vec![zero; batch * time * hq * dv];
    for b in 0..batch {
        for t in 0..time {
            let row = b * time + t;
            for h in 0..hkv {
                let s = &mut state[(b * hkv + h) * dk * dv..][..dk * dv];
                if let Some(decay) = decay {
                    let width = decay.shape[2];
                    for i in 0..dk {
                        let at = if width == hkv { h } else { h * dk + i };
                        let factor = decay.data[row * width + at].exp();
                        s[i * dv..][..dv].iter_mut().for_each(|v| *v = *v * factor);
                    }
                }
                let k = &key.data[(row * hkv + h) * dk..][..dk];
                for j in 0..dv {
                    let mut v = value.data[(row * hkv + h) * dv + j];
                    if let Some(beta) = beta {
                        let width = beta.shape[2];
                        let found = (0..dk).fold(zero, |sum, i| sum + s[i * dv + j] * k[i]);
                        v = beta.data[row * width + if width == 1 { 0 } else { h }] * (v - found);
                    }
                    (0..dk).for_each(|i| s[i * dv + j] = s[i * dv + j] + k[i] * v);
                }
            }
            for h in 0..hq {
                let s = &state[(b * hkv + h / (hq / hkv)) * dk * dv..][..dk * dv];
                let q = &query.data[(row * hq + h) * dk..][..dk];
                for j in 0..dv {
                    let sum = (0..dk).fold(zero, |sum, i| sum + q[i] * s[i * dv + j]);
                    output[(row * hq + h) * dv + j] = scale * sum;
                }
            }
        }
    }
    let output = Tensor { data: output, shape: vec![batch, time, hq * dv] };
    Ok([output, Tensor { data: state, shape: vec![batch, hkv, dk, dv] }])
}

/// output `[B, C, T]` and `present_state` `[B, C, k - 1]`, from input, weight, bias, `past_state`.
pub(super) fn convolution<T: Scalar>(node: &CausalConv, inputs: &[Option<Tensor<T>>]) -> Result<[Tensor<T>; 2]> {
    let (x, weight) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let (bias, past) = (given(inputs, 2), given(inputs, 3));
    let (batch, channels, time, taps) = (x.shape[0], x.shape[1], x.shape[2], weight.shape[2]);
    let zero = T::from_f64(0.0);
    let (mut output, mut state) = (Vec::new(), Vec::new());
    for row in 0..batch * channels {
        let c = row % channels;
        let mut padded = past.map_or_else(|| vec![zero; taps - 1], |p| p.data[row * (taps - 1)..][..taps - 1].to_vec());
        padded.extend_from_slice(&x.data[row * time..][..time]);
        for t in 0..time {
            let sum = (0..taps).fold(zero, |sum, k| sum + weight.data[c * taps + k] * padded[t + k]);
            let y = bias.map_or(sum, |bias| sum + bias.data[c]);
            let one = T::from_f64(1.0);
            output.push(if node.silu { y * (one / (one + (zero - y).exp())) } else { y });
        }
        state.extend_from_slice(&padded[time..]);
    }
    let output = Tensor { data: output, shape: x.shape.clone() };
    Ok([output, Tensor { data: state, shape: vec![batch, channels, taps - 1] }])
}

fn given<T>(inputs: &[Option<Tensor<T>>], n: usize) -> Option<&Tensor<T>> {
    inputs.get(n).and_then(Option::as_ref)
}

fn needed<T>(inputs: &[Option<Tensor<T>>], n: usize) -> Result<&Tensor<T>> {
    given(inputs, n).ok_or_else(|| Error::mismatch(format!("input {n}"), "a tensor", "none"))
}
