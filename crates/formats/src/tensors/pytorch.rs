//! `.pt` and `.pth`: what `torch.save` has written since the first PyTorch, by the crate `pytorch-reader` (burn's). It is taken
//! over burn-store, which needs burn's tensors, and over a pickle machine of our own: it knows the three containers (zip, stacked
//! pickles, tar), gathers strided views of shared storages, and reads a pickled `nn.Module` as its state dict.
//!
//! Nothing that a pickle says is ever run: a global is a name, and a call that is not one of those that rebuild a tensor gives
//! an object with nothing in it. The crate refuses pickles nested over 1000 deep, and those that copy over a million values by
//! reference; a zip archive's pickle of over 100 MiB; and whatever does not fit its storage. It lets a view of few bytes stand for
//! 10 GiB (`expand`), which is refused here.
//!
//! Dictionaries in dictionaries give their keys as prefixes: `{"model": {"rnn.weight_ih_l0": …}}` is
//! `model.rnn.weight_ih_l0`.

use super::{Contents, EXPANDED, Stored};
use crate::element::Element;
use pytorch_reader::{DType, PytorchReader};
use std::path::Path;
use wgpu_rnn::{Error, Recurrence, Result};

pub(super) fn open(path: &Path, bytes: Vec<u8>) -> Result<Contents> {
    let most = bytes.len().saturating_mul(EXPANDED);
    let reader = PytorchReader::from_bytes(bytes, None)
        .map_err(|e| Error::file(path, format!("not a PyTorch file with named tensors: {e}")))?;
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
    Ok(Contents { tensors, recurrence: Recurrence::Dense })
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
