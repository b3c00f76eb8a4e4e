//! Edges: padding that is no number, operands that overlap, resets after infinity, calls out of order, sizes that cannot be.

use crate::networks::all;
use std::sync::Arc;
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Error, Result, Shape, Tensor, View, rules};

fn devices() -> [Device; 2] {
    [Device::cpu(), crate::networks::gpu()]
}

fn training(parallel: Parallel, chunk: usize) -> NetworkOptions {
    NetworkOptions { train: true, parallel: Some(parallel), chunk: Some(chunk), ..Default::default() }
}

fn session(device: &Device, network: &Arc<Network>, shape: Shape, options: &NetworkOptions) -> NetworkSession {
    let plan = NetworkPlan::new(network, shape, &device.caps(), options).unwrap();
    let params: Vec<f32> = (0..network.parameter_count()).map(|n| 0.3 + 0.05 * (n % 7) as f32).collect();
    NetworkSession::new(device, plan, &params).unwrap()
}

fn ramp(shape: &[usize]) -> Tensor<f32> {
    let count = shape.iter().product();
    Tensor { data: (0..count).map(|n| 0.1 + (n % 11) as f32 * 0.07).collect(), shape: shape.to_vec() }
}

/// Scans write 0 into padding: their quotient is NaN there, and so is what lies behind it. No gradient sees it.
#[test]
fn what_padding_holds_is_in_no_gradient() -> Result<()> {
    let mut b = Builder::new();
    let (q, k, v, one) = (b.input("q", 4)?, b.input("k", 4)?, b.input("v", 4)?, b.input("one", 4)?);
    let sizes = [2, 2, 2];
    let above = b.scan("above", &rules::LINEAR, sizes, &[q.into(), k.into(), v.into()], false)?;
    let below = b.scan("below", &rules::LINEAR, sizes, &[q.into(), k.into(), one.into()], false)?;
    let mean = b.map("mean", Expr::input(0) / Expr::input(1), &[above.into(), below.into()])?;
    let scale = b.param("scale", &[4])?;
    let whole = b.whole(scale);
    let scaled = b.map("scaled", Expr::input(0) * Expr::input(1), &[mean.into(), whole])?;
    let (weight, bias, gain) = (b.param("w", &[3, 4])?, b.param("b", &[3])?, b.param("gain", &[3])?);
    let y = b.linear("y", scaled, weight, Some(bias))?;
    let y = b.norm("norm", y, (Norm::Rms, 1, 0.0), Some(gain), None)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    let shape = Shape { time: 5, batch: 2 };
    let x = ramp(&[5, 2, 4]);
    let views = [x.view(); 4];
    let run = |device: &Device| -> Result<NetworkGradients<f32>> {
        let mut session = session(device, &network, shape, &training(Parallel::Recurrent, 2));
        session.forward(&NetworkInput { lengths: Some(&[3, 5]), ..NetworkInput::new(&views) })?;
        session.backward(&NetworkUpstream { values: &[ramp(&[5, 2, 3]).view()], states: None })
    };
    let [cpu, gpu] = [run(&devices()[0])?, run(&devices()[1])?];
    for (a, b) in cpu.params.iter().chain(&cpu.inputs).zip(gpu.params.iter().chain(&gpu.inputs)) {
        for (a, b) in a.data.iter().zip(&b.data) {
            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{a} and {b}");
        }
    }
    Ok(())
}

/// q and k show some of the same columns, in other places: heads of several tasks add to one gradient.
#[test]
fn operands_that_overlap_add_up() -> Result<()> {
    let mut b = Builder::new();
    let (x, v) = (b.input("x", 48)?, b.input("v", 8)?);
    let operands = [x.columns(0, 32)?.into(), x.columns(16, 32)?.into(), v.into()];
    let y = b.scan("scan", &rules::LINEAR, [2, 16, 4], &operands, false)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    let shape = Shape { time: 40, batch: 3 };
    let (x, v, up) = (ramp(&[40, 3, 48]), ramp(&[40, 3, 8]), ramp(&[40, 3, 8]));
    let run = |device: &Device| -> Result<Vec<f32>> {
        let mut session = session(device, &network, shape, &training(Parallel::Recurrent, 8));
        session.forward(&NetworkInput::new(&[x.view(), v.view()]))?;
        Ok(session.backward(&NetworkUpstream { values: &[up.view()], states: None })?.inputs.remove(0).data)
    };
    let first = run(&devices()[0])?;
    for _ in 0..20 {
        assert_eq!(run(&devices()[0])?, first, "the same bits run after run");
    }
    for (a, b) in first.iter().zip(run(&devices()[1])?) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{a} and {b}");
    }
    Ok(())
}

