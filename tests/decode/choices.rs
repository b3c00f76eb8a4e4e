//! What is chosen: the likeliest, drawn ones, the best hypotheses, within rules.

use crate::plain::{Plain, beam, drawn, follow, likeliest};
use crate::*;

const PROMPTS: [&[u32]; 7] = [&[1], &[2, 3], &[4, 4, 4, 4, 4], &[5], &[6, 0], &[7, 1, 2], &[8]];

fn prompts() -> Vec<Prompt<'static, f32>> {
    PROMPTS.iter().map(|tokens| Prompt::new(tokens)).collect()
}

#[test]
fn the_likeliest_token_is_chosen() {
    let ends = [0, 2, 5, 9];
    for (cell, seed) in [(&cells::LSTM, 3), (&cells::GRU, 3)] {
        let of = model(cell, 11, seed);
        let options = DecoderOptions { ends: ends.to_vec(), max_tokens: 21, steps_per_submit: 5, ..Default::default() };
        let mut plain = Plain::new(&of);
        let expected = PROMPTS.map(|prompt| follow(&mut plain, prompt, (&ends, 21, &|_, _| true), likeliest));
        // Streams end at different steps, or the test would say nothing about that.
        let lengths: std::collections::BTreeSet<usize> = expected.iter().map(|e| e.tokens.len()).collect();
        assert!(lengths.len() > 2, "{lengths:?}");
        for device in devices() {
            let found = decoder(&device, &of, &options).decode(&prompts()).expect("tokens");
            for (n, found) in found.iter().enumerate() {
                assert_alike(
                    &format!("{} on {device}, prompt {n}", cell.name),
                    found,
                    std::slice::from_ref(&expected[n]),
                );
            }
        }
    }
}

#[test]
fn tokens_are_drawn_as_softmax_says() {
    let of = model(&cells::GRU, 13, 5);
    let mut plain = Plain::new(&of);
    let all = [
        Sampling { seed: 7, ..Default::default() },
        Sampling { temperature: 2.5, seed: u64::MAX - 3, ..Default::default() },
        Sampling { temperature: 3.0, top_k: Some(4), seed: 1, ..Default::default() },
        Sampling { temperature: 4.0, top_p: 0.7, seed: 2, ..Default::default() },
        Sampling { temperature: 5.0, top_k: Some(6), top_p: 0.8, seed: 3 },
        Sampling { top_k: Some(1), ..Default::default() },
        Sampling { top_p: 0.0, ..Default::default() },
    ];
    for sampling in all {
        let decoding = Decoding::Sample(sampling);
        let options =
            DecoderOptions { decoding, ends: vec![2], max_tokens: 12, steps_per_submit: 5, ..Default::default() };
        let rules = (&[2][..], 12, &(|_: u32, _: usize| true) as &dyn Fn(u32, usize) -> bool);
        for device in devices() {
            let found = decoder(&device, &of, &options).decode(&prompts()).expect("tokens");
            for (n, found) in found.iter().enumerate() {
                let expected = follow(&mut plain, PROMPTS[n], rules, drawn(sampling, n as u32));
                assert_alike(&format!("{sampling:?} on {device}, prompt {n}"), found, &[expected]);
            }
        }
    }
}

/// Chosen often enough, tokens come as often as their probabilities say.
#[test]
fn drawn_tokens_come_as_often_as_they_should() {
    let of = model(&cells::GRU, 5, 8);
    let (_, logits) = {
        let mut plain = Plain::new(&of);
        let empty = plain.empty();
        plain.step(&empty, 1)
    };
    let all: f64 = logits.iter().map(|x| (x / 2.0).exp()).sum();
    const COUNT: usize = 4000;
    let prompts: Vec<Prompt<'_, f32>> = (0..COUNT).map(|_| Prompt::new(&[1])).collect();
    let decoding = Decoding::Sample(Sampling { temperature: 2.0, ..Default::default() });
    let options = DecoderOptions { decoding, max_tokens: 1, ..Default::default() };
    for device in devices() {
        let found = decoder(&device, &of, &options).decode(&prompts).expect("tokens");
        for (token, x) in logits.iter().enumerate() {
            let share = (x / 2.0).exp() / all;
            let count = found.iter().filter(|found| found[0].tokens == [token as u32]).count();
            // Five standard deviations.
            let bound = 5.0 * (share * (1.0 - share) * COUNT as f64).sqrt() + 1.0;
            assert!((count as f64 - share * COUNT as f64).abs() < bound, "{device}: {count} for {share}");
        }
    }
}

