//! Networks with an embedding in front and a head behind: all of it is trained, on the device.

use super::harness::*;
use wgpu_rnn::*;

const SHAPE: Shape = Shape { time: 4, batch: 3 };

fn config(loss: Loss) -> RnnConfig {
    let sizes = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 6, ..Default::default() };
    let head = Some(Head { size: 5, loss: Some(loss) });
    RnnConfig { direction: Direction::Bidirectional, vocabulary: Some(7), head, ..sizes }
}

fn session(device: &Device, config: &RnnConfig, weights: &Weights, options: Options) -> Session {
    let plan = Plan::new(config, SHAPE, &device.caps(), &Options { train: true, ..options }).unwrap();
    Session::from_plan(device, plan, weights).unwrap()
}

/// Writes token ids, some of them never there, and targets.
fn write(session: &mut Session) {
    let ids = [3, 1, 0, 3, 3, 5, 1, 0, 6, 3, 5, 5];
    let input = Input { lengths: Some(&[2, 4, 3]), ..Input::of_ids(View::new(&ids, &[4, 3])) };
    session.write(&input).unwrap();
    let classes: Vec<u32> = ids.iter().map(|id| (id + 2) % 5).collect();
    let values = values(111, 60, 1.0);
    session
        .write_targets(&match session.plan().config.head.unwrap().loss.unwrap() {
            Loss::CrossEntropy => Targets::classes(View::new(&classes, &[4, 3])),
            Loss::MeanSquared => Targets::values(View::new(&values, &[4, 3, 5])),
        })
        .unwrap();
}

fn gradients(session: &mut Session) -> Weights {
    session.run().unwrap();
    session.backward(&Upstream { y: None, hn: None, cn: None }).unwrap().weights
}

fn named_bits(config: &RnnConfig, weights: &Weights) -> Vec<(String, Vec<u32>)> {
    weights.named(config).map(|(p, values)| (p.name, bits(values))).collect()
}

/// The loss falls, and what it fell to is what a new session with the weights read back gives, both ways, bit for bit.
#[test]
fn embedding_and_head_are_trained_too() {
    for (device, strategy) in executors() {
        for loss in [Loss::CrossEntropy, Loss::MeanSquared] {
            let what = format!("{loss:?} on {} with {strategy}", device.kind());
            let config = config(loss);
            let start = Weights::<f32>::random(&config, 112).unwrap();
            let options = Options { optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..forced(strategy) };
            let mut training = session(&device, &config, &start, options);
            training.poison().unwrap();
            write(&mut training);
            training.run().unwrap();
            let first = training.loss().unwrap();
            for _ in 0..20 {
                training.train_step(0.05).unwrap();
            }
            let weights = training.weights().unwrap();
            for ((p, before), (_, after)) in start.named(&config).zip(weights.named(&config)) {
                assert_ne!(bits(before), bits(after), "{what}: {}", p.name);
            }
            // Tokens that never occur have no gradient.
            assert_eq!(bits(&start.embedding[6..9]), bits(&weights.embedding[6..9]), "{what}: token 2");

            let mut fresh = session(&device, &config, &weights, forced(strategy));
            write(&mut fresh);
            let (ours, theirs) = (gradients(&mut training), gradients(&mut fresh));
            assert_eq!(named_bits(&config, &ours), named_bits(&config, &theirs), "{what}: gradients");
            let (loss, expected) = (training.loss().unwrap(), fresh.loss().unwrap());
            assert_eq!(loss.to_bits(), expected.to_bits(), "{what}: loss");
            assert!(loss < 0.8 * first, "{what}: loss {first} before, {loss} after");
            let predictions = [training, fresh].map(|mut s| bits(&s.predictions().unwrap().data));
            assert_eq!(predictions[0], predictions[1], "{what}: predictions");
        }
    }
}

#[test]
fn gradients_of_embedding_and_head_accumulate() {
    for (device, strategy) in executors() {
        let config = config(Loss::CrossEntropy);
        let weights = Weights::<f32>::random(&config, 113).unwrap();
        let mut once = session(&device, &config, &weights, forced(strategy));
        write(&mut once);
        let mut twice = gradients(&mut once);
        for (p, _) in gradients(&mut once).named(&config) {
            twice.get_mut(p.place).iter_mut().for_each(|v| *v *= 2.0);
        }
        let mut session = session(&device, &config, &weights, Options { accumulate: true, ..forced(strategy) });
        session.poison().unwrap();
        write(&mut session);
        gradients(&mut session);
        let got = gradients(&mut session);
        assert_eq!(named_bits(&config, &twice), named_bits(&config, &got), "{} {strategy}", device.kind());
    }
}

#[test]
fn a_training_step_needs_targets_and_an_optimiser() {
    let config = config(Loss::CrossEntropy);
    let weights = Weights::<f32>::random(&config, 114).unwrap();
    let mut plain = session(&Device::cpu(), &config, &weights, Options::default());
    let text = |result: Result<()>| result.unwrap_err().to_string();
    assert!(text(plain.train_step(0.1)).starts_with("train_step: expected a plan made with Options { optimiser"));
    let options = Options { optimiser: Some(Optimiser::sgd(0.0)), ..Default::default() };
    let mut session = session(&Device::cpu(), &config, &weights, options);
    assert!(text(session.train_step(-1.0)).starts_with("learning rate: "));
    let first = "run: expected an input written before it (Session::write), got none";
    assert_eq!(text(session.train_step(0.1)), first);
    session.write(&Input::of_ids(View::new(&[0; 12], &[4, 3]))).unwrap();
    let targets = "backward: expected a run after write_targets, got a run without targets";
    assert_eq!(text(session.train_step(0.1)), targets);
    write(&mut session);
    session.train_step(0.1).unwrap();
}
