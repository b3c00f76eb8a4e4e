//! The network of g2p_en: letters to phonemes by a GRU encoder and a GRU decoder.
//!
//! ```text
//! letters, </s> ─embedding─> GRU encoder ─hn─> GRU decoder ─dense─> logits ─argmax─> phoneme, back in as the next input
//! ```
//!
//! The encoder is a [`Session`] that reads what a loop below embeds. The decoder, with its embedding, its dense layer and the choice, is a
//! [`Decoder`]: on a GPU all phonemes of all words are a submit or two.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::weights::Names;
use wgpu_rnn::{
    DecodeHook, DecodeRow, Decoder, DecoderOptions, Device, Error, Input, Options, Plan, Prompt, Result, RnnConfig,
    RnnOptions, Session, Shape, View, Weights, cells,
};

/// The decoder gives up after so many phonemes, as the original does.
const MAX_PHONEMES: usize = 20;

/// The trained network.
pub struct Model {
    pub encoder: Gru,
    /// With its embedding in front and its dense layer behind.
    pub decoder: (RnnConfig, Weights),
    graphemes: Vec<String>,
    phonemes: Vec<String>,
    /// Graphemes `<unk>` and `</s>`.
    unknown: usize,
    end_of_word: usize,
    /// Phonemes `<s>` and `</s>`.
    start: usize,
    end: usize,
}

/// The encoder, with the embedding `[symbols, I]` in front of it.
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
    /// `[steps, phonemes]`, the last step being the one that ended the word; of [`Speller::run_watched`].
    pub logits: Vec<f32>,
}

impl Model {
    /// Reads the weights; sizes come from the tensors, symbols from the metadata.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let (graphemes, phonemes) = (symbols(&file, "graphemes")?, symbols(&file, "phonemes")?);
        let encoder = Gru::read(&file, "enc.", graphemes.len())?;
        let names = Names { layers: "dec.", embedding: Some("dec.embedding"), head: Some("fc.weight") };
        let config = file.config(&cells::GRU, names)?;
        let decoder = (config.clone(), file.weights(&config, names)?);
        if (config.vocabulary, config.head.map(|head| head.size)) != (Some(phonemes.len()), Some(phonemes.len())) {
            let (expected, got) = (format!("{} phonemes", phonemes.len()), format!("{:?}", config.vocabulary));
            return Err(Error::Mismatch { what: "dec.embedding and fc.weight".into(), expected, got });
        }
        let (unknown, end_of_word) = (find(&graphemes, "<unk>")?, find(&graphemes, "</s>")?);
        let (start, end) = (find(&phonemes, "<s>")?, find(&phonemes, "</s>")?);
        Ok(Self { encoder, decoder, graphemes, phonemes, unknown, end_of_word, start, end })
    }

    /// What the encoder reads: the letters in lower case, `<unk>` for whatever it never saw, then `</s>`.
    pub fn letters(&self, word: &str) -> Vec<usize> {
        let letter = |c: char| self.graphemes.iter().position(|g| g.chars().eq([c])).unwrap_or(self.unknown);
        word.to_lowercase().chars().map(letter).chain([self.end_of_word]).collect()
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

/// Some words, and what spells them as one batch.
pub struct Speller<'a> {
    model: &'a Model,
    words: Vec<Vec<usize>>,
    pub encoder: Session,
    pub decoder: Decoder,
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
        let plan = Plan::new(&model.encoder.config, Shape { time, batch }, &device.caps(), options)?;
        let encoder = Session::from_plan(device, plan, &model.encoder.weights)?;
        let sessions =
            RnnOptions { plan: options.clone(), nominal: Shape { time: 1, batch: 16 }, ..RnnOptions::default() };
        let decoding =
            DecoderOptions { ends: vec![model.end as u32], max_tokens: MAX_PHONEMES, ..DecoderOptions::default() };
        let (config, weights) = &model.decoder;
        let decoder = Decoder::of_rnn_with(device, config, weights, &sessions, &decoding)?;
        Ok(Self { model, words, encoder, decoder })
    }

    /// Spells every word.
    pub fn run(&mut self) -> Result<Vec<Spelling>> {
        self.spell(None)
    }

    /// The same step by step, to see the logits.
    pub fn run_watched(&mut self) -> Result<Vec<Spelling>> {
        let mut logits = Logits(self.words.iter().map(|_| Vec::new()).collect());
        let mut spellings = self.spell(Some(&mut logits))?;
        spellings.iter_mut().zip(logits.0).for_each(|(spelling, logits)| spelling.logits = logits);
        Ok(spellings)
    }

    fn spell(&mut self, hook: Option<&mut Logits>) -> Result<Vec<Spelling>> {
        let mut spellings: Vec<Spelling> = self.words.iter().map(|_| Spelling::default()).collect();
        let encoded = self.encode(&mut spellings)?;
        let h = self.model.decoder.0.hidden_size;
        let (start, shape) = ([self.model.start as u32], [1, h]);
        let states: Vec<[View<'_, f32>; 1]> = encoded.chunks_exact(h).map(|h| [View::new(h, &shape)]).collect();
        let prompts: Vec<_> = states.iter().map(|h| Prompt { states: Some(h), ..Prompt::new(&start) }).collect();
        let found = match hook {
            Some(hook) => self.decoder.decode_with(&prompts, hook)?,
            None => self.decoder.decode(&prompts)?,
        };
        for (spelling, found) in spellings.iter_mut().zip(found) {
            let tokens = found.iter().flat_map(|hypothesis| &hypothesis.tokens);
            spelling.phonemes = tokens.map(|&p| self.model.phonemes[p as usize].clone()).collect();
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

/// Every word's logits, step after step.
struct Logits(Vec<Vec<f32>>);

impl DecodeHook<f32> for Logits {
    fn logits(&mut self, row: DecodeRow<'_>, logits: &mut [f32]) -> Result<()> {
        self.0[row.stream].extend_from_slice(logits);
        Ok(())
    }
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
