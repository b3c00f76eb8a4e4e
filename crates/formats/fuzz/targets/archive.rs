//! Zip archives around what is fuzzed.

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An archive of these parts, not packed.
pub fn stored(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, data) in parts {
        zip.start_file(*name, options).expect("a part");
        zip.write_all(data).expect("memory");
    }
    zip.finish().expect("an archive").into_inner()
}
