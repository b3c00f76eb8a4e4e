//! Recorded cases: folders of `.npy` files of any type, as f64.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wgpu_rnn::Tensor;

/// A folder of the test data.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx").join(name)
}

/// An array, whatever its type: f16, f32, f64, i32, i64, bool.
pub fn array(path: &Path) -> Tensor<f64> {
    let bytes = std::fs::read(path).expect("a file");
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (length, start) = match bytes[6] {
        1 => (usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        _ => (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, 12),
    };
    let header = std::str::from_utf8(&bytes[start..start + length]).expect("text");
    let data = &bytes[start + length..];
    assert!(header.contains("'fortran_order': False"));
    let between = |from: &str, to: &str| header.split(from).nth(1).expect(from).split(to).next().expect(to);
    let shape: Vec<usize> = between("'shape': (", ")").split(',').filter_map(|size| size.trim().parse().ok()).collect();
    fn each<const N: usize>(data: &[u8], read: fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }
    let data = match between("'descr': '", "'") {
        "<f2" => each(data, |b| half::f16::from_le_bytes(b).to_f64()),
        "<f4" => each(data, |b| f32::from_le_bytes(b).into()),
        "<f8" => each(data, f64::from_le_bytes),
        "<i4" => each(data, |b| i32::from_le_bytes(b).into()),
        "<i8" => each(data, |b| i64::from_le_bytes(b) as f64),
        "|b1" => each(data, |[b]: [u8; 1]| b.into()),
        other => panic!("{other}"),
    };
    assert_eq!(data.len(), shape.iter().product::<usize>(), "{}", path.display());
    Tensor { data, shape }
}

/// Those of a folder whose names are `<kind>.<name>.npy`, by name.
pub fn arrays(folder: &Path, kind: &str) -> BTreeMap<String, Tensor<f64>> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let named = entries.filter_map(|path| {
        let file = path.file_name()?.to_string_lossy().into_owned();
        let name = file.strip_prefix(kind)?.strip_prefix('.')?.strip_suffix(".npy")?.to_string();
        Some((name, array(&path)))
    });
    named.collect()
}

/// The largest difference, relative to the largest value of `right`.
pub fn error(right: &Tensor<f64>, got: &Tensor<f64>) -> f64 {
    assert_eq!(right.shape, got.shape);
    let scale = right.data.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-30);
    right.data.iter().zip(&got.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / scale
}
