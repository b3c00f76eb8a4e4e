//! What a file is, by its bytes: one table for every reader, so that a reader that is given another file says which it is and
//! what helps.

use std::fmt;

/// A kind of file. Which crate reads it stands in [`Kind::help`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No bytes.
    Empty,
    /// Named tensors behind a JSON header.
    Safetensors,
    /// `*.safetensors.index.json`: which of several safetensors files has which tensor.
    SafetensorsIndex,
    /// `torch.save` of PyTorch 1.6 and later.
    PyTorchZip,
    /// `torch.save` of PyTorch 0.1.10 to 1.5.
    PyTorchLegacy,
    /// `torch.save` before PyTorch 0.1.10.
    PyTorchTar,
    /// `torch.jit.save`: a program with its tensors.
    TorchScript,
    /// `torch.export.save`: a graph with its tensors.
    TorchExport,
    /// A Python pickle of something else.
    Pickle,
    /// `model.save("m.keras")` of Keras 3.
    Keras,
    /// HDF5, as `model.save("m.h5")` and `model.save_weights` of Keras write it.
    Hdf5,
    /// A model in ONNX.
    Onnx,
    /// `numpy.savez`: named arrays.
    Npz,
    /// `numpy.save`: one array.
    Npy,
    /// llama.cpp's.
    Gguf,
    /// TensorFlow Lite's.
    TfLite,
    /// TensorFlow's `saved_model.pb`.
    SavedModel,
    /// Another zip archive.
    Zip,
    /// Another tar archive.
    Tar,
    /// Something packed by gzip.
    Gzip,
    /// What stands in a Git repository for a file that lies elsewhere.
    LfsPointer,
    /// HTML.
    WebPage,
    /// Other JSON text.
    Json,
}

/// A row of the table.
struct Row {
    kind: Kind,
    /// Whether these are the bytes of such a file.
    sign: fn(&[u8]) -> bool,
    /// What it is, after "this is".
    what: &'static str,
    /// What helps.
    help: &'static str,
}

/// Every kind. The first whose sign a file has is its kind: narrow signs stand before wide ones.
const TABLE: [Row; 23] = [
    Row { kind: Kind::Empty, sign: |b| b.is_empty(), what: "an empty file", help: "copy or download it again" },
    Row {
        kind: Kind::Safetensors,
        // A header is JSON behind 8 bytes of length: whatever those 8 spell, a file that goes on so was meant as one.
        sign: |b| b.get(8) == Some(&b'{') && !b.starts_with(b"{"),
        what: "a safetensors file",
        help: "TensorFile opens it, and Tensors of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::TorchScript,
        sign: |b| has(b, |name| name.ends_with(b"/constants.pkl")),
        what: "a TorchScript archive (torch.jit.save writes it)",
        help: "its program is not read; in Python, torch.save(torch.jit.load(path).state_dict(), \"model.pt\") writes its \
               tensors",
    },
    Row {
        kind: Kind::TorchExport,
        sign: |b| {
            has(b, |name| name.ends_with(b"archive_format") || name.ends_with(b"serialized_exported_program.json"))
        },
        what: "an exported PyTorch program (torch.export.save writes it as .pt2)",
        help: "its graph is not read; in Python, torch.save(torch.export.load(path).state_dict, \"model.pt\") writes its \
               tensors",
    },
    Row {
        kind: Kind::PyTorchZip,
        sign: |b| has(b, |name| name.ends_with(b"data.pkl")),
        what: "a PyTorch zip archive (torch.save writes it as .pt or .pth)",
        help: "wgpu-rnn run reads it, and Tensors of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::Keras,
        sign: |b| has(b, |name| name == b"model.weights.h5" || name == b"config.json" || name == b"metadata.json"),
        what: "a Keras .keras archive",
        help: "wgpu-rnn run reads it, and WholeModel and KerasFile of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::Npz,
        sign: |b| has(b, |name| name.ends_with(b".npy")),
        what: "a NumPy .npz archive",
        help: "wgpu-rnn run reads it, and Tensors of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::Zip,
        sign: is_zip,
        what: "a zip archive of no known model format",
        help: "unpack it and take the model that is in it; if it should be one, it may be cut short: copy or download it again",
    },
    Row {
        kind: Kind::PyTorchLegacy,
        sign: is_legacy,
        what: "a PyTorch file of before 1.6 (stacked pickles)",
        help: "wgpu-rnn run reads it, and Tensors of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::Pickle,
        sign: |b| matches!(b, [0x80, 2..=5, ..]),
        what: "a Python pickle, and not one that torch.save wrote",
        help: "load it in Python and save its arrays by their names, with safetensors.numpy.save_file or numpy.savez",
    },
    Row {
        kind: Kind::Hdf5,
        sign: |b| b.starts_with(b"\x89HDF"),
        what: "an HDF5 file (Keras writes .h5)",
        help: "if Keras wrote it, wgpu-rnn run reads it, and WholeModel and KerasFile of wgpu-rnn-formats; save the arrays of others \
               with safetensors.numpy.save_file",
    },
    Row {
        kind: Kind::Gguf,
        sign: |b| b.starts_with(b"GGUF"),
        what: "a GGUF file (of llama.cpp)",
        help: "take the model's original file, or read it in Python with the package gguf and save the arrays with \
               safetensors.numpy.save_file",
    },
    Row {
        kind: Kind::Npy,
        sign: |b| b.starts_with(b"\x93NUMPY"),
        what: "a NumPy .npy file, one array without a name",
        help: "it is an input or an output; weights are arrays with names: save them with safetensors.numpy.save_file or \
               numpy.savez",
    },
    Row {
        kind: Kind::TfLite,
        sign: |b| b.get(4..8) == Some(b"TFL3"),
        what: "a TensorFlow Lite model",
        help: "take the Keras model that it was made from, or convert it with the package tf2onnx",
    },
    Row {
        kind: Kind::SavedModel,
        // schema_version 1, then a MetaGraphDef; ONNX has never had a version 1 with a producer behind it.
        sign: |b| b.starts_with(&[8, 1, 0x12]),
        what: "a TensorFlow SavedModel",
        help: "save the Keras model as .keras, or convert it with the package tf2onnx",
    },
    Row {
        kind: Kind::Onnx,
        // Protobuf has no magic number: ir_version (field 1, a small number), then another field of ModelProto.
        sign: |b| matches!(b, [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..]),
        what: "an ONNX model",
        help: "wgpu-rnn run reads it, and OnnxFile of wgpu-rnn-formats",
    },
    Row {
        kind: Kind::PyTorchTar,
        sign: |b| is_tar(b) && [&b"sys_info"[..], b"storages", b"tensors", b"pickle"].contains(&tar_name(b)),
        what: "a PyTorch file of before 0.1.10 (a tar archive)",
        help: "wgpu-rnn run reads it, and Tensors of wgpu-rnn-formats",
    },
    Row { kind: Kind::Tar, sign: is_tar, what: "a tar archive", help: "unpack it and take the model that is in it" },
    Row {
        kind: Kind::Gzip,
        sign: |b| b.starts_with(&[0x1f, 0x8b]),
        what: "a file packed by gzip",
        help: "unpack it with gunzip",
    },
    Row {
        kind: Kind::LfsPointer,
        sign: |b| b.starts_with(b"version https://git-lfs"),
        what: "a Git LFS pointer and not the file itself",
        help: "fetch it with git lfs pull",
    },
    Row {
        kind: Kind::SafetensorsIndex,
        sign: |b| is_json(b) && b.windows(WEIGHT_MAP.len()).any(|w| w == WEIGHT_MAP),
        what: "the index of several safetensors files",
        help: "wgpu-rnn run reads it, with the files beside it, and Tensors of wgpu-rnn-formats; TensorFile opens one of them",
    },
    Row { kind: Kind::Json, sign: is_json, what: "JSON text", help: "open the file that has the weights" },
    Row {
        kind: Kind::WebPage,
        sign: |b| matches!(b.trim_ascii_start(), [b'<', b'!' | b'h' | b'H', ..]),
        what: "a web page",
        help: "the download gave a page in place of the file",
    },
];

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.kind)
    }

    /// The kind of a file with these bytes, all of them or as many as are there; `None` for one that is not known.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        TABLE.iter().find(|row| (row.sign)(bytes)).map(|row| row.kind)
    }

    /// What it is, in words that follow "this is": `a PyTorch zip archive (torch.save writes it as .pt or .pth)`.
    pub fn what(self) -> &'static str {
        self.row().map_or("", |row| row.what)
    }

    /// What reads it, or what else to do.
    pub fn help(self) -> &'static str {
        self.row().map_or("", |row| row.help)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.kind == self)
    }
}

