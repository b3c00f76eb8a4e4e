//! `.pt` and `.pth`: what `torch.save` has written since the first PyTorch, by the crate `pytorch-reader` (burn's). It is taken
//! over burn-store, which needs burn's tensors, and over a pickle machine of our own: it knows the three containers (zip, stacked
//! pickles, tar), gathers strided views of shared storages, and reads a pickled `nn.Module` as its state dict.
//!
//! Nothing that a pickle says is ever run: a global is a name, and a call that is not one of those that rebuild a tensor gives
//! an object with nothing in it. The crate refuses pickles nested over 1000 deep, and those that copy over a million values by
//! reference; and whatever does not fit its storage. Two things that it lets through are refused here: a pickle that is packed to
//! a small part of its size, each byte of which may cost a hundred, and a view of few bytes that stands for many (`expand`).
//!
//! Dictionaries in dictionaries give their keys as prefixes: `{"model": {"rnn.weight_ih_l0": …}}` is
//! `model.rnn.weight_ih_l0`.

use super::{Contents, EXPANDED, Stored};
use crate::element::Element;
use pytorch_reader::{DType, PytorchReader};
use std::io::Cursor;
use std::path::Path;
use wgpu_rnn::io::Kind;
use wgpu_rnn::{Error, Result};
use zip::ZipArchive;

/// `torch.save` packs nothing: a pickle is smaller than its file, but for a file of next to nothing that somebody packed.
const PICKLE: u64 = 1 << 16;

pub(super) fn open(path: &Path, bytes: Vec<u8>) -> Result<Contents> {
    let most = bytes.len().saturating_mul(EXPANDED);
    let refused = |reason: String| Error::file(path, format!("not a PyTorch file with named tensors: {reason}"));
    check_pickle(&bytes).map_err(refused)?;
    let reader = PytorchReader::from_bytes(bytes, None).map_err(|e| refused(e.to_string()))?;
    let stored = |tensor: pytorch_reader::Tensor| {
        let size = tensor.byte_len();
        let (name, dtype, shape, read) = tensor.into_parts();
        let element = element(dtype);
        let read = Box::new(move || {
            if size > most {
                return Err(format!("expected at most {most} bytes of a file of this size, got {size}"));
            }
            let mut bytes = read().map_err(|e| e.to_string())?;
            // The crate gives them in the machine's order.
            if cfg!(target_endian = "big") {
                bytes.chunks_exact_mut(element.size()).for_each(<[u8]>::reverse);
            }
            Ok(bytes)
        });
        (name, Stored { shape, element, read })
    };
    let tensors = reader.into_tensors().into_values().map(stored).collect();
    Ok(Contents { tensors, ..Contents::default() })
}

/// Refuses a zip archive whose pickles unpack to more than the archive.
fn check_pickle(bytes: &[u8]) -> Result<(), String> {
    if Kind::of(bytes) != Some(Kind::PyTorchZip) {
        return Ok(());
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let most = (bytes.len() as u64).saturating_add(PICKLE);
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(|e| e.to_string())?;
        let is_pickle = entry.name().map_err(|e| e.to_string())?.ends_with(".pkl");
        if is_pickle && entry.size() > most {
            return Err(format!(
                "expected a pickle of at most {most} bytes in a file of this size, got {}",
                entry.size()
            ));
        }
    }
    Ok(())
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::F64 => Element::F64,
        DType::F32 => Element::F32,
        DType::F16 => Element::F16,
        DType::BF16 => Element::Bf16,
        DType::I64 => Element::I64,
        DType::I32 => Element::I32,
        DType::I16 => Element::I16,
        DType::I8 => Element::I8,
        DType::U64 => Element::U64,
        DType::U32 => Element::U32,
        DType::U16 => Element::U16,
        DType::U8 => Element::U8,
        DType::Bool => Element::Bool,
    }
}
