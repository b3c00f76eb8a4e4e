//! How the factors of a packed matrix lie in memory: as they are, or in the fewer bits of [`WeightFormat`], which registers are widened
//! from. Widening is exact, so that a product in f16 or bf16 has the bits of one with the rounded values; int8's scale is multiplied by
//! once per sum.

use crate::model::weights::WeightFormat;
use crate::model::weights::format::{codes, scale};
use crate::num::Aligned;
use crate::num::Lanes;
use crate::num::Real;

/// Columns of a word at most.
pub(super) const MAX_COLUMNS: usize = 4;

/// The factors of a matrix. Words of 32 bits have those of several columns, the first in the lowest bits.
pub(super) enum Stored<T> {
    Plain(Aligned<T>),
    Bf16(Aligned<u32>),
    F16(Aligned<u32>),
    /// w = (code − 128) · scale; scales are `[panel][gate][lane]`.
    Int8(Aligned<u32>, Vec<T>),
}

impl<T> Default for Stored<T> {
    fn default() -> Self {
        Self::Plain(Aligned::default())
    }
}

impl<T: Real> Stored<T> {
    /// Zeros: `rows` rows of `columns` columns.
    pub fn zeros(format: WeightFormat, rows: usize, columns: usize) -> Self {
        let words = |of: usize| rows * columns.div_ceil(of);
        match format {
            WeightFormat::F32 => Self::Plain(Aligned::zeros(words(1))),
            WeightFormat::Bf16 => Self::Bf16(Aligned::zeros(words(2))),
            WeightFormat::F16 => Self::F16(Aligned::zeros(words(2))),
            WeightFormat::Int8 => {
                let mut zeros = Aligned::zeros(words(4));
                zeros.fill(0x8080_8080);
                Self::Int8(zeros, vec![T::default(); rows])
            }
        }
    }

    /// Columns of a word.
    #[inline(always)]
    pub fn columns(&self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Bf16(_) | Self::F16(_) => 2,
            Self::Int8(..) => 4,
        }
    }

    /// Writes a row: the word of its first columns is at `first`, the next one `step` further, its scale at `at`.
    pub fn set_row(&mut self, (first, step, at): (usize, usize, usize), row: &[T]) {
        if row.is_empty() {
            return;
        }
        let narrow = |row: &[T]| row.iter().map(|v| v.to_f64() as f32).collect::<Vec<f32>>();
        let halves = |words: &mut [u32], format: WeightFormat| {
            for (n, v) in narrow(row).into_iter().enumerate() {
                words[first + n / 2 * step] |= u32::from(format.half(v)) << (16 * (n % 2));
            }
        };
        match self {
            Self::Plain(values) => {
                values[first..].iter_mut().step_by(step).zip(row).for_each(|(to, &v)| *to = v);
            }
            Self::Bf16(words) => halves(words, WeightFormat::Bf16),
            Self::F16(words) => halves(words, WeightFormat::F16),
            Self::Int8(words, scales) => {
                let row = narrow(row);
                scales[at] = T::from_f64(f64::from(scale(&row)));
                for (n, code) in codes(&row).enumerate() {
                    // Zeros are 128 already: what differs from that is turned over.
                    words[first + n / 4 * step] ^= u32::from(code as u8) << (8 * (n % 4));
                }
            }
        }
    }

    /// The factor of `column` in the row of which the first word is at `first`.
    pub fn value(&self, (first, step, at): (usize, usize, usize), column: usize) -> T {
        let word = first + column / self.columns() * step;
        let half = |words: &[u32]| (words[word] >> (16 * (column % 2))) as u16;
        match self {
            Self::Plain(values) => values[word],
            Self::Bf16(words) => T::from_f64(half::bf16::from_bits(half(words)).to_f64()),
            Self::F16(words) => T::from_f64(half::f16::from_bits(half(words)).to_f64()),
            Self::Int8(words, scales) => {
                let code = (words[word] >> (8 * (column % 4))) as u8;
                T::from_f64((f64::from(code) - 128.0) * scales[at].to_f64())
            }
        }
    }
}

/// One of the forms, as products read it.
pub(super) trait Form<V: Lanes> {
    type Word: Copy;
    /// Columns of a word.
    const COLUMNS: usize;

    /// The registers of a word's columns; only the first `COLUMNS` count.
    fn widen(isa: V::Isa, words: &[Self::Word]) -> [V; MAX_COLUMNS];
}

/// Factors as they are.
pub(super) struct Plain;
/// Two to a word.
pub(super) struct Bf16;
/// Two to a word.
pub(super) struct F16;
/// Four to a word.
pub(super) struct Int8;

impl<V: Lanes> Form<V> for Plain {
    type Word = V::Elem;
    const COLUMNS: usize = 1;
    #[inline(always)]
    fn widen(isa: V::Isa, words: &[V::Elem]) -> [V; MAX_COLUMNS] {
        [V::load(isa, words); MAX_COLUMNS]
    }
}

impl<V: Lanes> Form<V> for Bf16 {
    type Word = u32;
    const COLUMNS: usize = 2;
    #[inline(always)]
    fn widen(isa: V::Isa, words: &[u32]) -> [V; MAX_COLUMNS] {
        let [a, b] = V::of_bf16(isa, words);
        [a, b, a, b]
    }
}

impl<V: Lanes> Form<V> for F16 {
    type Word = u32;
    const COLUMNS: usize = 2;
    #[inline(always)]
    fn widen(isa: V::Isa, words: &[u32]) -> [V; MAX_COLUMNS] {
        let [a, b] = V::of_f16(isa, words);
        [a, b, a, b]
    }
}

impl<V: Lanes> Form<V> for Int8 {
    type Word = u32;
    const COLUMNS: usize = 4;
    #[inline(always)]
    fn widen(isa: V::Isa, words: &[u32]) -> [V; MAX_COLUMNS] {
        V::of_codes(isa, words)
    }
}
