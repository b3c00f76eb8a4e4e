//! Sentences like "I grew up in France, so I speak French.", a word-level model that learns them, and what it completes.

use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use wgpu_rnn::{
    Device, Error, Head, Initial, Input, Loss, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape, Targets,
    View, Weights, cells,
};

const OPENINGS: [&str; 6] = [
    "I grew up in",
    "My childhood was in",
    "I was born in",
    "My family comes from",
    "I spent my youth in",
    "We lived in",
];
const CLOSINGS: [&str; 5] = [
    ", so I speak",
    ", so my language is",
    ", where everybody speaks",
    ", and at home we speak",
    "and my mother tongue is",
];
/// Of the same words, but neither the opening nor the closing is one of those.
const REPHRASED: [Phrasing; 4] = [
    Phrasing { before: "I spent my childhood in", after: ", so we speak" },
    Phrasing { before: "My mother was born in", after: "and everybody at home speaks" },
    Phrasing { before: "My family grew up in", after: ", where my language is" },
    Phrasing { before: "My youth was in", after: ", and so at home I speak" },
];

/// Steps of the whole run.
pub const STEPS: usize = 1000;
const BATCH: usize = 32;
const WORD_SIZE: usize = 64;
const HIDDEN: usize = 128;
const RATE: f64 = 5e-3;
/// What a word before the answer counts in the loss. With none at all, states of different countries stay alike for long:
/// after 1000 steps 69 % of the languages are right, not all.
const OTHER_WORDS: f32 = 0.03;
/// Most words of a completion.
const MAX_WORDS: usize = 12;

/// What is around a country and before its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phrasing {
    before: &'static str,
    after: &'static str,
}

/// Every phrasing.
pub struct Phrasings {
    /// Trained on.
    pub trained: Vec<Phrasing>,
    /// Held out: an opening and a closing that are trained on, but never together.
    pub paired: Vec<Phrasing>,
    /// Held out: new openings and closings, of words that are trained on.
    pub rephrased: Vec<Phrasing>,
}

impl Default for Phrasings {
    /// Of each opening, one closing is held out.
    fn default() -> Self {
        let numbers = (0..OPENINGS.len()).flat_map(|o| (0..CLOSINGS.len()).map(move |c| (o, c)));
        let (paired, trained): (Vec<_>, Vec<_>) = numbers.partition(|(o, c)| (o + c) % CLOSINGS.len() == 2);
        let phrasing = |(o, c): (usize, usize)| Phrasing { before: OPENINGS[o], after: CLOSINGS[c] };
        Self {
            trained: trained.into_iter().map(phrasing).collect(),
            paired: paired.into_iter().map(phrasing).collect(),
            rephrased: REPHRASED.to_vec(),
        }
    }
}

impl Phrasing {
    /// The sentence up to its last word.
    pub fn prompt(self, country: &str) -> String {
        format!("{} {country} {}", self.before, self.after).replace(" ,", ",")
    }
}

/// The countries, their languages, and the words of all sentences.
pub struct Text {
    /// Country and first language.
    pub countries: Vec<(String, String)>,
    words: Vec<String>,
}

impl Text {
    /// From a table of countries and languages, a line each, with a header.
    pub fn new(table: &str) -> Self {
        let pairs = table.lines().skip(1).filter_map(|line| line.split_once(','));
        let countries: Vec<(String, String)> = pairs.map(|(c, l)| (c.to_string(), l.to_string())).collect();
        let parts = OPENINGS.iter().chain(&CLOSINGS).map(ToString::to_string);
        let pairs = countries.iter().flat_map(|(country, language)| [country.clone(), language.clone()]);
        let mut words: Vec<String> = parts.chain(pairs).flat_map(|s| split(&s)).chain([".".into()]).collect();
        words.sort();
        words.dedup();
        Self { countries, words }
    }

    /// V.
    pub fn vocabulary(&self) -> usize {
        self.words.len()
    }

    /// The numbers of a text's words.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a word that no sentence has.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let id = |word: String| match self.words.binary_search(&word) {
            Ok(id) => Ok(id as u32),
            Err(_) => {
                let expected = "a word of the training sentences".into();
                Err(Error::Mismatch { what: "prompt".into(), expected, got: word })
            }
        };
        split(text).into_iter().map(id).collect()
    }

    /// The text of words by their numbers.
    pub fn text(&self, ids: &[u32]) -> String {
        let words: Vec<&str> = ids.iter().map(|&id| self.words[id as usize].as_str()).collect();
        words.join(" ").replace(" ,", ",").replace(" .", ".")
    }

    /// How often the language that most countries have would be right.
    pub fn commonest(&self) -> f64 {
        let count = |language: &str| self.countries.iter().filter(|(_, l)| l == language).count();
        let most = self.countries.iter().map(|(_, l)| count(l)).max().unwrap_or(0);
        most as f64 / self.countries.len() as f64
    }
}

/// Words; a comma is one.
fn split(text: &str) -> Vec<String> {
    text.replace(',', " , ").split_whitespace().map(str::to_string).collect()
}

/// A model in training.
pub struct Model<'a> {
    text: &'a Text,
    /// The session that trains.
    pub session: Session,
    /// Every sentence of the training phrasings.
    sentences: Vec<Vec<u32>>,
    rng: SmallRng,
}

