//! ICU's word segmenters: one bidirectional LSTM per script, which reads characters and labels each with its place in a word.
//!
//! ```text
//! characters ─embedding─> LSTM forward, LSTM reverse ─[h, h']─> dense ─> logits of b, i, e, s ─argmax─> a word ends after e
//! ```
//!
//! Embedding, both directions and the dense layer are one `wgpu_rnn` configuration; only the argmax is done here.

use std::collections::HashMap;
use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Error, Head, Input, Options, Plan, Result, RnnConfig, Session, Shape, View, Weights, cells};

/// The files of [`Model::open`].
pub const SCRIPTS: [&str; 4] = ["thai", "lao", "khmer", "burmese"];
/// What a character is to its word: beginning, inside, end, single.
pub const LABELS: [char; 4] = ['b', 'i', 'e', 's'];
/// The label that a word ends after.
const END: usize = 2;

/// The trained network of one script.
pub struct Model {
    pub script: &'static str,
    pub config: RnnConfig,
    pub weights: Weights,
    /// The characters it reads, which are the script's, with their rows of the embedding.
    characters: HashMap<char, u32>,
}

/// What a network says of one text.
#[derive(Default)]
pub struct Labelled {
    /// A label per character.
    pub labels: String,
    /// The characters before each end of a word, the text's own end being the last.
    pub ends: Vec<usize>,
    /// `[characters, labels]`
    pub logits: Vec<f32>,
    /// `[characters, 2·H]`; empty for a plan that keeps no y.
    pub states: Vec<f32>,
}

impl Model {
    /// Reads the weights; sizes come from the tensors, characters from the metadata.
    pub fn open(folder: impl AsRef<Path>, script: &'static str) -> Result<Self> {
        let file = TensorFile::open(folder.as_ref().join(format!("{script}.safetensors")))?;
        let characters = file.metadata().remove("characters").unwrap_or_default();
        let characters: HashMap<char, u32> = characters.chars().zip(0..).collect();
        // One row more than characters, for those the network never saw; a run of its script has none.
        let vocabulary = Some(characters.len() + 1);
        let head = Some(Head { size: LABELS.len(), loss: None });
        let config = RnnConfig { vocabulary, head, ..file.config(&cells::LSTM, "")? };
        let weights = file.weights(&config, "")?;
        Ok(Self { script, config, weights, characters })
    }

    /// The rows of the embedding for a text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let unknown = |c: char| Error::Mismatch {
            what: format!("text for the model of {}", self.script),
            expected: "its script alone".into(),
            got: format!("{c:?} in {text:?}"),
        };
        text.chars().map(|c| self.characters.get(&c).copied().ok_or_else(|| unknown(c))).collect()
    }

    /// A session that labels these texts as one batch.
    pub fn session(&self, device: &Device, texts: &[&str], options: &Options) -> Result<Session> {
        let time = texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
        let plan = Plan::new(&self.config, Shape { time, batch: texts.len() }, &device.caps(), options)?;
        Session::from_plan(device, plan, &self.weights)
    }

    /// Labels them: one run, ragged and unsorted as they come.
    pub fn label(&self, session: &mut Session, texts: &[&str]) -> Result<Vec<Labelled>> {
        let Shape { time, batch } = session.plan().shape;
        let mut ids = vec![0; time * batch]; // [T, B]
        let mut lengths = Vec::new();
        for (b, text) in texts.iter().enumerate() {
            let row = self.ids(text)?;
            lengths.push(row.len());
            for (t, id) in row.into_iter().enumerate() {
                ids[t * batch + b] = id;
            }
        }
        let shape = [time, batch];
        let out = session.forward(&Input { lengths: Some(&lengths), ..Input::of_ids(View::new(&ids, &shape)) })?;
        let logits = session.predictions()?.data;
        let column = |data: &[f32], b: usize, width: usize| -> Vec<f32> {
            data.chunks_exact(width).skip(b).step_by(batch).take(lengths[b]).flatten().copied().collect()
        };
        let mut all: Vec<Labelled> = (0..batch).map(|_| Labelled::default()).collect();
        for (b, text) in all.iter_mut().enumerate() {
            text.logits = column(&logits, b, LABELS.len());
            text.states = column(&out.y.data, b, self.config.output_size());
            let labels: Vec<usize> = text.logits.chunks_exact(LABELS.len()).map(argmax).collect();
            let ends = labels.iter().zip(1..lengths[b]).filter(|(label, _)| **label == END);
            text.ends = ends.map(|(_, end)| end).chain([lengths[b]]).collect();
            text.labels = labels.into_iter().map(|label| LABELS[label]).collect();
        }
        Ok(all)
    }
}

