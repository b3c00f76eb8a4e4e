//! The CPU executor with instructions that are not the machine's widest, and with threads that share the units of a step.

mod harness;

use harness::{Case, assert_same_gradients, bits, cells_and_projections};
use std::path::Path;
use std::process::Command;
use wgpu_rnn::{
    Device, Direction, Input, InstructionSet, Options, Plan, RnnConfig, Session, Shape, View, Weights, cells,
};
use wgpu_rnn_verify::verify_file;

/// Every set that this machine has, beside the widest.
fn narrower() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_available() && *set != InstructionSet::widest())
}

/// Goldens of PyTorch: stacks there and back, and recurrences without hidden units.
#[test]
fn goldens_pass_with_every_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_golden");
    let names =
        ["gru_l1_bi_packed", "lstm_l2_bi_proj_packed", "rnn_relu_l1", "mamba_scan_full", "rwkv7_wkv", "seq2seq_gru_l2"];
    for set in narrower() {
        let device = Device::cpu_with(2, set).expect("a set of this machine");
        for name in names {
            for precision in [wgpu_rnn::Precision::F32, wgpu_rnn::Precision::F64] {
                let file = folder.join(format!("{name}.safetensors"));
                let report = verify_file(&file, &device, None, precision).expect("a golden");
                assert!(report.passed(), "{name} on {device} in {precision:?}: {:?}", report.worst());
            }
        }
    }
}

/// Every cell, there and back: within the usual bound of what f64 gives.
#[test]
fn every_cell_runs_with_every_set() {
    for (cell, proj_size) in cells_and_projections(5) {
        let config = RnnConfig { cell, input_size: 7, hidden_size: 19, proj_size, ..Default::default() };
        let case = Case::new(config, 9, 6, 11).with_lengths(&[9, 2, 9, 5, 1, 7]);
        let truth = case.true_gradients();
        let named = |device: &Device| {
            let gradients = case.train_in(&mut case.training::<f32>(device, Options::default())).1;
            harness::named(&case.config, &gradients)
        };
        let usual = named(&Device::cpu());
        for set in narrower() {
            let own = named(&Device::cpu_with(1, set).expect("a set of this machine"));
            for (((name, own), (_, usual)), (_, truth)) in
                own.iter().zip(&usual).zip(harness::named(&case.config, &truth))
            {
                let error =
                    |v: &[f32]| v.iter().zip(&truth).fold(0.0, |m: f64, (&a, b)| m.max((f64::from(a) - b).abs()));
                let scale = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                let bound = 4.0 * error(usual) + 1e-6 * scale;
                assert!(error(own) <= bound, "{} {set} {name}: {} > {bound}", cell.name, error(own));
            }
        }
    }
}

/// What a machine does not have is refused, by a device and where the environment asks for it.
#[test]
fn sets_that_are_not_there_are_refused() {
    for set in InstructionSet::ALL.into_iter().filter(|set| !set.is_available()) {
        let error = Device::cpu_with(1, set).expect_err("not there").to_string();
        assert!(error.contains(set.name()) && error.contains(InstructionSet::widest().name()), "{error}");
    }
    let device = Device::cpu_with(3, InstructionSet::Portable).expect("always there");
    assert_eq!(device.instructions(), Some(InstructionSet::Portable));
    assert_eq!(device.to_string(), "CPU executor, 3 threads, portable instructions");
}

/// The variable of the environment, in a process of its own: this test again.
#[test]
fn the_environment_says_which() {
    const ASKED: &str = "WGPU_RNN_TEST_EXPECTS";
    if let Ok(expected) = std::env::var(ASKED) {
        let config = RnnConfig::gru(3, 4);
        let weights = Weights::<f32>::random(&config, 1).expect("weights");
        let session = Session::new(&Device::cpu(), &config, Shape { time: 1, batch: 1 }, &weights);
        let seen = session.map_or_else(|e| e.to_string(), |_| Device::cpu().to_string());
        assert!(seen.ends_with(&expected), "{seen}");
        return;
    }
    let ends = [
        ("portable", "portable instructions"),
        ("sse9", "expected one of portable, neon, avx2, avx512, not \"sse9\", got sse9"),
    ];
    for (value, expected) in ends {
        let mut test = Command::new(std::env::current_exe().expect("this test"));
        let run = test
            .args(["the_environment_says_which", "--exact"])
            .env("WGPU_RNN_INSTRUCTIONS", value)
            .env(ASKED, expected);
        let run = run.output().expect("a process");
        assert!(run.status.success(), "{value}: {}", String::from_utf8_lossy(&run.stdout));
    }
}

/// Large matrices: threads share the units of a step, and no bit depends on how many there are, nor on the rest of the batch.
#[test]
fn bits_do_not_depend_on_who_shares_a_step() {
    let wide = |cell, proj_size, direction| RnnConfig {
        cell,
        input_size: 5,
        hidden_size: 213,
        proj_size,
        direction,
        ..Default::default()
    };
    for config in [
        wide(&cells::LSTM, 0, Direction::Forward),
        wide(&cells::LSTM, 170, Direction::Bidirectional),
        wide(&cells::GRU_RESET_BEFORE, 0, Direction::Reverse),
        wide(&cells::GRU_LAYER_NORM, 0, Direction::Forward),
    ] {
        let case = Case::new(config, 5, 3, 21).with_lengths(&[2, 5, 4]);
        let run = |case: &Case, threads: usize| {
            let device = Device::cpu_with_threads(threads).expect("threads");
            case.poisoned(&mut case.training(&device, Options::default()))
        };
        let (out, gradients) = run(&case, 1);
        for threads in [2, 3, 5] {
            let (other, others) = run(&case, threads);
            assert_eq!(bits(&out.y.data), bits(&other.y.data), "{threads} threads");
            assert_eq!(out, other, "{threads} threads");
            assert_same_gradients(&format!("{threads} threads"), &case.config, &gradients, &others);
        }
        for b in 0..3 {
            let alone = run(&case.alone(b), 3).0;
            let width = case.config.output_size();
            assert_eq!(bits(&harness::sequence(&out.y.data, 3, width, b)), bits(&alone.y.data), "sequence {b}");
        }
    }
}

/// Weights in fewer bits stay so in memory, and give the bits of the rounded ones (int8: but for its scale, which comes last).
#[test]
fn fewer_bits_give_the_rounded_weights_numbers() {
    use wgpu_rnn::WeightFormat;
    for (cell, proj_size) in cells_and_projections(6) {
        let config =
            RnnConfig { cell, input_size: 10, hidden_size: 22, proj_size, num_layers: 2, ..Default::default() };
        let shape = Shape { time: 6, batch: 5 };
        let weights = Weights::<f32>::random(&config, 3).expect("weights");
        let x = harness::values(4, 6 * 5 * 10, 1.0);
        let y = |weights: &Weights<f32>, format| {
            let options = Options { weights: format, ..Default::default() };
            let plan = Plan::new(&config, shape, &Device::cpu().caps(), &options).expect("a plan");
            let mut session = Session::from_plan(&Device::cpu(), plan, weights).expect("a session");
            session.forward(&Input::new(View::new(&x, &[6, 5, 10]))).expect("a run").y.data
        };
        for format in WeightFormat::ALL {
            let (own, plain) =
                (y(&weights, format), y(&format.rounded(&config, &weights).expect("fits"), WeightFormat::F32));
            if format == WeightFormat::Int8 {
                assert!(harness::difference(&own, &plain) < 1e-5, "{} {format}", cell.name);
            } else {
                assert_eq!(bits(&own), bits(&plain), "{} {format}", cell.name);
            }
        }
    }
}
