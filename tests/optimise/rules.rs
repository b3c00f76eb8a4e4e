//! Every rule against a naive loop written from PyTorch's documentation.

use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

/// PyTorch's documented algorithms, one operation after the other, each rounded by `round`.
struct Naive {
    round: fn(f64) -> f64,
    p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
    t: i32,
}

impl Naive {
    fn new(round: fn(f64) -> f64, p: &[f64]) -> Self {
        Self { round, p: p.to_vec(), m: vec![0.0; p.len()], v: vec![0.0; p.len()], t: 0 }
    }

    /// `torch.nn.utils.clip_grad_norm_`, then one step; returns the norm.
    fn step(&mut self, rule: Optimiser, lr: f64, clip: Option<f32>, gradient: &[f64]) -> f64 {
        let r = self.round;
        self.t += 1;
        let norm = r(gradient.iter().fold(0.0, |sum, &g| r(sum + r(g * g))).sqrt());
        let coefficient = clip.map_or(1.0, |max| r(f64::from(max) / r(norm + 1e-6)).min(1.0));
        for (n, &g) in gradient.iter().enumerate() {
            let g = r(g * coefficient);
            let (p, m, v) = (&mut self.p[n], &mut self.m[n], &mut self.v[n]);
            match rule {
                Optimiser::Sgd { momentum } => {
                    *m = if self.t == 1 { g } else { r(r(r(momentum) * *m) + g) };
                    *p = r(*p - r(lr * *m));
                }
                Optimiser::Adam { beta1, beta2, epsilon } | Optimiser::AdamW { beta1, beta2, epsilon, .. } => {
                    if let Optimiser::AdamW { weight_decay, .. } = rule {
                        *p = r(*p - r(r(lr * weight_decay) * *p));
                    }
                    *m = r(r(r(beta1) * *m) + r(r(1.0 - beta1) * g));
                    *v = r(r(r(beta2) * *v) + r(r(1.0 - beta2) * r(g * g)));
                    let m_hat = r(*m / r(1.0 - beta1.powi(self.t)));
                    let v_hat = r(*v / r(1.0 - beta2.powi(self.t)));
                    *p = r(*p - r(lr * r(m_hat / r(r(v_hat.sqrt()) + epsilon))));
                }
            }
        }
        norm
    }
}

fn flat<T: Element>(config: &RnnConfig, weights: &Weights<T>) -> Vec<f64> {
    weights.named(config).flat_map(|(_, values)| values.iter().map(|v| v.to_f64())).collect()
}

const RATE: f64 = 0.1;

/// Trains a session for some steps and holds every step's parameters to the naive loop that is fed the session's own gradients.
fn check<T: Element>(case: &Case, device: &Device, rule: Optimiser, clip_norm: Option<f32>, strategy: Strategy) {
    let what = format!("{rule}, clip {clip_norm:?}, {} {} {strategy}", device.kind(), T::NAME);
    let options = Options { optimiser: Some(rule), clip_norm, ..forced(strategy) };
    let mut session = case.training::<T>(device, options);
    session.poison().unwrap();
    let start = flat(&case.config, &session.weights().unwrap());
    assert_eq!(start, flat(&case.config, &case.weights), "{what}: before the first update");
    let mut truth = Naive::new(|x| x, &start);
    let mut single = Naive::new(|x| f64::from(x as f32), &start);
    for step in 0..4 {
        let gradient = flat(&case.config, &case.train_in(&mut session).1.weights);
        session.update(RATE).unwrap();
        let norm = truth.step(rule, RATE, clip_norm, &gradient);
        let norm_single = single.step(rule, RATE, clip_norm, &gradient);
        let bound = |truth: &[f64], single: &[f64]| {
            let scale = tolerance::scale(truth);
            match size_of::<T>() {
                8 => 1e-12 * scale,
                _ => tolerance::bound_f32(scale, tolerance::error(single, truth)),
            }
        };
        let got = flat(&case.config, &session.weights().unwrap());
        let (error, bound_p) = (tolerance::error(&got, &truth.p), bound(&truth.p, &single.p));
        assert!(error <= bound_p, "{what}, step {step}: off by {error:e}, bound {bound_p:e}");
        if let Some(max) = clip_norm {
            assert!(step > 0 || (norm > f64::from(max)) == (max < 1.0), "{what}: norm {norm} tests nothing");
            let got = session.gradient_norm().unwrap().to_f64();
            let bound = bound(&[norm], &[norm_single]);
            assert!((got - norm).abs() <= bound, "{what}, step {step}: norm {got}, not {norm}");
        }
    }
}

fn rules() -> [Optimiser; 4] {
    [Optimiser::sgd(0.0), Optimiser::sgd(0.9), Optimiser::adam(), Optimiser::adamw(0.1)]
}

#[test]
fn every_rule_is_pytorchs_equations() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 17, ..Default::default() };
    let case = Case::new(config, 4, 3, 71);
    for rule in rules() {
        // Never clips, and always does.
        for clip in [None, Some(1e6), Some(0.25)] {
            check::<f64>(&case, &Device::cpu(), rule, clip, Strategy::Sequence);
            for (device, strategy) in executors() {
                check::<f32>(&case, &device, rule, clip, strategy);
            }
        }
    }
}

/// Gradients in their millions: more values than `square_sum` and the elementwise kernels have invocations.
#[test]
fn large_layers_are_updated_to_the_last_value() {
    let config = RnnConfig { cell: &cells::RNN_TANH, input_size: 300, hidden_size: 129, ..Default::default() };
    let case = Case::new(config, 1, 1, 72);
    check::<f64>(&case, &Device::cpu(), Optimiser::adamw(0.1), Some(0.25), Strategy::Sequence);
    check::<f32>(&case, &gpu(), Optimiser::adamw(0.1), Some(0.25), Strategy::Step);
}

/// A gradient that is not a number shows in every parameter where gradients are clipped, as in PyTorch.
#[test]
fn clipping_does_not_hide_nan() {
    let config = RnnConfig { cell: &cells::GRU, input_size: 2, hidden_size: 3, ..Default::default() };
    let mut case = Case::new(config, 2, 1, 73);
    case.dhn[1] = f32::NAN;
    for (device, strategy) in executors() {
        let options = Options { optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..forced(strategy) };
        let mut session = case.training::<f32>(&device, options);
        case.train_in(&mut session);
        session.update(0.1).unwrap();
        assert!(session.gradient_norm().unwrap().is_nan());
        let weights = flat(&case.config, &session.weights().unwrap());
        assert!(weights.iter().all(|v| v.is_nan()), "{} {strategy}: {weights:?}", device.kind());
    }
}
