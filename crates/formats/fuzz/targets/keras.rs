//! Keras's files as they are: HDF5, and archives.

#![no_main]

mod model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| model::read(bytes));
