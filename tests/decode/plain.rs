//! Decoding as anyone would write it: a session of one stream, everything else in 64 bits, hypotheses copied with their states.

use crate::*;
use wgpu_rnn::num::random::philox4x32_10;

/// A stream between two steps.
#[derive(Clone)]
pub struct Place {
    h: Vec<f32>,
    c: Option<Vec<f32>>,
}

/// A model, one step at a time.
pub struct Plain {
    session: Session,
    config: RnnConfig,
}

impl Plain {
    pub fn new(of: &(RnnConfig, Weights<f32>)) -> Self {
        let session = Session::new(&Device::cpu(), &of.0, Shape { time: 1, batch: 1 }, &of.1).expect("a session");
        Self { session, config: of.0.clone() }
    }

    pub fn empty(&self) -> Place {
        let width = |n: usize| self.config.num_layers * n;
        let cells = self.config.cell.has_cell_state();
        Place {
            h: vec![0.0; width(self.config.state_size())],
            c: cells.then(|| vec![0.0; width(self.config.cell_size())]),
        }
    }

    /// The place behind a token, and the logits there.
    pub fn step(&mut self, place: &Place, token: u32) -> (Place, Vec<f64>) {
        let layers = self.config.num_layers;
        let (h, c) = ([layers, 1, self.config.state_size()], [layers, 1, self.config.cell_size()]);
        let initial = Initial::Given {
            h0: Some(View::new(&place.h, &h)),
            c0: place.c.as_ref().map(|values| View::new(values, &c)),
        };
        let ids = [token];
        let input = Input { initial, ..Input::of_ids(View::new(&ids, &[1, 1])) };
        let out = self.session.forward(&input).expect("a step");
        let logits = out.predictions.map_or_else(Vec::new, |p| p.data.iter().map(|&x| f64::from(x)).collect());
        (Place { h: out.hn.data, c: out.cn.map(|c| c.data) }, logits)
    }

    /// The place behind a token, and y there.
    pub fn output(&mut self, place: &Place, token: u32) -> (Place, Vec<f64>) {
        let (next, _) = self.step(place, token);
        let last = next.h.len() - self.config.state_size();
        (next.clone(), next.h[last..].iter().map(|&x| f64::from(x)).collect())
    }

    /// Reads all but the last token.
    pub fn read(&mut self, tokens: &[u32]) -> (Place, u32) {
        let (last, before) = tokens.split_last().expect("a token");
        let mut place = self.empty();
        for &token in before {
            place = self.step(&place, token).0;
        }
        (place, *last)
    }
}

/// Log probabilities of the tokens that may come; `None`: it may not.
fn log_softmax(logits: &[f64], may: impl Fn(usize) -> bool) -> Vec<Option<f64>> {
    let all: f64 = (0..logits.len()).filter(|&v| may(v)).map(|v| logits[v].exp()).sum();
    (0..logits.len()).map(|v| may(v).then(|| logits[v] - all.ln())).collect()
}

/// The rules by themselves: which token may come behind which.
pub type May<'a> = &'a dyn Fn(u32, usize) -> bool;

/// One stream, one hypothesis; `pick`: a token out of the log probabilities and the number of tokens so far.
pub fn follow(
    plain: &mut Plain,
    prompt: &[u32],
    (ends, most, may): (&[u32], usize, May<'_>),
    pick: impl Fn(&[Option<f64>], usize) -> usize,
) -> Hypothesis {
    let (mut place, mut last) = plain.read(prompt);
    let (mut tokens, mut score) = (Vec::new(), 0.0);
    loop {
        let (next, logits) = plain.step(&place, last);
        let likely = log_softmax(&logits, |v| may(last, v));
        if likely.iter().all(Option::is_none) {
            return Hypothesis { tokens, score, ended: Ended::NoToken };
        }
        let token = pick(&likely, tokens.len());
        score += likely[token].expect("one that may come");
        (place, last) = (next, token as u32);
        if ends.contains(&last) {
            return Hypothesis { tokens, score, ended: Ended::Token };
        }
        tokens.push(last);
        if tokens.len() == most {
            return Hypothesis { tokens, score, ended: Ended::Length };
        }
    }
}

pub fn likeliest(likely: &[Option<f64>], _: usize) -> usize {
    let all = likely.iter().enumerate().filter_map(|(v, p)| Some((v, (*p)?)));
    all.fold(None, |best: Option<(usize, f64)>, (v, p)| best.filter(|b| b.1 >= p).or(Some((v, p)))).expect("a token").0
}

/// A token by its number in the sorted order, as a textbook would draw it.
pub fn drawn(sampling: Sampling, number: u32) -> impl Fn(&[Option<f64>], usize) -> usize {
    move |likely, count| {
        let tempered = |p: f64| (p / f64::from(sampling.temperature)).exp();
        let mut all: Vec<(usize, f64)> =
            likely.iter().enumerate().filter_map(|(v, p)| Some((v, tempered((*p)?)))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(sampling.top_k.unwrap_or(usize::MAX));
        let sum: f64 = all.iter().map(|(_, p)| p).sum();
        let mut so_far = 0.0;
        let needed = all.iter().position(|(_, p)| {
            so_far += p / sum;
            so_far >= f64::from(sampling.top_p) - 1e-12
        });
        all.truncate(needed.map_or(all.len(), |n| n + 1));
        all.sort_by_key(|(v, _)| *v);
        let sum: f64 = all.iter().map(|(_, p)| p).sum();
        let key = [sampling.seed as u32, (sampling.seed >> 32) as u32];
        let word = philox4x32_10([count as u32, 0, number, 0], key)[0];
        let target = f64::from(word >> 8) / f64::from(1 << 24) * sum;
        let mut so_far = 0.0;
        let found = all.iter().find(|(_, p)| {
            so_far += p;
            so_far > target
        });
        found.or(all.last()).expect("a token").0
    }
}

/// Beam search over whole copies.
pub fn beam(
    plain: &mut Plain,
    prompt: &[u32],
    (ends, most, may): (&[u32], usize, May<'_>),
    of: Beam,
) -> Vec<Hypothesis> {
    type One = (Hypothesis, bool, Place, u32);
    let rank = |one: &One| one.0.score / (one.0.tokens.len().max(1) as f64).powf(f64::from(of.length_power));
    let (place, last) = plain.read(prompt);
    let first = Hypothesis { tokens: Vec::new(), score: 0.0, ended: Ended::Length };
    let mut all: Vec<One> = vec![(first, true, place, last)];
    while all.iter().any(|one| one.1) {
        let mut next: Vec<One> = Vec::new();
        for (found, is_live, place, last) in &all {
            if !is_live {
                next.push((found.clone(), false, place.clone(), *last));
                continue;
            }
            let (behind, logits) = plain.step(place, *last);
            let likely = log_softmax(&logits, |v| may(*last, v));
            if likely.iter().all(Option::is_none) {
                next.push((Hypothesis { ended: Ended::NoToken, ..found.clone() }, false, place.clone(), *last));
            }
            for (v, p) in likely.iter().enumerate() {
                let Some(p) = p else { continue };
                let mut found = Hypothesis { score: found.score + p, ..found.clone() };
                let ends = ends.contains(&(v as u32));
                if ends {
                    found.ended = Ended::Token;
                } else {
                    found.tokens.push(v as u32);
                }
                let is_live = !ends && found.tokens.len() < most;
                next.push((found, is_live, behind.clone(), v as u32));
            }
        }
        next.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        next.truncate(of.width);
        all = next;
    }
    all.into_iter().map(|one| one.0).collect()
}
