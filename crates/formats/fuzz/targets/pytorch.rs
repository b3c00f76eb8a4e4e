//! PyTorch files. Bytes that are a container's (zip, stacked pickles, tar) are read as they are; all others are the pickle of an archive,
//! which a fuzzer would never get past the archive's checksums.

#![no_main]

mod archive;
mod tensors;

use libfuzzer_sys::fuzz_target;
use wgpu_rnn_formats::Kind;

fuzz_target!(|bytes: &[u8]| match Kind::of(bytes) {
    Some(Kind::PyTorchZip | Kind::PyTorchLegacy | Kind::PyTorchTar) => tensors::read(bytes),
    _ => tensors::read(&archive::stored(&[("archive/data.pkl", bytes), ("archive/data/0", &[0x3c; 4096])])),
});
