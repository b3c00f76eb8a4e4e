//! Whose turn it is, and when, by a clock that the test has.

use crate::{gru_pool, ms, values};
use wgpu_rnn::*;

fn pool(max_batch: usize, max_steps: usize) -> StreamPool {
    let policy = Policy { max_delay: ms(5), max_batch, max_steps };
    gru_pool(&PoolOptions { policy, ..PoolOptions::default() })
}

fn push(pool: &mut StreamPool, id: StreamId, frames: usize, at: u64) {
    pool.push_at(id, &values(at, 3 * frames), ms(at)).expect("frames");
}

#[test]
fn a_tick_is_due_when_the_oldest_frame_has_waited_or_the_batch_is_full() {
    let mut pool = pool(3, 4);
    let ids: Vec<StreamId> = (0..4).map(|_| pool.open().expect("a stream")).collect();
    assert_eq!((pool.due(), pool.is_ready_at(ms(100))), (None, false));
    push(&mut pool, ids[1], 1, 10);
    push(&mut pool, ids[0], 1, 12);
    push(&mut pool, ids[1], 1, 13);
    assert_eq!(pool.due(), Some(ms(15)));
    assert!(!pool.is_ready_at(ms(14)) && pool.is_ready_at(ms(15)));
    // Two streams have three frames; the third stream fills the batch.
    push(&mut pool, ids[3], 1, 14);
    assert!(pool.is_ready_at(ms(14)));
    let tick = pool.tick_at(ms(14)).expect("a tick");
    assert_eq!((tick.streams, tick.frames, tick.steps, tick.left), (3, 4, 2, 0));
    assert_eq!((pool.due(), pool.tick_at(ms(15)).expect("nothing").streams), (None, 0));
    let gave: Vec<(StreamId, usize)> = pool.last().to_vec();
    assert!(gave.is_empty());
}

/// What was taken back is not waited for, and neither is what was closed.
/// Calls that first run what a stream has waiting name everybody whom they gave results.
#[test]
fn calls_that_settle_tell_whom_they_gave() {
    let policy = Policy { max_steps: 8, ..Policy::default() };
    let mut pool = gru_pool(&PoolOptions { policy, ..PoolOptions::default() });
    let (a, b) = (pool.open().expect("a stream"), pool.open().expect("a stream"));
    pool.push_at(a, &[0.1; 27], ms(0)).expect("nine frames");
    pool.push_at(b, &[0.1; 3], ms(0)).expect("a frame");
    pool.save(a).expect("bytes");
    assert_eq!(pool.last(), [(a, 8), (b, 1), (a, 1)]);
    pool.save(a).expect("bytes");
    assert_eq!(pool.last(), [], "nothing waited");
}

#[test]
fn nothing_is_due_for_what_is_gone() {
    let mut pool = pool(3, 4);
    let ids: Vec<StreamId> = (0..3).map(|_| pool.open().expect("a stream")).collect();
    (0..3).for_each(|n| push(&mut pool, ids[n], 2, n as u64));
    assert!(pool.is_ready_at(ms(3)));
    pool.rollback(ids[0], 1).expect("a rollback");
    assert_eq!(pool.due(), Some(ms(0)), "three streams still wait");
    pool.rollback(ids[0], 1).expect("a rollback");
    assert_eq!(pool.due(), Some(ms(6)), "the oldest is the second's");
    pool.close(ids[1]).expect("a stream");
    assert_eq!(pool.due(), Some(ms(7)));
    let tick = pool.tick_at(ms(7)).expect("a tick");
    assert_eq!((tick.streams, tick.frames, pool.due()), (1, 2, None));
    assert_eq!(pool.last(), [(ids[2], 2)]);
    // Its place is another's now, and has the other's turns.
    let fourth = pool.open().expect("a stream");
    push(&mut pool, fourth, 1, 9);
    assert_eq!(pool.due(), Some(ms(14)));
    assert_eq!(pool.tick_at(ms(14)).expect("a tick").streams, 1);
}

