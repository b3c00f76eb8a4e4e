//! Training on the device: losses, updates, and the parameters that come of them.

use crate::networks::{bound, gpu, inputs, of_sequences, of_tokens, random, shape_of};
use std::sync::Arc;
use wgpu_rnn::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Op,
};
use wgpu_rnn::{Device, Error, Loss, Optimiser, Precision, Result, RnnConfig, Shape, View};
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

/// How the parameters are updated.
#[derive(Clone, Copy)]
struct How {
    optimiser: Optimiser,
    clip_norm: Option<f32>,
    /// Whether all ways back belong to one update, behind the last.
    accumulate: bool,
}

impl From<Optimiser> for How {
    fn from(optimiser: Optimiser) -> Self {
        Self { optimiser, clip_norm: None, accumulate: false }
    }
}

/// What comes of training.
#[derive(Default)]
struct Trained {
    /// Of every step.
    losses: Vec<f64>,
    /// Of the gradients at every update, where they are clipped.
    norms: Vec<f64>,
    params: Vec<f64>,
}

fn train<T: wgpu_rnn::Element>(device: &Device, network: &Arc<Network>, how: How) -> Result<Trained> {
    let How { optimiser, clip_norm, accumulate } = how;
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions {
        train: true,
        optimiser: Some(optimiser),
        clip_norm,
        accumulate,
        precision,
        ..Default::default()
    };
    let plan = NetworkPlan::new(network, SHAPE, &device.caps(), &options)?;
    let cast = |v: &[f64]| v.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
    let mut session = NetworkSession::<T>::new(device, plan, &cast(&random(network.parameter_count(), 5)))?;
    session.poison()?;
    let (steps, shapes) = data(network);
    let mut trained = Trained::default();
    let last = steps.len() - 1;
    for (n, step) in steps.into_iter().enumerate() {
        let values: Vec<Vec<T>> = step.iter().map(|v| cast(v)).collect();
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        let input = NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) };
        if accumulate {
            session.write(&input)?;
            session.run()?;
            session.run_back()?;
            if n == last {
                session.update(RATE)?;
            }
        } else {
            session.train_step(&input, RATE)?;
        }
        trained.losses.push(session.loss()?.to_f64());
        if clip_norm.is_some() && (!accumulate || n == last) {
            trained.norms.push(session.gradient_norm()?.to_f64());
        }
    }
    trained.params = session.params()?.iter().map(|v| v.to_f64()).collect();
    Ok(trained)
}

/// The same by hand: gradients of the losses' rows by their divisors, and the optimiser's equations.
fn by_hand<T: Number>(network: &Arc<Network>, how: How) -> Result<Trained> {
    let (number, device) = (T::from_f64, Device::cpu());
    let cast = |v: &[f64]| v.iter().map(|&v| number(v)).collect::<Vec<T>>();
    let (one, rate) = (number(1.0), number(RATE));
    let mut params = cast(&random(network.parameter_count(), 5));
    let (mut m, mut v) = (vec![T::default(); params.len()], vec![T::default(); params.len()]);
    let mut flat = vec![T::default(); params.len()];
    let (steps, shapes) = data(network);
    let mut trained = Trained::default();
    let mut updates = 0;
    for (n, step) in steps.iter().enumerate() {
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
        trained.losses.push(loss.to_f64());
        let views: Vec<_> = up.iter().zip(&out.values).map(|(v, t)| View::new(v, &t.shape)).collect();
        let gradients = session.backward(&NetworkUpstream { values: &views, states: None })?;
        flat.iter_mut().zip(gradients.params.iter().flat_map(|g| &g.data)).for_each(|(sum, g)| *sum = *sum + *g);
        if how.accumulate && n + 1 < steps.len() {
            continue;
        }
        let mut scale = one;
        if let Some(max) = how.clip_norm {
            let norm = flat.iter().fold(T::default(), |sum, g| sum + *g * *g).sqrt();
            let all = number(f64::from(max)) / (norm + number(1e-6));
            scale = if all.to_f64() < 1.0 { all } else { one };
            trained.norms.push(norm.to_f64());
        }
        updates += 1;
        let power = |beta: f64| number(1.0 - beta.powi(updates));
        for (((p, g), m), v) in params.iter_mut().zip(&flat).zip(&mut m).zip(&mut v) {
            let g = scale * *g;
            match how.optimiser {
                Optimiser::Sgd { momentum } => {
                    *m = number(momentum) * *m + g;
                    *p = *p - rate * *m;
                }
                Optimiser::Adam { beta1, beta2, epsilon } | Optimiser::AdamW { beta1, beta2, epsilon, .. } => {
                    if let Optimiser::AdamW { weight_decay, .. } = how.optimiser {
                        *p = *p - rate * number(weight_decay) * *p;
                    }
                    *m = number(beta1) * *m + number(1.0 - beta1) * g;
                    *v = number(beta2) * *v + number(1.0 - beta2) * g * g;
                    let divisor = (*v / power(beta2)).sqrt() + number(epsilon);
                    *p = *p - rate * (*m / power(beta1)) / divisor;
                }
            }
        }
        flat.fill(T::default());
    }
    trained.params = params.iter().map(|v| v.to_f64()).collect();
    Ok(trained)
}