#[test]
fn beams_have_the_best_hypotheses() {
    let of = model(&cells::LSTM, 9, 12);
    let mut plain = Plain::new(&of);
    for (width, length_power, ends, most) in
        [(1, 0.0, vec![0, 3], 9), (3, 0.0, vec![0], 10), (4, 1.0, vec![0, 5], 13), (16, 0.7, vec![1, 2, 3], 7)]
    {
        let of_beam = Beam { width, length_power };
        let decoding = Decoding::Beam(of_beam);
        let options = DecoderOptions {
            decoding,
            ends: ends.clone(),
            max_tokens: most,
            steps_per_submit: 4,
            ..Default::default()
        };
        for device in devices() {
            let found = decoder(&device, &of, &options).decode(&prompts()).expect("tokens");
            for (n, found) in found.iter().enumerate() {
                let expected = beam(&mut plain, PROMPTS[n], (&ends, most, &|_, _| true), of_beam);
                assert_alike(&format!("{of_beam:?} on {device}, prompt {n}"), found, &expected);
            }
        }
    }
}

#[test]
fn rules_say_which_tokens_may_come() {
    let of = model(&cells::GRU, 9, 4);
    let mut plain = Plain::new(&of);
    let allowed: Vec<bool> = (0..9).map(|v| v != 3 && v != 6).collect();
    // Never the same parity twice, and behind 8 nothing.
    let may_follow = |before: u32, v: usize| before != 8 && before as usize % 2 != v % 2;
    let after: Vec<bool> = (0..81).map(|n| may_follow(n as u32 / 9, n % 9)).collect();
    // At most two tokens above 4 in all: the state counts them.
    let count = |state: usize, v: usize| if v > 4 { state + 1 } else { state };
    let table: Vec<u32> = (0..27)
        .map(|n| match count(n / 9, n % 9) {
            state if state > 2 => TokenRules::REFUSED,
            state => state as u32,
        })
        .collect();
    for decoding in [Decoding::Greedy, Decoding::Beam(Beam { width: 3, length_power: 0.0 })] {
        let options = |rules| DecoderOptions {
            decoding,
            rules: Some(rules),
            ends: vec![0],
            max_tokens: 9,
            steps_per_submit: 4,
            ..Default::default()
        };
        for device in devices() {
            let cases: [(TokenRules, crate::plain::May<'_>); 2] = [
                (TokenRules::Allowed(allowed.clone()), &|_, v| allowed[v]),
                (TokenRules::After(after.clone()), &may_follow),
            ];
            for (rules, may) in cases {
                let found = decoder(&device, &of, &options(rules)).decode(&prompts()).expect("tokens");
                for (n, found) in found.iter().enumerate() {
                    let of_all = (&[0][..], 9, may);
                    let expected = match decoding {
                        Decoding::Beam(of_beam) => beam(&mut plain, PROMPTS[n], of_all, of_beam),
                        _ => vec![follow(&mut plain, PROMPTS[n], of_all, likeliest)],
                    };
                    assert_alike(&format!("{decoding:?} on {device}, prompt {n}"), found, &expected);
                }
            }
            let found = decoder(&device, &of, &options(TokenRules::Table(table.clone()))).decode(&prompts());
            for hypothesis in found.expect("tokens").iter().flatten() {
                assert!(hypothesis.tokens.iter().filter(|&&v| v > 4).count() <= 2, "{hypothesis:?}");
            }
            // From the last state none of them may come.
            let last: Vec<_> = prompts().into_iter().map(|prompt| Prompt { rule: 2, ..prompt }).collect();
            let found = decoder(&device, &of, &options(TokenRules::Table(table.clone()))).decode(&last);
            assert!(found.expect("tokens").iter().flatten().all(|h| h.tokens.iter().all(|&v| v <= 4)));
        }
    }
}

/// −∞ as a logit refuses a token; NaN ends a stream and leaves the others.
#[test]
fn poison_ends_its_stream_alone() {
    let (config, weights) = model(&cells::GRU, 7, 2);
    let mut of_poison = weights.clone();
    of_poison.embedding[6 * config.input_size..7 * config.input_size].fill(f32::NAN);
    let poisoned = (config.clone(), of_poison);
    for decoding in [Decoding::Greedy, Decoding::Sample(Sampling::default()), Decoding::Beam(Beam::default())] {
        let mut rules = vec![true; 7];
        rules[6] = false;
        let options =
            DecoderOptions { decoding, rules: Some(TokenRules::Allowed(rules)), max_tokens: 5, ..Default::default() };
        for device in devices() {
            let prompts = [Prompt::new(&[1]), Prompt::new(&[2, 6]), Prompt::new(&[3])];
            let found = decoder(&device, &poisoned, &options).decode(&prompts).expect("tokens");
            assert!(found[1].iter().all(|h| h.ended == Ended::Poisoned && h.tokens.is_empty()), "{:?}", found[1]);
            let clean =
                decoder(&device, &(config.clone(), weights.clone()), &options).decode(&prompts).expect("tokens");
            assert_eq!((&found[0], &found[2]), (&clean[0], &clean[2]), "{decoding:?} on {device}");
        }
    }
}