/// A stretch of text of one script, or of none that a model is for.
#[derive(Debug, PartialEq)]
pub struct Run<'t> {
    pub text: &'t str,
    /// Which model reads it.
    pub model: Option<usize>,
}

/// Splits a text wherever the script changes.
pub fn runs<'t>(models: &[Model], text: &'t str) -> Vec<Run<'t>> {
    let model = |c: char| models.iter().position(|m| m.characters.contains_key(&c));
    let mut runs: Vec<Run<'t>> = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let (next, end) = (model(c), at + c.len_utf8());
        match runs.last_mut() {
            Some(run) if run.model == next => run.text = &text[start..end],
            _ => {
                start = at;
                runs.push(Run { text: &text[at..end], model: next });
            }
        }
    }
    runs
}

/// One script's share of a text: the session that labelled its runs as one batch.
pub struct Batch {
    pub model: usize,
    pub session: Session,
    pub characters: usize,
    pub words: usize,
}

/// A text in words.
pub struct Segmented<'t> {
    /// The text in order. Words of the four scripts are pieces of their own, everything else is as it was.
    pub pieces: Vec<&'t str>,
    /// One per script that occurs.
    pub batches: Vec<Batch>,
}

/// Segments a text: all runs of a script are one ragged batch, whatever the size of the text.
pub fn segment<'t>(device: &Device, models: &[Model], text: &'t str) -> Result<Segmented<'t>> {
    let runs = runs(models, text);
    let mut words: Vec<Vec<&str>> = runs.iter().map(|run| vec![run.text]).collect();
    let mut batches = Vec::new();
    for (n, model) in models.iter().enumerate() {
        let (places, texts): (Vec<usize>, Vec<&str>) =
            runs.iter().enumerate().filter(|(_, r)| r.model == Some(n)).map(|(place, r)| (place, r.text)).unzip();
        if texts.is_empty() {
            continue;
        }
        // Of the network's y only the logits are wanted.
        let options = Options { keep_y: false, ..Default::default() };
        let mut session = model.session(device, &texts, &options)?;
        let labelled = model.label(&mut session, &texts)?;
        for (place, labelled) in places.into_iter().zip(&labelled) {
            words[place] = split(runs[place].text, &labelled.ends);
        }
        batches.push(Batch {
            model: n,
            session,
            characters: texts.iter().map(|t| t.chars().count()).sum(),
            words: labelled.iter().map(|l| l.ends.len()).sum(),
        });
    }
    Ok(Segmented { pieces: words.concat(), batches })
}

impl Segmented<'_> {
    /// The text with a separator wherever two pieces meet inside what would otherwise read as one word.
    pub fn join(&self, separator: &str) -> String {
        let mut text = String::new();
        for (n, piece) in self.pieces.iter().enumerate() {
            let before = n.checked_sub(1).and_then(|n| self.pieces[n].chars().next_back());
            if before.is_some_and(is_letter) && piece.chars().next().is_some_and(is_letter) {
                text += separator;
            }
            text += piece;
        }
        text
    }
}

/// Letters, digits and the marks of the four scripts, which can end a word and are not letters to Unicode.
fn is_letter(c: char) -> bool {
    let scripts = ['\u{e00}'..='\u{eff}', '\u{1000}'..='\u{109f}', '\u{1780}'..='\u{17ff}', '\u{a9e0}'..='\u{aa7f}'];
    c.is_alphanumeric() || scripts.iter().any(|s| s.contains(&c))
}

/// The text in words that end after so many characters each.
fn split<'t>(text: &'t str, ends: &[usize]) -> Vec<&'t str> {
    let mut bytes = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let (mut start, mut taken) = (0, 0);
    let mut word = |&end: &usize| {
        let to = bytes.nth(end - taken - 1).unwrap_or(text.len());
        taken = end;
        let word = &text[start..to];
        start = to;
        word
    };
    ends.iter().map(&mut word).collect()
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, n| if values[n] > values[best] { n } else { best })
}
