//! Linear recurrences: what a step costs as T grows, and what chunks gain: scanned twice where channels are few, as matrix products
//! where states are wide. Every rule is held against the naive f64 loop before it is timed; a run ends with y (training: all gradients) in host memory.
//!
//! `cargo bench --bench linear`; `cargo bench --bench linear -- gpu` for one device, `-- mamba` for one rule.

mod timing;

use timing::{devices, in_turn, median};
use wgpu_rnn::network::{NetworkOptions, NetworkSession, Parallel};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Device, Shape, rules};
use wgpu_rnn_verify::Bare;

const ROUNDS: usize = 5;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let of = |names: &[&str]| {
        let some = asked.iter().any(|a| names.contains(&a.as_str()));
        move |name: &str, asked: &[String]| !some || asked.iter().any(|a| a == name)
    };
    let kinds = of(&["cpu", "gpu"]);
    let names: Vec<&str> = rules::ALL.iter().map(|r| r.name).collect();
    let wanted = of(&names);
    let devices: Vec<Device> = devices().into_iter().filter(|d| kinds(d.kind(), &asked)).collect();
    let rules: Vec<&Rule> = rules::ALL.into_iter().filter(|r| wanted(r.name, &asked)).collect();
    println!(
        "| device | rule | heads x K x V | pass | us a step, T = 256 | T = 2048 | ratio |\n|---|---|---|---|---|---|---|"
    );
    for device in &devices {
        for rule in &rules {
            for train in [false, true] {
                growth(device, rule, train);
            }
        }
    }
    println!(
        "\n| device | rule | heads x K x V | pass | recurrent, ms | chunked | recurrent / chunked |\n|---|---|---|---|---|---|---|"
    );
    for device in &devices {
        for rule in &rules {
            for train in [false, true] {
                chunks(device, rule, train);
            }
        }
    }
    println!(
        "\n| device | rule | heads x K x V | pass | recurrent, ms | chunked | products | recurrent / products | chunked / products |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for device in &devices {
        for rule in rules.iter().filter(|r| r.state == HeadState::Matrix) {
            for train in [false, true] {
                products(device, rule, train);
            }
        }
    }
}

/// Heads, K and V of a small model's layer, or of a few channels.
fn sizes(rule: &Rule, few: bool) -> [usize; 3] {
    let sizes = match (rule.state, few) {
        (_, true) => [1, 16, 1],
        (HeadState::Matrix, false) => [4, 32, 32],
        (_, false) => [128, 16, 1],
    };
    rule.state.sizes(sizes)
}

fn session(bare: &Bare, device: &Device, options: &NetworkOptions) -> NetworkSession {
    let checked = bare.check(device, options).unwrap();
    assert!(checked.passed(), "{}: {checked:?}", bare.rule.name);
    bare.session(device, options).unwrap()
}

fn row(device: &Device, bare: &Bare, train: bool) -> String {
    let [heads, keys, values] = bare.sizes;
    let pass = if train { "forward+backward" } else { "forward" };
    format!("| {} | {} | {heads} x {keys} x {values} | {pass} |", device.kind(), bare.rule.name)
}

/// The time of a step where there are 8 times as many.
fn growth(device: &Device, rule: &'static Rule, train: bool) {
    let options = NetworkOptions { train, parallel: Some(Parallel::Recurrent), ..Default::default() };
    let of = |time| Bare::new(rule, sizes(rule, false), Shape { time, batch: 1 }, false, 1).unwrap();
    let (short, long) = (of(256), of(2048));
    let [mut a, mut b] = [&short, &long].map(|bare| session(bare, device, &options));
    let times = in_turn(ROUNDS, [&mut || short.run(&mut a).unwrap(), &mut || long.run(&mut b).unwrap()]);
    let [a, b] = [median(times[0].clone()) * 1e3 / 256.0, median(times[1].clone()) * 1e3 / 2048.0];
    println!("{} {a:.3} | {b:.3} | {:.2} |", row(device, &short, train), b / a);
}

/// Few channels, T = 4096.
fn chunks(device: &Device, rule: &'static Rule, train: bool) {
    let bare = Bare::new(rule, sizes(rule, true), Shape { time: 4096, batch: 1 }, false, 1).unwrap();
    let options = |parallel| NetworkOptions { train, parallel: Some(parallel), ..Default::default() };
    let mut a = session(&bare, device, &options(Parallel::Recurrent));
    let mut b = session(&bare, device, &options(Parallel::Chunked));
    let times = in_turn(ROUNDS, [&mut || bare.run(&mut a).unwrap(), &mut || bare.run(&mut b).unwrap()]);
    let ratio = median(times[0].iter().zip(&times[1]).map(|(a, b)| a / b));
    let [a, b] = times.map(median);
    println!("{} {a:.2} | {b:.2} | {ratio:.2} |", row(device, &bare, train));
}

/// A head of the published models, T = 1024.
fn products(device: &Device, rule: &'static Rule, train: bool) {
    let bare = Bare::new(rule, [1, 64, 64], Shape { time: 1024, batch: 1 }, false, 1).unwrap();
    let of =
        |parallel| session(&bare, device, &NetworkOptions { train, parallel: Some(parallel), ..Default::default() });
    let [mut a, mut b, mut c] = [Parallel::Recurrent, Parallel::Chunked, Parallel::Products].map(of);
    let run = |session: &mut NetworkSession| bare.run(session).unwrap();
    let times = in_turn(ROUNDS, [&mut || run(&mut a), &mut || run(&mut b), &mut || run(&mut c)]);
    let ratio = |n: usize| median(times[n].iter().zip(&times[2]).map(|(a, b)| a / b));
    let (first, second) = (ratio(0), ratio(1));
    let [a, b, c] = times.map(median);
    println!("{} {a:.2} | {b:.2} | {c:.2} | {first:.2} | {second:.2} |", row(device, &bare, train));
}
