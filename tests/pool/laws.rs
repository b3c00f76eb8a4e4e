//! Random schedules of all calls, against streams alone.

use crate::alone::{Alone, State};
use crate::models::{self, Model};
use crate::{bits, refused};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::collections::VecDeque;
use wgpu_rnn::*;

/// What a stream of the pool should be.
#[derive(Clone)]
struct Truth {
    id: StreamId,
    root: usize,
    /// Where it is after every frame since it was somewhere new; the first is that.
    trail: Vec<State>,
    /// Frames before the first of them.
    base: u64,
    /// Results that nobody has pulled, each with its frame's number; without one those of before it was somewhere new.
    owed: VecDeque<(Option<u64>, Vec<f32>)>,
}

impl Truth {
    fn position(&self) -> u64 {
        self.base + self.trail.len() as u64 - 1
    }

    fn now(&self) -> &State {
        self.trail.last().expect("where it is")
    }

    /// It is somewhere new.
    fn moved(&mut self, state: State, base: u64) {
        (self.trail, self.base) = (vec![state], base);
        self.owed.iter_mut().for_each(|(n, _)| *n = None);
    }

    fn forget_from(&mut self, frame: u64) {
        self.owed.retain(|(n, _)| n.is_none_or(|n| n < frame));
    }
}

struct Kept {
    snapshot: StreamSnapshot,
    root: usize,
    state: State,
    at: u64,
}

/// A pool, streams alone, and what both should agree on.
struct Schedule {
    pool: StreamPool,
    alone: Alone,
    frame: Vec<Option<usize>>,
    rng: SmallRng,
    streams: Vec<Truth>,
    kept: Vec<Kept>,
    saved: Vec<(Vec<u8>, State, u64)>,
    roots: usize,
    gone: Vec<StreamId>,
    /// Results compared so far.
    compared: usize,
    most: usize,
    /// The pool's device is lost about once in so many calls.
    loses: Option<usize>,
}

impl Schedule {
    fn new(device: &Device, model: &Model, seed: u64, options: &PoolOptions) -> Self {
        Self::apart(device, device, model, seed, options)
    }

    /// With a device of the pool's own.
    fn apart(of_pool: &Device, device: &Device, model: &Model, seed: u64, options: &PoolOptions) -> Self {
        let alone = Alone::new(device, model);
        let frame = alone.frame();
        let pool = model.pool(of_pool, options);
        assert_eq!(pool.inputs().last().map(|(_, columns)| columns.end), Some(frame.len()));
        Self {
            pool,
            alone,
            frame,
            rng: SmallRng::seed_from_u64(seed),
            streams: Vec::new(),
            kept: Vec::new(),
            saved: Vec::new(),
            roots: 0,
            gone: Vec::new(),
            compared: 0,
            most: 9,
            loses: None,
        }
    }

