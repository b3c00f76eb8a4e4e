//! Laws that hold bit for bit: pieces and steps are the whole, neighbours do not matter, two runs are one.

use crate::harness::*;
use wgpu_rnn::network::{NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, Parallel};
use wgpu_rnn::{Caps, Device, Error, Shape, rules};
use wgpu_rnn_verify::{naive_linear, tolerance};

fn inference((parallel, chunk): (Parallel, usize)) -> NetworkOptions {
    NetworkOptions { train: false, ..training((parallel, chunk)) }
}

/// The state that a piece ends with starts the next one.
#[test]
fn two_pieces_are_the_whole() {
    for rule in rules::ALL {
        let case = Case::new(rule, 7, 2, 51);
        for device in devices(rule) {
            let options = inference(PARALLEL[0]);
            let whole = case.run::<f32>(&device, &options);
            for at in 1..7 {
                let first = case.part(0, at, 0..2, &case.problem.initial).run::<f32>(&device, &options);
                let second = case.part(at, 7, 0..2, &first.last).run::<f32>(&device, &options);
                let name = rule.name;
                assert_eq!([first.y, second.y].concat(), whole.y, "{name} split at {at} on {device}");
                assert_eq!(second.last, whole.last, "{name} split at {at} on {device}");
            }
        }
    }
}

/// Gradients go through a split too: those by the second piece's initial state are the first one's upstream.
#[test]
fn gradients_of_two_pieces_are_those_of_the_whole() {
    let mut failures = Vec::new();
    for rule in rules::ALL {
        let case = Case::new(rule, 7, 2, 52);
        let (naive, device) = (case.naive(), Device::cpu());
        let options = training(PARALLEL[0]);
        let mut first = case.part(0, 3, 0..2, &case.problem.initial);
        let middle = first.run::<f64>(&device, &options).last;
        let second = case.part(3, 7, 0..2, &middle).run::<f64>(&device, &options);
        first.up_last = second.initial.clone();
        let first = first.run::<f64>(&device, &options);
        let inputs = rule.inputs.len();
        let joined = first.ports.iter().zip(&second.ports).enumerate().map(|(n, (a, b))| match n < inputs {
            true => [&a[..], b].concat(),
            false => a.iter().zip(b).map(|(a, b)| a + b).collect(),
        });
        let got =
            Run { ports: joined.collect(), y: [first.y, second.y].concat(), last: second.last, initial: first.initial };
        failures.extend(case.wrong("in two pieces", &got, &naive, wgpu_rnn::Precision::F64));
    }
    none(&failures);
}

/// A session of one step that carries its state.
#[test]
fn step_by_step_is_the_whole() {
    for rule in rules::ALL {
        let case = Case::new(rule, 6, 3, 53);
        for device in devices(rule) {
            let options = inference(PARALLEL[0]);
            let whole = case.run::<f32>(&device, &options);
            let step = |t: usize| case.part(t, t + 1, 0..3, &case.problem.initial);
            let mut session = step(0).session::<f32>(&device, &options).unwrap();
            let (mut y, mut last) = (Vec::new(), Vec::new());
            for t in 0..6 {
                let out = step(t).with_input(|input: &NetworkInput<'_, f32>| {
                    let initial = if t == 0 { input.initial } else { NetworkInitial::Carry };
                    session.forward(&NetworkInput { initial, ..*input }).unwrap()
                });
                y.extend(wide(&out.values[0].data));
                last = wide(&out.states[0].data);
            }
            assert_eq!((y, last), (whole.y, whole.last), "{} on {device}", rule.name);
        }
    }
}

/// Every sequence alone, with its length, episodes and state: the bits that it had in the batch.
#[test]
fn neighbours_do_not_matter() {
    for rule in rules::ALL {
        for case in
            [Case::new(rule, 9, 3, 54), Case::new(rule, 9, 3, 55).ragged(false), Case::new(rule, 9, 3, 56).ragged(true)]
        {
            for device in devices(rule) {
                for parallel in ways(rule, PARALLEL) {
                    let options = training(parallel);
                    let all = case.run::<f32>(&device, &options);
                    let size = case.problem.state_size();
                    for b in 0..3 {
                        let initial = &case.problem.initial[b * size..][..size];
                        let alone = case.part(0, 9, b..b + 1, initial).run::<f32>(&device, &options);
                        let own = |values: &[f64]| {
                            let width = values.len() / 27;
                            (0..9).flat_map(|t| values[(t * 3 + b) * width..][..width].to_vec()).collect::<Vec<f64>>()
                        };
                        let what = format!("{} {b} on {device} {parallel:?}", rule.name);
                        assert_eq!(alone.y, own(&all.y), "y of {what}");
                        assert_eq!(alone.last, all.last[b * size..][..size], "last state of {what}");
                        assert_eq!(alone.initial, all.initial[b * size..][..size], "d initial of {what}");
                        for (n, port) in rule.inputs.iter().enumerate() {
                            assert_eq!(alone.ports[n], own(&all.ports[n]), "d {} of {what}", port.name);
                        }
                    }
                }
            }
        }
    }
}

