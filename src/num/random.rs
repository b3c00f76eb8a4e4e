//! Dropout's random numbers: Philox 4x32-10, a function of a counter and a key without any state (Salmon, Moraes, Dror & Shaw
//! 2011, "Parallel random numbers: as easy as 1, 2, 3"). Twin of `shaders/lib/random.wgsl` and `shaders/lib/dropout.wgsl`, bit
//! for bit: a mask is computed wherever it is needed and never stored per step.
//!
//! # Which bits a mask is made of
//!
//! ```text
//! key     = first two words of philox(counter = [run low, run high, stack, 3 << 30], key = [seed low, seed high])
//! word    = philox(counter = [feature / 4, t, sequence, kind << 30 | place], key)[feature % 4]
//! dropped = (word >> 8) < p · 2^24                     (as integers: the product rounded up)
//! factor  = dropped ? 0 : 1 / (1 − p)                  (made in f64, rounded once to the element type)
//! ```
//!
//! | `RnnConfig::dropout` | kind | place | t | feature |
//! |---|---|---|---|---|
//! | `layers` | 0 | l · D, of the layer l ≥ 1 that reads the value | time step | of y of layer l − 1, 0..D·P |
//! | `input` | 1 | l · D, of the layer l that reads the value | 0 | of the input of layer l |
//! | `recurrent` | 2 | l · D + direction | 0 | of h, 0..P |
//! | `zoneout.hidden` | 3 | l · D + direction | time step | of h, 0..P |
//! | `zoneout.cell` | 3 | 2^29 + l · D + direction | time step | of c, 0..H |
//!
//! Where zoneout's word says "dropped", the unit keeps the value of the step before, else it takes the new one; nothing is scaled.
//! (The key of a run is drawn with kind 3 too, but under another key.)
//!
//! `seed` is that of [`crate::Session::set_seed`]; `run` counts the forward runs with dropout since then, from 0. `stack` is 0, or in
//! a network which of its stacks of layers it is, from 0 in their order ([`crate::network::NetworkSession::set_seed`]). `sequence` is
//! the caller's index in the batch and `t` the time step in the caller's x (the reverse direction's too). Nothing else matters:
//! not the batch size, the lengths, the layout, the executor, the strategy or how a run is cut up.

use crate::num::Real;

/// Ten rounds of Philox 4x32: four words from a counter and a key.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let wide = u64::from(a) * u64::from(b);
        ((wide >> 32) as u32, wide as u32)
    };
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let (high0, low0) = product(0xd251_1f53, a);
        let (high1, low1) = product(0xcd9e_8d57, c);
        (a, b, c, d) = (high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0);
        (k0, k1) = (k0.wrapping_add(0x9e37_79b9), k1.wrapping_add(0xbb67_ae85));
    }
    [a, b, c, d]
}

/// What is dropped: the fields of [`crate::Dropout`], and of [`crate::Zoneout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// Values between layers, at every step.
    Layers = 0,
    /// Features of a layer's input, for all steps.
    Input = 1,
    /// Features of h in the recurrent product, for all steps.
    Recurrent = 2,
    /// Units of h that keep their value, at every step ([`crate::Zoneout::hidden`]).
    ZoneoutHidden = 3,
    /// Units of c that do ([`crate::Zoneout::cell`]).
    ZoneoutCell = 4,
}

impl MaskKind {
    /// The kind as the counter has it, and what is added to the place.
    pub(crate) fn tag(self) -> (u32, u32) {
        if self == Self::ZoneoutCell { (3, 1 << 29) } else { (self as u32, 0) }
    }
}

/// The kind that the key of a run is drawn as.
const RUN_KEY: u32 = 3;
/// Words that a run adds to the end of the schedule's table: the key, and whether anything is dropped.
pub(crate) const RUN_WORDS: usize = 3;

/// The masks of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    key: [u32; 2],
    on: bool,
}

impl Masks {
    /// Those of forward run `run` (0 is the first) since the seed was set.
    pub fn new(seed: u64, run: u64) -> Self {
        Self::of_stack(seed, run, 0)
    }

    /// The same of one of a network's stacks of layers, in their order; the first has those of [`Masks::new`].
    pub fn of_stack(seed: u64, run: u64, stack: u32) -> Self {
        let halves = |v: u64| [v as u32, (v >> 32) as u32];
        let [low, high] = halves(run);
        let [k0, k1, ..] = philox4x32_10([low, high, stack, RUN_KEY << 30], halves(seed));
        Self { key: [k0, k1], on: true }
    }

    /// Nothing is dropped.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether anything is dropped at all.
    pub(crate) fn are_on(&self) -> bool {
        self.on
    }

    /// What the kernels read: see `shaders/lib/dropout.wgsl`.
    pub(crate) fn run_words(&self) -> [u32; RUN_WORDS] {
        [self.key[0], self.key[1], u32::from(self.on)]
    }

    /// The words of features `4 · quad ..`; see the module doc for `place`.
    pub(crate) fn words(&self, kind: MaskKind, place: usize, sequence: usize, t: usize, quad: usize) -> [u32; 4] {
        let (kind, offset) = kind.tag();
        let place = kind << 30 | (place as u32 + offset);
        philox4x32_10([quad as u32, t as u32, sequence as u32, place], self.key)
    }

    /// Whether a value is dropped (or, of zoneout, kept from the step before) with probability `p`; see the module doc for `place`.
    pub fn drops(&self, p: f32, kind: MaskKind, place: usize, sequence: usize, t: usize, feature: usize) -> bool {
        self.on && self.words(kind, place, sequence, t, feature / 4)[feature % 4] >> 8 < threshold(p)
    }

    /// What a value with this word is multiplied by.
    pub(crate) fn factor<T: Real>(&self, rate: &Rate<T>, word: u32) -> T {
        match (self.on, word >> 8 < rate.threshold) {
            (false, _) => T::from_f64(1.0),
            (true, true) => T::default(),
            (true, false) => rate.scale,
        }
    }
}

/// p · 2^24, rounded up.
pub(crate) fn threshold(p: f32) -> u32 {
    (f64::from(p) * f64::from(1 << 24)).ceil() as u32
}

/// What a kept value is multiplied by: 1 / (1 − p).
pub(crate) fn scale<T: Real>(p: f32) -> T {
    T::from_f64(1.0 / (1.0 - f64::from(p)))
}

/// A probability as the kernels use it.
#[derive(Clone, Copy)]
pub(crate) struct Rate<T> {
    threshold: u32,
    scale: T,
}

impl<T: Real> Rate<T> {
    pub fn new(p: f32) -> Self {
        Self { threshold: threshold(p), scale: scale(p) }
    }
}
