//! Executors against the naive loops: outputs, last states, and gradients of every input, parameter and initial state.

use crate::harness::*;
use wgpu_rnn::network::{NetworkOptions, Parallel};
use wgpu_rnn::rule::HeadState;
use wgpu_rnn::{Device, Precision, rules};

/// Whole sequences, then ragged ones with episodes, forwards and backwards; padding is NaN.
fn cases() -> Vec<(&'static str, Case)> {
    let of = |rule| {
        let case = |seed| Case::new(rule, 9, 3, seed);
        [("whole", case(1)), ("ragged", case(2).ragged(false)), ("reverse", case(3).ragged(true))]
    };
    rules::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn in_f64_they_are_the_naive_loops() {
    let mut failures = Vec::new();
    for (what, case) in cases() {
        let naive = case.naive();
        for parallel in ways(case.problem.rule, PARALLEL) {
            let got = case.clone().poisoned().run::<f64>(&Device::cpu(), &training(parallel));
            failures.extend(case.wrong(&format!("{what} {parallel:?}"), &got, &naive, Precision::F64));
        }
    }
    none(&failures);
}

#[test]
fn in_f32_they_are_as_near_as_the_naive_loops() {
    let mut failures = Vec::new();
    for (what, case) in cases() {
        let naive = case.naive();
        for device in devices(case.problem.rule) {
            for parallel in ways(case.problem.rule, PARALLEL) {
                let got = case.clone().poisoned().run::<f32>(&device, &training(parallel));
                failures.extend(case.wrong(&format!("{what} {device} {parallel:?}"), &got, &naive, Precision::F32));
            }
        }
    }
    none(&failures);
}

/// There and back, step after step: the kernels into which a rule's expressions go.
#[test]
fn on_a_gpu_every_rule_is_as_near_as_the_naive_loops() {
    let mut failures = Vec::new();
    for rule in rules::ALL {
        let case = Case::new(rule, 9, 3, 2).ragged(false);
        let got = case.clone().poisoned().run::<f32>(&gpu(), &training(PARALLEL[0]));
        failures.extend(case.wrong("on a GPU", &got, &case.naive(), Precision::F32));
    }
    none(&failures);
}

#[test]
fn inference_is_training_without_the_way_back() {
    for (what, case) in cases() {
        for device in devices(case.problem.rule) {
            for parallel in ways(case.problem.rule, PARALLEL) {
                let options = training(parallel);
                let trained = case.run::<f32>(&device, &options);
                let inferred = case.run::<f32>(&device, &NetworkOptions { train: false, ..options });
                assert_eq!(
                    (inferred.y, inferred.last),
                    (trained.y, trained.last),
                    "{} {what} {device}",
                    case.problem.rule.name
                );
            }
        }
    }
}

/// Step after step; chunks scanned twice; chunks as products, where 64 steps are too many for those with a correction.
const WAYS: [(Parallel, usize); 6] = [
    (Parallel::Recurrent, 64),
    (Parallel::Chunked, 16),
    (Parallel::Chunked, 64),
    (Parallel::Products, 16),
    (Parallel::Products, 32),
    (Parallel::Products, 64),
];

#[test]
fn chunks_of_any_length_make_the_same_sequence() {
    let mut failures = Vec::new();
    for rule in rules::ALL {
        for (n, time) in [1, 2, 63, 64, 65, 257].into_iter().enumerate() {
            let case = Case::new(rule, time, 1, 10 + n as u64);
            let naive = case.naive();
            for device in devices(rule) {
                for way in ways(rule, WAYS) {
                    let got = case.run::<f32>(&device, &training(way));
                    let what = format!("T = {time} {device} {way:?}");
                    failures.extend(case.wrong(&what, &got, &naive, Precision::F32));
                }
            }
        }
    }
    none(&failures);
}

/// More rows and columns of a state than registers hold at a time.
#[test]
fn states_of_many_rows_and_columns_go_part_by_part() {
    let mut failures = Vec::new();
    for (rule, sizes) in [
        (&rules::RETENTION, [2, 130, 4]),
        (&rules::DELTA, [2, 70, 5]),
        (&rules::RWKV6, [2, 66, 3]),
        (&rules::MLSTM, [1, 128, 4]),
        (&rules::RWKV7, [2, 3, 70]),
        (&rules::MAMBA2, [2, 5, 33]),
        (&rules::GLA, [2, 4, 64]),
    ] {
        let mut case = Case::sized(rule, sizes, 9, 3, 43);
        for port in ["k", "beta"] {
            // So that a correction of many rows does not grow.
            if let Some(n) = rule.inputs.iter().position(|p| p.name == port) {
                case.problem.ports[n].iter_mut().for_each(|v| *v = f64::from((*v * 0.2) as f32));
            }
        }
        let case = case.ragged(false);
        let naive = case.naive();
        // Sizes of their own are texts of their own.
        for device in devices(rule).into_iter().filter(|d| all() || d.kind() == "cpu" || rule == &rules::GLA) {
            for way in [(Parallel::Chunked, 4), (Parallel::Products, 4)] {
                let got = case.clone().poisoned().run::<f32>(&device, &training(way));
                failures.extend(case.wrong(&format!("{device} {way:?}"), &got, &naive, Precision::F32));
            }
        }
    }
    none(&failures);
}

/// A fixed decay near 1 is a power of hundreds of steps: an error of its last digits would add up.
#[test]
fn slow_decays_do_not_drift() {
    let mut failures = Vec::new();
    for (rule, port, fastest, slowest) in [(&rules::RETENTION, "gamma", -0.1, -0.002), (&rules::RWKV5, "w", -2.0, -6.0)]
    {
        for seed in 30..34 {
            let mut case = Case::new(rule, 257, 1, seed);
            for value in &mut case.problem.ports[rule.port(port)] {
                // From ±1, or from −1 to 0.
                *value = f64::from((fastest + value.abs() * (slowest - fastest)) as f32);
            }
            let naive = case.naive();
            for device in devices(rule) {
                for way in [(Parallel::Recurrent, 64), (Parallel::Chunked, 64), (Parallel::Products, 64)] {
                    let got = case.run::<f32>(&device, &training(way));
                    failures.extend(case.wrong(&format!("{seed} {device} {way:?}"), &got, &naive, Precision::F32));
                }
            }
        }
    }
    none(&failures);
}

/// The way back holds a window of states at a time: a small one must not change a bit.
#[test]
fn windows_change_nothing() {
    for rule in rules::ALL {
        for case in [Case::new(rule, 21, 2, 40), Case::new(rule, 21, 3, 41).ragged(true)] {
            for device in devices(rule) {
                for way in ways(rule, [(Parallel::Recurrent, 4), (Parallel::Products, 4)]) {
                    let options = training(way);
                    let wide = case.run::<f32>(&device, &options);
                    let narrow = case.run::<f32>(&device, &NetworkOptions { window_bytes: 1, ..options });
                    assert_eq!(wide, narrow, "{} {device} {way:?}", rule.name);
                }
            }
        }
    }
}

/// Chunks that are no multiple of a tile's four steps, with episodes that begin in the middle of one.
#[test]
fn tiles_end_where_chunks_end() {
    let mut failures = Vec::new();
    for rule in rules::ALL.into_iter().filter(|r| r.state == HeadState::Matrix) {
        for reverse in [false, true] {
            let case = Case::new(rule, 27, 3, 42).ragged(reverse);
            let naive = case.naive();
            for chunk in [7, 11] {
                let options = NetworkOptions { window_bytes: 1, ..training((Parallel::Products, chunk)) };
                let what = format!("chunks of {chunk}, reverse: {reverse}");
                let oracle = case.clone().poisoned().run::<f64>(&Device::cpu(), &options);
                failures.extend(case.wrong(&format!("f64, {what}"), &oracle, &naive, Precision::F64));
                for device in devices(rule) {
                    let got = case.clone().poisoned().run::<f32>(&device, &options);
                    failures.extend(case.wrong(&format!("{device}, {what}"), &got, &naive, Precision::F32));
                }
            }
        }
    }
    none(&failures);
}
