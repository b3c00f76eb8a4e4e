//! Training on the device: losses, updates, and the parameters that come of them.

use crate::networks::{bound, gpu, inputs, of_sequences, of_tokens, random, shape_of};
use std::sync::Arc;
use wgpu_rnn::network::{Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Op};
use wgpu_rnn::{Device, Error, Optimiser, Precision, Result, Shape, View};
use wgpu_rnn_verify::naive::Scalar as Number;
use wgpu_rnn_verify::tolerance;

const SHAPE: Shape = Shape { time: 6, batch: 4 };
const LENGTHS: [usize; 4] = [3, 0, 6, 1];
const RATE: f64 = 0.01;

/// Inputs of three steps of training, and their shapes.
fn data(network: &Network) -> (Vec<Vec<Vec<f64>>>, Vec<Vec<usize>>) {
    let shapes = network.inputs.iter().map(|&v| shape_of(network, v, SHAPE)).collect();
    ((0..3).map(|step| inputs(network, SHAPE, 20 * step)).collect(), shapes)
}

/// The losses of all steps, and the parameters behind them.
fn train<T: wgpu_rnn::Element>(
    device: &Device,
    network: &Arc<Network>,
    optimiser: Optimiser,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions { train: true, optimiser: Some(optimiser), precision, ..Default::default() };
    let plan = NetworkPlan::new(network, SHAPE, &device.caps(), &options)?;
    let cast = |v: &[f64]| v.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
    let mut session = NetworkSession::<T>::new(device, plan, &cast(&random(network.parameter_count(), 5)))?;
    session.poison()?;
    let (steps, shapes) = data(network);
    let mut losses = Vec::new();
    for step in steps {
        let values: Vec<Vec<T>> = step.iter().map(|v| cast(v)).collect();
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.train_step(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) }, RATE)?;
        losses.push(session.loss()?.to_f64());
    }
    Ok((losses, session.params()?.iter().map(|v| v.to_f64()).collect()))
}

/// The same by hand: gradients of the losses' rows by their divisors, and the optimiser's equations.
fn by_hand<T: Number>(network: &Arc<Network>, optimiser: Optimiser) -> Result<(Vec<f64>, Vec<f64>)> {
    let (number, device) = (T::from_f64, Device::cpu());
    let cast = |v: &[f64]| v.iter().map(|&v| number(v)).collect::<Vec<T>>();
    let (one, rate) = (number(1.0), number(RATE));
    let mut params = cast(&random(network.parameter_count(), 5));
    let (mut m, mut v) = (vec![T::default(); params.len()], vec![T::default(); params.len()]);
    let (steps, shapes) = data(network);
    let mut losses = Vec::new();
    for (t, step) in steps.iter().enumerate() {
        let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
        let options = NetworkOptions { train: true, precision, ..Default::default() };
        let plan = NetworkPlan::new(network, SHAPE, &device.caps(), &options)?;
        let mut session = NetworkSession::<T>::new(&device, plan, &params)?;
        let values: Vec<Vec<T>> = step.iter().map(|v| cast(v)).collect();
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        let out = session.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) })?;
        let mut loss = T::default();
        let mut up: Vec<Vec<T>> = out.values.iter().map(|t| vec![T::default(); t.data.len()]).collect();
        for (n, (_, part)) in network.outputs.iter().enumerate() {
            if network.nodes.iter().any(|node| node.value == part.value && matches!(node.op, Op::Loss(_))) {
                // Rows per sequence, but for the one of no steps; or steps.
                let rows = if out.values[n].shape.len() == 2 { 3 } else { LENGTHS.iter().sum::<usize>() };
                let rows = number(rows as f64);
                loss = loss + out.values[n].data.iter().fold(T::default(), |a, v| a + *v) / rows;
                up[n].fill(one / rows);
            }
        }
        losses.push(loss.to_f64());
        let views: Vec<_> = up.iter().zip(&out.values).map(|(v, t)| View::new(v, &t.shape)).collect();
        let gradients = session.backward(&NetworkUpstream { values: &views, states: None })?;
        let flat = gradients.params.iter().flat_map(|g| g.data.clone());
        let power = |beta: f64| number(1.0 - beta.powi(t as i32 + 1));
        for (((p, g), m), v) in params.iter_mut().zip(flat).zip(&mut m).zip(&mut v) {
            match optimiser {
                Optimiser::Sgd { momentum } => {
                    *m = number(momentum) * *m + g;
                    *p = *p - rate * *m;
                }
                Optimiser::Adam { beta1, beta2, epsilon } | Optimiser::AdamW { beta1, beta2, epsilon, .. } => {
                    if let Optimiser::AdamW { weight_decay, .. } = optimiser {
                        *p = *p - rate * number(weight_decay) * *p;
                    }
                    *m = number(beta1) * *m + number(1.0 - beta1) * g;
                    *v = number(beta2) * *v + number(1.0 - beta2) * g * g;
                    let divisor = (*v / power(beta2)).sqrt() + number(epsilon);
                    *p = *p - rate * (*m / power(beta1)) / divisor;
                }
            }
        }
    }
    Ok((losses, params.iter().map(|v| v.to_f64()).collect()))
}