/// A stream with a thousand frames holds up nobody: each tick takes a few steps of it, and it goes to the end of the queue.
#[test]
fn long_pushes_are_cut_and_streams_take_turns() {
    let mut pool = pool(2, 4);
    let ids: Vec<StreamId> = (0..3).map(|_| pool.open().expect("a stream")).collect();
    push(&mut pool, ids[0], 1000, 0);
    push(&mut pool, ids[1], 6, 1);
    push(&mut pool, ids[2], 2, 2);
    let mut turns = Vec::new();
    for now in 3..7 {
        let tick = pool.tick_at(ms(now)).expect("a tick");
        assert!(tick.steps <= 4 && tick.streams <= 2);
        let mut gave: Vec<(usize, usize)> = pool
            .last()
            .iter()
            .map(|(id, frames)| (ids.iter().position(|other| other == id).expect("one of them"), *frames))
            .collect();
        gave.sort_unstable();
        turns.push(gave);
    }
    let expected = [vec![(0, 4), (1, 4)], vec![(0, 4), (2, 2)], vec![(0, 4), (1, 2)], vec![(0, 4)]];
    assert_eq!(turns, expected);
    // What is left of a long push has waited for as long as its frames.
    push(&mut pool, ids[1], 1, 50);
    assert_eq!(pool.due(), Some(ms(0)), "two streams wait, a full batch");
    assert_eq!(pool.waiting(ids[0]).expect("a stream"), 1000 - 16);
}

/// The oldest frame decides, also where it is of a stream that a tick has left something of.
#[test]
fn the_oldest_frame_decides() {
    let mut pool = pool(5, 4);
    let ids: Vec<StreamId> = (0..3).map(|_| pool.open().expect("a stream")).collect();
    push(&mut pool, ids[0], 6, 10);
    push(&mut pool, ids[1], 1, 11);
    pool.tick_at(ms(12)).expect("a tick");
    push(&mut pool, ids[2], 1, 13);
    assert_eq!(pool.due(), Some(ms(15)));
    pool.tick_at(ms(14)).expect("a tick");
    assert_eq!(pool.due(), None);
}

/// Nobody waits for longer than it takes all others to have a turn, whoever pushes how much.
#[test]
fn every_stream_has_its_turn() {
    let mut pool = pool(4, 2);
    let ids: Vec<StreamId> = (0..13).map(|_| pool.open().expect("a stream")).collect();
    ids.iter().enumerate().for_each(|(n, id)| push(&mut pool, *id, 20 + 3 * (n % 4), n as u64));
    let mut last = vec![0; ids.len()];
    for tick in 1..60 {
        pool.tick_at(ms(20)).expect("a tick");
        for (id, _) in pool.last() {
            last[ids.iter().position(|other| other == id).expect("one of them")] = tick;
        }
        for (n, id) in ids.iter().enumerate() {
            let waits = pool.waiting(*id).expect("a stream") > 0;
            assert!(!waits || tick - last[n] <= 4, "stream {n} at tick {tick}");
        }
    }
}

#[test]
fn statistics_count_and_print() {
    let mut pool = pool(8, 4);
    let ids: Vec<StreamId> = (0..6).map(|_| pool.open().expect("a stream")).collect();
    for round in 0..10 {
        ids.iter().for_each(|id| push(&mut pool, *id, 1, 100 * round));
        pool.tick_at(ms(100 * round + 20)).expect("a tick");
    }
    push(&mut pool, ids[0], 3, 2000);
    let statistics = pool.statistics();
    assert_eq!((statistics.streams, statistics.waiting_streams, statistics.waiting), (6, 1, 3));
    assert_eq!((statistics.unpulled, statistics.ticks, statistics.frames), (60, 10, 60));
    assert_eq!(statistics.batch, [6, 6, 6]);
    // Each frame has waited for 20 ms and then run; no longer than a slow machine takes.
    assert!(statistics.latency.iter().all(|&time| time >= ms(20)), "{statistics}");
    assert!(statistics.latency[0] <= statistics.latency[1] && statistics.latency[1] <= statistics.latency[2]);
    let text = statistics.to_string();
    for part in
        ["6 open; 3 frame(s) of 1 wait, 60 result(s) unpulled", "ticks     10, 60 frame(s)", "frame to result: p50"]
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    pool.forget_statistics();
    assert_eq!((pool.statistics().ticks, pool.statistics().streams), (0, 6));
}
