//! Bounds on frames and bytes, and memory that is given back.

use crate::models;
use crate::{bits, gru_pool, refused, values};
use wgpu_rnn::*;

#[test]
fn a_full_stream_pushes_back_and_loses_nothing() {
    let mut pool = gru_pool(&PoolOptions { frames: 10, ..PoolOptions::default() });
    let (id, other) = (pool.open().expect("a stream"), pool.open().expect("a stream"));
    let frames = values(1, 3 * 12);
    pool.push(id, &frames[..3 * 8]).expect("room");
    let full =
        |frames, waiting, unpulled| StreamError::Full { id: id.to_string(), frames, waiting, unpulled, places: 10 };
    assert_eq!(refused(pool.push(id, &frames[3 * 8..3 * 11])), full(3, 8, 0));
    // The others are not held up.
    pool.push(other, &frames[..3 * 10]).expect("room");
    pool.push(id, &frames[3 * 8..3 * 10]).expect("room for two");
    pool.tick().expect("a tick");
    // A slow reader is one that does not pull.
    assert_eq!(refused(pool.push(id, &frames[3 * 10..])), full(2, 0, 10));
    let first = pool.pull(id).expect("results");
    assert_eq!(first.shape, [10, 5]);
    pool.push(id, &frames[3 * 10..]).expect("room again");
    pool.tick().expect("a tick");
    let rest = pool.pull(id).expect("results");
    let whole = pool.open().expect("a stream");
    pool.push(whole, &frames[..3 * 6]).expect("room");
    pool.tick().expect("a tick");
    let mut all = pool.pull(whole).expect("results").data;
    pool.push(whole, &frames[3 * 6..]).expect("room");
    pool.tick().expect("a tick");
    all.extend(pool.pull(whole).expect("results").data);
    assert_eq!(bits(&all), bits(&[first.data, rest.data].concat()));
}

#[test]
fn bytes_bound_streams_snapshots_and_frames() {
    let options = PoolOptions { bytes: 1 << 20, frames: 1 << 20, ..PoolOptions::default() };
    let mut pool = gru_pool(&options);
    // Slots of 5 values, in slabs of 2048 or so: at most 1 MiB of them.
    let mut ids = Vec::new();
    let limit = loop {
        match pool.open() {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
        assert!(ids.len() <= 1 << 20, "no bound");
    };
    assert!(matches!(limit, Error::Limit { limit: 1_048_576, unit: "bytes", .. }), "{limit}");
    assert!(ids.len() > 30_000, "{}", ids.len());
    assert!(pool.statistics().bytes <= options.bytes);
    assert!(matches!(pool.snapshot(ids[0]), Err(Error::Limit { .. })));
    assert!(matches!(pool.fork(ids[0]), Err(Error::Limit { .. })));
    let many = values(1, 3 * 12_000);
    assert!(matches!(pool.push(ids[0], &many), Err(Error::Limit { .. })));
    assert_eq!(pool.waiting(ids[0]).expect("a stream"), 0);
    // Slots are made when they are needed.
    assert!(pool.statistics().slots.0 < 5000, "{:?}", pool.statistics());
    ids.drain(100..).for_each(|id| pool.close(id).expect("a stream"));
    pool.push(ids[0], &many).expect("room now");
    assert!(pool.statistics().bytes <= options.bytes);
    while pool.tick().expect("a tick").left > 0 {}
    assert_eq!(pool.pull(ids[0]).expect("results").shape, [12_000, 5]);
    let after = pool.statistics();
    assert!(after.bytes < 200_000, "{after}");
}

/// Streams that come and go leave nothing behind.
#[test]
fn memory_is_given_back() {
    for device in [Device::cpu(), Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do")] {
        let mut pool = models::projection().pool(&device, &PoolOptions::default());
        let first = pool.open().expect("a stream");
        let frames = values(1, 3);
        // More than a slab of slots.
        let slots = 5000;
        let ids: Vec<StreamId> = (0..slots).map(|_| pool.open().expect("a stream")).collect();
        if device.kind() == "cpu" {
            ids.iter().for_each(|id| pool.push(*id, &frames).expect("room"));
            while pool.tick().expect("a tick").left > 0 {}
        } else {
            // A state set is a slot of its own, as one that was run.
            let (h, c) = (values(2, 3), values(3, 6));
            let state = [View::new(&h, &[1, 3]), View::new(&c, &[1, 6])];
            ids.iter().for_each(|id| pool.set_state(*id, &state).expect("a state"));
        }
        pool.push(first, &frames).expect("room");
        pool.tick().expect("a tick");
        let before = bits(&pool.state(first).expect("a state")[0].data);
        let most = pool.statistics();
        assert_eq!(most.slots.1, slots + 2, "{device}");
        ids.into_iter().for_each(|id| pool.close(id).expect("a stream"));
        let least = pool.statistics();
        // The first stream's slot is the last: what lies between is free, not gone.
        assert_eq!(least.slots.1, 2);
        assert_eq!(bits(&pool.state(first).expect("a state")[0].data), before);
        pool.close(first).expect("a stream");
        let none = pool.statistics();
        assert!(none.slots.0 <= most.slots.0 / 2 && none.slots.1 == 1, "{most}\n{none}");
        let again = pool.open().expect("a stream");
        pool.push(again, &frames).expect("room");
        pool.tick().expect("a tick");
        assert_eq!(bits(&pool.state(again).expect("a state")[0].data), before, "{device}");
    }
}

/// Where sessions may take little, a batch becomes several, with the same bits.
#[test]
fn batches_fit_in_what_sessions_may_take() {
    let config = RnnConfig::lstm(16, 32);
    let weights = Weights::<f32>::random(&config, 1).expect("weights");
    let run = |bytes: u64| {
        let nominal = Shape { time: 1, batch: 1 };
        let sessions = RnnOptions { bytes, nominal, ..RnnOptions::default() };
        let options = PoolOptions::default();
        let mut pool = StreamPool::of_rnn_with(&Device::cpu(), &config, &weights, &sessions, &options).expect("a pool");
        let ids: Vec<StreamId> = (0..50).map(|_| pool.open().expect("a stream")).collect();
        for (n, id) in ids.iter().enumerate() {
            pool.push(*id, &values(n as u64, 16 * (1 + n % 7))).expect("room");
        }
        let mut ticks = 1;
        while pool.tick().expect("a tick").left > 0 {
            ticks += 1;
        }
        assert!(pool.statistics().sessions.0 <= bytes, "{}", pool.statistics());
        let y: Vec<Vec<u32>> = ids.iter().map(|id| bits(&pool.pull(*id).expect("results").data)).collect();
        (ticks, y)
    };
    let (once, small) = (run(64 << 20), run(60_000));
    assert_eq!(once.0, 1);
    assert!(small.0 > 4, "{} ticks", small.0);
    assert!(once.1 == small.1);
}
