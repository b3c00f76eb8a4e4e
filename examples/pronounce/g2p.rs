//! The network of g2p_en: letters to phonemes by a GRU encoder and a GRU decoder.
//!
//! ```text
//! letters, </s> ─embedding─> GRU encoder ─hn─> GRU decoder ─dense─> logits ─argmax─> phoneme, back in as the next input
//! ```
//!
//! The two GRUs run through `wgpu_rnn`; embedding, dense layer and argmax are the few plain loops below.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Error, Input, Options, Plan, Result, RnnConfig, Session, Shape, View, Weights, cells};

/// The decoder gives up after so many phonemes, as the original does.
const MAX_PHONEMES: usize = 20;

/// The trained network.
pub struct Model {
    pub encoder: Gru,
    pub decoder: Gru,
    /// Output layer `[phonemes, H]` and its bias `[phonemes]`.
    pub dense: (Vec<f32>, Vec<f32>),
    graphemes: Vec<String>,
    phonemes: Vec<String>,
    /// Graphemes `<unk>` and `</s>`.
    unknown: usize,
    end_of_word: usize,
    /// Phonemes `<s>` and `</s>`.
    start: usize,
    end: usize,
}

/// A GRU with the embedding `[symbols, I]` in front of it.
pub struct Gru {
    pub config: RnnConfig,
    pub weights: Weights,
    pub embedding: Vec<f32>,
}

/// A word's phonemes and what the network computed on the way.
#[derive(Default)]
pub struct Spelling {
    pub phonemes: Vec<String>,
    /// `[letters + 1, H]`
    pub encoder_states: Vec<f32>,
    /// `[steps, H]`, the last step being the one that ended the word.
    pub decoder_states: Vec<f32>,
    /// `[steps, phonemes]`
    pub logits: Vec<f32>,
}

impl Model {
    /// Reads the weights; sizes come from the tensors, symbols from the metadata.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let (graphemes, phonemes) = (symbols(&file, "graphemes")?, symbols(&file, "phonemes")?);
        let encoder = Gru::read(&file, "enc.", graphemes.len())?;
        let decoder = Gru::read(&file, "dec.", phonemes.len())?;
        let weight = tensor(&file, "fc.weight", &[phonemes.len(), decoder.config.hidden_size])?;
        let bias = tensor(&file, "fc.bias", &[phonemes.len()])?;
        let (unknown, end_of_word) = (find(&graphemes, "<unk>")?, find(&graphemes, "</s>")?);
        let (start, end) = (find(&phonemes, "<s>")?, find(&phonemes, "</s>")?);
        Ok(Self { encoder, decoder, dense: (weight, bias), graphemes, phonemes, unknown, end_of_word, start, end })
    }

    /// What the encoder reads: the letters in lower case, `<unk>` for whatever it never saw, then `</s>`.
    pub fn letters(&self, word: &str) -> Vec<usize> {
        let letter = |c: char| self.graphemes.iter().position(|g| g.chars().eq([c])).unwrap_or(self.unknown);
        word.to_lowercase().chars().map(letter).chain([self.end_of_word]).collect()
    }

    /// Output layer: scores of every phoneme for one decoder state.
    fn logits(&self, state: &[f32]) -> Vec<f32> {
        let (weight, bias) = &self.dense;
        let dot = |row: &[f32]| row.iter().zip(state).map(|(w, h)| w * h).sum::<f32>();
        weight.chunks_exact(state.len()).zip(bias).map(|(row, b)| dot(row) + b).collect()
    }
}

impl Gru {
    fn read(file: &TensorFile, prefix: &str, symbols: usize) -> Result<Self> {
        let config = file.config(&cells::GRU, prefix)?;
        let weights = file.weights(&config, prefix)?;
        let embedding = tensor(file, &format!("{prefix}embedding"), &[symbols, config.input_size])?;
        Ok(Self { config, weights, embedding })
    }

    /// The vector of one symbol.
    pub fn embed(&self, symbol: usize) -> &[f32] {
        &self.embedding[symbol * self.config.input_size..][..self.config.input_size]
    }
}

/// Some words, and the two sessions that spell them as one batch.
pub struct Speller<'a> {
    model: &'a Model,
    words: Vec<Vec<usize>>,
    pub encoder: Session,
    pub decoder: Session,
}

impl<'a> Speller<'a> {
    /// Plans both layers and binds them to the device: everything that is done once.
    pub fn new(device: &Device, model: &'a Model, words: &[impl AsRef<str>]) -> Result<Self> {
        Self::with_options(device, model, words, &Options::default())
    }

