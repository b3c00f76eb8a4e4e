//! What binding a plan to a device takes: every text is compiled once.

use std::time::Duration;
use wgpu_rnn::*;

mod harness;
use harness::{Case, forced, unchecked_gpu};

fn training(strategy: Strategy) -> Options {
    Options { train: true, ..forced(strategy) }
}

#[test]
fn a_text_is_compiled_once_for_all_shapes_and_sessions() {
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let device = unchecked_gpu();
        let config =
            RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 5, num_layers: 2, ..Default::default() };
        let case = Case::new(config, 9, 2, 1);
        let first: Session = case.training(&device, training(strategy));
        let startup = first.startup();
        // As many as the plan has kernels, some of them in several stages.
        let plan = first.plan();
        let kernels = |steps: &[Step]| -> Vec<&'static str> {
            let of = |step: &Step| match step {
                Step::ClearPadding(_) => Vec::new(),
                Step::Once(d) => vec![d.kernel.name()],
                Step::EachStep(_, body) | Step::EachStepBack(_, body) => body.iter().map(|d| d.kernel.name()).collect(),
            };
            steps.iter().flat_map(of).collect()
        };
        let mut names = [kernels(&plan.steps), kernels(&plan.backward)].concat();
        names.sort_unstable();
        names.dedup();
        assert!(startup.pipelines >= names.len(), "{startup}: {names:?}");
        assert_eq!(startup.compiled, startup.pipelines, "{startup}");
        assert!(startup.compile > Duration::ZERO && startup.buffers > Duration::ZERO, "{startup}");
        // Another shape shares them; so does the same session made again on the same device.
        let other = first.for_shape(Shape { time: 4, batch: 2 }).unwrap();
        assert_eq!((other.startup().pipelines, other.startup().compiled), (startup.pipelines, 0));
        let again: Session = case.training(&device, training(strategy));
        assert_eq!((again.startup().pipelines, again.startup().compiled), (startup.pipelines, 0));
    }
    let case = Case::new(RnnConfig { input_size: 3, hidden_size: 5, ..Default::default() }, 3, 2, 1);
    let startup = case.session(&Device::cpu(), Strategy::Sequence, None).startup();
    assert_eq!((startup.pipelines, startup.compiled, startup.compile), (0, 0, Duration::ZERO));
}

/// Sessions made at once on one device: together they compile what one of them does, and all give the same.
#[test]
fn sessions_made_at_once_compile_a_text_once() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 6, ..Default::default() };
    let case = Case::new(config, 5, 2, 2);
    let alone: Session = case.training(&unchecked_gpu(), training(Strategy::Step));
    let device = unchecked_gpu();
    let results = std::thread::scope(|scope| {
        let make = || {
            let mut session: Session = case.training(&device, training(Strategy::Step));
            (session.startup().compiled, case.train_in(&mut session))
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(results.iter().map(|r| r.0).sum::<usize>(), alone.startup().pipelines);
    assert!(results.windows(2).all(|w| w[0].1 == w[1].1));
}

/// A text that does not compile is an error of every thread's own scope: nothing reaches the device's handler, and the next
/// session on it works.
#[test]
fn a_text_that_does_not_compile_is_an_error_and_leaves_the_device_well() {
    static BROKEN: Cell = Cell { name: "broken", wgsl: "fn forward_0() -> nothing {", ..cells::RNN_TANH };
    let device = unchecked_gpu();
    let config = |cell| RnnConfig { cell, input_size: 3, hidden_size: 4, ..Default::default() };
    let broken = Case::new(config(&BROKEN), 3, 2, 1);
    let plan = Plan::new(&broken.config, broken.shape, &device.caps(), &training(Strategy::Step)).unwrap();
    for _ in 0..2 {
        match Session::from_plan(&device, plan.clone(), &broken.weights) {
            Err(Error::Gpu { what, .. }) => assert!(what.starts_with("compiling"), "{what}"),
            other => panic!("expected Error::Gpu, got {:?}", other.err()),
        }
    }
    let good = Case::new(config(&cells::RNN_TANH), 3, 2, 1);
    good.train_in(&mut good.training::<f32>(&device, training(Strategy::Step)));
}
