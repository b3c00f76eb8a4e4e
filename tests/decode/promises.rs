//! What a decoder promises: a stream's tokens depend on nothing but its prompt; few submits; memory that is bounded.

use crate::*;

fn of() -> (RnnConfig, Weights<f32>) {
    model(&cells::LSTM, 12, 21)
}

const ALL: [Decoding; 3] = [
    Decoding::Greedy,
    Decoding::Sample(Sampling { temperature: 3.0, top_k: None, top_p: 0.9, seed: 5 }),
    Decoding::Beam(Beam { width: 3, length_power: 0.5 }),
];

/// Alone or among others, few or many steps in a submit, few or many streams at once: the same bits.
#[test]
fn neighbours_and_submits_change_no_bit() {
    let tokens: Vec<[u32; 2]> = (0..9).map(|n| [n, 11 - n]).collect();
    for device in devices() {
        for decoding in ALL {
            let options = DecoderOptions { decoding, ends: vec![0], max_tokens: 19, ..Default::default() };
            let prompts: Vec<Prompt<'_, f32>> =
                tokens.iter().enumerate().map(|(n, t)| Prompt { number: Some(n as u32), ..Prompt::new(t) }).collect();
            let all = decoder(&device, &of(), &options).decode(&prompts).expect("tokens");
            for (steps_per_submit, max_batch) in [(1, 9), (7, 2), (64, 4)] {
                let options = DecoderOptions { steps_per_submit, max_batch, ..options.clone() };
                let again = decoder(&device, &of(), &options).decode(&prompts).expect("tokens");
                assert_eq!(again, all, "{decoding:?} on {device}, {steps_per_submit} steps, {max_batch} streams");
            }
            let mut one = decoder(&device, &of(), &options);
            for (n, prompt) in prompts.iter().enumerate() {
                let alone = one.decode(std::slice::from_ref(prompt)).expect("tokens");
                assert_eq!(alone[0], all[n], "{decoding:?} on {device}, stream {n} alone");
            }
        }
    }
}

/// States that an encoder left are those that decoding begins from; two prompts of one go their own ways.
#[test]
fn streams_begin_at_given_states() {
    let (config, weights) = of();
    for device in devices() {
        let options = DecoderOptions { max_tokens: 6, ..Default::default() };
        let mut one = decoder(&device, &(config.clone(), weights.clone()), &options);
        let whole = one.decode(&[Prompt::new(&[3, 1, 4, 1, 5])]).expect("tokens");
        // The same by way of a session that reads the first four.
        let mut session = Session::new(&device, &config, Shape { time: 4, batch: 1 }, &weights).expect("a session");
        let out = session.forward(&Input::of_ids(View::new(&[3, 1, 4, 1], &[4, 1]))).expect("states");
        let cn = out.cn.expect("a cell state");
        let states = [View::new(&out.hn.data, &[2, 10]), View::new(&cn.data, &[2, 10])];
        let prompt = Prompt { states: Some(&states), ..Prompt::new(&[5]) };
        let found = one.decode(&[prompt, Prompt { tokens: &[2], ..prompt }, prompt]).expect("tokens");
        assert_eq!((&found[0], &found[2]), (&whole[0], &whole[0]), "{device}");
        assert_ne!(found[1], whole[0], "another token");
    }
}

/// Prompts that are longer than a piece, of which some end before others.
#[test]
fn prompts_may_be_long() {
    let long: Vec<u32> = (0..150).map(|n| n * 7 % 12).collect();
    let options = DecoderOptions { max_tokens: 4, ..Default::default() };
    for device in devices() {
        let mut one = decoder(&device, &of(), &options);
        let found = one.decode(&[Prompt::new(&long), Prompt::new(&[4]), Prompt::new(&long[..70])]).expect("tokens");
        for (n, tokens) in [&long[..], &[4], &long[..70]].into_iter().enumerate() {
            let mut plain = crate::plain::Plain::new(&of());
            let expected = crate::plain::follow(&mut plain, tokens, (&[], 4, &|_, _| true), crate::plain::likeliest);
            assert_alike(&format!("{device}, prompt {n}"), &found[n], &[expected]);
        }
    }
}

#[test]
fn a_submit_has_many_steps() {
    let options = DecoderOptions { max_tokens: 48, steps_per_submit: 16, ..Default::default() };
    let mut one = decoder(&harness::gpu(), &of(), &options);
    one.decode(&[Prompt::new(&[1]), Prompt::new(&[2])]).expect("tokens");
    assert_eq!(one.submits(), 3, "48 tokens of two streams");
    assert_eq!(one.steps(), 96);
}

/// More streams than there is room for wait for their turn.
#[test]
fn room_bounds_streams_at_once() {
    let options = DecoderOptions { max_tokens: 5, bytes: 70_000, ..Default::default() };
    let prompts: Vec<Prompt<'_, f32>> = (0..400).map(|_| Prompt::new(&[1])).collect();
    let found = decoder(&Device::cpu(), &of(), &options).decode(&prompts).expect("tokens");
    assert_eq!(found.len(), 400);
    assert!(found.iter().all(|h| *h == found[0]));
}

/// A future that nobody waits for leaves a decoder that goes on.
#[test]
fn a_call_may_be_dropped() {
    use std::task::{Context, Poll, Waker};
    let options = DecoderOptions { max_tokens: 20, steps_per_submit: 2, ..Default::default() };
    let mut one = decoder(&harness::gpu(), &of(), &options);
    let expected = one.decode(&[Prompt::new(&[1])]).expect("tokens");
    for _ in 0..5 {
        let prompts = [Prompt::new(&[1]), Prompt::new(&[2])];
        let mut call = Box::pin(one.decode_async(&prompts));
        let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll, Poll::Pending), "a GPU takes its time");
    }
    assert_eq!(one.decode(&[Prompt::new(&[1])]).expect("tokens"), expected);
}
