//! Gates at their ends: decays of 0 and 1, exponents of ±80. Everything stays finite, forward and back, and the numbers are those
//! of the naive loops.

use crate::harness::*;
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{Device, Precision, rules};

/// Ports at their ends, by rule: what decays, what forgets, what is an exponent.
fn ends(rule: &Rule) -> Vec<(&'static str, Vec<f64>)> {
    let both = || vec![-80.0, 80.0];
    match rule.name {
        "retention" => vec![("gamma", vec![-80.0, 0.0])],
        "gla" | "gated-delta" => vec![("g", vec![-80.0, 0.0])],
        "selective-scan" => vec![("dt", vec![0.0, 80.0]), ("A_log", vec![-80.0, 5.0])],
        "mamba" | "mamba2" => vec![("dt", both()), ("A_log", vec![-80.0, 5.0])],
        "rwkv4" => vec![("k", both()), ("time_decay", both()), ("time_first", both())],
        "rwkv5" | "rwkv6" | "rwkv7" => vec![("w", both())],
        "mlstm" => vec![("i", both()), ("f", both())],
        "mingru" => vec![("z", both())],
        "minlstm" => vec![("f", both()), ("i", both())],
        "sru" => vec![("f", both())],
        "qrnn" => vec![("f", both()), ("z", both())],
        "indrnn" => vec![("u", vec![-1.0, 0.0, 1.0])],
        "rg-lru" => vec![("r", both()), ("lambda", vec![-5.0, 80.0])],
        _ => Vec::new(),
    }
}

/// A case with every second value at an end (`all`: every one), which end without a pattern.
fn extreme(rule: &'static Rule, seed: u64, all: bool) -> Case {
    let mut case = Case::new(rule, 7, 2, seed);
    for (n, (port, ends)) in ends(rule).into_iter().enumerate() {
        for (i, value) in case.problem.ports[rule.port(port)].iter_mut().enumerate() {
            let mixed = (i + 1) * (2 * n + 3) * 2_654_435_761;
            if all || mixed >> 7 & 1 == 0 {
                *value = ends[(mixed >> 11) % ends.len()];
            }
        }
    }
    case
}

fn finite(run: &Run) -> bool {
    let all = run.ports.iter().chain([&run.y, &run.last, &run.initial]);
    all.flatten().all(|v| v.is_finite())
}

#[test]
fn gates_at_their_ends_are_exact() {
    let mut failures = Vec::new();
    for rule in rules::ALL {
        for (seed, all) in [(71, false), (72, true)] {
            let case = extreme(rule, seed, all);
            let naive = case.naive();
            for parallel in ways(rule, PARALLEL) {
                let got = case.run::<f64>(&Device::cpu(), &training(parallel));
                failures.extend(case.wrong(&format!("f64 {parallel:?} all: {all}"), &got, &naive, Precision::F64));
                for device in devices(rule) {
                    let got = case.run::<f32>(&device, &training(parallel));
                    let what = format!("{device} {parallel:?} all: {all}");
                    if !finite(&got) {
                        failures.push(format!("{} {what}: not finite", rule.name));
                    } else {
                        failures.extend(case.wrong(&what, &got, &naive, Precision::F32));
                    }
                }
            }
        }
    }
    none(&failures);
}

/// √(1 − a²) at a = 1, whose derivative is infinite and that of a zero: nothing is forgotten, nothing written, nothing learned.
#[test]
fn a_unit_that_forgets_nothing_keeps_its_state() {
    let mut case = Case::new(&rules::RG_LRU, 7, 2, 74);
    for port in ["r", "lambda"] {
        case.problem.ports[rules::RG_LRU.port(port)].fill(-80.0);
    }
    for device in devices(case.problem.rule) {
        for parallel in ways(&rules::RG_LRU, PARALLEL) {
            let got = case.run::<f32>(&device, &training(parallel));
            assert!(finite(&got), "{device} {parallel:?}");
            assert!(got.y.chunks(14).all(|y| y == case.problem.initial) && got.last == case.problem.initial);
        }
    }
}

/// Input gates that grow by e³ a step: without a stabiliser f32 overflows at the thirtieth.
#[test]
fn exponents_that_grow_do_not_overflow() {
    let mut failures = Vec::new();
    for (rule, port) in [(&rules::MLSTM, "i"), (&rules::RWKV4, "k")] {
        let mut case = Case::new(rule, 40, 2, 73);
        let number = rule.port(port);
        let width = case.problem.ports[number].len() / 40;
        for (t, row) in case.problem.ports[number].chunks_exact_mut(width).enumerate() {
            row.iter_mut().for_each(|v| *v = f64::from((*v + 3.0 * t as f64) as f32));
        }
        if rule == &rules::MLSTM {
            // So that n·q is no small difference of large numbers.
            case.problem.ports[rule.port("q")] = case.problem.ports[rule.port("k")].clone();
        }
        let naive = case.naive();
        for parallel in ways(rule, PARALLEL) {
            let got = case.run::<f64>(&Device::cpu(), &training(parallel));
            failures.extend(case.wrong(&format!("f64 {parallel:?}"), &got, &naive, Precision::F64));
            for device in devices(rule) {
                let got = case.run::<f32>(&device, &training(parallel));
                failures.extend(case.wrong(&format!("{device} {parallel:?}"), &got, &naive, Precision::F32));
            }
        }
    }
    none(&failures);
}