type Trained = (Vec<f64>, Vec<f64>);

/// Losses and parameters as far from the truth as the loops in f32 are, four times, and a millionth of their scale.
fn check(what: &str, got: &Trained, truth: &Trained, naive: &Trained) {
    for (name, of) in [("losses", 0), ("parameters", 1)] {
        let [got, truth, naive] = [got, truth, naive].map(|t| if of == 0 { &t.0 } else { &t.1 });
        assert_eq!(got.len(), truth.len(), "{what}: {name}");
        let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(naive, truth));
        let error = tolerance::error(got, truth);
        assert!(error <= bound, "{what}: {name} are off by {error:e}, over {bound:e}");
    }
}

#[test]
fn updates_are_those_of_the_equations() -> Result<()> {
    let optimisers = [Optimiser::sgd(0.0), Optimiser::sgd(0.9), Optimiser::adam(), Optimiser::adamw(0.1)];
    let sequences = of_sequences()?;
    let all = optimisers.map(|optimiser| (Arc::clone(&sequences), optimiser));
    for (network, optimiser) in all.into_iter().chain([(of_tokens()?, Optimiser::sgd(0.0))]) {
        let (truth, naive) = (by_hand::<f64>(&network, optimiser)?, by_hand::<f32>(&network, optimiser)?);
        let exact = train::<f64>(&Device::cpu(), &network, optimiser)?;
        assert!(
            tolerance::error(&exact.1, &truth.1) <= 1e-12,
            "{optimiser}: {:e}",
            tolerance::error(&exact.1, &truth.1)
        );
        assert!(
            tolerance::error(&exact.0, &truth.0) <= 1e-12,
            "{optimiser}: {:e}",
            tolerance::error(&exact.0, &truth.0)
        );
        check(&format!("{optimiser} on the CPU"), &train::<f32>(&Device::cpu(), &network, optimiser)?, &truth, &naive);
        check(&format!("{optimiser} on a GPU"), &train::<f32>(&gpu(), &network, optimiser)?, &truth, &naive);
    }
    Ok(())
}

/// An input that has not run yet has no part in the loss, and a plan that does not update gives the parameters that it was given.
#[test]
fn a_loss_is_that_of_the_last_run() -> Result<()> {
    let network = of_sequences()?;
    let (steps, shapes) = data(&network);
    let params: Vec<f32> = random(network.parameter_count(), 5).iter().map(|&v| v as f32).collect();
    for device in [Device::cpu(), gpu()] {
        let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &NetworkOptions::default())?;
        let mut session = NetworkSession::<f32>::new(&device, plan, &params)?;
        let values: Vec<Vec<f32>> = steps[0].iter().map(|v| v.iter().map(|&v| v as f32).collect()).collect();
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) })?;
        let loss = session.loss()?;
        session.write(&NetworkInput { lengths: Some(&[6, 6, 6, 6]), ..NetworkInput::new(&views) })?;
        assert_eq!(session.loss()?, loss, "{device}");
        session.run()?;
        assert_ne!(session.loss()?, loss, "{device}");
        assert_eq!(session.params()?, params, "{device}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_trained_is_refused() -> Result<()> {
    let network = of_sequences()?;
    let (steps, shapes) = data(&network);
    let mut values = steps[0].clone();
    let device = Device::cpu();
    let words = |result: Result<()>, words: &str| match result {
        Err(Error::Mismatch { what, expected, got }) => {
            let text = format!("{what}: {expected}; {got}");
            assert!(text.contains(words), "{text}");
        }
        other => panic!("{other:?}"),
    };
    let options = NetworkOptions { optimiser: Some(Optimiser::adam()), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options);
    words(plan.map(drop), "a plan that trains");
    let options = NetworkOptions { train: true, ..Default::default() };
    let mut session = bound(&network, SHAPE, &options, &random(network.parameter_count(), 5))?;
    let step = |session: &mut NetworkSession<f64>, values: &[Vec<f64>], lengths: &[usize]| {
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.write(&NetworkInput { lengths: Some(lengths), ..NetworkInput::new(&views) })
    };
    words(session.update(0.1), "without an optimiser");
    words(step(&mut session, &values, &[0; 4]), "positive, finite sum");
    // The second input is the classes of sequences.
    values[1][2] = 1.5;
    words(step(&mut session, &values, &LENGTHS), "target 2 of entropy: a class in 0..4; 1.5");
    values[1][2] = 1.0;
    values[1][1] = 99.0;
    step(&mut session, &values, &LENGTHS)?;
    Ok(())
}
