//! Tokens chosen on the host: twin of `shaders/decode/choose.wgsl` and `shaders/decode/beam.wgsl`, in 64 bits.

use super::options::{Beam, DecoderOptions, Decoding, Sampling};
use crate::kernels::{NONE, RowStatus};
use crate::num::Real;
use crate::num::random::philox4x32_10;
use std::borrow::Cow;

/// A hypothesis.
#[derive(Clone)]
pub(super) struct Row {
    pub tokens: Vec<u32>,
    /// What the model reads next.
    pub last: u32,
    pub score: f64,
    pub rule: u32,
    pub status: RowStatus,
    /// Where its state is.
    pub slot: u32,
}

/// What chooses: the options, and what is made of them.
pub(super) struct Chooser<'a> {
    pub options: &'a DecoderOptions,
    /// `[S, O]`; empty: every token may come.
    pub rules: Cow<'a, [u32]>,
    /// Tokens that have a logit.
    pub size: usize,
}

/// The logits of a row that may come, and what they amount to.
struct Likely<'a, T> {
    logits: &'a [T],
    most: f64,
    /// The logarithm of the sum of exp(logit − most).
    log: f64,
}

impl<T: Real> Likely<'_, T> {
    fn log_probability(&self, token: usize) -> f64 {
        (self.logits[token].to_f64() - self.most) - self.log
    }
}

