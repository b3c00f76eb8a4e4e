//! Updates that cannot be, each with the error that says why.

use super::harness::*;
use wgpu_rnn::*;

fn case() -> Case {
    let sizes = RnnConfig { cell: &cells::GRU, input_size: 2, hidden_size: 3, ..Default::default() };
    Case::new(sizes, 3, 2, 91)
}

/// The error's text, and that it is a mismatch.
#[track_caller]
fn mismatch<T>(result: Result<T>) -> String {
    match result {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        Err(e) => panic!("expected a mismatch, got {e:?}"),
        Ok(_) => panic!("expected a mismatch, got a result"),
    }
}

#[test]
fn plans_that_cannot_be_updated_are_refused() {
    let case = case();
    let refused = |options: Options| mismatch(Plan::new(&case.config, case.shape, &Device::cpu().caps(), &options));
    let with = |optimiser| Options { train: true, optimiser: Some(optimiser), ..Default::default() };
    let adam = |beta1, beta2, epsilon| with(Optimiser::Adam { beta1, beta2, epsilon });
    let clipped = |norm| Options { clip_norm: Some(norm), ..with(Optimiser::adam()) };
    for (options, text) in [
        (
            Options { train: false, ..with(Optimiser::sgd(0.5)) },
            "optimiser SGD, momentum 0.5: expected a plan that trains",
        ),
        (Options { clip_norm: Some(1.0), train: true, ..Default::default() }, "clip_norm 1: expected an optimiser"),
        (clipped(0.0), "clip_norm: expected a finite number above 0, got 0"),
        (clipped(f32::NAN), "clip_norm: expected a finite number above 0, got NaN"),
        (clipped(f32::INFINITY), "clip_norm: expected a finite number above 0, got inf"),
        (with(Optimiser::sgd(-0.1)), "momentum: expected a finite number of at least 0, got -0.1"),
        (with(Optimiser::sgd(f64::NAN)), "momentum: expected a finite number of at least 0, got NaN"),
        (adam(1.0, 0.9, 0.0), "beta1: expected 0 <= beta < 1, got 1"),
        (adam(0.9, -0.5, 0.0), "beta2: expected 0 <= beta < 1, got -0.5"),
        (adam(0.9, f64::NAN, 0.0), "beta2: expected 0 <= beta < 1, got NaN"),
        (adam(0.9, 0.9, -1.0), "epsilon: expected a finite number of at least 0, got -1"),
        (with(Optimiser::adamw(f64::INFINITY)), "weight_decay: expected a finite number of at least 0, got inf"),
    ] {
        let got = refused(options);
        assert!(got.starts_with(text), "expected {text:?}, got {got:?}");
    }
}

#[test]
fn updates_need_an_optimiser_and_gradients() {
    for (device, strategy) in executors() {
        let case = case();
        let mut plain = case.training::<f32>(&device, forced(strategy));
        case.train_in(&mut plain);
        let without = "expected a plan made with Options { optimiser: Some(..), .. }, got a plan without an optimiser";
        assert_eq!(mismatch(plain.update(0.1)), format!("update: {without}"));
        assert_eq!(mismatch(plain.weights()), format!("weights: {without}"));
        assert_eq!(mismatch(plain.gradient_norm()), format!("gradient_norm: {without}"));

        let options = Options { optimiser: Some(Optimiser::sgd(0.9)), ..forced(strategy) };
        let mut session = case.training::<f32>(&device, options.clone());
        let none = "update: expected a backward pass before it, got none since the last update";
        assert_eq!(mismatch(session.update(0.1)), none);
        case.train_in(&mut session);
        for rate in [-0.1, f64::NAN, f64::INFINITY] {
            let text = format!("learning rate: expected a finite number of at least 0, got {rate}");
            assert_eq!(mismatch(session.update(rate)), text);
        }
        session.update(0.1).unwrap();
        assert_eq!(mismatch(session.update(0.1)), none);
        case.train_in(&mut session);
        session.clear_gradients();
        assert_eq!(mismatch(session.update(0.1)), none);
        let text = "gradient_norm: expected a plan made with Options { clip_norm: Some(..), .. }, got a plan that does not clip";
        assert_eq!(mismatch(session.gradient_norm()), text);
        let mut clipping = case.training::<f32>(&device, Options { clip_norm: Some(1.0), ..options });
        assert_eq!(mismatch(clipping.gradient_norm()), "gradient_norm: expected an update before it, got none");
    }
}

/// What a run kept belongs to the parameters that it ran on.
#[test]
fn no_way_back_past_an_update() {
    for (device, strategy) in executors() {
        let case = case();
        let options = Options { optimiser: Some(Optimiser::sgd(0.0)), ..forced(strategy) };
        let mut session = case.training::<f32>(&device, options);
        case.train_in(&mut session);
        case.with_input(|input| session.forward(input)).unwrap();
        session.update(0.1).unwrap();
        let text = "backward: expected a forward run before it, got none since the last backward pass";
        assert_eq!(mismatch(session.run_back()), text);
        case.train_in(&mut session);
    }
}

#[test]
fn siblings_that_cannot_be_are_refused() {
    for (device, strategy) in executors() {
        let case = case();
        let inference = case.session(&device, strategy, None);
        let one = Shape { time: 1, batch: 1 };
        let train = Options { train: true, ..forced(strategy) };
        let text = "options of a sibling: expected an inference plan, as that of the session whose weights it shares, got train: true";
        assert_eq!(mismatch(inference.sibling(one, &train)), text);
        let training = case.training::<f32>(&device, forced(strategy));
        let optimising = Options { optimiser: Some(Optimiser::adam()), ..train.clone() };
        let text =
            "optimiser of a sibling: expected none: the parameters have one owner, and it has the optimiser, got Adam";
        assert!(mismatch(training.sibling(one, &optimising)).starts_with(text));
        // A sibling of a session that trains may, as its own sibling may not once it does not.
        let sibling = training.sibling(one, &train).unwrap().sibling(one, &forced(strategy)).unwrap();
        assert!(!sibling.plan().train);
        assert!(sibling.sibling(one, &train).is_err());
    }
    let inference = case().session(&Device::cpu(), Strategy::Step, None);
    let double = Options { precision: Precision::F64, ..Default::default() };
    let text = "precision of the plan: expected f32, got F64";
    assert_eq!(mismatch(inference.sibling(Shape { time: 1, batch: 1 }, &double)), text);
}
