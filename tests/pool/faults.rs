//! Lost devices, and values that are no numbers.

use crate::{bits, gru_pool, ms, refused, values};
use wgpu_rnn::*;

fn gpu() -> Device {
    Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do")
}

fn pool(device: &Device, keep: Option<Keep>) -> StreamPool {
    let config = RnnConfig::gru(3, 5);
    let weights = Weights::<f32>::random(&config, 1).expect("weights");
    StreamPool::of_rnn(device, &config, &weights, &PoolOptions { keep, ..Default::default() }).expect("a pool")
}

fn lose(pool: &StreamPool) {
    pool.device().wgpu().expect("a GPU").0.destroy();
}

/// Who lost a device is told so, by the tick that found out; and what was given before and after are one sequence.
#[test]
fn a_tick_tells_what_it_went_on_with() {
    let mut pool = pool(&gpu(), Some(Keep { every: 2, on_cpu: false }));
    let id = pool.open().expect("a stream");
    let x = values(1, 3 * 12);
    let mut y = Vec::new();
    for (n, frame) in x.chunks(3).enumerate() {
        if n == 7 {
            lose(&pool);
        }
        pool.push(id, frame).expect("a frame");
        let tick = pool.tick().expect("a tick");
        assert_eq!(tick.recovered, (n == 7).then_some(Recovered::SameKind), "tick {n}");
        assert_eq!((tick.streams, tick.frames), (1, 1), "tick {n}");
        assert_eq!(pool.last(), [(id, 1)], "tick {n}");
        pool.pull_into(id, &mut y).expect("results");
    }
    assert_eq!(pool.statistics().recovered, 1);
    assert!(pool.statistics().to_string().contains("1 lost"));
    let mut whole = gru_pool(&PoolOptions::default());
    let id = whole.open().expect("a stream");
    whole.push(id, &x).expect("frames");
    whole.tick().expect("a tick");
    let expected = whole.pull(id).expect("results").data;
    assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "the CPU executor's within its bound");
}

#[test]
fn without_keep_a_lost_device_is_an_error() {
    let mut pool = pool(&gpu(), None);
    let id = pool.open().expect("a stream");
    pool.push(id, &[0.1; 3]).expect("a frame");
    lose(&pool);
    assert!(matches!(pool.tick(), Err(Error::DeviceLost { .. })));
    assert!(matches!(pool.state(id), Err(Error::DeviceLost { .. })));
}

/// A device that a host owns can be made anew by the host alone; the pool goes on with the CPU executor, if it may.
#[test]
fn pools_go_on_with_the_cpu_where_they_may() {
    let of_host = || {
        let (device, queue) = gpu().wgpu().map(|(d, q)| (d.clone(), q.clone())).expect("a GPU");
        Device::from_wgpu(device, queue)
    };
    let mut refusing = pool(&of_host(), Some(Keep::default()));
    let id = refusing.open().expect("a stream");
    refusing.push(id, &[0.1; 3]).expect("a frame");
    lose(&refusing);
    let error = refusing.tick().expect_err("no other device").to_string();
    assert!(error.contains("the host made it"), "{error}");

    let mut going_on = pool(&of_host(), Some(Keep { every: 1, on_cpu: true }));
    let mut on_cpu = gru_pool(&PoolOptions::default());
    let (a, b) = (going_on.open().expect("a stream"), on_cpu.open().expect("a stream"));
    let x = values(2, 3 * 9);
    for (n, frame) in x.chunks(3).enumerate() {
        going_on.push(a, frame).expect("a frame");
        on_cpu.push(b, frame).expect("a frame");
        if n == 4 {
            lose(&going_on);
        }
        let tick = going_on.tick().expect("a tick");
        assert_eq!(tick.recovered, (n == 4).then_some(Recovered::Cpu));
        on_cpu.tick().expect("a tick");
    }
    assert_eq!(going_on.device().kind(), "cpu");
    let (got, expected) = (going_on.pull(a).expect("results").data, on_cpu.pull(b).expect("results").data);
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// A NaN is refused where it comes in, with its place; nothing of that push was taken, and nobody else hears of it.
#[test]
fn poisoned_frames_are_refused() {
    let mut pool = gru_pool(&PoolOptions::default());
    let (a, b) = (pool.open().expect("a stream"), pool.open().expect("a stream"));
    pool.push_at(a, &[0.1; 3], ms(0)).expect("a frame");
    pool.push_at(b, &[0.2; 3], ms(0)).expect("a frame");
    let frames = [0.1, 0.2, 0.3, 0.4, f32::NAN, 0.5];
    let error = refused(pool.push_at(a, &frames, ms(1)));
    assert_eq!(error, StreamError::Poisoned { id: a.to_string(), frame: 1, column: 1 });
    assert!(error.to_string().contains("value 1 of frame 1"), "{error}");
    assert_eq!((pool.waiting(a).expect("a"), pool.waiting(b).expect("b")), (1, 1));
    pool.tick().expect("a tick");
    let mut clean = gru_pool(&PoolOptions::default());
    let c = clean.open().expect("a stream");
    clean.push(c, &[0.2; 3]).expect("a frame");
    clean.tick().expect("a tick");
    assert_eq!(bits(&pool.pull(b).expect("b").data), bits(&clean.pull(c).expect("c").data));
}