impl Chooser<'_> {
    pub fn after(&self, rule: u32, token: usize) -> Option<u32> {
        match self.rules.get(rule as usize * self.size + token) {
            None => Some(0),
            Some(&NONE) => None,
            Some(&next) => Some(next),
        }
    }

    fn may_come<T: Real>(&self, rule: u32, token: usize, logit: T) -> bool {
        logit.to_f64() != f64::NEG_INFINITY && self.after(rule, token).is_some()
    }

    /// What a row's logits amount to, or why none can be chosen.
    fn likely<'l, T: Real>(&self, rule: u32, logits: &'l [T]) -> Result<Likely<'l, T>, RowStatus> {
        let those = || logits.iter().enumerate().filter(|&(token, &x)| self.may_come(rule, token, x));
        let values = || those().map(|(_, x)| x.to_f64());
        if values().any(|x| x.is_nan() || x == f64::INFINITY) {
            return Err(RowStatus::EndPoisoned);
        }
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            return Err(RowStatus::EndNoToken);
        }
        Ok(Likely { logits, most, log: values().map(|x| (x - most).exp()).sum::<f64>().ln() })
    }

    /// A row with a token more.
    fn take(&self, row: &mut Row, token: usize, score: f64, most_tokens: usize) {
        row.score = score;
        row.rule = self.after(row.rule, token).unwrap_or(0);
        row.last = token as u32;
        if self.options.ends.contains(&row.last) {
            row.status = RowStatus::EndToken;
            return;
        }
        row.tokens.push(row.last);
        if row.tokens.len() >= most_tokens {
            row.status = RowStatus::EndLength;
        }
    }

    /// The next token of a row of its own; `number`: the stream's.
    pub fn choose<T: Real>(&self, row: &mut Row, logits: &[T], most_tokens: usize, number: u32) {
        let likely = match self.likely(row.rule, logits) {
            Ok(likely) => likely,
            Err(status) => {
                row.status = status;
                return;
            }
        };
        let token = match self.options.decoding {
            Decoding::Sample(sampling) => self.draw(row, logits, likely.most, sampling, number),
            _ => {
                let is_best = |token: &usize| {
                    let x = logits[*token];
                    x.to_f64() == likely.most && self.may_come(row.rule, *token, x)
                };
                (0..logits.len()).find(is_best).unwrap_or(0)
            }
        };
        let score = row.score + likely.log_probability(token);
        self.take(row, token, score, most_tokens);
    }

    fn draw<T: Real>(&self, row: &Row, logits: &[T], most: f64, sampling: Sampling, number: u32) -> usize {
        let Sampling { temperature, top_k, top_p, seed } = sampling;
        let mut those: Vec<(usize, f64)> = logits
            .iter()
            .enumerate()
            .filter(|&(token, &x)| self.may_come(row.rule, token, x))
            .map(|(token, x)| (token, x.to_f64()))
            .collect();
        let weight = |x: f64| ((x - most) / f64::from(temperature)).exp();
        if top_k.is_some() || top_p < 1.0 {
            let mut sorted: Vec<f64> = those.iter().map(|&(_, x)| x).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let mut least = sorted[top_k.unwrap_or(usize::MAX).min(sorted.len()) - 1];
            if top_p < 1.0 {
                let kept = || sorted.iter().copied().take_while(|&x| x >= least);
                let wanted = f64::from(top_p) * kept().map(weight).sum::<f64>();
                let mut so_far = 0.0;
                let needed = kept().find(|&x| {
                    so_far += weight(x);
                    so_far >= wanted
                });
                least = needed.unwrap_or(least);
            }
            those.retain(|&(_, x)| x >= least);
        }
        let all: f64 = those.iter().map(|&(_, x)| weight(x)).sum();
        let key = [seed as u32, (seed >> 32) as u32];
        let word = philox4x32_10([row.tokens.len() as u32, 0, number, 0], key)[0];
        let target = f64::from(word >> 8) / f64::from(1 << 24) * all;
        let mut so_far = 0.0;
        let found = those.iter().find(|&&(_, x)| {
            so_far += weight(x);
            so_far > target
        });
        // Where rounding leaves none, the last.
        found.or(those.last()).map_or(0, |&(token, _)| token)
    }

    /// The best rows of a stream, one token on, each with the row that it goes on from; `logits`: of the live ones, in their order.
    pub fn beam<T: Real>(&self, rows: &[Row], logits: &[&[T]], beam: Beam, most_tokens: usize) -> Vec<(Row, usize)> {
        let rank = |score: f64, count: usize| match beam.length_power {
            0.0 => score,
            power => score / (count.max(1) as f64).powf(f64::from(power)),
        };
        /// A row as it is, or with a token more.
        struct Candidate {
            rank: f64,
            score: f64,
            row: usize,
            token: Option<usize>,
            status: RowStatus,
        }
        let mut all: Vec<Candidate> = Vec::new();
        let mut logits = logits.iter();
        for (n, row) in rows.iter().enumerate() {
            let mut status = row.status;
            if status == RowStatus::Live {
                match logits.next().map_or(Err(RowStatus::EndNoToken), |logits| self.likely(row.rule, logits)) {
                    Ok(likely) => {
                        let those = likely.logits.iter().enumerate();
                        let those = those.filter(|&(token, &x)| self.may_come(row.rule, token, x));
                        all.extend(those.map(|(token, _)| {
                            let score = row.score + likely.log_probability(token);
                            let ends = self.options.ends.contains(&(token as u32));
                            let rank = rank(score, row.tokens.len() + usize::from(!ends));
                            Candidate { rank, score, row: n, token: Some(token), status }
                        }));
                        continue;
                    }
                    Err(ended) => status = ended,
                }
            }
            let rank = match status {
                RowStatus::EndPoisoned => f64::NEG_INFINITY,
                _ => rank(row.score, row.tokens.len()),
            };
            all.push(Candidate { rank, score: row.score, row: n, token: None, status });
        }
        // They are in the order of rows and tokens, and a stable sort leaves equal ones so.
        all.sort_by(|a, b| b.rank.total_cmp(&a.rank));
        let best = all.into_iter().take(beam.width).map(|of| {
            let mut row = Row { status: of.status, ..rows[of.row].clone() };
            if let Some(token) = of.token {
                self.take(&mut row, token, of.score, most_tokens);
            }
            (row, of.row)
        });
        best.collect()
    }
}
