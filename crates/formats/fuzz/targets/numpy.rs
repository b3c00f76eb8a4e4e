//! NumPy's files. Bytes that are an archive's are read as they are; all others are an array, by itself and in an archive.

#![no_main]

mod archive;
mod tensors;

use libfuzzer_sys::fuzz_target;
use wgpu_rnn_formats::{Kind, npy};

fuzz_target!(|bytes: &[u8]| {
    if Kind::of(bytes) == Some(Kind::Npz) {
        return tensors::read(bytes);
    }
    let _ = (npy::from_bytes::<f64>("fuzzed", bytes), npy::integers_from_bytes("fuzzed", bytes));
    tensors::read(&archive::stored(&[("weight_hh_l0.npy", bytes)]));
});
