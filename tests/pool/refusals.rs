//! What pools refuse, and say why.

use crate::models::{self, Model};
use crate::{gru_pool, refused, values};
use std::sync::Arc;
use wgpu_rnn::network::{Builder, Network, Pooling};
use wgpu_rnn::*;

#[track_caller]
fn unsupported(result: Result<StreamPool>, part: &str) {
    match result.map(drop) {
        Err(Error::Unsupported { what, reason }) => {
            assert!(format!("{what}: {reason}").contains(part), "{what}: {reason}")
        }
        other => panic!("{other:?}"),
    }
}

/// Adds a network's operations.
type Build<'a> = &'a dyn Fn(&mut Builder) -> Result<()>;

#[test]
fn what_reads_time_backwards_cannot_stream() {
    let (device, options) = (Device::cpu(), PoolOptions::default());
    for direction in [Direction::Bidirectional, Direction::Reverse] {
        let config = RnnConfig { direction, ..RnnConfig::lstm(3, 4) };
        let weights = Weights::<f32>::random(&config, 1).expect("weights");
        unsupported(StreamPool::of_rnn(&device, &config, &weights, &options), "reads time backwards");
    }
    let network = |build: Build<'_>| {
        let mut b = Builder::new();
        build(&mut b).expect("operations");
        Arc::new(b.finish().expect("a network"))
    };
    let both = RnnConfig { direction: Direction::Bidirectional, ..RnnConfig::gru(3, 4) };
    let cases: [(Build<'_>, &str); 5] = [
        (
            &|b| {
                let x = b.input("x", 3)?;
                let y = b.layers("gru", x, &both)?;
                b.output("y", y)
            },
            "gru: it reads time backwards",
        ),
        (
            &|b| {
                let x = b.input("x", 3)?;
                let y = b.scan("scan", &rules::MINGRU, [3, 1, 1], &[x.into(), x.into()], true)?;
                b.output("y", y)
            },
            "scan: it reads time backwards",
        ),
        (
            &|b| {
                let x = b.input("x", 3)?;
                let taps = b.param("taps", &[3, 3])?;
                let y = b.conv("conv", x, (taps, None), (1, 1))?;
                b.output("y", y)
            },
            "conv: its convolution reads later steps",
        ),
        (
            &|b| {
                let x = b.input("x", 3)?;
                let y = b.pool("mean", x, Pooling::Mean)?;
                b.output("y", y)
            },
            "mean: its value is of a whole sequence",
        ),
        (
            &|b| {
                let (x, target) = (b.input("x", 3)?, b.input("target", 3)?);
                b.loss("loss", x, target, None, Loss::MeanSquared)?;
                b.output("y", x)
            },
            "loss: its value is of all steps",
        ),
    ];
    for (build, part) in cases {
        let network: Arc<Network> = network(build);
        let params = network.random::<f32>(1).expect("parameters");
        unsupported(StreamPool::of_model(&device, &network, &params, &options), part);
    }
}

#[test]
fn options_that_are_none() {
    let config = RnnConfig::gru(3, 5);
    let weights = Weights::<f32>::random(&config, 1).expect("weights");
    let policy = Policy::default();
    let wrong = [
        PoolOptions { policy: Policy { max_batch: 0, ..policy }, ..PoolOptions::default() },
        PoolOptions { policy: Policy { max_steps: 0, ..policy }, ..PoolOptions::default() },
        PoolOptions { frames: 0, ..PoolOptions::default() },
        PoolOptions { history: History { steps: 3, every: 0 }, ..PoolOptions::default() },
        PoolOptions { history: History { steps: usize::MAX, every: 1 }, ..PoolOptions::default() },
        PoolOptions { frames: usize::MAX, ..PoolOptions::default() },
    ];
    for options in wrong {
        let pool = StreamPool::of_rnn(&Device::cpu(), &config, &weights, &options);
        assert!(matches!(pool.map(drop), Err(Error::Mismatch { .. })));
    }
    let plans = [
        Options { train: true, ..Options::default() },
        Options { resets: Some(Reset::Zero), ..Options::default() },
        Options { keep_y: false, ..Options::default() },
    ];
    for plan in plans {
        let sessions = RnnOptions { plan, ..RnnOptions::default() };
        let options = PoolOptions::default();
        let pool = StreamPool::of_rnn_with(&Device::cpu(), &config, &weights, &sessions, &options);
        assert!(matches!(pool.map(drop), Err(Error::Mismatch { .. })));
    }
    let few = PoolOptions { bytes: 100, ..PoolOptions::default() };
    let mut pool = StreamPool::of_rnn(&Device::cpu(), &config, &weights, &few).expect("a pool");
    assert!(matches!(pool.open(), Err(Error::Limit { .. })));
}

