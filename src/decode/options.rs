//! What a decoder is asked for, and what it gives.

use crate::error::{Error, Result};
use crate::kernels::{MOST_ROWS, NONE, RowStatus};
use crate::tensor::View;
use std::borrow::Cow;

/// How a [`Decoder`](crate::Decoder) chooses the next token from the logits of a step. Where two are equal, the lower token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Decoding {
    /// The likeliest token.
    #[default]
    Greedy,
    /// A token that is drawn.
    Sample(Sampling),
    /// The best of several hypotheses at once.
    Beam(Beam),
}

/// Tokens are drawn with the probabilities of softmax(logits / temperature), among those that `top_k` and then `top_p` leave.
///
/// The random number of a token is word 0 of Philox 4x32-10 ([`crate::num::random`]) with the counter `[tokens before it, 0, number, 0]` and the
/// seed as the key: it depends on nothing else, neither on other streams nor on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Above 0: towards 0 the likeliest tokens gain, and above 1 the others. Default: 1.
    pub temperature: f32,
    /// Only tokens at least as likely as the `top_k`-th. Default: none, all tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities make up `top_p`, in 0..=1: those at least as likely as the last that is needed for that.
    /// Default: 1, all tokens.
    pub top_p: f32,
    /// Another gives other tokens. Default: 0.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: 1.0, seed: 0 }
    }
}

/// Every step keeps the `width` best of all hypotheses, each with every token that may follow; those that have ended stay among them as they
/// are. A hypothesis is as good as its score, the sum of its tokens' log probabilities, divided by n to the power of `length_power`, n being its
/// number of tokens without the one that ends it. Equal ones go by the hypothesis that they go on from, then by token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beam {
    /// Hypotheses of a stream, in 1..=16. Default: 4.
    pub width: usize,
    /// 0: long hypotheses are worse, as they have more tokens; 1: a token's mean counts. Default: 0.
    pub length_power: f32,
}

impl Default for Beam {
    fn default() -> Self {
        Self { width: 4, length_power: 0.0 }
    }
}

/// Which token may follow which, whatever the logits say.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenRules {
    /// Per token whether it may come at all: `[O]`.
    Allowed(Vec<bool>),
    /// Per token before (at first, the prompt's last) and token whether this may follow that: `[O, O]`, rows of the token before. A prompt
    /// must then end with a token below O.
    After(Vec<bool>),
    /// An automaton: per state and token the state after it, or [`TokenRules::REFUSED`]: `[S, O]`. Streams begin in [`Prompt::rule`].
    Table(Vec<u32>),
}

impl TokenRules {
    /// In [`TokenRules::Table`]: this token may not come in this state.
    pub const REFUSED: u32 = NONE;

    /// `[S, size]`, checked.
    pub(super) fn table(&self, size: usize) -> Result<Cow<'_, [u32]>> {
        let wrong = |expected: String, got: usize| {
            Err(Error::mismatch(
                "rules of a Decoder",
                format!("{expected} for {size} tokens"),
                format!("{got} entries"),
            ))
        };
        match self {
            Self::Allowed(all) if all.len() == size => {
                Ok(all.iter().map(|&may| if may { 0 } else { NONE }).collect::<Vec<_>>().into())
            }
            Self::Allowed(all) => wrong("[O]".into(), all.len()),
            Self::After(all) if all.len() == size * size => {
                let next = |(n, &may): (usize, &bool)| if may { (n % size) as u32 } else { NONE };
                Ok(all.iter().enumerate().map(next).collect::<Vec<_>>().into())
            }
            Self::After(all) => wrong("[O, O]".into(), all.len()),
            Self::Table(next) if next.is_empty() || next.len() % size != 0 => wrong("[S, O]".into(), next.len()),
            Self::Table(next) => {
                let states = next.len() / size;
                match next.iter().find(|&&state| state != NONE && state as usize >= states) {
                    Some(state) => {
                        let expected = format!("states below {states}, or TokenRules::REFUSED");
                        Err(Error::mismatch("rules of a Decoder", expected, state))
                    }
                    None => Ok(Cow::Borrowed(next)),
                }
            }
        }
    }
}

/// How a [`Decoder`](crate::Decoder) decodes.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderOptions {
    /// How a token is chosen. Default: the likeliest.
    pub decoding: Decoding,
    /// Tokens that end a stream. They are no part of its result. Default: none.
    pub ends: Vec<u32>,
    /// Tokens of a stream at most, at least 1, where its [`Prompt`] says nothing else. Default: 256.
    pub max_tokens: usize,
    /// Which token may follow which. Default: any.
    pub rules: Option<TokenRules>,
    /// Of a network, the output that has the logits. Default: its only one.
    pub logits: Option<String>,
    /// On a GPU, steps of one submit at most, at least 1: only then tokens come back, and streams that have ended leave the batch. Nothing of
    /// a result depends on it. Default: 16.
    pub steps_per_submit: usize,
    /// Streams that run at once at most, at least 1; others wait until these have ended. Default: 256.
    pub max_batch: usize,
    /// Bytes that states take at most. Default: 1 GiB.
    pub bytes: u64,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self {
            decoding: Decoding::Greedy,
            ends: Vec::new(),
            max_tokens: 256,
            rules: None,
            logits: None,
            steps_per_submit: 16,
            max_batch: 256,
            bytes: 1 << 30,
        }
    }
}

