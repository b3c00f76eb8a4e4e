//! The kernels that choose tokens from logits ([`crate::Decoder`]): the same for every model, so that no text is put together but of what
//! they share.

use super::Access;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChooseKernel {
    /// the likeliest token of every row, or one that is drawn
    Choose,
    /// the best hypotheses of every stream
    Beam,
    /// what a transducer's joint network reads
    Join,
    /// what a transducer's streams hear
    Transduce,
}

/// Rows of a stream at most, as workgroup memory has them.
pub(crate) const MOST_ROWS: usize = 16;

/// Words of a row's state.
pub(crate) const FIELDS: usize = 10;

/// What a run tells the kernels: `words`.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    pub rows: usize,
    /// Tokens that have a logit.
    pub size: usize,
    /// Logits of a row and the next one are so far apart, and the first are there.
    pub stride: usize,
    pub first: usize,
    /// Rows of a stream.
    pub width: usize,
    /// Whether the model reads ids as values in 32 bits.
    pub float_ids: bool,
    pub has_rules: bool,
    /// Tokens that end a row.
    pub ends: &'a [u32],
    /// None: all.
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    /// None: the likeliest is chosen.
    pub temperature: Option<f32>,
    pub seed: u64,
    pub length_power: f32,
    /// Steps that the log has room for.
    pub steps: usize,
}

impl Words<'_> {
    /// As the kernels read them.
    pub(crate) fn packed(&self) -> Vec<u32> {
        let number = |n: usize| n as u32;
        let real = |v: Option<f32>| v.map_or(0, f32::to_bits);
        let mut words = vec![
            number(self.rows),
            number(self.size),
            number(self.stride),
            number(self.first),
            number(self.width),
            u32::from(self.float_ids),
            u32::from(self.has_rules),
            number(self.ends.len()),
            self.top_k.map_or(0, number),
            real(self.top_p),
            real(self.temperature),
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.length_power.to_bits(),
            number(self.steps),
            0,
        ];
        words.extend(self.ends);
        words
    }
}

/// How a row stands, as the kernels count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum RowStatus {
    Live,
    EndToken,
    EndLength,
    EndNoToken,
    EndPoisoned,
    Absent,
}

impl RowStatus {
    pub(crate) const ALL: [Self; 6] =
        [Self::Live, Self::EndToken, Self::EndLength, Self::EndNoToken, Self::EndPoisoned, Self::Absent];
}

/// A row's state between two runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowState {
    pub score: f32,
    /// The state that the rules are in.
    pub rule: u32,
    pub status: RowStatus,
    /// Tokens so far, and how many there may be.
    pub count: u32,
    pub most: u32,
    /// Tells its random numbers from others'.
    pub number: u32,
    /// Where it writes its state, in turn.
    pub slots: [u32; 2],
}

impl RowState {
    pub(crate) fn packed(&self) -> [u32; FIELDS] {
        let status = self.status as u32;
        let [a, b] = self.slots;
        [self.score.to_bits(), self.rule, status, self.count, self.most, self.number, 0, 0, a, b]
    }

    pub(crate) fn unpacked(words: &[u32]) -> Self {
        let status = RowStatus::ALL.get(words[2] as usize).copied().unwrap_or(RowStatus::Absent);
        let (score, slots) = (f32::from_bits(words[0]), [words[8], words[9]]);
        Self { score, rule: words[1], status, count: words[3], most: words[4], number: words[5], slots }
    }
}

/// Where nothing is: no token, no row, and in the rules no state.
pub(crate) const NONE: u32 = u32::MAX;

impl ChooseKernel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Choose, Self::Beam, Self::Join, Self::Transduce];

    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Choose => "choose",
            Self::Beam => "beam",
            Self::Join => "join",
            Self::Transduce => "transduce",
        }
    }

    /// Its bindings, in binding order, all in group 0.
    pub fn bindings(self) -> &'static [(&'static str, Access)] {
        use Access::{Read, ReadWrite};
        const ALL: [(&str, Access); 7] = [
            ("words", Read),
            ("rules", Read),
            ("logits", Read),
            ("state", ReadWrite),
            ("ids", ReadWrite),
            ("reading", ReadWrite),
            ("writing", ReadWrite),
        ];
        match self {
            Self::Choose => &ALL[..5],
            Self::Beam => &ALL,
            Self::Join => {
                &[("words", Read), ("encoded", Read), ("given", Read), ("state", ReadWrite), ("joint", ReadWrite)]
            }
            Self::Transduce => &[
                ("words", Read),
                ("logits", Read),
                ("state", ReadWrite),
                ("ids", ReadWrite),
                ("writing", ReadWrite),
                ("spare", Read),
            ],
        }
    }

    /// Its WGSL.
    pub fn text(self) -> String {
        const RANDOM: &str = include_str!("../../shaders/lib/random.wgsl");
        const COMMON: &str = include_str!("../../shaders/decode/common.wgsl");
        const TRANSDUCER: &str = include_str!("../../shaders/decode/common_transducer.wgsl");
        let parts: &[&str] = match self {
            Self::Choose => &[RANDOM, COMMON, include_str!("../../shaders/decode/choose.wgsl")],
            Self::Beam => &[COMMON, include_str!("../../shaders/decode/beam.wgsl")],
            Self::Join => &[TRANSDUCER, include_str!("../../shaders/decode/join.wgsl")],
            Self::Transduce => &[TRANSDUCER, include_str!("../../shaders/decode/transduce.wgsl")],
        };
        parts.join("\n")
    }
}

/// What a run tells a transducer's kernels: `words`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransducerWords<'a> {
    pub rows: usize,
    /// Tokens that have a logit.
    pub size: usize,
    pub durations: &'a [usize],
    pub blank: u32,
    pub max_symbols: usize,
    pub rounds: usize,
    /// Widths of what the joint network reads.
    pub encoded: usize,
    pub predicted: usize,
    /// Steps of a stream that are there.
    pub window: usize,
}

/// Words of a row's state in a transducer.
pub(crate) const TRANSDUCER_FIELDS: usize = 8;

impl TransducerWords<'_> {
    /// As the kernels read them; each place is that of a first element and how far a row is from the next.
    pub(crate) fn packed(&self, places: &TransducerPlaces) -> Vec<u32> {
        let TransducerPlaces { logits, durations, encoded, predicted, given } = *places;
        let numbers = [
            self.rows,
            self.size,
            logits.0,
            logits.1,
            self.durations.len(),
            durations.0,
            durations.1,
            self.blank as usize,
            self.max_symbols,
            self.rounds,
            self.encoded,
            encoded,
            self.predicted,
            predicted,
            given.0,
            given.1,
            self.window,
        ];
        numbers.iter().chain(self.durations).map(|&n| n as u32).collect()
    }
}

/// Where a transducer's networks have what its kernels read and write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransducerPlaces {
    pub logits: (usize, usize),
    pub durations: (usize, usize),
    pub encoded: usize,
    pub predicted: usize,
    pub given: (usize, usize),
}