/// `this is a PyTorch zip archive …: wgpu-rnn run reads it, …`: for the error of a reader of something else.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is {}: {}", self.what(), self.help())
    }
}

const WEIGHT_MAP: &[u8] = b"\"weight_map\"";

fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}

fn is_zip(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..])
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// The name of a tar archive's first file.
fn tar_name(bytes: &[u8]) -> &[u8] {
    let name = bytes.get(..100).unwrap_or_default();
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    name.strip_prefix(b"./").unwrap_or(name)
}

/// Stacked pickles begin with the number 0x1950a86a20f9469cfc6c: in binary, or in the decimal digits of protocols 0 and 1.
fn is_legacy(bytes: &[u8]) -> bool {
    let start = bytes.get(..64).unwrap_or(bytes);
    let has = |magic: &[u8]| start.windows(magic.len()).any(|window| window == magic);
    has(b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") || has(b"119547037146038801333356")
}

/// Whether a zip archive has a file of such a name: by its directory, which is at its end, or by its first file where the
/// directory is not there.
fn has(bytes: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
    is_zip(bytes) && zip_names(bytes).iter().any(|name| is(name))
}

/// The names of a zip archive's directory; of one without, as of a file that is cut short, that of its first file.
fn zip_names(bytes: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize, size: usize| {
        let digits = bytes.get(at..at.checked_add(size)?)?;
        Some(digits.iter().rev().fold(0, |n, &digit| n << 8 | usize::from(digit)))
    };
    let name = |at: usize, length: usize| bytes.get(at..at.checked_add(length)?);
    let mut names = Vec::new();
    // The end record: 22 bytes, and a comment of at most 64 KiB.
    let last = bytes.len().saturating_sub(22);
    let end = (last.saturating_sub(0xffff)..=last).rev().find(|&at| bytes.get(at..at + 4) == Some(b"PK\x05\x06"));
    let mut next = end.and_then(|end| number(end + 16, 4));
    while let Some(at) = next.filter(|&at| bytes.get(at..at.saturating_add(4)) == Some(b"PK\x01\x02")) {
        let lengths = [28, 30, 32].map(|field| number(at + field, 2).unwrap_or(0));
        names.extend(name(at + 46, lengths[0]));
        next = Some(at + 46 + lengths.iter().sum::<usize>());
    }
    if names.is_empty() {
        let length = number(26, 2).unwrap_or(0).min(bytes.len().saturating_sub(30));
        names.extend(name(30, length));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        for kind in Kind::all() {
            assert_eq!(TABLE.iter().filter(|row| row.kind == kind).count(), 1, "{kind:?}");
            assert!(!kind.what().is_empty() && !kind.help().is_empty());
        }
    }
}