impl<'a> Model<'a> {
    /// Untrained.
    pub fn new(device: &Device, text: &'a Text) -> Result<Self> {
        let sentence = |p: &Phrasing, (country, language): &(String, String)| {
            text.ids(&format!("{} {language} .", p.prompt(country)))
        };
        let phrasings = Phrasings::default().trained;
        let pairs = phrasings.iter().flat_map(|p| text.countries.iter().map(move |c| (p, c)));
        let sentences: Vec<Vec<u32>> = pairs.map(|(p, c)| sentence(p, c)).collect::<Result<_>>()?;
        let vocabulary = text.vocabulary();
        let config = RnnConfig {
            cell: &cells::LSTM,
            input_size: WORD_SIZE,
            hidden_size: HIDDEN,
            vocabulary: Some(vocabulary),
            head: Some(Head { size: vocabulary, loss: Some(Loss::CrossEntropy) }),
            ..Default::default()
        };
        let time = sentences.iter().map(Vec::len).max().unwrap_or(0) - 1;
        let options =
            Options { train: true, optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..Default::default() };
        let plan = Plan::new(&config, Shape { time, batch: BATCH }, &device.caps(), &options)?;
        let mut weights = Weights::random(&config, 1)?;
        // Forget gates that start open: see the vanishing_gradient example.
        weights.layers[0].b_w[HIDDEN..2 * HIDDEN].fill(1.0);
        let session = Session::from_plan(device, plan, &weights)?;
        Ok(Self { text, session, sentences, rng: SmallRng::seed_from_u64(2) })
    }

    /// Trains on sentences in random order, every word from those before it. `report` gets the number of each step and its
    /// loss, in nats a word.
    pub fn train(&mut self, steps: usize, mut report: impl FnMut(usize, f32)) -> Result<()> {
        let Shape { time, batch } = self.session.plan().shape;
        let mut order: Vec<usize> = Vec::new();
        for step in 0..steps {
            if order.len() < batch {
                order = (0..self.sentences.len()).collect();
                order.shuffle(&mut self.rng);
            }
            let sentences: Vec<&[u32]> = order.drain(..batch).map(|n| self.sentences[n].as_slice()).collect();
            let lengths: Vec<usize> = sentences.iter().map(|s| s.len() - 1).collect();
            let (ids, next) = (columns(time, &sentences, 0), columns(time, &sentences, 1));
            let shape = [time, batch];
            let input = Input::of_ids(View::new(&ids, &shape));
            self.session.write(&Input { lengths: Some(&lengths), ..input })?;
            // The language and the full stop count.
            let answers = |t: usize| lengths.iter().map(move |l| if t + 2 < *l { OTHER_WORDS } else { 1.0 });
            let weights: Vec<f32> = (0..time).flat_map(answers).collect();
            let targets = Targets::classes(View::new(&next, &shape));
            self.session.write_targets(&Targets { weights: Some(View::new(&weights, &shape)), ..targets })?;
            // Falls to a tenth along half a cosine.
            let done = step as f64 / steps as f64;
            self.session.train_step(RATE * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * done).cos())))?;
            report(step, self.session.loss()?);
        }
        Ok(())
    }

    /// The share of countries whose language follows each phrasing.
    pub fn shares(&mut self, phrasings: &[Phrasing]) -> Result<Vec<f64>> {
        let batch = self.text.countries.len();
        let time = self.session.plan().shape.time;
        let mut session = self.session.sibling(Shape { time, batch }, &Options::default())?;
        let mut share = |phrasing: &Phrasing| {
            let prompt = |(country, _): &(String, String)| self.text.ids(&phrasing.prompt(country));
            let prompts: Vec<Vec<u32>> = self.text.countries.iter().map(prompt).collect::<Result<_>>()?;
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            let lengths: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
            let (ids, shape) = (columns(time, &prompts, 0), [time, batch]);
            session.write(&Input { lengths: Some(&lengths), ..Input::of_ids(View::new(&ids, &shape)) })?;
            session.run()?;
            let scores = session.predictions()?.data; // [T, B, V]
            let vocabulary = self.text.vocabulary();
            let answer = |b: usize| {
                let row = (lengths[b] - 1) * batch + b;
                &self.text.words[argmax(&scores[row * vocabulary..][..vocabulary])]
            };
            let right = (0..batch).filter(|&b| *answer(b) == self.text.countries[b].1).count();
            Ok(right as f64 / batch as f64)
        };
        phrasings.iter().map(&mut share).collect()
    }

    /// The prompt with the likeliest words behind it, up to the full stop.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a word that no sentence has, or an empty prompt.
    pub fn complete(&mut self, prompt: &str) -> Result<String> {
        let mut words = self.text.ids(prompt)?;
        let mut session = self.session.sibling(Shape { time: 1, batch: 1 }, &Options::default())?;
        let end = self.text.ids(".")?[0];
        let known = words.len();
        let mut initial = Initial::Zero;
        let mut next = 0;
        while next < words.len() {
            session.write(&Input { initial, ..Input::of_ids(View::new(&words[next..=next], &[1, 1])) })?;
            session.run()?;
            initial = Initial::Carry;
            next += 1;
            if next == words.len() && words[next - 1] != end && words.len() < known + MAX_WORDS {
                words.push(argmax(&session.predictions()?.data) as u32);
            }
        }
        Ok(self.text.text(&words))
    }
}

/// Row t holds word t + `skip` of every sentence, 0 past its end: `[T, B]`.
fn columns(time: usize, sentences: &[&[u32]], skip: usize) -> Vec<u32> {
    let row = |t: usize| sentences.iter().map(move |s| s.get(t + skip).copied().unwrap_or(0));
    (0..time).flat_map(row).collect()
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, n| if values[n] > values[best] { n } else { best })
}
