//! States as bytes: what they are, and what is refused.

use crate::models;
use crate::{bits, refused, values};
use wgpu_rnn::*;

fn pool_of(seed: u64, device: &Device) -> StreamPool {
    let config = RnnConfig::lstm(3, 4);
    let weights = Weights::<f32>::random(&config, seed).expect("weights");
    StreamPool::of_rnn(device, &config, &weights, &PoolOptions::default()).expect("a pool")
}

#[test]
fn a_saved_stream_goes_on_in_another_pool() {
    let (mut one, mut two) = (pool_of(1, &Device::cpu()), pool_of(1, &Device::cpu()));
    assert_eq!(one.fingerprint(), two.fingerprint());
    let (a, b) = (one.open().expect("a stream"), two.open().expect("a stream"));
    one.push(a, &values(1, 15)).expect("frames");
    // What waits is a part of it.
    let bytes = one.save(a).expect("bytes");
    two.push(b, &values(2, 3)).expect("a frame of before");
    two.restore(b, &bytes).expect("a state");
    assert_eq!((two.position(b).expect("a stream"), two.pull(b).expect("results").shape[0]), (5, 1));
    for pool in [(&mut one, a), (&mut two, b)] {
        pool.0.push(pool.1, &values(3, 6)).expect("frames");
        pool.0.tick().expect("a tick");
    }
    let expected = one.pull(a).expect("results").data;
    assert_eq!(bits(&two.pull(b).expect("results").data), bits(&expected[4 * 5..]));

    // As docs/formats.md says.
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(&bytes[..8], b"wrnn.str");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!((word(16), word(24), word(32)), (one.fingerprint(), 5, 8));
    assert_eq!(bytes.len(), 40 + 8 * 4 + 8);
}

#[test]
fn states_go_between_devices() {
    let gpu = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do");
    let (mut one, mut two) = (pool_of(1, &Device::cpu()), pool_of(1, &gpu));
    assert_eq!(one.fingerprint(), two.fingerprint());
    let (a, b) = (one.open().expect("a stream"), two.open().expect("a stream"));
    one.push(a, &values(1, 15)).expect("frames");
    two.restore(b, &one.save(a).expect("bytes")).expect("a state");
    let parts = |states: Vec<Tensor<f32>>| states.iter().map(|t| bits(&t.data)).collect::<Vec<_>>();
    assert_eq!(parts(two.state(b).expect("a state")), parts(one.state(a).expect("a state")));
}

/// Numbers that are no numbers are kept as they are.
#[test]
fn every_bit_is_kept() {
    let mut pool = pool_of(1, &Device::cpu());
    let (a, b) = (pool.open().expect("a stream"), pool.open().expect("a stream"));
    let h = [0.0, -0.0, f32::NAN, f32::from_bits(0x7fc1_2345)];
    let c = [f32::INFINITY, f32::MIN_POSITIVE / 3.0, 1.0, -1.5];
    pool.set_state(a, &[View::new(&h, &[1, 4]), View::new(&c, &[1, 4])]).expect("a state");
    let bytes = pool.save(a).expect("bytes");
    pool.restore(b, &bytes).expect("a state");
    let state = pool.state(b).expect("a state");
    assert_eq!([bits(&state[0].data), bits(&state[1].data)], [bits(&h), bits(&c)]);
}

#[test]
fn states_of_other_models_and_broken_bytes_are_refused() {
    let mut pool = pool_of(1, &Device::cpu());
    let id = pool.open().expect("a stream");
    pool.push(id, &values(1, 6)).expect("frames");
    let bytes = pool.save(id).expect("bytes");
    let now = pool.state(id).expect("a state");
    let mut other = pool_of(2, &Device::cpu());
    let there = other.open().expect("a stream");
    let expected = StreamError::Model { expected: other.fingerprint(), got: pool.fingerprint() };
    assert_eq!(refused(other.restore(there, &bytes)), expected);
    // Every byte counts, and every length.
    for n in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[n] ^= 0x10;
        assert!(matches!(refused(pool.restore(id, &broken)), StreamError::Saved { .. }), "byte {n}");
        assert!(matches!(refused(pool.restore(id, &bytes[..n])), StreamError::Saved { .. }), "{n} bytes");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(matches!(refused(pool.restore(id, &long)), StreamError::Saved { .. }));
    let mut later = bytes.clone();
    later[8] = 2;
    let text = Error::Stream(refused(pool.restore(id, &later))).to_string();
    assert_eq!(text, "saved stream: expected version 1 of the format, got version 2");
    assert_eq!(pool.state(id).expect("a state"), now);
}

/// What is another function is another model.
#[test]
fn fingerprints_tell_models_apart() {
    let device = Device::cpu();
    let all = [
        models::lstm(),
        models::gru(),
        models::projection(),
        models::two_layers(),
        models::tokens(),
        models::mamba(),
        models::rwkv(),
        models::mixed(),
    ];
    let mut prints: Vec<u64> =
        all.iter().map(|model| model.pool(&device, &PoolOptions::default()).fingerprint()).collect();
    let config = RnnConfig::lstm(3, 4);
    let weights = Weights::<f32>::random(&config, 1).expect("weights");
    for config in [
        config.clone(),
        RnnConfig { clip: Some(3.0), ..config.clone() },
        RnnConfig { cell_clip: Some(3.0), ..config.clone() },
        RnnConfig { input_forget: true, ..config },
    ] {
        let options = PoolOptions::default();
        prints.push(StreamPool::of_rnn(&device, &config, &weights, &options).expect("a pool").fingerprint());
        // The executor's type is a part of it.
        let wide = StreamPool::of_rnn(&device, &config, &weights.cast::<f64>(), &options).expect("a pool");
        prints.push(wide.fingerprint());
    }
    let count = prints.len();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), count);
}
