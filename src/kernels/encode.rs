//! Packed weight buffers as the words that lie on a GPU, made on the host.

use super::pack::{At, Flat, Pack, Source};
use crate::model::stack::RnnConfig;
use crate::model::weights::{WeightFormat, format, parameters};

/// All parameters, ready to be packed in a format.
pub(crate) struct Encoder<'a> {
    config: &'a RnnConfig,
    format: WeightFormat,
    flat: Flat,
    parameters: &'a [f32],
    /// In int8, every parameter of a matrix in units of its row's scale.
    codes: Vec<i8>,
}

impl<'a> Encoder<'a> {
    /// `parameters`: all of them, in canonical order.
    pub fn new(config: &'a RnnConfig, format: WeightFormat, parameters: &'a [f32]) -> Self {
        let codes = if format.scaled() { codes(config, parameters) } else { Vec::new() };
        Self { config, format, flat: Flat::new(config), parameters, codes }
    }

    /// A packed buffer of [`Pack::words`] words.
    pub fn words(&self, pack: Pack) -> Vec<u32> {
        let mut words = vec![0; pack.words(self.config, self.format)];
        let value = |n: usize| self.parameters[n];
        pack.for_each(self.config, &self.flat, self.format, &mut |at, source| match (at, source) {
            (At::Exact(at), Source::One(n)) => words[at] = value(n).to_bits(),
            (At::Exact(at), Source::Sum(a, b)) => words[at] = (value(a) + value(b)).to_bits(),
            (At::Exact(at), Source::Scale { first, columns }) => {
                words[at] = format::scale(&self.parameters[first..][..columns]).to_bits();
            }
            (At::Weight(at), Source::One(n)) => match self.format {
                WeightFormat::F32 => words[at] = value(n).to_bits(),
                WeightFormat::F16 | WeightFormat::Bf16 => {
                    words[at / 2] |= u32::from(self.format.half(value(n))) << (16 * (at % 2));
                }
                WeightFormat::Int8 => {
                    words[at / 4] |= u32::from(self.codes[n].cast_unsigned()) << (8 * (at % 4));
                }
            },
            (At::Weight(_), source) => unreachable!("a weight is one parameter, not {source:?}"),
        });
        words
    }
}

fn codes(config: &RnnConfig, mut values: &[f32]) -> Vec<i8> {
    let mut codes = Vec::with_capacity(values.len());
    for p in parameters(config) {
        let (own, rest) = values.split_at(p.shape.iter().product());
        match format::is_matrix(&p) {
            true => own.chunks_exact(p.shape[1]).for_each(|row| codes.extend(format::codes(row))),
            false => codes.resize(codes.len() + own.len(), 0),
        }
        values = rest;
    }
    codes
}