impl DecoderOptions {
    pub(super) fn validate(&self) -> Result<()> {
        let sizes = [
            ("max_tokens of a Decoder", self.max_tokens),
            ("steps_per_submit of a Decoder", self.steps_per_submit),
            ("max_batch of a Decoder", self.max_batch),
        ];
        if let Some((what, size)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::mismatch(what, "at least 1", size));
        }
        match self.decoding {
            Decoding::Greedy => Ok(()),
            Decoding::Sample(Sampling { temperature, top_k, top_p, .. }) => {
                if !(temperature > 0.0 && temperature.is_finite()) {
                    let expected = "a number above 0 (Decoding::Greedy is what 0 would be)";
                    return Err(Error::mismatch("temperature of a Sampling", expected, temperature));
                }
                if !(0.0..=1.0).contains(&top_p) {
                    return Err(Error::mismatch("top_p of a Sampling", "a number in 0..=1", top_p));
                }
                match top_k {
                    Some(0) => Err(Error::mismatch("top_k of a Sampling", "at least 1, or none", 0)),
                    _ => Ok(()),
                }
            }
            Decoding::Beam(Beam { width, .. }) if !(1..=MOST_ROWS).contains(&width) => {
                Err(Error::mismatch("width of a Beam", format!("1..={MOST_ROWS}"), width))
            }
            Decoding::Beam(Beam { length_power, .. }) if !length_power.is_finite() => {
                Err(Error::mismatch("length_power of a Beam", "a number", length_power))
            }
            Decoding::Beam(_) => Ok(()),
        }
    }

    /// Hypotheses of a stream.
    pub(super) fn width(&self) -> usize {
        match self.decoding {
            Decoding::Beam(beam) => beam.width,
            _ => 1,
        }
    }
}

/// What a stream begins with.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a, T> {
    /// Tokens that the model reads first, at least one; its logits behind the last choose the first token.
    pub tokens: &'a [u32],
    /// The states before them, of this stream alone, as [`crate::StreamPool::state`] has them: of a stack h `[L, P or H]` and, for cells with a cell
    /// state, c `[L, S·H]`, an encoder's for example. `None`: the empty state.
    pub states: Option<&'a [View<'a, T>]>,
    /// Tokens at most; `None`: [`DecoderOptions::max_tokens`].
    pub max_tokens: Option<usize>,
    /// Tells its random numbers from those of other streams; `None`: its place among the prompts of the call.
    pub number: Option<u32>,
    /// The state that [`TokenRules::Table`] begins in.
    pub rule: u32,
}

impl<'a, T> Prompt<'a, T> {
    /// These tokens, from the empty state.
    pub fn new(tokens: &'a [u32]) -> Self {
        Self { tokens, states: None, max_tokens: None, number: None, rule: 0 }
    }
}

/// Why a hypothesis has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By one of [`DecoderOptions::ends`].
    Token,
    /// It has as many tokens as it may have.
    Length,
    /// No token may follow: [`TokenRules`] refuse all, or their logits are −∞.
    NoToken,
    /// Logits were NaN or +∞. Other streams go on.
    Poisoned,
}

impl Ended {
    pub(super) fn of(status: RowStatus) -> Option<Self> {
        match status {
            RowStatus::Live | RowStatus::Absent => None,
            RowStatus::EndToken => Some(Self::Token),
            RowStatus::EndLength => Some(Self::Length),
            RowStatus::EndNoToken => Some(Self::NoToken),
            RowStatus::EndPoisoned => Some(Self::Poisoned),
        }
    }
}

/// A result of decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens, without the prompt and without the token that ends them.
    pub tokens: Vec<u32>,
    /// The sum of the log probabilities of all that were chosen, the token that ends them too: softmax over the tokens that may come, at a
    /// temperature of 1. A GPU adds it up in 32 bits.
    pub score: f64,
    /// Why there are no more.
    pub ended: Ended,
}

/// A hypothesis at a step.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRow<'a> {
    /// The place of its stream's prompt in the call.
    pub stream: usize,
    /// The tokens of the prompt.
    pub prompt: &'a [u32],
    /// The tokens that were chosen so far.
    pub tokens: &'a [u32],
}

/// What is computed outside at every step, for [`Decoder::decode_with`](crate::Decoder::decode_with).
pub trait DecodeHook<T> {
    /// Before a step: the values that a network reads beside the token ids, in its inputs' columns ([`Decoder::inputs`](crate::Decoder::inputs));
    /// the column of token ids is there. Called for every step, the prompt's too: `row.prompt` and `row.tokens` end with the token of the step.
    ///
    /// # Errors
    /// Its own, which end the call.
    fn inputs(&mut self, row: DecodeRow<'_>, frame: &mut [T]) -> Result<()> {
        let _ = (row, frame);
        Ok(())
    }

    /// Behind a step: the logits `[O]` that a token is about to be chosen by, to read or to change.
    ///
    /// # Errors
    /// Its own, which end the call.
    fn logits(&mut self, row: DecodeRow<'_>, logits: &mut [T]) -> Result<()> {
        let _ = (row, logits);
        Ok(())
    }
}
