//! Configurations of Keras models, over the arrays of a file that is right: an archive's checksums would keep a fuzzer from them.

#![no_main]

mod archive;
mod model;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The arrays of the case `functional` of the tests.
static ARRAYS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file: &[u8] = include_bytes!("../../tests/data/keras/keras3/functional.keras");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(file)).expect("an archive");
    let mut arrays = Vec::new();
    std::io::copy(&mut zip.by_name("model.weights.h5").expect("arrays"), &mut arrays).expect("arrays");
    arrays
});

fuzz_target!(|bytes: &[u8]| {
    let parts =
        [("config.json", bytes), ("metadata.json", b"{\"keras_version\": \"3.15.1\"}"), ("model.weights.h5", &ARRAYS)];
    model::read(&archive::stored(&parts));
});
