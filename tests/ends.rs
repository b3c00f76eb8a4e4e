//! The ends of a network: embedding, dense head, losses, and states that go from session to session.

mod harness;

use harness::*;
use wgpu_rnn::*;

const TIME: usize = 5;
const BATCH: usize = 3;
/// Unsorted, one of them 1.
const LENGTHS: [usize; BATCH] = [3, 5, 1];
const VOCABULARY: usize = 7;

/// A network from token ids to a loss, and what it is trained on. Past a sequence's end ids and targets are out of range, and
/// must not matter.
#[derive(Clone)]
struct Network {
    config: RnnConfig,
    ids: Vec<u32>,
    classes: Vec<u32>,
    values: Vec<f64>,
    target_weights: Vec<f64>,
    weights: Weights<f64>,
}

impl Network {
    fn new(cell: &'static Cell, loss: Loss, size: usize, direction: Direction, layout: Layout) -> Self {
        let head = Some(Head { size, loss: Some(loss) });
        let sizes = RnnConfig { cell, input_size: 4, hidden_size: 5, num_layers: 2, ..Default::default() };
        let config = RnnConfig { direction, layout, vocabulary: Some(VOCABULARY), head, ..sizes };
        let rows = TIME * BATCH;
        let random = |seed: u64, n: u32| -> Vec<u32> {
            values(seed, rows, 1.0).iter().map(|v| ((v.abs() * n as f32) as u32).min(n - 1)).collect()
        };
        let (mut ids, mut classes) = (random(1, VOCABULARY as u32), random(2, size as u32));
        for row in 0..rows {
            let (b, t) =
                if layout == Layout::TimeMajor { (row % BATCH, row / BATCH) } else { (row / TIME, row % TIME) };
            if t >= LENGTHS[b] {
                (ids[row], classes[row]) = (u32::MAX, 1_000_000);
            }
        }
        let mut target_weights: Vec<f64> = values(3, rows, 1.0).iter().map(|v| f64::from(v.abs())).collect();
        target_weights[1] = 0.0;
        let values = values(4, rows * size, 2.0).iter().map(|&v| v.into()).collect();
        let weights = Weights::random(&config, 5).unwrap();
        Self { config, ids, classes, values, target_weights, weights }
    }

    fn outer(&self) -> [usize; 2] {
        if self.config.layout == Layout::TimeMajor { [TIME, BATCH] } else { [BATCH, TIME] }
    }

    fn session<T: Element>(
        &self,
        device: &Device,
        strategy: Option<Strategy>,
        train: bool,
        keep_y: bool,
    ) -> Session<T> {
        let precision = if size_of::<T>() == 8 { Precision::F64 } else { Precision::F32 };
        let options = Options { strategy, precision, train, keep_y, ..Default::default() };
        let shape = Shape { time: TIME, batch: BATCH };
        let plan = Plan::new(&self.config, shape, &device.caps(), &options).unwrap();
        let mut session = Session::from_plan(device, plan, &self.weights.cast()).unwrap();
        session.poison().unwrap();
        session
    }

    fn write<T: Element>(&self, session: &mut Session<T>) {
        let (outer, size) = (self.outer(), self.config.head.unwrap().size);
        let cast = |v: &[f64]| v.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let (values, weights) = (cast(&self.values), cast(&self.target_weights));
        session.write(&Input { lengths: Some(&LENGTHS), ..Input::of_ids(View::new(&self.ids, &outer)) }).unwrap();
        let values_shape = [outer[0], outer[1], size];
        let values = match self.config.head.unwrap().loss.unwrap() {
            Loss::CrossEntropy => TargetValues::Classes(View::new(&self.classes, &outer)),
            Loss::MeanSquared => TargetValues::Values(View::new(&values, &values_shape)),
        };
        session.write_targets(&Targets { values, weights: Some(View::new(&weights, &outer)) }).unwrap();
    }

    fn loss(&self) -> f64 {
        let mut session = self.session::<f64>(&Device::cpu(), None, false, true);
        self.write(&mut session);
        session.run().unwrap();
        session.loss().unwrap()
    }

