//! Streams of a network: steps one after the other, some sequences of a batch or all, and their states read, set and forgotten alone.

use crate::networks::{gpu, random};
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Direction, Element, Precision, Result, RnnConfig, Shape, Tensor, View, blocks, cells, rules};

const BATCH: usize = 3;
const TIME: usize = 7;

/// Every kind of state: a convolution's inputs, a step before, h and c of layers, a scan's with the m of a stabilised one, and a
/// scan's of scalars; and a value per sequence.
fn streaming(direction: Direction) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let (x, own) = (b.input("x", 5)?, b.sequence_input("own", 2)?);
    let taps = b.param("conv.weight", &[5, 3])?;
    let conv = b.conv("conv", x, (taps, None), (2, 0))?;
    let before = b.shift("before", conv)?;
    let lstm = RnnConfig { proj_size: 3, num_layers: 2, direction, ..RnnConfig::new(&cells::LSTM, 5, 4) };
    let y = b.layers("lstm", before, &lstm)?;
    let (w, bias) = (b.param("in.weight", &[18, y.width])?, b.param("in.bias", &[18])?);
    let h = b.linear("in", y, w, Some(bias))?;
    // Two heads, keys of 3, values of 2.
    let sizes = [2, 3, 2];
    let mut at = 0;
    let mut part = |width: usize| {
        at += width;
        h.columns(at - width, width)
    };
    let operands = [part(6)?.into(), part(6)?.into(), part(4)?.into(), part(2)?.into(), h.columns(3, 2)?.into()];
    let deep = b.scan("mlstm", &rules::MLSTM, sizes, &operands, false)?;
    let y = b.scan("mingru", &rules::MINGRU, [4, 1, 1], &[deep.into(), x.columns(1, 4)?.into()], false)?;
    let last = b.pool("last", y, Pooling::Last)?;
    let both = b.concat("both", &[last, own])?;
    b.output("y", y)?;
    b.output("both", both)?;
    Ok(Arc::new(b.finish()?))
}

fn session<T: Element>(device: &Device, network: &Arc<Network>, shape: Shape) -> Result<NetworkSession<T>> {
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions { precision, ..Default::default() };
    let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
    assert_eq!(plan.parallel, Parallel::Recurrent, "{device}");
    let params: Vec<T> = random(network.parameter_count(), 7).into_iter().map(T::from_f64).collect();
    let mut session = NetworkSession::new(device, plan, &params)?;
    session.poison()?;
    Ok(session)
}

/// Values of all inputs for `shape`, and their shapes.
fn inputs<T: Element>(network: &Network, shape: Shape, seed: u64) -> Vec<Tensor<T>> {
    let of = |&v: &usize| {
        let value = &network.values[v];
        let shape = match value.rows {
            Rows::Steps => vec![shape.time, shape.batch, value.width],
            Rows::Sequences => vec![shape.batch, value.width],
        };
        let data = random(shape.iter().product(), seed + v as u64).into_iter().map(T::from_f64).collect();
        Tensor { data, shape }
    };
    network.inputs.iter().map(of).collect()
}

fn views<T>(tensors: &[Tensor<T>]) -> Vec<View<'_, T>> {
    tensors.iter().map(Tensor::view).collect()
}

