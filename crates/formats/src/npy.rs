//! `.npy` files: reads f16, f32 and f64, and whole numbers (little-endian, C order), writes f32. The header is parsed by the
//! `npyz` crate, after a check that keeps hostile ones away from it.

use crate::element::Element;
use npyz::{NpyFile, Order, WriterBuilder};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use wgpu_rnn::io::Kind;
use wgpu_rnn::num::Real;
use wgpu_rnn::{Error, Result, Tensor, View};

/// Longer headers are refused; NumPy's own limit.
const MAX_HEADER: usize = 10_000;
/// Opening brackets of a header: the dict, the shape and some; a structured dtype has more.
const MAX_BRACKETS: usize = 8;

/// Reads a tensor of any shape.
///
/// # Errors
/// [`Error::File`] for a file that cannot be read, is not `.npy`, is truncated, or holds another type or order.
pub fn read<T: Real>(path: impl AsRef<Path>) -> Result<Tensor<T>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    from_bytes(path, &bytes)
}

/// The same from bytes in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`read`].
pub fn from_bytes<T: Real>(name: impl Into<PathBuf>, bytes: &[u8]) -> Result<Tensor<T>> {
    let expected = "'<f4', '<f8' or '<f2'";
    let real = |element: Element, values: &[u8]| element.is_real().then(|| element.real(values));
    parse(bytes, expected, real).map_err(|reason| Error::file(name, reason))
}

/// Reads whole numbers, as token ids are: of 8 to 64 bits, with or without sign.
///
/// # Errors
/// As [`read`].
pub fn read_integers(path: impl AsRef<Path>) -> Result<Tensor<i64>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    integers_from_bytes(path, &bytes)
}

/// The same from bytes in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`read`].
pub fn integers_from_bytes(name: impl Into<PathBuf>, bytes: &[u8]) -> Result<Tensor<i64>> {
    parse(bytes, "whole numbers within i64, such as '<i8' or '<i4'", Element::integers)
        .map_err(|reason| Error::file(name, reason))
}

/// Writes `tensor` as f32.
///
/// # Errors
/// [`Error::File`] if the file cannot be written, [`Error::Mismatch`] if values and shape disagree.
pub fn write(path: impl AsRef<Path>, tensor: View<'_, f32>) -> Result<()> {
    let path = path.as_ref();
    tensor.check("tensor to write", &[], tensor.shape)?;
    let shape: Vec<u64> = tensor.shape.iter().map(|&d| d as u64).collect();
    let file = std::fs::File::create(path).map_err(|e| Error::file(path, e))?;
    let mut out = BufWriter::new(file);
    let mut write = || {
        let mut npy = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut out).begin_nd()?;
        npy.extend(tensor.data)?;
        npy.finish()?;
        out.flush()
    };
    write().map_err(|e| Error::file(path, e))
}

fn parse<T>(
    bytes: &[u8],
    expected: &str,
    decode: impl Fn(Element, &[u8]) -> Option<Vec<T>>,
) -> Result<Tensor<T>, String> {
    let header = Header::read(bytes)?;
    let data = decode(header.element, header.values(bytes)?);
    let data = data.ok_or_else(|| format!("dtype: expected {expected}, got {}", header.descr))?;
    Ok(Tensor { data, shape: header.shape })
}

/// What the header of an array says.
pub(crate) struct Header {
    pub shape: Vec<usize>,
    pub element: Element,
    /// As NumPy writes it, in quotes: `'<f4'`.
    descr: String,
    fortran: bool,
    /// Where the values begin, and how many bytes they are.
    at: usize,
    size: usize,
}

impl Header {
    /// Reads no further than the header.
    pub fn read(mut file: impl Read) -> Result<Self, String> {
        // Magic number, version and length of the header, of which there are two sizes.
        let mut bytes = Vec::new();
        let mut until = |bytes: &mut Vec<u8>, end: usize| {
            let more = end.saturating_sub(bytes.len()) as u64;
            file.by_ref().take(more).read_to_end(bytes).map_err(|e| e.to_string())
        };
        until(&mut bytes, 12)?;
        let (start, length) = header_length(&bytes)?;
        until(&mut bytes, start + length)?;
        check_header(&bytes)?;
        let file = NpyFile::new(bytes.as_slice()).map_err(|e| format!("not .npy: {e}"))?;
        let dtype = file.dtype().descr();
        let known = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"].into_iter();
        // The same order, without the format that NumPy does not have.
        let elements = Element::ALL.into_iter().filter(|e| *e != Element::Bf16);
        let element = known.zip(elements).find(|(name, _)| dtype.trim_matches('\'') == *name);
        let Some((_, element)) = element else {
            return Err(format!(
                "dtype: expected a number of at most 8 bytes, little-endian, such as '<f4', got {dtype}"
            ));
        };
        let shape = file.shape().iter().map(|&d| usize::try_from(d).map_err(|e| format!("shape: {e}")));
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let size = shape.iter().try_fold(element.size(), |n, &d| n.checked_mul(d));
        let size = size.ok_or("shape: more bytes than usize holds")?;
        Ok(Self { shape, element, descr: dtype, fortran: file.order() != Order::C, at: start + length, size })
    }