    fn gradients<T: Element>(&self, session: &mut Session<T>) -> Weights<T> {
        self.write(session);
        session.run().unwrap();
        session.backward(&Upstream { y: None, hn: None, cn: None }).unwrap().weights
    }
}

/// A few networks that between them have every loss, direction and layout.
fn networks() -> Vec<Network> {
    use Direction::{Bidirectional, Forward, Reverse};
    vec![
        Network::new(&cells::LSTM, Loss::CrossEntropy, 6, Bidirectional, Layout::TimeMajor),
        Network::new(&cells::GRU, Loss::MeanSquared, 3, Forward, Layout::BatchFirst),
        Network::new(&cells::RNN_TANH, Loss::CrossEntropy, 65, Reverse, Layout::BatchFirst),
        Network::new(&cells::GRU_RESET_BEFORE, Loss::MeanSquared, 1, Bidirectional, Layout::TimeMajor),
    ]
}

#[test]
fn gradients_agree_with_central_differences() {
    for network in networks() {
        let gradients = network.gradients(&mut network.session::<f64>(&Device::cpu(), None, true, false));
        for p in weights::parameters(&network.config) {
            let n = network.weights.get(p.place).len();
            // Every value of small tensors, some of large ones.
            for i in (0..n).step_by((n / 40).max(1)) {
                let at = |d: f64| {
                    let mut moved = network.clone();
                    moved.weights.get_mut(p.place)[i] += d;
                    moved.loss()
                };
                let step = 1e-5;
                let difference = (at(step) - at(-step)) / (2.0 * step);
                let got = gradients.get(p.place)[i];
                assert!((got - difference).abs() < 1e-8, "{}[{i}]: {got} but differences say {difference}", p.name);
            }
        }
    }
}

/// The loss and the predictions by their definitions, from y.
#[test]
fn the_head_is_what_its_equations_say() {
    for network in networks() {
        let mut session = network.session::<f64>(&Device::cpu(), None, false, true);
        let outer = network.outer();
        let out = session.forward(&Input { lengths: Some(&LENGTHS), ..Input::of_ids(View::new(&network.ids, &outer)) });
        let y = out.unwrap().y;
        network.write(&mut session);
        session.run().unwrap();
        let got = session.predictions().unwrap();
        let (size, width) = (network.config.head.unwrap().size, network.config.output_size());
        let (mut loss, mut total) = (0.0, 0.0);
        for row in 0..TIME * BATCH {
            let (b, t) = match network.config.layout {
                Layout::TimeMajor => (row % BATCH, row / BATCH),
                Layout::BatchFirst => (row / TIME, row % TIME),
            };
            let outputs = &got.data[row * size..][..size];
            if t >= LENGTHS[b] {
                assert!(outputs.iter().all(|&o| o == 0.0), "padding");
                continue;
            }
            let dot = |k: usize| -> f64 {
                let w = &network.weights.head[k * width..][..width];
                w.iter().zip(&y.data[row * width..][..width]).map(|(w, y)| w * y).sum::<f64>()
            };
            for (k, o) in outputs.iter().enumerate() {
                assert!((o - dot(k) - network.weights.head_bias[k]).abs() < 1e-12);
            }
            let weight = network.target_weights[row];
            let (own, counted) = match network.config.head.unwrap().loss.unwrap() {
                Loss::CrossEntropy => {
                    let sum: f64 = outputs.iter().map(|o| o.exp()).sum();
                    (sum.ln() - outputs[network.classes[row] as usize], 1.0)
                }
                Loss::MeanSquared => {
                    let errors = outputs.iter().zip(&network.values[row * size..]).map(|(o, t)| (o - t) * (o - t));
                    (errors.sum(), size as f64)
                }
            };
            (loss, total) = (loss + weight * own, total + weight * counted);
        }
        let got = session.loss().unwrap();
        assert!((got - loss / total).abs() < 1e-12, "{got} {}", loss / total);
    }
}

