//! What is refused, and what it says.

use crate::*;

#[track_caller]
fn refused<R>(result: Result<R>, words: &str) {
    match result.map(drop) {
        Err(error) => assert!(error.to_string().contains(words), "{error}"),
        Ok(()) => panic!("expected a refusal with {words:?}"),
    }
}

#[test]
fn models_without_ids_or_logits_are_refused() {
    let cpu = Device::cpu();
    let gru = RnnConfig::gru(3, 4);
    let weights = Weights::<f32>::random(&gru, 1).expect("weights");
    refused(Decoder::of_rnn(&cpu, &gru, &weights, &Default::default()), "a vocabulary and a head");
    let wide = RnnConfig { vocabulary: Some(5), head: Some(Head { size: 6, loss: None }), ..gru.clone() };
    let weights = Weights::<f32>::random(&wide, 1).expect("weights");
    refused(Decoder::of_rnn(&cpu, &wide, &weights, &Default::default()), "at most 5 logits");
    let both = RnnConfig {
        vocabulary: Some(5),
        head: Some(Head { size: 5, loss: None }),
        direction: Direction::Bidirectional,
        ..gru
    };
    let weights = Weights::<f32>::random(&both, 1).expect("weights");
    refused(Decoder::of_rnn(&cpu, &both, &weights, &Default::default()), "reads time backwards");
}

#[test]
fn options_without_sense_are_refused() {
    let of = model(&cells::GRU, 5, 1);
    let with = |options: DecoderOptions| Decoder::of_rnn(&Device::cpu(), &of.0, &of.1, &options);
    let usual = DecoderOptions::default;
    refused(with(DecoderOptions { max_tokens: 0, ..usual() }), "max_tokens of a Decoder: expected at least 1");
    refused(with(DecoderOptions { steps_per_submit: 0, ..usual() }), "steps_per_submit");
    refused(with(DecoderOptions { max_batch: 0, ..usual() }), "max_batch");
    refused(with(DecoderOptions { ends: vec![5], ..usual() }), "tokens below 5");
    let sample = |sampling| DecoderOptions { decoding: Decoding::Sample(sampling), ..usual() };
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(with(sample(Sampling { temperature, ..Default::default() })), "temperature");
    }
    refused(with(sample(Sampling { top_p: 1.5, ..Default::default() })), "top_p");
    refused(with(sample(Sampling { top_k: Some(0), ..Default::default() })), "top_k");
    let beam =
        |width, length_power| DecoderOptions { decoding: Decoding::Beam(Beam { width, length_power }), ..usual() };
    refused(with(beam(0, 0.0)), "width of a Beam: expected 1..=16");
    refused(with(beam(17, 0.0)), "width of a Beam: expected 1..=16");
    refused(with(beam(2, f32::NAN)), "length_power");
    let rules = |rules| DecoderOptions { rules: Some(rules), ..usual() };
    refused(with(rules(TokenRules::Allowed(vec![true; 4]))), "[O] for 5 tokens, got 4 entries");
    refused(with(rules(TokenRules::After(vec![true; 24]))), "[O, O] for 5 tokens, got 24 entries");
    refused(with(rules(TokenRules::Table(vec![0; 7]))), "[S, O] for 5 tokens, got 7 entries");
    refused(with(rules(TokenRules::Table(vec![1; 5]))), "states below 1");
    refused(with(DecoderOptions { logits: Some("y".into()), ..usual() }), "an output y, got predictions");
    let mut small = with(DecoderOptions { bytes: 100, ..usual() }).expect("a decoder");
    refused(small.decode(&[Prompt::new(&[1])]), "DecoderOptions::bytes");
}

#[test]
fn prompts_are_checked() {
    for device in devices() {
        let of = model(&cells::LSTM, 5, 1);
        let mut one = decoder(&device, &of, &Default::default());
        refused(one.decode(&[Prompt::new(&[1]), Prompt::new(&[])]), "tokens of prompt 1: expected at least one");
        refused(one.decode(&[Prompt::new(&[5])]), "tokens of prompt 0: expected ids below 5, got 5");
        refused(one.decode(&[Prompt { max_tokens: Some(0), ..Prompt::new(&[1]) }]), "max_tokens of prompt 0");
        refused(one.decode(&[Prompt { rule: 1, ..Prompt::new(&[1]) }]), "rule of prompt 0");
        let h = [0.0; 20];
        let states = [View::new(&h, &[2, 10])];
        refused(one.decode(&[Prompt { states: Some(&states), ..Prompt::new(&[1]) }]), "states of prompt 0: expected 2");
        let states = [View::new(&h, &[2, 10]), View::new(&h, &[10, 2])];
        refused(one.decode(&[Prompt { states: Some(&states), ..Prompt::new(&[1]) }]), "state c of prompt 0");
        assert_eq!(one.decode(&[]).expect("nothing"), Vec::<Vec<Hypothesis>>::new());
        assert_eq!(one.submits(), 0, "nothing ran");
    }
}