    /// The same with options for both.
    pub fn with_options(
        device: &Device,
        model: &'a Model,
        words: &[impl AsRef<str>],
        options: &Options,
    ) -> Result<Self> {
        let words: Vec<_> = words.iter().map(|w| model.letters(w.as_ref())).collect();
        let (time, batch) = (words.iter().map(Vec::len).max().unwrap_or(0), words.len());
        let (e, d) = (&model.encoder, &model.decoder);
        let session = |gru: &Gru, shape| {
            let plan = Plan::new(&gru.config, shape, &device.caps(), options)?;
            Session::from_plan(device, plan, &gru.weights)
        };
        let (encoder, decoder) = (session(e, Shape { time, batch })?, session(d, Shape { time: 1, batch })?);
        Ok(Self { model, words, encoder, decoder })
    }

    /// Spells every word.
    pub fn run(&mut self) -> Result<Vec<Spelling>> {
        let (model, batch) = (self.model, self.words.len());
        let mut spellings: Vec<Spelling> = (0..batch).map(|_| Spelling::default()).collect();
        let encoded = self.encode(&mut spellings)?;

        // Greedy decoding: each word's best phoneme is its next input. A finished word keeps running, unheard.
        let (i, h) = (model.decoder.config.input_size, model.decoder.config.hidden_size);
        let x_shape = [1, batch, i];
        self.decoder.set_state(View::new(&encoded, &[1, batch, h]), None)?;
        let mut last = vec![model.start; batch];
        let mut finished = vec![false; batch];
        for _ in 0..MAX_PHONEMES {
            let x: Vec<f32> = last.iter().flat_map(|&p| model.decoder.embed(p)).copied().collect();
            let out = self.decoder.step(View::new(&x, &x_shape))?;
            for (b, state) in out.y.data.chunks_exact(h).enumerate() {
                if finished[b] {
                    continue;
                }
                let logits = model.logits(state);
                last[b] = argmax(&logits);
                finished[b] = last[b] == model.end;
                if !finished[b] {
                    spellings[b].phonemes.push(model.phonemes[last[b]].clone());
                }
                spellings[b].decoder_states.extend(state);
                spellings[b].logits.extend(logits);
            }
            if finished.iter().all(|&f| f) {
                break;
            }
        }
        Ok(spellings)
    }

    /// Runs the encoder once over all words, ragged and unsorted as they come; returns each word's state at its own end.
    fn encode(&mut self, spellings: &mut [Spelling]) -> Result<Vec<f32>> {
        let gru = &self.model.encoder;
        let Shape { time, batch } = self.encoder.plan().shape;
        let (i, h) = (gru.config.input_size, gru.config.hidden_size);
        let lengths: Vec<usize> = self.words.iter().map(Vec::len).collect();

        let mut x = vec![0.0; time * batch * i]; // [T, B, I]
        for (b, word) in self.words.iter().enumerate() {
            for (t, &letter) in word.iter().enumerate() {
                x[(t * batch + b) * i..][..i].copy_from_slice(gru.embed(letter));
            }
        }
        let shape = [time, batch, i];
        let out = self.encoder.forward(&Input { lengths: Some(&lengths), ..Input::new(View::new(&x, &shape)) })?;
        for (b, spelling) in spellings.iter_mut().enumerate() {
            let steps = out.y.data.chunks_exact(h).skip(b).step_by(batch).take(lengths[b]);
            spelling.encoder_states = steps.flatten().copied().collect();
        }
        Ok(out.hn.data)
    }
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, n| if values[n] > values[best] { n } else { best })
}

/// A tensor that must have this shape.
fn tensor(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let found = file.real(name)?;
    let got = found.as_ref().map_or("none".into(), |(s, _)| format!("{s:?}"));
    let fits = found.filter(|(s, _)| s == shape).map(|(_, values)| values);
    fits.ok_or_else(|| Error::Mismatch { what: name.into(), expected: format!("{shape:?}"), got })
}

/// The index of a symbol that the network cannot do without.
fn find(symbols: &[String], symbol: &str) -> Result<usize> {
    let missing = || Error::Mismatch { what: "symbols".into(), expected: symbol.into(), got: symbols.join(" ") };
    symbols.iter().position(|s| s == symbol).ok_or_else(missing)
}

/// A list of symbols from the file's metadata, a JSON array of strings.
fn symbols(file: &TensorFile, key: &str) -> Result<Vec<String>> {
    let text = file.metadata().remove(key).unwrap_or_default();
    let error = |e| Error::File { path: file.path().into(), reason: format!("metadata {key}: {e}") };
    serde_json::from_str(&text).map_err(error)
}