#[test]
fn names_of_streams_are_good_for_one_stream() {
    let (mut one, mut two) = (gru_pool(&PoolOptions::default()), gru_pool(&PoolOptions::default()));
    let (a, b) = (one.open().expect("a stream"), two.open().expect("a stream"));
    assert_ne!(a, b);
    let unknown = |id: StreamId| StreamError::Unknown { id: id.to_string() };
    assert_eq!(refused(one.push(b, &[0.0; 3])), unknown(b));
    one.close(a).expect("a stream");
    let again = one.open().expect("a stream");
    // The same place, another name.
    assert!(!one.is_open(a) && one.is_open(again) && a != again);
    assert_eq!(refused(one.push(a, &[0.0; 3])), unknown(a));
    assert_eq!(refused(one.pull(a)), unknown(a));
    assert_eq!(refused(one.close(a)), unknown(a));
    assert_eq!(refused(one.fork(a)), unknown(a));
    assert_eq!(refused(one.snapshot(a)), unknown(a));
    assert_eq!(refused(one.rollback(a, 0)), unknown(a));
    assert_eq!(refused(one.state(a)), unknown(a));
    assert_eq!(refused(one.set_state(a, &[])), unknown(a));
    assert_eq!(refused(one.reset(a)), unknown(a));
    assert_eq!(refused(one.save(a)), unknown(a));
    assert_eq!(refused(one.restore(a, &[])), unknown(a));
    assert_eq!(refused(one.waiting(a)), unknown(a));
    let text = Error::Stream(unknown(a)).to_string();
    assert!(text.contains("expected an open stream of this pool, got one that was closed"), "{text}");
}

#[test]
fn frames_that_are_none() {
    let mut pool = gru_pool(&PoolOptions::default());
    let id = pool.open().expect("a stream");
    let mismatch = |result: Result<()>, part: &str| match result {
        Err(error @ Error::Mismatch { .. }) => assert!(error.to_string().contains(part), "{error}"),
        other => panic!("{other:?}"),
    };
    mismatch(pool.push(id, &[0.0; 4]), "expected whole frames of 3 values, got 4 values");
    mismatch(pool.push_ids(id, &[1]), "expected none (the model's inputs are x: push)");
    pool.push(id, &[]).expect("no frames are no frames");
    assert_eq!(pool.tick().expect("a tick").streams, 0);

    let mut pool = models::tokens().pool(&Device::cpu(), &PoolOptions::default());
    let id = pool.open().expect("a stream");
    mismatch(pool.push(id, &[1.0]), "push_ids");
    mismatch(pool.push_ids(id, &[3, 11]), "token id of frame 1: expected 0..V = 0..11, got 11");
    pool.push_ids(id, &[3, 10]).expect("frames");
    assert_eq!(pool.outputs(), [("predictions".to_string(), 0..4)]);

    let mut pool = models::mixed().pool(&Device::cpu(), &PoolOptions::default());
    let id = pool.open().expect("a stream");
    assert_eq!(pool.inputs(), [("ids".to_string(), 0..1), ("x".to_string(), 1..4)]);
    assert_eq!(pool.outputs(), [("z".to_string(), 0..4), ("part".to_string(), 4..6)]);
    for wrong in [6.0, -1.0, 1.5, f32::NAN] {
        mismatch(pool.push(id, &[wrong, 0.0, 0.0, 0.0]), "expected a whole number in 0..6");
    }
    assert_eq!(pool.waiting(id).expect("a stream"), 0);
}

