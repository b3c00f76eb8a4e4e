//! The naive loops themselves: against sums written in one piece, where there are such, and central differences.

use crate::harness::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{Device, Shape, rules};
use wgpu_rnn_verify::naive_linear::{Problem, forward};
use wgpu_rnn_verify::tolerance;

/// A case from an empty state, of one sequence.
fn empty(rule: &'static Rule, seed: u64) -> Problem<f64> {
    let mut problem = Case::new(rule, 8, 1, seed).problem;
    problem.initial.clear();
    problem
}

/// The values of head h at step t, of an input that all heads have.
fn at<'a>(problem: &'a Problem<f64>, name: &str, t: usize, h: usize) -> &'a [f64] {
    let port = problem.rule.port(name);
    let rows = if port < problem.rule.inputs.len() { problem.shape.time } else { 1 };
    let width = problem.ports[port].len() / rows;
    let each = width / problem.sizes[0];
    &problem.ports[port][(t % rows) * width + h * each..][..each]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// y of every step, head and value index against `sum`.
fn agrees(problem: &Problem<f64>, sum: impl Fn(usize, usize, usize) -> f64) {
    let y = forward(problem).unwrap().y;
    let ([heads, _, values], Shape { time, .. }) = (problem.sizes, problem.shape);
    let places = (0..time).flat_map(|t| (0..heads).flat_map(move |h| (0..values).map(move |j| (t, h, j))));
    let direct: Vec<f64> = places.map(|(t, h, j)| sum(t, h, j)).collect();
    let error = tolerance::error(&y, &direct);
    assert!(error <= 1e-12 * tolerance::scale(&direct), "{}: {error:e}", problem.rule.name);
}

/// Σ_{s ≤ t} γ^{t−s} (q_t·k_s) v_s: the parallel form of retention; with γ = 1 linear attention's.
#[test]
fn attention_is_the_sum_over_all_steps() {
    let p = &empty(&rules::LINEAR, 1);
    agrees(p, |t, h, j| (0..=t).map(|s| dot(at(p, "q", t, h), at(p, "k", s, h)) * at(p, "v", s, h)[j]).sum());
    let p = &empty(&rules::RETENTION, 2);
    let decay = |h, steps: usize| (at(p, "gamma", 0, h)[0] * steps as f64).exp();
    agrees(p, |t, h, j| {
        (0..=t).map(|s| decay(h, t - s) * dot(at(p, "q", t, h), at(p, "k", s, h)) * at(p, "v", s, h)[j]).sum()
    });
}

/// wkv_t = (Σ_{s<t} e^{(t−1−s) w + k_s} v_s + e^{u + k_t} v_t) / (the same without v), w = −e^time_decay
#[test]
fn rwkv4_is_the_quotient_of_sums_of_exponentials() {
    let p = &empty(&rules::RWKV4, 3);
    agrees(p, |t, h, _| {
        let one = |name, t| at(p, name, t, h)[0];
        let w = -one("time_decay", 0).exp();
        let past = |s: usize| ((t - 1 - s) as f64 * w + one("k", s)).exp();
        let now = (one("time_first", 0) + one("k", t)).exp();
        let over = (0..t).map(|s| past(s) * one("v", s)).sum::<f64>() + now * one("v", t);
        over / ((0..t).map(past).sum::<f64>() + now)
    });
}

/// y_t = Σ_{s<t} r_t·(Π w ∘ k_s) v_s + r_t·(u ∘ k_t) v_t
#[test]
fn rwkv5_is_the_sum_over_all_steps() {
    let p = &empty(&rules::RWKV5, 4);
    agrees(p, |t, h, j| {
        let weight = |s: usize, i: usize| match t - s {
            0 => at(p, "u", 0, h)[i],
            apart => (-at(p, "w", 0, h)[i].exp() * (apart - 1) as f64).exp(),
        };
        let term = |s: usize| {
            let (r, k) = (at(p, "r", t, h), at(p, "k", s, h));
            (0..r.len()).map(|i| r[i] * weight(s, i) * k[i]).sum::<f64>() * at(p, "v", s, h)[j]
        };
        (0..=t).map(term).sum()
    });
}

/// Without a stabiliser: C_t = Σ_s (Π_{u>s} σ(f_u)) e^{i_s} k_s v_sᵀ, n_t the same with 1 for v, y = Cᵀ q / max(|n·q|, 1)
#[test]
fn mlstm_needs_no_stabiliser_where_nothing_overflows() {
    let p = &empty(&rules::MLSTM, 5);
    agrees(p, |t, h, j| {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let weight = |s: usize| {
            let kept: f64 = (s + 1..=t).map(|u| sigmoid(at(p, "f", u, h)[0])).product();
            kept * at(p, "i", s, h)[0].exp() * dot(at(p, "q", t, h), at(p, "k", s, h))
        };
        let over: f64 = (0..=t).map(|s| weight(s) * at(p, "v", s, h)[j]).sum();
        over / (0..=t).map(weight).sum::<f64>().abs().max(1.0)
    });
}

