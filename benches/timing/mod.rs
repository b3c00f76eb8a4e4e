//! What the benchmarks share: sessions that were verified first, rounds in turn, medians.

#![expect(dead_code, reason = "every benchmark uses another part of it")]

use std::time::Instant;
use wgpu_rnn::{Device, Plan, Session, Weights};

/// The devices there are: the CPU executor, and a GPU adapter if one is found (else it says so).
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::cpu()];
    match Device::gpu() {
        Ok(gpu) => devices.push(gpu),
        Err(e) => eprintln!("CPU executor only: {e}"),
    }
    devices
}

/// A session with weights, input and upstream gradients uploaded, held against the f64 oracle within the calibrated bound of
/// [`wgpu_rnn_verify::check`] first.
pub fn verified(device: &Device, plan: &Plan) -> Session {
    let weights = Weights::random(&plan.config, 1).unwrap();
    let numbers = wgpu_rnn_verify::Numbers::random(plan, 2);
    let mut session = Session::from_plan(device, plan.clone(), &weights).unwrap();
    let check = wgpu_rnn_verify::check(&mut session, &weights, &numbers).unwrap();
    assert!(check.passed(), "{}: {check:?}", session.plan());
    session.write(&numbers.input()).unwrap();
    if let Some(upstream) = numbers.upstream() {
        session.write_upstream(&upstream).unwrap();
    }
    session
}

/// One run of what was uploaded, until the last state (training: the gradients of the parameters) is in host memory.
pub fn run(session: &mut Session) {
    if session.plan().train {
        session.run().unwrap();
        session.run_backward().unwrap();
    } else {
        session.run_for_state().unwrap();
    }
}

/// Milliseconds of `rounds` runs of each, taken in turn after one run of each; whoever comes first in a round comes last in the next.
pub fn in_turn<const N: usize>(rounds: usize, mut runs: [&mut dyn FnMut(); N]) -> [Vec<f64>; N] {
    runs.iter_mut().for_each(|run| run());
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds {
        for n in 0..N {
            let n = (n + round) % N;
            let start = Instant::now();
            runs[n]();
            times[n].push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times
}

/// The middle value; of an even count the mean of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

/// The value that a share of `quantile` of them does not exceed.
pub fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * quantile).ceil() as usize).clamp(1, values.len()) - 1]
}