    /// The pool's device is gone, now and then in the middle of a tick.
    fn lose(&mut self) {
        use std::task::{Context, Waker};
        if self.below(2) == 0 {
            let mut tick = Box::pin(self.pool.tick_async());
            let _ = tick.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        self.pool.device().wgpu().expect("a GPU").0.destroy();
    }

    fn below(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    fn frame(&mut self) -> Vec<f32> {
        let rng = &mut self.rng;
        let value = |of: &Option<usize>| match of {
            Some(count) => rng.random_range(0..*count) as f32,
            None => rng.random_range(-2.0..2.0),
        };
        self.frame.iter().map(value).collect()
    }

    fn any(&mut self) -> Option<usize> {
        (!self.streams.is_empty()).then(|| self.rng.random_range(0..self.streams.len()))
    }

    fn open(&mut self) {
        let id = self.pool.open().expect("a stream");
        self.roots += 1;
        let empty = self.alone.empty();
        self.streams.push(Truth { id, root: self.roots, trail: vec![empty], base: 0, owed: VecDeque::new() });
    }

    fn push(&mut self, n: usize) {
        let count = 1 + self.below(5);
        let frames: Vec<Vec<f32>> = (0..count).map(|_| self.frame()).collect();
        let all = frames.concat();
        let id = self.streams[n].id;
        let done = match self.alone.of_ids() {
            true => self.pool.push_ids(id, &all.iter().map(|&v| v as u32).collect::<Vec<_>>()),
            false => self.pool.push(id, &all),
        };
        if let Err(error) = done {
            // The bound on frames is reached: nothing has changed, and the results make room.
            assert!(matches!(error, Error::Stream(StreamError::Full { .. })), "{error}");
            self.pull(n);
            return;
        }
        for frame in frames {
            let truth = &mut self.streams[n];
            let (state, result) = self.alone.step(truth.now(), &frame);
            truth.owed.push_back((Some(truth.position()), result));
            truth.trail.push(state);
            // More than any history keeps.
            if truth.trail.len() > 300 {
                truth.trail.drain(..100);
                truth.base += 100;
            }
        }
    }

    fn pull(&mut self, n: usize) {
        let truth = &mut self.streams[n];
        let got = self.pool.pull(truth.id).expect("a stream");
        let width = got.shape[1];
        for (row, values) in got.data.chunks(width).enumerate() {
            let (frame, expected) = truth.owed.pop_front().expect("a result too many");
            assert_eq!(bits(values), bits(&expected), "row {row}, frame {frame:?} of {}", truth.id);
            self.compared += 1;
        }
        // What is not there yet waits, or is on its way in a tick that nobody has waited for.
        assert!(self.loses.is_some() || truth.owed.len() <= self.pool.waiting(truth.id).expect("a stream"));
    }

    fn check_state(&mut self, n: usize) {
        let got = self.pool.state(self.streams[n].id).expect("a state");
        let truth = self.streams[n].now();
        assert_eq!(got.len(), truth.parts.len());
        for (got, expected) in got.iter().zip(&truth.parts) {
            assert_eq!(bits(&got.data), bits(expected), "state of {}", self.streams[n].id);
        }
    }

    fn call(&mut self) {
        if let Some(calls) = self.loses
            && self.below(calls) == 0
        {
            self.lose();
        }
        let Some(n) = self.any() else { return self.open() };
        match self.below(100) {
            0..4 if self.streams.len() < self.most => self.open(),
            0..45 => self.push(n),
            45..63 => {
                let tick = self.pool.tick().expect("a tick");
                assert_eq!(tick.left, self.pool.statistics().waiting_streams);
            }
            63..73 => self.pull(n),
            73..77 if self.streams.len() < self.most => {
                let fork = self.pool.fork(self.streams[n].id).expect("a fork");
                self.streams.push(Truth { id: fork, owed: VecDeque::new(), ..self.streams[n].clone() });
            }
            77..80 => {
                let truth = &self.streams[n];
                let snapshot = self.pool.snapshot(truth.id).expect("a snapshot");
                assert_eq!(snapshot.position(), truth.position());
                let (root, state, at) = (truth.root, truth.now().clone(), truth.position());
                self.kept.push(Kept { snapshot, root, state, at });
                if self.kept.len() > 4 {
                    let n = self.below(self.kept.len());
                    self.kept.swap_remove(n);
                }
            }
            80..84 => self.rollback(n),
            84..87 if !self.kept.is_empty() => {
                let k = self.below(self.kept.len());
                let (kept, truth) = (&self.kept[k], &mut self.streams[n]);
                let done = self.pool.rollback_to(truth.id, &kept.snapshot);
                if kept.root != truth.root {
                    assert_eq!(refused(done), StreamError::Snapshot { id: truth.id.to_string() });
                    return;
                }
                done.expect("a rollback");
                truth.forget_from(kept.at);
                truth.moved(kept.state.clone(), kept.at);
            }
            87..89 if !self.kept.is_empty() && self.streams.len() < self.most => {
                let k = self.below(self.kept.len());
                let Kept { snapshot, root, state, at } = &self.kept[k];
                let id = self.pool.open_from(snapshot).expect("a stream");
                let (root, trail, base) = (*root, vec![state.clone()], *at);
                self.streams.push(Truth { id, root, trail, base, owed: VecDeque::new() });
            }
            89..91 => self.check_state(n),
            91..93 => {
                let from = self.below(self.streams.len());
                let (state, at) = (self.streams[from].now().clone(), self.streams[n].position());
                let shapes: Vec<Vec<usize>> =
                    self.pool.state(self.streams[n].id).expect("a state").into_iter().map(|t| t.shape).collect();
                let views: Vec<View<'_, f32>> = state.parts.iter().zip(&shapes).map(|(p, s)| View::new(p, s)).collect();
                self.pool.set_state(self.streams[n].id, &views).expect("a state");
                self.streams[n].moved(state, at);
            }
            93..95 => {
                let bytes = self.pool.save(self.streams[n].id).expect("bytes");
                self.saved.push((bytes, self.streams[n].now().clone(), self.streams[n].position()));
                if self.saved.len() > 3 {
                    self.saved.remove(0);
                }
            }
            95..97 if !self.saved.is_empty() => {
                let k = self.below(self.saved.len());
                let (bytes, state, at) = &self.saved[k];
                self.pool.restore(self.streams[n].id, bytes).expect("a state");
                self.streams[n].moved(state.clone(), *at);
            }
            97 => {
                self.pool.reset(self.streams[n].id).expect("a stream");
                let empty = self.alone.empty();
                self.streams[n].moved(empty, 0);
            }
            98 => {
                let truth = self.streams.swap_remove(n);
                self.pool.close(truth.id).expect("a stream");
                self.gone.push(truth.id);
            }
            99 => {
                if let Some(id) = self.gone.last() {
                    assert_eq!(refused(self.pool.pull(*id)), StreamError::Unknown { id: id.to_string() });
                }
            }
            _ => self.pull(n),
        }
    }

    fn rollback(&mut self, n: usize) {
        let steps = self.below(12);
        let truth = &mut self.streams[n];
        let kept = self.pool.kept(truth.id).expect("a stream");
        let done = self.pool.rollback(truth.id, steps);
        if steps > kept {
            assert_eq!(refused(done), StreamError::History { id: truth.id.to_string(), steps, kept });
            return;
        }
        done.expect("a rollback");
        let target = truth.position() - steps as u64;
        truth.forget_from(target);
        truth.trail.truncate((target - truth.base) as usize + 1);
        assert_eq!(self.pool.position(truth.id).expect("a stream"), target);
    }

    /// Everything that waits runs, and all results and states are as they should be.
    fn finish(&mut self) {
        while self.pool.tick().expect("a tick").left > 0 {}
        for n in 0..self.streams.len() {
            self.pull(n);
            assert!(self.streams[n].owed.is_empty(), "results are missing");
            self.check_state(n);
        }
        let ids: Vec<StreamId> = self.streams.drain(..).map(|truth| truth.id).collect();
        ids.into_iter().for_each(|id| self.pool.close(id).expect("a stream"));
        self.kept.clear();
        // The empty state is all that is left.
        let id = self.pool.open().expect("a stream");
        self.pool.close(id).expect("a stream");
        let statistics = self.pool.statistics();
        assert_eq!((statistics.streams, statistics.slots.1, statistics.waiting), (0, 1, 0));
    }
}

/// Small batches and few steps, so that much is cut; with and without a history.
fn options(history: usize) -> PoolOptions {
    PoolOptions {
        policy: Policy { max_batch: 4, max_steps: 3, ..Policy::default() },
        frames: 40,
        history: History { steps: history, every: 3 },
        ..PoolOptions::default()
    }
}

fn hold(device: &Device, model: &Model, seeds: std::ops::Range<u64>, calls: usize) {
    for seed in seeds {
        let mut schedule = Schedule::new(device, model, seed, &options(if seed % 3 == 0 { 0 } else { 7 }));
        (0..calls).for_each(|_| schedule.call());
        schedule.finish();
        assert!(schedule.compared > calls / 4, "seed {seed}: {} results", schedule.compared);
    }
}

#[test]
fn an_lstm_has_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::lstm(), 0..12, 400);
}