/// y_t = Σ_{s ≤ t} C_t exp(A Σ_{u in s+1..=t} Δ_u) Δ_s B_s u_s + D u_t
#[test]
fn mamba_is_the_sum_over_all_steps() {
    let p = &empty(&rules::MAMBA, 6);
    let delta = |t: usize, h: usize| (1.0 + (at(p, "dt", t, h)[0] + at(p, "dt_bias", 0, h)[0]).exp()).ln();
    let states = p.sizes[1];
    // B and C belong to all channels.
    let shared = |name: &str, t: usize, i: usize| p.ports[p.rule.port(name)][t * states + i];
    agrees(p, |t, h, _| {
        let term = |s: usize, i: usize| {
            let a = -at(p, "A_log", 0, h)[i].exp();
            let kept = (a * (s + 1..=t).map(|u| delta(u, h)).sum::<f64>()).exp();
            shared("C", t, i) * kept * delta(s, h) * shared("B", s, i) * at(p, "u", s, h)[0]
        };
        let scan: f64 = (0..=t).map(|s| (0..states).map(|i| term(s, i)).sum::<f64>()).sum();
        scan + at(p, "D", 0, h)[0] * at(p, "u", t, h)[0]
    });
}

/// After a delta step with β = 1 and a k of unit length, k finds v.
#[test]
fn the_delta_rule_replaces_what_k_finds() {
    let mut problem = empty(&rules::DELTA, 7);
    let (k, beta) = (problem.rule.port("k"), problem.rule.port("beta"));
    for own in problem.ports[k].chunks_exact_mut(problem.sizes[1]) {
        let length = dot(own, own).sqrt();
        own.iter_mut().for_each(|v| *v /= length);
    }
    problem.ports[beta].fill(1.0);
    problem.ports[problem.rule.port("q")] = problem.ports[k].clone();
    let p = &problem;
    agrees(p, |t, h, j| at(p, "v", t, h)[j]);
}

/// The loss of a run: Σ up·out, where states of rules with a stabiliser count at the scale of `base`.
fn loss(case: &Case, problem: &Problem<f64>, base: &[f64]) -> f64 {
    let results = forward(problem).unwrap();
    let ([heads, keys, _], columns, size) = (problem.sizes, problem.columns(), problem.state_size());
    let sums = heads * columns * keys;
    let state = |own: &[f64], base: &[f64]| -> Vec<f64> {
        let scale =
            |n: usize| own.get(sums + n / (columns * keys)).map_or(0.0, |m| m - base[sums + n / (columns * keys)]);
        (0..size).map(|n| if n < sums { own[n] * scale(n).exp() } else { 0.0 }).collect()
    };
    let last: Vec<f64> = results.last.chunks(size).zip(base.chunks(size)).flat_map(|(l, b)| state(l, b)).collect();
    dot(&case.up_y, &results.y) + dot(&case.up_last, &last)
}

/// Five-point differences of the naive f64 loop along a random direction of every tensor, against the executor's gradients.
#[test]
fn gradients_are_those_of_central_differences() {
    for rule in rules::ALL {
        for case in [Case::new(rule, 6, 2, 21), Case::new(rule, 6, 3, 22).ragged(true)] {
            let mut rng = SmallRng::seed_from_u64(8);
            let run = case.run::<f64>(&Device::cpu(), &training(PARALLEL[0]));
            let base = forward(&case.problem).unwrap().last;
            let size = case.problem.state_size();
            let sums = case.problem.sizes[0] * case.problem.columns() * case.problem.sizes[1];
            let gradients = run.ports.iter().chain([&run.initial]);
            for (n, gradient) in gradients.enumerate() {
                let mut direction: Vec<f64> = gradient.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
                if n == run.ports.len() {
                    // Nothing depends on the m that states are relative to, if they go with it.
                    direction.chunks_mut(size).for_each(|own| own[sums..].fill(0.0));
                }
                let moved = |by: f64| {
                    let mut problem = case.problem.clone();
                    let values = problem.ports.get_mut(n).unwrap_or(&mut problem.initial);
                    values.iter_mut().zip(&direction).for_each(|(v, d)| *v += by * d);
                    loss(&case, &problem, &base)
                };
                // Small, so that no max has a kink within it.
                let h = 2e-5;
                let difference = (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h);
                let got = dot(gradient, &direction);
                let scale: f64 = gradient.iter().zip(&direction).map(|(g, d)| (g * d).abs()).sum();
                let name = rule.inputs.iter().chain(rule.params).nth(n).map_or("initial", |p| p.name);
                assert!((got - difference).abs() <= 1e-7 * scale, "{} {name}: {got} {difference}", rule.name);
            }
        }
    }
}
