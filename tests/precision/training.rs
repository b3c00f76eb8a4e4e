//! Training with rounded weights: gradients are those of the rounded network, updates go to the parameters in 32 bits.

use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive_backward, tolerance};

const HALVES: [WeightFormat; 2] = [WeightFormat::F16, WeightFormat::Bf16];

fn case(cell: &'static Cell, proj_size: usize) -> Case {
    let sizes = RnnConfig { cell, input_size: 5, hidden_size: 6, num_layers: 2, proj_size, ..Default::default() };
    Case::new(RnnConfig { direction: Direction::Bidirectional, ..sizes }, 4, 3, 71).with_lengths(&[2, 4, 3])
}

#[test]
fn gradients_are_those_of_the_rounded_weights() {
    for (cell, proj_size) in cells_and_projections(3) {
        let given = case(cell, proj_size);
        for format in HALVES {
            // Both formats' numbers are f32 numbers.
            let rounded = Case { weights: format.rounded(&given.config, &given.weights).unwrap(), ..given.clone() };
            let truth = named(&given.config, &rounded.true_gradients());
            let plain = rounded.with_input(|input| {
                rounded
                    .with_upstream_as(|up| naive_backward::backward::<f32>(&given.config, &rounded.weights, input, up))
            });
            let plain = match plain {
                Ok(plain) => plain,
                Err(Error::Unsupported { .. }) => rounded.train(&Device::cpu(), Strategy::Step).1,
                Err(e) => panic!("{e}"),
            };
            let plain = named(&given.config, &plain);
            for (device, strategy) in executors_for(cell, proj_size) {
                // The kernels of Recompute know nothing of a strategy.
                let other = (strategy == Strategy::Step && format == WeightFormat::F16).then_some(Memory::Recompute);
                for memory in [Memory::Save].into_iter().chain(other) {
                    let options = Options { weights: format, memory, ..forced(strategy) };
                    let (_, got) = given.poisoned(&mut given.training(&device, options));
                    let got = named(&given.config, &got);
                    for (((name, got), (_, truth)), (_, plain)) in got.iter().zip(&truth).zip(&plain) {
                        let naive = tolerance::error(&cast::<f64>(plain), truth);
                        let bound = tolerance::bound_f32(tolerance::scale(truth), naive);
                        let error = tolerance::error(&cast::<f64>(got), truth);
                        let what = format!("{} P={proj_size} {format} on {}, {strategy}", cell.name, device.kind());
                        assert!(error <= bound, "{what}: gradient of {name} {error:.1e}, bound {bound:.1e}");
                    }
                }
            }
        }
    }
}

/// After updates a session computes with what an upload of the parameters it reads back gives, bit for bit: the device rounds as
/// the host. The parameters themselves are not rounded.
#[test]
fn updates_go_to_parameters_in_32_bits() {
    // What is packed does not depend on the strategy.
    for (format, cell, proj_size) in [(HALVES[0], &cells::LSTM, 4), (HALVES[1], &cells::GRU_RESET_BEFORE, 0)] {
        for (device, strategy) in executors().into_iter().step_by(2) {
            let what = format!("{} {format} on {} with {strategy}", cell.name, device.kind());
            let case = case(cell, proj_size);
            let options = Options { weights: format, ..forced(strategy) };
            let optimising = Options { optimiser: Some(Optimiser::adamw(0.1)), ..options.clone() };
            let mut session = case.training::<f32>(&device, optimising);
            assert_eq!(session.weights().unwrap(), case.weights, "{what}: parameters as they were given");
            for _ in 0..2 {
                case.train_in(&mut session);
                session.update(0.05).unwrap();
            }
            let weights = session.weights().unwrap();
            assert_ne!(weights, case.weights, "{what}");
            assert_ne!(weights, format.rounded(&case.config, &weights).unwrap(), "{what}: not rounded");
            let fresh = Case { weights, ..case.clone() };
            let fresh = fresh.poisoned(&mut fresh.training(&device, options));
            let own = case.poisoned(&mut session);
            assert_same(&what, &fresh.0, &own.0);
            assert_same_gradients(&what, &case.config, &fresh.1, &own.1);
        }
    }
}

/// An embedding's table and a head are packed again too.
#[test]
fn embedding_and_head_are_trained() {
    let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
    let sizes = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 6, ..Default::default() };
    let config = RnnConfig { vocabulary: Some(7), head, ..sizes };
    let start = Weights::<f32>::random(&config, 91).unwrap();
    let ids = [3, 1, 0, 3, 3, 5, 1, 0, 6, 3, 5, 5];
    let classes = ids.map(|id| (id + 2) % 5);
    for (device, strategy) in executors() {
        for format in HALVES {
            let session = |weights: &Weights, optimiser| {
                let options = Options { train: true, optimiser, weights: format, ..forced(strategy) };
                let plan = Plan::new(&config, Shape { time: 4, batch: 3 }, &device.caps(), &options).unwrap();
                let mut session = Session::from_plan(&device, plan, weights).unwrap();
                session.write(&Input::of_ids(View::new(&ids, &[4, 3]))).unwrap();
                session.write_targets(&Targets::classes(View::new(&classes, &[4, 3]))).unwrap();
                session
            };
            let mut training = session(&start, Some(Optimiser::adam()));
            for _ in 0..10 {
                training.train_step(0.05).unwrap();
            }
            let mut fresh = session(&training.weights().unwrap(), None);
            let losses = [&mut training, &mut fresh].map(|s| {
                s.run().unwrap();
                s.loss().unwrap().to_bits()
            });
            assert_eq!(losses[0], losses[1], "{format} on {} with {strategy}", device.kind());
        }
    }
}