#[test]
fn a_gru_has_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::gru(), 0..12, 400);
}

#[test]
fn a_projection_has_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::projection(), 0..6, 400);
}

#[test]
fn two_layers_have_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::two_layers(), 0..6, 400);
}

#[test]
fn token_ids_and_a_head_have_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::tokens(), 0..6, 400);
}

#[test]
fn a_mamba_has_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::mamba(), 0..4, 300);
}

#[test]
fn rwkvs_have_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::rwkv(), 0..3, 300);
    hold(&Device::cpu(), &models::rwkv4(), 0..3, 300);
}

#[test]
fn a_mixed_network_has_the_bits_of_streams_alone() {
    hold(&Device::cpu(), &models::mixed(), 0..6, 300);
}

#[test]
fn a_gpu_has_the_bits_of_streams_alone() {
    let gpu = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked();
    hold(&gpu, &models::projection(), 1..2, 120);
    hold(&gpu, &models::tokens(), 1..2, 80);
}

#[test]
fn networks_on_a_gpu_have_the_bits_of_streams_alone() {
    let gpu = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked();
    hold(&gpu, &models::mixed(), 1..2, 80);
}

fn gpu() -> Device {
    Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked()
}

/// With a device that is lost again and again.
#[test]
fn lost_devices_lose_nothing() {
    let gpu_of_truth = gpu();
    for (model, seed) in [(models::projection(), 1), (models::tokens(), 3), (models::mixed(), 2)] {
        let options = PoolOptions { keep: Some(Keep { every: 4, on_cpu: false }), ..options(7 * (seed as usize % 2)) };
        let mut schedule = Schedule::apart(&gpu(), &gpu_of_truth, &model, seed, &options);
        schedule.loses = Some(20);
        (0..90).for_each(|_| schedule.call());
        schedule.lose();
        schedule.finish();
        let lost = schedule.pool.statistics().recovered;
        assert!(lost >= 3 && schedule.compared > 20, "{lost} devices, {} results", schedule.compared);
    }
}