    /// How long the whole file is.
    pub fn file_size(&self) -> u64 {
        self.at.saturating_add(self.size) as u64
    }

    /// The values, row-major, in the file's bytes.
    pub fn values<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        if self.fortran {
            return Err("fortran_order: expected False, got True (save numpy.ascontiguousarray(x))".into());
        }
        let data = bytes.get(self.at..).unwrap_or_default();
        if data.len() != self.size {
            let Self { shape, size, descr, .. } = self;
            return Err(format!("data: expected {size} bytes for {descr} {shape:?}, got {}", data.len()));
        }
        Ok(data)
    }
}

/// Where the header begins and how long it says it is; at most [`MAX_HEADER`].
fn header_length(bytes: &[u8]) -> Result<(usize, usize), String> {
    let (start, length) = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        _ => {
            let other = Kind::of(bytes).filter(|kind| *kind != Kind::Npy);
            let other = other.map_or(String::new(), |kind| format!("; this is {}", kind.what()));
            return Err(format!("not .npy: no magic number of version 1, 2 or 3{other}"));
        }
    };
    if length > MAX_HEADER {
        return Err(format!("header: expected at most {MAX_HEADER} bytes, got {length}"));
    }
    Ok((start, length))
}

/// Refuses what `npyz` would stumble over: it allocates whatever header length is declared, parses nested brackets by
/// recursion (with exponential backtracking) and multiplies the shape without looking for overflow.
fn check_header(bytes: &[u8]) -> Result<(), String> {
    let (start, length) = header_length(bytes)?;
    let header = bytes
        .get(start..start + length)
        .ok_or_else(|| format!("header: expected {length} bytes, got {}", bytes.len().saturating_sub(start)))?;
    let text = std::str::from_utf8(header).map_err(|e| format!("header: {e}"))?;
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !" \n_'\"<>|=()[]{},:.".contains(*c)) {
        return Err(format!("header: expected a plain array's, got {c:?} in it"));
    }
    let brackets = text.matches(['(', '[', '{']).count();
    if brackets > MAX_BRACKETS {
        return Err(format!("header: expected a plain array's, got {brackets} opening brackets"));
    }
    // The shape's sizes are among the numbers; a 0 must not hide an overflow in a partial product (a stride).
    let numbers = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut product = 1u64;
    for number in numbers.filter(|n| n.starts_with(|c: char| c.is_ascii_digit())) {
        let value: u64 = number.parse().map_err(|_| format!("header: expected a number within u64, got {number}"))?;
        product = product.checked_mul(value.max(1)).ok_or("shape: more values than u64 holds")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Version 1 with the given header text and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    fn reason(bytes: &[u8]) -> String {
        from_bytes::<f32>("f.npy", bytes).map(|t| t.shape).expect_err("must be refused").to_string()
    }

    fn header(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for shape in [&[2usize, 3, 1][..], &[6], &[1, 6], &[0, 4]] {
            let n = shape.iter().product();
            let data: Vec<f32> = [1.5, -0.0, f32::NAN, f32::INFINITY, 1e-42, 7.0].into_iter().take(n).collect();
            let path = dir.path().join("a.npy");
            write(&path, View::new(&data, shape)).unwrap();
            let back = read::<f32>(&path).unwrap();
            assert_eq!(back.shape, shape);
            assert_eq!(
                back.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                data.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            );
        }
        assert!(write(dir.path().join("b.npy"), View::new(&[1.0], &[2])).is_err());
    }

    #[test]
    fn f64_is_read_in_both_precisions() {
        let data: Vec<u8> = [0.1f64, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes = file(&header("<f8", "False", "(2,)"), &data);
        assert_eq!(from_bytes::<f64>("f.npy", &bytes).unwrap().data, [0.1, 2.0]);
        assert_eq!(from_bytes::<f32>("f.npy", &bytes).unwrap().data, [0.1f32, 2.0]);
    }

    #[test]
    fn f16_is_read() {
        let data: Vec<u8> = [1.5f32, -0.25].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let bytes = file(&header("<f2", "False", "(2, 1)"), &data);
        assert_eq!(from_bytes::<f32>("f.npy", &bytes).unwrap(), Tensor { data: vec![1.5, -0.25], shape: vec![2, 1] });
    }

    #[test]
    fn whole_numbers_are_read_as_such() {
        for (descr, data) in [
            ("<i8", [3i64, -4].map(i64::to_le_bytes).concat()),
            ("<i4", [3i32, -4].map(i32::to_le_bytes).concat()),
            ("|i1", [3i8, -4].map(i8::to_le_bytes).concat()),
        ] {
            let bytes = file(&header(descr, "False", "(2,)"), &data);
            assert_eq!(integers_from_bytes("f.npy", &bytes).unwrap().data, [3, -4], "{descr}");
            assert!(reason(&bytes).contains("expected '<f4', '<f8' or '<f2'"));
        }
        let bytes = file(&header("<u8", "False", "(1,)"), &u64::MAX.to_le_bytes());
        assert!(integers_from_bytes("f.npy", &bytes).unwrap_err().to_string().contains("within i64"));
        let bytes = file(&header("<f4", "False", "(1,)"), &[0; 4]);
        assert!(integers_from_bytes("f.npy", &bytes).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_reason() {
        let data = [0u8; 24];
        let cases = [
            (file(&header("<f4", "True", "(2, 3)"), &data), "fortran_order: expected False, got True"),
            (file(&header(">f4", "False", "(2, 3)"), &data), "little-endian, such as '<f4', got '>f4'"),
            (file(&header("<i4", "False", "(2, 3)"), &data), "dtype: expected '<f4', '<f8' or '<f2', got '<i4'"),
            (file(&header("|O", "False", "(2, 3)"), &data), "got '|O'"),
            (file(&header("<f4", "False", "(2, 4)"), &data), "data: expected 32 bytes for '<f4' [2, 4], got 24"),
            (file(&header("<f4", "False", "(2, 2)"), &data), "data: expected 16 bytes"),
            (file(&header("<f4", "False", "(4294967296, 4294967296)"), &data), "more values than u64"),
            (file(&header("<f4", "False", "(0, 4294967296, 4294967296)"), &data), "more values than u64"),
            (file(&header("<f4", "False", "(99999999999999999999,)"), &data), "within u64"),
            (file(&header("<f8", "False", "(4611686018427387904,)"), &data), "more bytes than usize"),
            (file(&header("<f4", "False", "(0x10,)"), &data), "within u64, got 0x10"),
            (file(&header("<f4", "False", "(-1,)"), &data), "got '-' in it"),
            (file(&header("<f4", "False", &"(".repeat(500)), &data), "got 501 opening brackets"),
            (file(&header("<f4", "False", "7"), &data), "not .npy: shape must be list or tuple"),
            (file("{}", &data), "not .npy: dict is missing key"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "header: expected at most 10000 bytes, got 4294967295"),
            (b"\x93NUMPY\x01\x00\x20\x00{".to_vec(), "header: expected 32 bytes, got 1"),
            (b"\x93NUMPY\x09\x00\x01\x00{".to_vec(), "no magic number"),
            (b"PK\x03\x04".to_vec(), "no magic number of version 1, 2 or 3; this is a zip archive"),
            (Vec::new(), "no magic number"),
        ];
        for (bytes, expected) in cases {
            let text = reason(&bytes);
            assert!(text.starts_with("f.npy: ") && text.contains(expected), "{text:?} does not say {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes::<f32>("f.npy", &[b"\x93NUMPY\x01\x00", &bytes[..]].concat());
            let _ = (from_bytes::<f32>("f.npy", &bytes), integers_from_bytes("f.npy", &bytes));
        }

        #[test]
        fn no_header_makes_it_panic(text in "[ \n_'\"<>|=()\\[\\]{},:.0-9a-zA-Z]{0,60}", keys in any::<bool>()) {
            let text = if keys { header("<f4", "False", &text) } else { text };
            let _ = from_bytes::<f32>("f.npy", &file(&text, &[0; 8]));
        }

        #[test]
        fn no_damaged_byte_makes_it_panic(at in 0usize..100, value in any::<u8>()) {
            let mut bytes = file(&header("<f4", "False", "(2, 3)"), &[0; 24]);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = from_bytes::<f32>("f.npy", &bytes);
        }
    }
}