#[test]
fn executors_agree_after_every_dispatch() {
    for network in networks() {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let trace = |device: &Device| {
                let mut session = network.session::<f32>(device, Some(strategy), true, true);
                network.write(&mut session);
                session.run().unwrap();
                let loss = session.loss().unwrap();
                (session.trace_backward(&Upstream { y: None, hn: None, cn: None }).unwrap(), loss)
            };
            let ((cpu, cpu_loss), (gpu, gpu_loss)) = (trace(&Device::cpu()), trace(&gpu()));
            assert_eq!(first_difference(&cpu, &gpu, 64.0 * f32::EPSILON), None);
            assert!((cpu_loss - gpu_loss).abs() <= 64.0 * f32::EPSILON * cpu_loss, "{cpu_loss} {gpu_loss}");
        }
    }
}

/// Two runs, and a run without y, give the same bits.
#[test]
fn gradients_have_the_same_bits_run_after_run() {
    for network in networks() {
        for (device, strategy) in executors() {
            let bits = |keep_y: bool| {
                let gradients = network.gradients(&mut network.session::<f32>(&device, Some(strategy), true, keep_y));
                gradients.named(&network.config).map(|(p, v)| (p.name, harness::bits(v))).collect::<Vec<_>>()
            };
            assert_eq!(bits(true), bits(true));
            assert_eq!(bits(true), bits(false));
        }
    }
}