/// Nothing crosses a reset, not even what is no number, whichever way over time: neither the state before the first step, nor what a
/// step before it writes, nor, back, a gradient behind it.
#[test]
fn infinity_does_not_cross_a_reset() -> Result<()> {
    for rule in [&rules::LINEAR, &rules::DELTA, &rules::RWKV6] {
        let mut b = Builder::new();
        let mut operands: Vec<Operand> = Vec::new();
        for port in rule.inputs {
            operands.push(b.input(port.name, port.extent.width([1, 2, 2]))?.into());
        }
        for port in rule.params {
            let param = b.param(port.name, &[port.extent.width([1, 2, 2])])?;
            operands.push(b.whole(param));
        }
        let y = b.scan("scan", rule, [1, 2, 2], &operands, false)?;
        b.output("y", y)?;
        let network = Arc::new(b.finish()?);
        let inputs: Vec<Tensor<f32>> =
            rule.inputs.iter().map(|port| ramp(&[12, 1, port.extent.width([1, 2, 2])])).collect();
        let resets: Vec<bool> = (0..12).map(|t| t == 5).collect();
        let mut written = inputs.clone();
        let value = rule.inputs.iter().position(|p| p.name == "v").unwrap();
        written[value].data[2 * 2..][..2].fill(f32::INFINITY);
        // Corrections have every kernel that others have.
        for device in devices().into_iter().filter(|d| all() || d.kind() == "cpu" || rule == &rules::DELTA) {
            for (parallel, chunk) in [
                (Parallel::Recurrent, 2),
                (Parallel::Chunked, 2),
                (Parallel::Chunked, 7),
                (Parallel::Products, 2),
                (Parallel::Products, 7),
            ] {
                let what = format!("{} {device} {parallel:?} {chunk}", rule.name);
                let shape = Shape { time: 12, batch: 1 };
                let mut session = session(&device, &network, shape, &training(parallel, chunk));
                for (inputs, first) in [(&inputs, f32::INFINITY), (&written, 0.5)] {
                    let views: Vec<View<'_, f32>> = inputs.iter().map(Tensor::view).collect();
                    let first = Tensor { data: vec![first; 4], shape: vec![1, 4] };
                    let out = session.forward(&NetworkInput {
                        resets: Some(&resets),
                        initial: NetworkInitial::Given(&[first.view()]),
                        ..NetworkInput::new(&views)
                    })?;
                    let after = &out.values[0].data[2 * 5..];
                    assert!(after.iter().all(|v| v.is_finite()), "{what}: {after:?}");
                }
                let views: Vec<View<'_, f32>> = inputs.iter().map(Tensor::view).collect();
                session.forward(&NetworkInput { resets: Some(&resets), ..NetworkInput::new(&views) })?;
                let mut up = ramp(&[12, 1, 2]);
                up.data[2 * 8..][..2].fill(f32::INFINITY);
                let back = session.backward(&NetworkUpstream { values: &[up.view()], states: None })?;
                for (gradient, port) in back.inputs.iter().zip(rule.inputs) {
                    let before = &gradient.data[..gradient.data.len() / 12 * 5];
                    assert!(before.iter().all(|v| v.is_finite()), "d {} of {what}: {before:?}", port.name);
                }
            }
        }
    }
    Ok(())
}

