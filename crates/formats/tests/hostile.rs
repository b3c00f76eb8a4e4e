//! Files from anywhere, of every container of named tensors: whatever the bytes, reading gives a typed error or values; never a panic,
//! never a hang, never an allocation out of proportion to the file.

#[path = "../../../tests/harness/watching.rs"]
mod watching;

use proptest::prelude::*;
use std::io::Write;
use std::path::Path;
use watching::{forget, largest};
use wgpu_rnn::cells;
use wgpu_rnn_formats::{Kind, Tensors, npy};

/// A tensor may be 64 times its file, and each of its bytes an f64.
fn allowed(bytes: &[u8]) -> usize {
    512 * bytes.len() + (4 << 20)
}

/// Puts `bytes` through everything; true if they were a file of tensors.
fn read(bytes: &[u8]) -> bool {
    forget();
    let _ = (Kind::of(bytes), npy::from_bytes::<f64>("x", bytes), npy::integers_from_bytes("x", bytes));
    let opened = Tensors::from_bytes("hostile", bytes.to_vec());
    if let Ok(file) = &opened {
        for name in file.names() {
            if let Ok(Some((shape, values))) = file.real::<f64>(name) {
                assert_eq!(shape.iter().product::<usize>(), values.len());
            }
            let _ = file.integers(name);
        }
        for layer in file.layers() {
            let _ = (layer.to_string(), layer.element());
            for cell in cells::ALL {
                if let Ok((config, weights)) = layer.read::<f32>(Some(cell)) {
                    weights.validate(&config).expect("weights that were read fit their configuration");
                }
            }
        }
    }
    assert!(largest() <= allowed(bytes), "{} bytes at once for a file of {}", largest(), bytes.len());
    opened.is_ok()
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).expect("a file")
}

const FILES: [&str; 8] = [
    "pytorch/zip.pt",
    "pytorch/legacy.pt",
    "pytorch/tar.pt",
    "pytorch/module.pt",
    "pytorch/expected.npz",
    "conventions/linen_gru.npz",
    "conventions/linen_lstm.safetensors",
    "conventions/equinox_gru.safetensors",
];

fn files() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(FILES.to_vec()).prop_map(data)
}

#[test]
fn whole_files_are_read() {
    assert!(FILES.into_iter().all(|name| read(&data(name))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn files_cut_short(bytes in files(), keep in any::<prop::sample::Index>()) {
        read(&bytes[..keep.index(bytes.len())]);
    }

    #[test]
    fn files_with_other_bytes(mut bytes in files(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read(&bytes);
    }

    /// Sizes and offsets are numbers of 2 to 8 bytes.
    #[test]
    fn files_that_claim_a_lot(
        mut bytes in files(),
        at in any::<prop::sample::Index>(),
        size in prop::sample::select(vec![2usize, 4, 8]),
        value in prop::sample::select(vec![u64::MAX, i64::MAX as u64, 1 << 62, 1 << 40, u64::from(u32::MAX), 0xffff, 0]),
    ) {
        let at = at.index(bytes.len() - size);
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        read(&bytes);
    }

    #[test]
    fn pickles_of_anything(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&zip(&[("archive/data.pkl", &[b"\x80\x02", &body[..]].concat())]));
        read(&[LEGACY, &body[..]].concat());
    }

    #[test]
    fn indices_of_anything(text in "[\\[\\]{}:,\"a-z./\\\\0-9 ]{0,80}") {
        read(format!("{{\"weight_map\": {text}}}").as_bytes());
        read(format!("{{\"weight_map\": {{\"a\": \"{text}\"}}}}").as_bytes());
    }
}

/// What stacked pickles begin with: the magic number and the version.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(entries, zip::CompressionMethod::Stored)
}

fn archive(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, data) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).expect("a file");
        archive.write_all(data).expect("written");
    }
    archive.finish().expect("an archive").into_inner()
}

fn refusal(bytes: Vec<u8>) -> String {
    forget();
    let allowed = allowed(&bytes);
    let error = Tensors::from_bytes("m", bytes).expect_err("must be refused").to_string();
    assert!(largest() <= allowed, "{} bytes at once", largest());
    error
}

/// A pickle in a zip archive, with a storage of 4 bytes under the key 0.
fn pickle(body: &[u8]) -> Vec<u8> {
    zip(&[("archive/data.pkl", &[b"\x80\x02", body].concat()), ("archive/data/0", &[0; 4])])
}

#[test]
fn nothing_of_a_pickle_is_run() {
    // os.system("touch …") as the value of a key: a call without a tensor is an object with nothing in it.
    let at = tempfile::tempdir().expect("a folder");
    let mark = at.path().join("mark");
    let text = format!("touch {}", mark.display());
    let call = [
        b"}X\x01\x00\x00\x00acos\nsystem\nX".as_slice(),
        &(text.len() as u32).to_le_bytes(),
        text.as_bytes(),
        b"\x85Rs.",
    ]
    .concat();
    let file = Tensors::from_bytes("m", pickle(&call)).expect("a dictionary without tensors");
    assert_eq!(file.names().count(), 0);
    assert!(!mark.exists());
}

#[test]
fn deep_pickles_are_refused() {
    let deep = [&b"]".repeat(100_000)[..], &b"a".repeat(99_999), b"."].concat();
    assert!(refusal(pickle(&deep)).contains("nesting exceeds 1000 levels"));
}

#[test]
fn pickles_that_double_are_refused() {
    // A list of two of the list before, 60 times over.
    let mut body = b"]q\x00".to_vec();
    for n in 0..60u8 {
        body.extend([b'(', b'h', n, b'h', n, b'l', b'q', n + 1]);
    }
    body.push(b'.');
    assert!(refusal(pickle(&body)).contains("memo bomb"));
}

#[test]
fn a_view_that_is_more_than_its_storage_is_refused() {
    // {"a": _rebuild_tensor_v2(storage of 1 f32, 0, shape, stride 0, …)}
    let tensor = |shape: &[u8]| {
        [
            b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"
                .as_slice(),
            shape,
            b"K\x00\x85\x89}tRs.",
        ]
        .concat()
    };
    let file = Tensors::from_bytes("m", pickle(&tensor(b"K\x05\x85"))).expect("five times the same number");
    assert_eq!(file.real::<f32>("a").expect("values").expect("a"), (vec![5], vec![0.0; 5]));
    // 2^30 times.
    let file =
        Tensors::from_bytes("m", pickle(&tensor(b"J\x00\x00\x00\x40\x85"))).expect("its values are not read yet");
    forget();
    let message = file.real::<f32>("a").expect_err("must be refused").to_string();
    assert!(message.contains("expected at most ") && message.ends_with("got 4294967296"), "{message}");
    assert!(largest() < 1 << 16);
    // 2^62 numbers are no size at all.
    let huge = tensor(b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85");
    assert!(refusal(pickle(&huge)).contains("not a PyTorch file with named tensors"));
}

#[test]
fn archives_that_unpack_to_too_much_are_refused() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (16777216,), }\n";
    let mut array = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    array.resize(array.len() + (64 << 20), 0);
    let bomb = archive(&[("a.npy", &array)], zip::CompressionMethod::Deflated);
    assert!(bomb.len() < 1 << 18);
    assert!(refusal(bomb).contains("expected arrays of at most "));
    let pickle = [&b"N".repeat(10 << 20)[..], b"."].concat();
    let bomb = archive(&[("archive/data.pkl", &pickle)], zip::CompressionMethod::Deflated);
    assert!(refusal(bomb).contains("expected a pickle of at most "));
}