/// The same in its long form: every hundredth tick of ten thousand finds its device lost.
#[test]
#[ignore = "a hundred devices, one after the other, and ten thousand ticks on each side"]
fn a_hundred_lost_devices() {
    let options = PoolOptions { keep: Some(Keep { every: 16, on_cpu: false }), ..options(7) };
    let mut schedule = Schedule::apart(&gpu(), &gpu(), &models::projection(), 77, &options);
    // By the count of ticks below, not by chance.
    schedule.loses = Some(usize::MAX);
    let mut killed = 0;
    while schedule.pool.statistics().ticks < 10_000 {
        schedule.call();
        if schedule.pool.statistics().ticks / 100 > killed {
            killed += 1;
            schedule.lose();
        }
    }
    schedule.finish();
    let statistics = schedule.pool.statistics();
    println!(
        "{} ticks, {} devices lost, {} results compared",
        statistics.ticks, statistics.recovered, schedule.compared
    );
    assert!(statistics.recovered >= 99, "{} devices", statistics.recovered);
}

/// The same law in its long form.
#[test]
#[ignore = "a million calls take a minute or more; run it in release after changes to src/pool"]
fn a_million_calls() {
    let all = [models::lstm(), models::gru(), models::projection(), models::two_layers(), models::tokens()];
    let mut calls = 0;
    for (n, model) in all.iter().chain(&[models::mamba(), models::rwkv(), models::mixed()]).enumerate() {
        for seed in 0..5 {
            let history = if seed % 3 == 0 { 0 } else { 7 };
            let mut schedule = Schedule::new(&Device::cpu(), model, 1000 + 10 * n as u64 + seed, &options(history));
            schedule.most = 24;
            (0..25_000).for_each(|_| schedule.call());
            schedule.finish();
            calls += 25_000;
            println!("{calls} calls, {} results compared", schedule.compared);
        }
    }
    assert_eq!(calls, 1_000_000);
}

/// In f64, and over what a face gives for the whole sequence.
#[test]
fn pools_in_f64_have_the_bits_of_whole_sequences() {
    let config = RnnConfig { num_layers: 2, ..RnnConfig::lstm(3, 5) };
    let weights = Weights::<f64>::random(&config, 4).expect("weights");
    let x: Vec<f64> = crate::values(1, 3 * 40).into_iter().map(f64::from).collect();
    let device = Device::cpu();
    let mut pool = StreamPool::of_rnn(&device, &config, &weights, &options(0)).expect("a pool");
    let ids: Vec<StreamId> = (0..6).map(|_| pool.open().expect("a stream")).collect();
    // Each in pieces of its own.
    let mut at = [0; 6];
    while at.iter().any(|&frames| frames < 40) {
        for (n, id) in ids.iter().enumerate() {
            let count = (1 + n).min(40 - at[n]);
            if pool.push(*id, &x[3 * at[n]..3 * (at[n] + count)]).is_ok() {
                at[n] += count;
            }
        }
        pool.tick().expect("a tick");
    }
    while pool.tick().expect("a tick").left > 0 {}
    let mut whole = Rnn::new(&device, &config, &weights).expect("a stack");
    let y = whole.forward(View::new(&x, &[40, 1, 3]), None, Initial::Zero).expect("a run");
    for id in ids {
        let got = pool.pull(id).expect("results");
        assert_eq!(got.shape, [40, 5]);
        assert!(got.data.iter().zip(&y.y.data).all(|(a, b)| a.to_bits() == b.to_bits()), "{id}");
        let state = pool.state(id).expect("a state");
        assert_eq!((&state[0].data, Some(&state[1].data)), (&y.hn.data, y.cn.as_ref().map(|c| &c.data)));
    }
}