impl Trained {
    fn parts(&self) -> [(&'static str, &[f64]); 3] {
        [("losses", &self.losses), ("norms", &self.norms), ("parameters", &self.params)]
    }
}

/// Both executors against the equations: in f64 to 1e-12; in f32 as far from the truth as the loops in f32 are, four times, and a
/// millionth of the scale.
fn check(what: &str, network: &Arc<Network>, how: How) -> Result<()> {
    let (truth, naive) = (by_hand::<f64>(network, how)?, by_hand::<f32>(network, how)?);
    let on = |device: Device| train::<f32>(&device, network, how);
    let got = [("f64", train::<f64>(&Device::cpu(), network, how)?), ("CPU", on(Device::cpu())?), ("GPU", on(gpu())?)];
    for (executor, got) in got {
        for (((name, got), (_, truth)), (_, naive)) in got.parts().into_iter().zip(truth.parts()).zip(naive.parts()) {
            assert_eq!(got.len(), truth.len(), "{what}, {executor}: {name}");
            let bound = match executor {
                "f64" => 1e-12,
                _ => tolerance::bound_f32(tolerance::scale(truth), tolerance::error(naive, truth)),
            };
            let error = tolerance::error(got, truth);
            assert!(error <= bound, "{what}, {executor}: {name} are off by {error:e}, over {bound:e}");
        }
    }
    Ok(())
}

#[test]
fn updates_are_those_of_the_equations() -> Result<()> {
    let optimisers = [Optimiser::sgd(0.0), Optimiser::sgd(0.9), Optimiser::adam(), Optimiser::adamw(0.1)];
    for optimiser in optimisers {
        check(&optimiser.to_string(), &of_sequences()?, optimiser.into())?;
    }
    check("tokens", &of_tokens()?, Optimiser::sgd(0.0).into())
}

/// One norm over the parameters of the network's own operations and those of its stacks: where some are clipped, and where none are. And
/// a network of nothing but a stack and a loss, which has no parameters of its own.
#[test]
fn gradients_are_clipped_by_the_norm_of_all_of_them() -> Result<()> {
    let how = |optimiser, norm| How { clip_norm: Some(norm), ..How::from(optimiser) };
    check("clipped", &of_sequences()?, how(Optimiser::sgd(0.9), 0.3))?;
    check("clipped hardly", &of_tokens()?, how(Optimiser::adam(), 1e3))?;
    let mut b = Builder::new();
    let (x, wanted) = (b.input("x", 3)?, b.input("wanted", 5)?);
    let y = b.layers("gru", x, &RnnConfig::gru(3, 5))?;
    let loss = b.loss("loss", y, wanted, None, Loss::MeanSquared)?;
    b.output("loss", loss)?;
    check("a stack alone", &Arc::new(b.finish()?), how(Optimiser::sgd(0.0), 0.05))
}

/// Three ways back and one update.
#[test]
fn gradients_add_up_until_an_update() -> Result<()> {
    let how = How { accumulate: true, ..Optimiser::sgd(0.9).into() };
    check("added up", &of_sequences()?, how)?;
    check("added up and clipped", &of_tokens()?, How { clip_norm: Some(0.2), ..how })
}

/// What has added up is there for every read, until it is cleared or used.
#[test]
fn gradients_that_add_up_can_be_read_and_forgotten() -> Result<()> {
    let network = of_sequences()?;
    let (steps, shapes) = data(&network);
    let params: Vec<f32> = random(network.parameter_count(), 5).iter().map(|&v| v as f32).collect();
    for device in [Device::cpu(), gpu()] {
        let options = NetworkOptions { train: true, accumulate: true, ..Default::default() };
        let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options)?;
        let mut session = NetworkSession::<f32>::new(&device, plan, &params)?;
        session.poison()?;
        let mut back = |n: usize, clear: bool| {
            let values: Vec<Vec<f32>> = steps[n].iter().map(|v| v.iter().map(|&v| v as f32).collect()).collect();
            let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
            if clear {
                session.clear_gradients();
                assert!(session.gradients().is_err(), "{device}");
            }
            session.write(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&views) })?;
            session.run()?;
            session.run_back()?;
            let params = session.gradients()?.params;
            Ok::<_, Error>(params.into_iter().flat_map(|t| t.data).map(f64::from).collect::<Vec<f64>>())
        };
        let (first, both) = (back(0, false)?, back(1, false)?);
        let (second, again) = (back(1, true)?, back(0, true)?);
        assert_eq!(first, again, "{device}");
        let sum: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
        let error = tolerance::error(&both, &sum);
        assert!(error <= 1e-6 * tolerance::scale(&sum), "{device}: {error:e}");
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
    let options = NetworkOptions { train: true, clip_norm: Some(1.0), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options);
    words(plan.map(drop), "clip_norm 1: an optimiser, whose updates it clips; none");
    let (train, optimiser) = (true, Some(Optimiser::adam()));
    let options = NetworkOptions { train, optimiser, clip_norm: Some(f32::NAN), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options);
    words(plan.map(drop), "clip_norm: a finite number above 0; NaN");
    let options = NetworkOptions { train: true, ..Default::default() };
    let mut session = bound(&network, SHAPE, &options, &random(network.parameter_count(), 5))?;
    let step = |session: &mut NetworkSession<f64>, values: &[Vec<f64>], lengths: &[usize]| {
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.write(&NetworkInput { lengths: Some(lengths), ..NetworkInput::new(&views) })
    };
    words(session.update(0.1), "without an optimiser");
    words(session.gradient_norm().map(drop), "a plan that does not clip");
    words(step(&mut session, &values, &[0; 4]), "positive, finite sum");
    // The second input is the classes of sequences.
    values[1][2] = 1.5;
    words(step(&mut session, &values, &LENGTHS), "target 2 of entropy: a class in 0..4; 1.5");
    values[1][2] = 1.0;
    values[1][1] = 99.0;
    step(&mut session, &values, &LENGTHS)?;
    Ok(())
}