/// The same session twice, and another one: all bits, gradients included.
#[test]
fn two_runs_are_one() {
    for rule in rules::ALL {
        let case = Case::new(rule, 9, 3, 57).ragged(false);
        for device in devices(rule) {
            for parallel in ways(rule, PARALLEL) {
                let options = training(parallel);
                assert_eq!(case.run::<f32>(&device, &options), case.run::<f32>(&device, &options), "{}", rule.name);
                let mut session = case.session::<f32>(&device, &options).unwrap();
                let mut forward = || case.with_input(|input| session.forward(input)).unwrap();
                assert_eq!(forward(), forward(), "{} on {device}", rule.name);
            }
        }
    }
}

/// Every head of a shared port is what it would be with a copy of its own.
#[test]
fn shared_heads_are_copies() {
    for (rule, name) in [(&rules::MAMBA, "B"), (&rules::MAMBA2, "C"), (&rules::GLA, "k")] {
        let case = Case::new(rule, 5, 2, 58);
        let mut copies = case.clone();
        let port = rule.port(name);
        let [heads, keys, _] = case.problem.sizes;
        let given = case.problem.ports[port].len() / 10 / keys;
        assert!(given < heads);
        let row = |row: &[f64]| {
            (0..heads).flat_map(|h| row[h * given / heads * keys..][..keys].to_vec()).collect::<Vec<f64>>()
        };
        copies.problem.ports[port] = case.problem.ports[port].chunks(given * keys).flat_map(row).collect();
        for device in devices(rule).into_iter().filter(|d| all() || d.kind() == "cpu" || rule == &rules::MAMBA) {
            let options = training(PARALLEL[0]);
            let (shared, copied) = (case.run::<f32>(&device, &options), copies.run::<f32>(&device, &options));
            assert_eq!((shared.y, shared.last), (copied.y, copied.last), "{} {name} on {device}", rule.name);
        }
    }
}

/// From no state: as from zeros (and m of nothing).
#[test]
fn an_empty_state_is_zeros() {
    for rule in rules::ALL {
        let mut empty = Case::new(rule, 4, 2, 59);
        empty.problem.initial.clear();
        let mut zeros = empty.clone();
        let sums = zeros.problem.sizes[0] * zeros.problem.columns() * zeros.problem.sizes[1];
        let one = (0..zeros.problem.state_size()).map(|n| if n < sums { 0.0 } else { wgpu_rnn::rule::EMPTY_MAXIMUM });
        zeros.problem.initial = one.collect::<Vec<f64>>().repeat(2);
        for device in devices(rule) {
            let options = training(PARALLEL[0]);
            assert_eq!(empty.run::<f32>(&device, &options), zeros.run::<f32>(&device, &options), "{}", rule.name);
        }
    }
}

/// A GPU's dispatch goes over a stretch of steps, or of chunks, at a time: lengths just beyond one.
#[test]
fn stretches_are_the_whole() {
    let gpu = gpu();
    let mut failures = Vec::new();
    for (rule, time) in [
        (&rules::MINGRU, 10_030),
        (&rules::RWKV4, 10_030),
        (&rules::MAMBA, 3_360),
        (&rules::GLA, 2_760),
        (&rules::GATED_DELTA, 2_760),
    ] {
        if !all() && ![&rules::MINGRU, &rules::GATED_DELTA].contains(&rule) {
            continue;
        }
        let mut case = Case::new(rule, time, 2, 57);
        case.problem.lengths = vec![time, time / 2];
        let naive = case.naive();
        for way in ways(rule, [(Parallel::Recurrent, 64), (Parallel::Chunked, 1), (Parallel::Products, 2)]) {
            let got = case.run::<f32>(&gpu, &training(way));
            failures.extend(case.wrong(&format!("{way:?}"), &got, &naive, wgpu_rnn::Precision::F32));
        }
    }
    none(&failures);
}

/// More steps than llvmpipe lets a loop go round.
#[test]
fn seventy_thousand_steps_are_all_run() {
    let gpu = gpu();
    for rule in [&rules::RWKV4, &rules::SRU] {
        if !all() && rule != &rules::RWKV4 {
            continue;
        }
        let case = Case::new(rule, 70_000, 1, 58);
        let exact = naive_linear::forward(&case.problem).unwrap();
        let rounded = naive_linear::forward(&case.problem.map(|v| v as f32)).unwrap();
        let got = case.run::<f32>(&gpu, &inference(PARALLEL[0]));
        for (name, got, exact, rounded) in
            [("y", got.y, exact.y, wide(&rounded.y)), ("last", got.last, exact.last, wide(&rounded.last))]
        {
            let bound = tolerance::bound_f32(tolerance::scale(&exact), tolerance::error(&rounded, &exact));
            let error = tolerance::error(&got, &exact);
            assert!(error <= bound, "{} {name}: {error:e}, bound {bound:e}", rule.name);
        }
    }
}

/// What would go round more often than that at one step is refused.
#[test]
fn loops_beyond_a_rasterisers_are_refused() {
    let gpu = gpu();
    let network = Case::new(&rules::MINGRU, 9, 1, 59).problem.network(false).unwrap();
    let options = training((Parallel::Chunked, 70_000));
    let caps = Caps { max_rounds: 65_535, ..gpu.caps() };
    let plan = NetworkPlan::new(&network, Shape { time: 70_000, batch: 1 }, &caps, &options);
    assert!(matches!(&plan, Err(Error::Limit { unit: "iterations", .. })), "{plan:?}");
}