fn refused<T>(result: Result<T>, words: &str) {
    match result {
        Err(error @ Error::Mismatch { .. }) => assert!(error.to_string().contains(words), "{error}\nlacks {words}"),
        Err(error) => panic!("not a mismatch: {error}"),
        Ok(_) => panic!("taken: {words}"),
    }
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() -> Result<()> {
    let mut b = Builder::new();
    let x = b.input("x", 2)?;
    let y = b.shift("y", x)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    for device in devices() {
        let mut session =
            session(&device, &network, Shape { time: 3, batch: 1 }, &training(Parallel::Recurrent, usize::MAX));
        refused(session.run(), "an input written before it");
        let x = ramp(&[3, 1, 2]);
        let out = session.forward(&NetworkInput::new(&[x.view()]))?;
        let wrong = ramp(&[1, 5]);
        let (states, views) = ([wrong.view()], [x.view()]);
        let initial = NetworkInitial::Given(&states);
        let input = NetworkInput { lengths: Some(&[1]), initial, ..NetworkInput::new(&views) };
        refused(session.write(&input), "initial states");
        assert_eq!(session.output()?, out, "what failed has changed nothing");
        refused(session.run_back(), "gradients of outputs written");
        session.write_upstream(&NetworkUpstream { values: &[x.view()], states: None })?;
        session.write(&NetworkInput { lengths: Some(&[2]), ..NetworkInput::new(&[x.view()]) })?;
        session.run()?;
        refused(session.run_back(), "gradients of outputs written");
        refused(session.gradients(), "a way back before it");
    }
    Ok(())
}

/// A stream that has no step in a run stays where it is, whatever carries it.
#[test]
fn a_sequence_of_no_steps_keeps_its_states() -> Result<()> {
    let network = crate::networks::of_everything()?;
    for device in devices() {
        let mut session = session(&device, &network, Shape { time: 4, batch: 2 }, &NetworkOptions::default());
        let x = ramp(&[4, 2, 6]);
        let values = [x.view()];
        let shapes: Vec<_> =
            session.forward(&NetworkInput::new(&values))?.states.into_iter().map(|s| s.shape).collect();
        let given: Vec<Tensor<f32>> = shapes.iter().map(|shape| ramp(shape)).collect();
        let states: Vec<View<'_, f32>> = given.iter().map(Tensor::view).collect();
        let initial = NetworkInitial::Given(&states);
        let input = NetworkInput { lengths: Some(&[0, 4]), initial, ..NetworkInput::new(&values) };
        let out = session.forward(&input)?;
        for (n, (last, given)) in out.states.iter().zip(&given).enumerate() {
            let size = given.shape[1];
            assert_eq!(last.data[..size], given.data[..size], "state {n} on {device}");
            assert_ne!(last.data[size..], given.data[size..], "state {n} on {device}");
        }
        for value in &out.values {
            let rows = value.data.chunks(value.shape[2]).step_by(2);
            assert!(rows.flatten().all(|v| *v == 0.0), "{device}");
        }
    }
    Ok(())
}

#[test]
fn a_value_per_sequence_is_none_of_a_step() -> Result<()> {
    let mut b = Builder::new();
    let x = b.input("x", 4)?;
    let last = b.pool("last", x, Pooling::Last)?;
    refused(b.shift("shift", last), "row per step");
    refused(b.pool("again", last, Pooling::Max), "row per step");
    refused(b.concat("both", &[x, last]), "last has a row per sequence");
    refused(b.map("sum", Expr::input(0) + Expr::input(1), &[x.into(), last.into()]), "all one per sequence");
    refused(b.scan("scan", &rules::MINGRU, [4, 1, 1], &[last.into(), last.into()], false), "row per step");
    b.output("y", last)?;
    let network = Arc::new(b.finish()?);
    for device in devices() {
        let mut session = session(&device, &network, Shape { time: 3, batch: 2 }, &NetworkOptions::default());
        let x = ramp(&[3, 2, 4]);
        let values = [x.view()];
        let input = NetworkInput { lengths: Some(&[2, 0]), ..NetworkInput::new(&values) };
        let out = session.forward(&input)?;
        assert_eq!(out.values[0].shape, [2, 4]);
        assert_eq!(out.values[0].data[..4], x.data[8..12], "the last of 2 steps");
        assert_eq!(out.values[0].data[4..], [0.0; 4], "no steps");
    }
    Ok(())
}

#[test]
fn parts_and_parameters_that_there_are_not() -> Result<()> {
    let mut b = Builder::new();
    let x = b.input("x", 4)?;
    let nowhere = Part { value: 9, first: 0, width: 4 };
    let beyond = Part { first: usize::MAX, ..x };
    let weight = b.param("w", &[4, 4])?;
    for part in [nowhere, beyond] {
        refused(b.linear("l", part, weight, None), "part that l reads");
        refused(b.norm("n", part, (Norm::Rms, 1, 1e-5), None, None), "part that n reads");
        refused(b.sum("s", part, 2), "part that s reads");
        refused(b.shift("h", part), "part that h reads");
        refused(b.output("o", part), "part that o reads");
        refused(b.map("m", Expr::input(0), &[part.into()]), "operand of m");
    }
    refused(b.linear("l", x, 7, None), "parameter of l");
    refused(b.linear("l", x, weight, Some(7)), "parameter of");
    refused(b.conv("c", x, (weight, None), (usize::MAX, 1)), "w");
    let whole = b.whole(7);
    refused(b.map("m", Expr::input(0), &[whole]), "m");
    refused(b.map("m", Expr::input(70), &[x.into()]), "at least 71");
    refused(b.map("m", Expr::input(0), &[Operand::from(x).each(usize::MAX)]), "m");

    let slice = |at, of| Stored { tensor: "all".into(), slice: Some((at, of)), transposed: false };
    b.stored_param("first", [2, 4], slice(0, 2))?;
    refused(b.stored_param("again", [2, 4], slice(0, 2)), "slices");
    refused(b.stored_param("larger", [4, 4], slice(1, 2)), "slices");
    refused(b.stored_param("third", [2, 4], slice(1, 3)), "slices");
    refused(b.param("all", &[16]), "a name of its own");
    b.stored_param("second", [2, 4], slice(1, 2))?;
    Ok(())
}
