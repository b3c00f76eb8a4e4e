//! Laws of whole models: step by step from carried states is the whole sequence, bit for bit; a split at resets is two sequences; a
//! sequence does not know its neighbours.

use super::{flat, gpu, models, on_gpu, params, tensor};
use std::sync::Arc;
use wgpu_rnn::blocks::Model;
use wgpu_rnn::network::{
    NetworkInitial, NetworkInput, NetworkOptions, NetworkOutput, NetworkPlan, NetworkSession, Parallel,
};
use wgpu_rnn::{Device, Shape, Tensor};

fn session(model: &Model, device: &Device, time: usize, batch: usize) -> NetworkSession<f32> {
    let network = Arc::new(model.network().unwrap());
    let params: Vec<f32> = flat(&network, &params(&network, 5)).into_iter().map(|v| v as f32).collect();
    let options = NetworkOptions { parallel: Some(Parallel::Recurrent), ..Default::default() };
    let plan = NetworkPlan::new(&network, Shape { time, batch }, &device.caps(), &options).unwrap();
    NetworkSession::new(device, plan, &params).unwrap()
}

fn input(model: &Model, time: usize, batch: usize) -> Tensor<f32> {
    let exact = tensor(&[time, batch, model.hidden_size()], 6);
    Tensor { data: exact.data.iter().map(|&v| v as f32).collect(), shape: exact.shape }
}

/// Steps `first..first + count` of all sequences.
fn steps(x: &Tensor<f32>, first: usize, count: usize) -> Tensor<f32> {
    let row = x.shape[1] * x.shape[2];
    Tensor { data: x.data[first * row..][..count * row].to_vec(), shape: vec![count, x.shape[1], x.shape[2]] }
}

fn step_by_step(device: &Device) {
    for model in models().into_iter().filter(|m| device.kind() == "cpu" || on_gpu(m)) {
        let x = input(&model, 7, 3);
        let whole = session(&model, device, 7, 3).forward(&NetworkInput::new(&[x.view()])).unwrap();
        for piece in [1, 3] {
            let mut y = Vec::new();
            let mut states: Option<NetworkOutput<f32>> = None;
            for first in (0..7).step_by(piece) {
                let count = piece.min(7 - first);
                let x = steps(&x, first, count);
                let given: Vec<_> = states.iter().flat_map(|s| s.states.iter().map(Tensor::view)).collect();
                let initial = if first == 0 { NetworkInitial::Empty } else { NetworkInitial::Given(&given) };
                let mut session = session(&model, device, count, 3);
                let output = session.forward(&NetworkInput { initial, ..NetworkInput::new(&[x.view()]) }).unwrap();
                y.extend_from_slice(&output.values[0].data);
                states = Some(output);
            }
            assert_eq!(y, whole.values[0].data, "{piece} at a time: {model:?}");
            assert_eq!(states.unwrap().states, whole.states, "{model:?}");
        }
        // The same session, carrying on.
        let mut session = session(&model, device, 1, 3);
        for t in 0..7 {
            let initial = if t == 0 { NetworkInitial::Empty } else { NetworkInitial::Carry };
            let x = steps(&x, t, 1);
            let output = session.forward(&NetworkInput { initial, ..NetworkInput::new(&[x.view()]) }).unwrap();
            assert_eq!(output.values[0].data, steps(&whole.values[0], t, 1).data, "step {t} of {model:?}");
        }
    }
}

#[test]
fn cpu_step_by_step_is_the_whole() {
    step_by_step(&Device::cpu());
}

#[test]
fn gpu_step_by_step_is_the_whole() {
    step_by_step(&gpu());
}

#[test]
fn a_sequence_does_not_know_its_neighbours() {
    for model in models() {
        let x = input(&model, 6, 3);
        let lengths = [4, 6, 1];
        let together = {
            let mut session = session(&model, &Device::cpu(), 6, 3);
            session.forward(&NetworkInput { lengths: Some(&lengths), ..NetworkInput::new(&[x.view()]) }).unwrap()
        };
        let width = model.hidden_size();
        for (b, &length) in lengths.iter().enumerate() {
            let row = |from: &Tensor<f32>, t: usize| from.data[(t * 3 + b) * width..][..width].to_vec();
            let own: Vec<f32> = (0..length).flat_map(|t| row(&x, t)).collect();
            let own = Tensor { data: own, shape: vec![length, 1, width] };
            let alone = session(&model, &Device::cpu(), length, 1).forward(&NetworkInput::new(&[own.view()])).unwrap();
            let of_batch: Vec<f32> = (0..length).flat_map(|t| row(&together.values[0], t)).collect();
            assert_eq!(alone.values[0].data, of_batch, "sequence {b} of {model:?}");
        }
    }
}

#[test]
fn a_reset_begins_anew() {
    for model in models() {
        let x = input(&model, 8, 1);
        let mut resets = vec![false; 8];
        resets[5] = true;
        let mut whole = session(&model, &Device::cpu(), 8, 1);
        let whole = whole.forward(&NetworkInput { resets: Some(&resets), ..NetworkInput::new(&[x.view()]) }).unwrap();
        let part = steps(&x, 5, 3);
        let anew = session(&model, &Device::cpu(), 3, 1).forward(&NetworkInput::new(&[part.view()])).unwrap();
        assert_eq!(steps(&whole.values[0], 5, 3).data, anew.values[0].data, "{model:?}");
    }
}