/// An encoder's last state begins its decoder, and the decoder's gradient goes on through the encoder: the same as one stack
/// run over both inputs, if the two have the same weights.
#[test]
fn a_state_goes_from_session_to_session_and_its_gradient_back() {
    for cell in [&cells::LSTM, &cells::GRU] {
        let config = RnnConfig { cell, input_size: 3, hidden_size: 5, num_layers: 2, ..Default::default() };
        let mut whole = Case::new(config, 9, 2, 70);
        // The encoder's own y has no part in the loss.
        whole.dy[..4 * 2 * 5].fill(0.0);
        let row = 2 * 3;
        let cut = |v: &[f32], width: usize, steps: std::ops::Range<usize>| {
            v[steps.start * 2 * width..steps.end * 2 * width].to_vec()
        };
        for (device, strategy) in executors() {
            let options = Options { strategy: Some(strategy), train: true, ..Default::default() };
            let mut all = whole.training::<f32>(&device, options.clone());
            let (_, expected) = whole.train_in(&mut all);
            let session = |time: usize| {
                let plan = Plan::new(&whole.config, Shape { time, batch: 2 }, &device.caps(), &options).unwrap();
                Session::<f32>::from_plan(&device, plan, &whole.weights).unwrap()
            };
            let (mut encoder, mut decoder) = (session(4), session(5));
            let (first, second) = (cut(&whole.x, 3, 0..4), cut(&whole.x, 3, 4..9));
            let shapes = whole.state_shapes();
            let c0 = cell.has_cell_state().then(|| View::new(&whole.c0[..], &shapes[1]));
            let initial = Initial::Given { h0: Some(View::new(&whole.h0, &shapes[0])), c0 };
            encoder.forward(&Input { initial, ..Input::new(View::new(&first, &[4, 2, 3])) }).unwrap();
            decoder.write(&Input::new(View::new(&second, &[5, 2, 3]))).unwrap();
            decoder.write_initial_from(&encoder).unwrap();
            decoder.run().unwrap();
            let (dy, width) = (&whole.dy, whole.config.output_size());
            let up = whole.with_upstream_as(|up: &Upstream<'_, f32>| {
                let dy = cut(dy, width, 4..9);
                decoder.backward(&Upstream { y: Some(View::new(&dy, &[5, 2, width])), ..*up }).unwrap()
            });
            encoder.write_upstream_from(&decoder).unwrap();
            let back = encoder.run_backward().unwrap();
            assert_eq!(bits(&up.x.data), bits(&expected.x.data[4 * row..]), "{} on {}", cell.name, device.kind());
            // The whole run's gradients of the weights are the sums of the two parts'.
            for (p, expected) in expected.weights.named(&whole.config) {
                let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
                let parts = up.weights.get(p.place).iter().zip(back.get(p.place)).map(|(a, b)| a + b);
                let error = expected.iter().zip(parts).fold(0.0f32, |m, (e, sum)| m.max((e - sum).abs()));
                assert!(error <= 16.0 * f32::EPSILON * scale, "{}: {error}", p.name);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = Network::new(&cells::GRU, Loss::CrossEntropy, 6, Direction::Forward, Layout::TimeMajor);
    let outer = network.outer();
    let mut session = network.session::<f32>(&Device::cpu(), None, true, true);
    let message = |e: Result<()>| e.unwrap_err().to_string();
    let x = vec![0.0; TIME * BATCH * 4];
    assert!(
        message(session.write(&Input::new(View::new(&x, &[5, 3, 4])))).starts_with("ids: expected [T, B] = [5, 3]")
    );
    let wrong = vec![7u32; TIME * BATCH];
    let text = message(session.write(&Input::of_ids(View::new(&wrong, &outer))));
    assert_eq!(text, "ids[0]: expected 0..V = 0..7, got 7");
    let text = message(session.write(&Input::of_ids(View::new(&wrong, &[3, 5]))));
    assert_eq!(text, "ids: expected [T, B] = [5, 3], got [3, 5]");
    assert!(message(session.loss().map(|_| ())).starts_with("loss: expected a run after write_targets"));

    let input = Input { lengths: Some(&LENGTHS), ..Input::of_ids(View::new(&network.ids, &outer)) };
    session.write(&input).unwrap();
    let none = Upstream { y: None, hn: None, cn: None };
    session.run().unwrap();
    let text = message(session.backward(&none).map(|_| ()));
    assert_eq!(text, "backward: expected a run after write_targets, got a run without targets");
    let text = message(session.write_targets(&Targets::classes(View::new(&wrong, &outer))));
    assert_eq!(text, "targets[0]: expected 0..O = 0..6, got 7");
    let values = vec![0.0; TIME * BATCH * 6];
    let text = message(session.write_targets(&Targets::values(View::new(&values, &[5, 3, 6]))));
    assert_eq!(text, "targets: expected classes (cross entropy), got values");
    for (weight, expected) in [(-1.0, "finite and at least 0"), (f32::NAN, "finite and at least 0"), (0.0, "positive")]
    {
        let weights = vec![weight; TIME * BATCH];
        let values = TargetValues::Classes(View::new(&network.classes, &outer));
        let text = message(session.write_targets(&Targets { values, weights: Some(View::new(&weights, &outer)) }));
        assert!(text.contains(expected), "{text}");
    }
    network.write(&mut session);
    session.run().unwrap();
    let dy = vec![0.0; TIME * BATCH * 5];
    let up = Upstream { y: Some(View::new(&dy, &[5, 3, 5])), ..none };
    assert!(message(session.backward(&up).map(|_| ())).starts_with("dy: expected none (the head's loss gives it)"));
    session.backward(&none).unwrap();

    let plain = RnnConfig { vocabulary: None, head: None, ..network.config.clone() };
    let weights = Weights::<f32>::random(&plain, 1).unwrap();
    let shape = Shape { time: TIME, batch: BATCH };
    let mut session = Session::new(&Device::cpu(), &plain, shape, &weights).unwrap();
    assert!(message(session.write(&input)).starts_with("ids: expected none"));
    let targets = Targets::classes(View::new(&network.classes, &outer));
    assert_eq!(message(session.write_targets(&targets)), "head: expected a configuration with a head, got none");
    for (vocabulary, head, what) in [(Some(0), None, "vocabulary"), (None, Some(0), "size of the head")] {
        let head = head.map(|size| Head { size, loss: Some(Loss::MeanSquared) });
        let text = RnnConfig { vocabulary, head, ..plain.clone() }.validate().unwrap_err().to_string();
        assert!(text.starts_with(what), "{text}");
    }
}

/// A head without a loss predicts, with the bits of one that has a loss, and does nothing else.
#[test]
fn a_head_without_a_loss_predicts() {
    for loss in [Loss::CrossEntropy, Loss::MeanSquared] {
        let config = |loss| RnnConfig {
            input_size: 3,
            hidden_size: 5,
            head: Some(Head { size: 6, loss }),
            ..Default::default()
        };
        let weights = Weights::<f32>::random(&config(None), 5).unwrap();
        let shape = Shape { time: 4, batch: 2 };
        let x = harness::values(3, 4 * 2 * 3, 1.0);
        let input = Input { lengths: Some(&[4, 2]), ..Input::new(View::new(&x, &[4, 2, 3])) };
        for device in [Device::cpu(), gpu()] {
            let run = |loss| {
                let mut session = Session::new(&device, &config(loss), shape, &weights).unwrap();
                session.poison().unwrap();
                let kernels = session.plan().forward_dispatches();
                session.forward(&input).unwrap();
                (session.predictions().unwrap(), kernels)
            };
            let ((with, more), (without, fewer)) = (run(Some(loss)), run(None));
            assert_eq!((with, more), (without, fewer + 2));
        }
        let none = || Session::new(&Device::cpu(), &config(None), shape, &weights).unwrap();
        let refused = none().loss().unwrap_err().to_string();
        assert!(refused.starts_with("loss of the head: expected one to compare with targets by"), "{refused}");
        let classes = [0; 8];
        let mut session = none();
        session.write(&input).unwrap();
        let refused = session.write_targets(&Targets::classes(View::new(&classes, &[4, 2]))).unwrap_err().to_string();
        assert!(refused.starts_with("loss of the head: expected one to compare with targets by"), "{refused}");
        let options = Options { train: true, ..Default::default() };
        let refused = Plan::new(&config(None), shape, &Device::cpu().caps(), &options).unwrap_err().to_string();
        assert_eq!(refused, "loss of the head: expected one, to train for (Head { loss: Some(..), .. }), got none");
    }
}

/// Predictions come with the output, in one read; read alone they are the same.
#[test]
fn predictions_come_with_the_output() {
    for layout in [Layout::TimeMajor, Layout::BatchFirst] {
        let mut network = Network::new(&cells::GRU, Loss::CrossEntropy, 6, Direction::Bidirectional, layout);
        for device in [Device::cpu(), gpu()] {
            for keep_y in [true, false] {
                network.config.head = Some(Head { size: 6, loss: keep_y.then_some(Loss::CrossEntropy) });
                let mut session: Session = network.session(&device, None, false, keep_y);
                let outer = network.outer();
                let input = Input { lengths: Some(&LENGTHS), ..Input::of_ids(View::new(&network.ids, &outer)) };
                let out = session.forward(&input).unwrap();
                let predictions = out.predictions.clone().unwrap();
                assert_eq!(predictions.shape, [outer[0], outer[1], 6]);
                assert_eq!(predictions, session.predictions().unwrap());
                assert_eq!(session.output().unwrap(), out);
                assert_eq!(out.y.data.is_empty(), !keep_y);
                assert!(predictions.data.iter().any(|&v| v != 0.0));
            }
        }
    }
    // None without a head; no batch dimension where x had none.
    let config = RnnConfig { head: Some(Head { size: 3, loss: None }), ..RnnConfig::lstm(2, 4) };
    let shape = Shape { time: 5, batch: 1 };
    let run = |config: &RnnConfig| {
        let mut session =
            Session::new(&Device::cpu(), config, shape, &Weights::<f32>::random(config, 1).unwrap()).unwrap();
        session.forward(&Input::new(View::new(&[0.5; 10], &[5, 2]))).unwrap().predictions
    };
    assert_eq!(run(&config).unwrap().shape, [5, 3]);
    assert_eq!(run(&RnnConfig { head: None, ..config }), None);
}
