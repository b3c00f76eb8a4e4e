//! Safetensors files, and indices of several.

#![no_main]

mod tensors;

use libfuzzer_sys::fuzz_target;
use wgpu_rnn_formats::Kind;

fuzz_target!(|bytes: &[u8]| {
    let _ = Kind::of(bytes);
    tensors::read(bytes);
});