#[test]
fn states_that_are_none() {
    let mut pool = models::projection().pool(&Device::cpu(), &PoolOptions::default());
    let id = pool.open().expect("a stream");
    let (h, c) = (values(1, 3), values(2, 6));
    let (h, c, wrong) = (View::new(&h, &[1, 3]), View::new(&c, &[1, 6]), View::new(&c, &[2, 3]));
    for states in [&[][..], &[h], &[h, wrong], &[h, c, c]] {
        assert!(matches!(pool.set_state(id, states), Err(Error::Mismatch { .. })));
    }
    pool.set_state(id, &[h, c]).expect("a state");
    assert_eq!(pool.state(id).expect("a state")[1].shape, [1, 6]);
}

#[test]
fn a_rollback_says_how_much_is_kept() {
    let history = History { steps: 6, every: 4 };
    let mut pool = gru_pool(&PoolOptions { history, ..PoolOptions::default() });
    let id = pool.open().expect("a stream");
    for n in 0..40 {
        pool.push(id, &values(n, 3)).expect("a frame");
        pool.tick().expect("a tick");
        let kept = pool.kept(id).expect("a stream");
        assert!(kept >= 6.min(n as usize + 1) && kept <= 6 + 4, "{kept} after {n}");
        let expected = StreamError::History { id: id.to_string(), steps: kept + 1, kept };
        assert_eq!(refused(pool.rollback(id, kept + 1)), expected);
    }
    // Without a history only what waits.
    let mut pool = gru_pool(&PoolOptions::default());
    let id = pool.open().expect("a stream");
    pool.push(id, &values(1, 6)).expect("frames");
    pool.tick().expect("a tick");
    pool.push(id, &values(2, 9)).expect("frames");
    assert_eq!(refused(pool.rollback(id, 4)), StreamError::History { id: id.to_string(), steps: 4, kept: 3 });
    pool.rollback(id, 3).expect("what waits");
    assert_eq!((pool.tick().expect("a tick").frames, pool.position(id).expect("a stream")), (0, 2));
}

#[test]
fn snapshots_are_of_their_streams() {
    let (mut one, mut two) = (gru_pool(&PoolOptions::default()), gru_pool(&PoolOptions::default()));
    let (a, b, c) = (one.open().expect("a"), one.open().expect("b"), two.open().expect("c"));
    let snapshot = one.snapshot(a).expect("a snapshot");
    assert_eq!(refused(one.rollback_to(b, &snapshot)), StreamError::Snapshot { id: b.to_string() });
    assert_eq!(refused(two.rollback_to(c, &snapshot)), StreamError::Snapshot { id: c.to_string() });
    assert_eq!(refused(two.open_from(&snapshot)), StreamError::Snapshot { id: "new".into() });
    let fork = one.fork(a).expect("a fork");
    one.close(a).expect("a stream");
    one.rollback_to(fork, &snapshot).expect("what it was forked from");
}

/// A future that nobody waits for any more leaves results to whoever asks next.
#[test]
fn a_tick_that_nobody_awaits_loses_nothing() {
    use std::pin::pin;
    use std::task::{Context, Waker};
    let gpu = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do");
    let model: Model = models::projection();
    let mut pool = model.pool(&gpu, &PoolOptions::default());
    let mut other = model.pool(&gpu, &PoolOptions::default());
    let (id, truth) = (pool.open().expect("a stream"), other.open().expect("a stream"));
    for n in 0..3 {
        let frames = values(n, 6);
        pool.push(id, &frames).expect("room");
        other.push(truth, &frames).expect("room");
        other.tick().expect("a tick");
        let mut future = pin!(pool.tick_async());
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(pool.waiting(id).expect("a stream"), 4, "the first two ran");
    pool.tick().expect("a tick");
    assert_eq!(pool.pull(id).expect("results"), other.pull(truth).expect("results"));
}