/// The rows of sequence `b`, of a step or a state.
fn row<T: Copy>(tensor: &Tensor<T>, b: usize) -> Vec<T> {
    let width = tensor.data.len() / BATCH;
    tensor.data[b * width..][..width].to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn hold<T: Element>(device: &Device, network: &Arc<Network>, what: &str) -> Result<()> {
    let shape = Shape { time: TIME, batch: BATCH };
    let values = inputs::<T>(network, shape, 3);
    let truth = session::<T>(device, network, shape)?.forward(&NetworkInput::new(&views(&values)))?;
    let mut one = session::<T>(device, network, Shape { time: 1, batch: BATCH })?;
    let mut states = Vec::new();
    // Twice: a stream that is forgotten begins anew.
    for _ in 0..2 {
        one.reset();
        for t in 0..TIME {
            let step = |v: &Tensor<T>| match v.shape[..] {
                [_, batch, width] => {
                    let data = v.data[t * batch * width..][..batch * width].to_vec();
                    Tensor { data, shape: vec![1, batch, width] }
                }
                _ => v.clone(),
            };
            let step: Vec<Tensor<T>> = values.iter().map(step).collect();
            let out = one.step(&views(&step))?;
            for (got, truth) in out.values.iter().zip(&truth.values).filter(|(got, _)| got.shape.len() == 3) {
                let len = got.data.len();
                assert_eq!(got.data, truth.data[t * len..][..len], "{what} on {device}, step {t}");
            }
            states = out.states;
        }
    }
    assert_eq!(states, truth.states, "{what} on {device}");
    assert_eq!(one.states()?, states, "{what} on {device}");
    Ok(())
}

#[test]
fn single_steps_are_the_whole_sequence() -> Result<()> {
    let network = streaming(Direction::Forward)?;
    hold::<f32>(&Device::cpu(), &network, "all states")?;
    hold::<f64>(&Device::cpu(), &network, "all states in f64")?;
    hold::<f32>(&gpu(), &network, "all states")?;
    let mamba =
        blocks::Mamba { hidden_size: 7, intermediate_size: 11, state_size: 3, time_step_rank: 2, ..Default::default() };
    let rwkv4 = blocks::Rwkv4 { hidden_size: 6, attention_hidden_size: 8, intermediate_size: 10, ..Default::default() };
    let rwkv7 = blocks::Rwkv7 { hidden_size: 8, head_size: 4, intermediate_size: 9, ..Default::default() };
    for model in [blocks::Model::Mamba(mamba), blocks::Model::Rwkv4(rwkv4), blocks::Model::Rwkv7(rwkv7)] {
        hold::<f32>(&Device::cpu(), &Arc::new(model.network()?), &format!("{model:?}"))?;
    }
    Ok(())
}

/// Which streams have a step at each tick.
const TICKS: [[bool; BATCH]; 5] =
    [[true, false, true], [false, true, true], [false, false, false], [true, true, false], [true, true, true]];

#[test]
fn streams_of_a_batch_step_as_if_alone() -> Result<()> {
    let network = streaming(Direction::Bidirectional)?;
    for device in [Device::cpu(), gpu()] {
        let mut batch = session::<f32>(&device, &network, Shape { time: 1, batch: BATCH })?;
        let alone = |_| session::<f32>(&device, &network, Shape { time: 1, batch: 1 });
        let mut alone: Vec<NetworkSession> = (0..BATCH).map(alone).collect::<Result<_>>()?;
        let empty = batch.states()?;
        for (tick, active) in TICKS.iter().enumerate() {
            let mut values = inputs::<f32>(&network, Shape { time: 1, batch: BATCH }, 40 * tick as u64);
            let own: Vec<Vec<Tensor<f32>>> = (0..BATCH)
                .map(|b| {
                    let one = |v: &Tensor<f32>| {
                        let mut shape = v.shape.clone();
                        shape[v.shape.len() - 2] = 1;
                        Tensor { data: row(v, b), shape }
                    };
                    values.iter().map(one).collect()
                })
                .collect();
            for v in &mut values {
                let width = v.data.len() / BATCH;
                let rows = v.data.chunks_mut(width).zip(active).filter(|(_, active)| !**active);
                rows.for_each(|(row, _)| row.fill(f32::NAN));
            }
            let earlier = batch.states()?;
            let out = batch.step_where(&views(&values), active)?;
            assert_eq!(batch.states()?, out.states, "{device}");
            for b in 0..BATCH {
                let states = batch.states_of(b)?;
                for (one, all) in states.iter().zip(&out.states) {
                    assert_eq!((&one.shape[..], bits(&one.data)), (&all.shape[1..], bits(&row(all, b))), "{device}");
                }
                if active[b] {
                    let truth = alone[b].step(&views(&own[b]))?;
                    for (got, truth) in out.values.iter().zip(&truth.values) {
                        assert_eq!(bits(&row(got, b)), bits(&truth.data), "{device}: {b} at {tick}");
                    }
                    for (got, truth) in states.iter().zip(&truth.states) {
                        assert_eq!(bits(&got.data), bits(&truth.data), "{device}: states of {b} at {tick}");
                    }
                } else {
                    assert!(out.values.iter().all(|v| row(v, b).iter().all(|v| v.to_bits() == 0)), "{device}");
                    for (got, earlier) in states.iter().zip(&earlier) {
                        assert_eq!(bits(&got.data), bits(&row(earlier, b)), "{device}: states of {b} at {tick}");
                    }
                }
            }
            // A stream takes another's states, one is forgotten; the rest stay.
            if tick == 1 {
                let moved = batch.states_of(2)?;
                let size: usize = moved.iter().map(|s| s.data.len()).sum();
                let before = batch.bytes_written();
                batch.set_states_of(0, &views(&moved))?;
                batch.reset_of(1)?;
                if device.kind() != "cpu" {
                    assert_eq!(batch.bytes_written() - before, 8 * size as u64, "no more than two streams' states");
                }
                let moved = alone[2].states()?;
                alone[0].set_states(&views(&moved))?;
                alone[1].reset();
                for (got, empty) in batch.states_of(1)?.iter().zip(&empty) {
                    assert_eq!(bits(&got.data), bits(&row(empty, 1)), "{device}");
                }
            }
        }
    }
    Ok(())
}

/// Before any run all begin from empty states, and those of one may be set; what is set can be carried by a plan of many steps.
#[test]
fn states_can_be_set_before_any_run() -> Result<()> {
    let (network, shape) = (streaming(Direction::Bidirectional)?, Shape { time: 4, batch: BATCH });
    for device in [Device::cpu(), gpu()] {
        let mut session = session::<f32>(&device, &network, shape)?;
        let values = inputs::<f32>(&network, shape, 9);
        let values = views(&values);
        let empty = session.states()?;
        assert_eq!(session.states_of(2)?.len(), empty.len());
        session.reset_of(0)?;
        let one: Vec<Tensor<f32>> = empty
            .iter()
            .enumerate()
            .map(|(n, s)| {
                let data = random(s.shape[1], 60 + n as u64).into_iter().map(|v| v as f32).collect();
                Tensor { data, shape: vec![s.shape[1]] }
            })
            .collect();
        session.set_states_of(1, &views(&one))?;
        let mut given = empty;
        for (s, one) in given.iter_mut().zip(&one) {
            s.data[s.shape[1]..][..s.shape[1]].copy_from_slice(&one.data);
        }
        assert_eq!(session.states()?, given, "{device}");
        let from = views(&given);
        let input = |initial| NetworkInput { initial, lengths: Some(&[4, 1, 3]), ..NetworkInput::new(&values) };
        let carried = session.forward(&input(NetworkInitial::Carry))?;
        let truth = session.forward(&input(NetworkInitial::Given(&from)))?;
        assert_eq!(carried, truth, "{device}");
        session.set_states(&from)?;
        assert_eq!(session.states()?, given, "{device}");
        assert_eq!(session.forward(&input(NetworkInitial::Carry))?, truth, "{device}");
        session.reset();
        let refused = session.forward(&input(NetworkInitial::Carry)).map_err(|e| e.to_string());
        assert_eq!(refused.unwrap_err(), "initial states: expected an earlier run to carry from, got none");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() -> Result<()> {
    let network = streaming(Direction::Forward)?;
    let shape = Shape { time: 1, batch: BATCH };
    let mut session = session::<f32>(&Device::cpu(), &network, shape)?;
    let values = inputs::<f32>(&network, shape, 9);
    let values = views(&values);
    let out = session.step(&values)?;
    let text = |result: Result<()>| result.expect_err("refused").to_string();
    assert_eq!(text(session.step_where(&values, &[true]).map(drop)), "active: expected B = 3 flags, got 1 flags");
    let one = session.states_of(0)?;
    let fits = views(&one);
    let sequence = "sequence: expected 0..B = 0..3, got 3";
    assert_eq!(text(session.states_of(3).map(drop)), sequence);
    assert_eq!(text(session.reset_of(3)), sequence);
    assert_eq!(text(session.set_states_of(3, &fits)), sequence);
    assert_eq!(text(session.set_states_of(0, &fits[1..])), "states: expected 5, got 4");
    assert_eq!(text(session.set_states(&fits[1..])), "states: expected 5, got 4");
    let mut swapped = fits.clone();
    swapped.swap(0, 1);
    assert_eq!(text(session.set_states_of(0, &swapped)), "states: conv: expected [size] = [10], got [5]");
    assert_eq!(text(session.set_states(&fits)), "states: conv: expected [B, size] = [3, 10], got [10]");
    assert_eq!(session.states()?, out.states);
    assert_eq!(session.output()?, out);
    let mut long = self::session::<f32>(&Device::cpu(), &network, Shape { time: 2, batch: BATCH })?;
    let refused = text(long.step_where(&values, &[true; BATCH]).map(drop));
    assert!(refused.starts_with("plan of step_where: expected T = 1, got T = 2"), "{refused}");
    Ok(())
}
