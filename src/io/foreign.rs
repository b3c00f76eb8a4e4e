//! Files of other formats, by their first bytes: what a file is that is not the one that was expected, and what helps.

/// What these bytes are instead of a safetensors file, and what to do; `None` for what could be a damaged safetensors file.
pub(crate) fn instead_of_safetensors(bytes: &[u8]) -> Option<&'static str> {
    // A safetensors header is JSON behind 8 bytes of length: whatever those 8 spell, a file that goes on so was meant as one.
    if bytes.get(8) == Some(&b'{') && !bytes.starts_with(b"{") {
        return None;
    }
    Some(match bytes {
        [] => "the file is empty",
        [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..] => zip(bytes),
        [0x80, 2..=5, ..] => {
            "this is a Python pickle (torch.save of PyTorch before 1.6 writes it): load it in Python and save it with \
             safetensors.torch.save_file(model.state_dict(), path)"
        }
        [0x89, b'H', b'D', b'F', ..] => {
            "this is an HDF5 file (Keras writes .h5): open it in Python and give layer.get_weights() to \
             Weights::from_keras, or save the arrays with safetensors.numpy.save_file"
        }
        [b'G', b'G', b'U', b'F', ..] => {
            "this is a GGUF file (of llama.cpp): take the model's original file, or read it in Python with the package \
             gguf and save the arrays with safetensors.numpy.save_file"
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            "this is a NumPy .npy file, one array without a name: save the arrays by their names with \
             safetensors.numpy.save_file"
        }
        // Protobuf has no magic number: ir_version (field 1, a small number), then another field of ModelProto.
        [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..] => {
            "this looks like an ONNX model: open it with OnnxFile of wgpu-rnn-formats, on the command line with --onnx"
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "this is a Git LFS pointer and not the file itself: fetch it with git lfs pull"
        }
        _ if matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..]) => {
            "this is JSON text (an index of several safetensors files is): open the .safetensors file itself"
        }
        _ if matches!(bytes.trim_ascii_start(), [b'<', b'!' | b'h' | b'H', ..]) => {
            "this is a web page: the download gave a page in place of the file"
        }
        _ => return None,
    })
}

/// Archives, by the name of their first file.
fn zip(bytes: &[u8]) -> &'static str {
    let length = match bytes.get(26..28) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    };
    let name = bytes.get(30..).map_or(&[][..], |rest| &rest[..length.min(rest.len())]);
    if name.ends_with(b".npy") {
        "this is a NumPy .npz archive: load it in Python and save its arrays with safetensors.numpy.save_file"
    } else if name == b"metadata.json" || name == b"config.json" {
        "this is a Keras .keras archive: open it in Python and give layer.get_weights() to Weights::from_keras, or save \
         the arrays with safetensors.numpy.save_file"
    } else {
        "this is a PyTorch zip archive (torch.save writes it as .pt or .pth): load it in Python and save it with \
         safetensors.torch.save_file(model.state_dict(), path)"
    }
}
