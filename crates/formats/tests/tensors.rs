//! Named tensors out of every container, against the same arrays as plain `.npz`, and what is refused.

use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::NamedTensors;
use wgpu_rnn::{Recurrence, RnnConfig, Weights};
use wgpu_rnn_formats::{Element, Kind, Tensors};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn pytorch(name: &str) -> Tensors {
    Tensors::open(data("pytorch").join(name)).unwrap()
}

/// A safetensors file of f32 tensors, each counted up from 0.
fn counted(tensors: &[(&str, &[usize])], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let values = |shape: &[usize]| -> Vec<u8> {
        (0..shape.iter().product::<usize>()).flat_map(|n| (n as f32).to_le_bytes()).collect()
    };
    let all: Vec<_> = tensors.iter().map(|(name, shape)| (*name, shape.to_vec(), values(shape))).collect();
    let views = all.iter().map(|(n, s, b)| (*n, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    serialize(views, metadata).unwrap()
}

fn reason(name: impl Into<PathBuf>, bytes: Vec<u8>) -> String {
    Tensors::from_bytes(name, bytes).expect_err("must be refused").to_string()
}

#[test]
fn every_container_of_pytorch_has_the_same_tensors() {
    let expected = pytorch("expected.npz");
    assert_eq!(expected.kind(), Kind::Npz);
    let names: Vec<&str> = expected.names().collect();
    assert_eq!(names.len(), 26);
    let files = [
        ("zip.pt", Kind::PyTorchZip, "state_dict."),
        ("legacy.pt", Kind::PyTorchLegacy, "state_dict."),
        ("tar.pt", Kind::PyTorchTar, ""),
    ];
    for (file, kind, prefix) in files {
        let got = pytorch(file);
        assert_eq!((got.kind(), got.names().count()), (kind, names.len()), "{got:?}");
        for name in &names {
            let full = format!("{prefix}{name}");
            assert_eq!(got.real::<f64>(&full).unwrap(), expected.real::<f64>(name).unwrap(), "{file}: {full}");
            if !["brain", "view.expanded"].contains(name) {
                assert_eq!(got.element(&full), expected.element(name), "{file}: {full}");
            }
        }
        assert_eq!(got.element(&format!("{prefix}brain")), Some(Element::Bf16));
        let whole = got.integers(&format!("{prefix}whole")).unwrap().unwrap();
        assert_eq!(whole, (vec![3], vec![3, -4, 5]));
        assert_eq!(got.real::<f32>(&format!("{prefix}whole")).unwrap().unwrap().1, [3.0, -4.0, 5.0]);
        let refused = got.integers(&format!("{prefix}half")).unwrap_err().to_string();
        assert!(refused.contains("expected whole numbers within i64, got f16"), "{refused}");
    }
}

#[test]
fn a_module_is_its_state_dict() {
    let (module, expected) = (pytorch("module.pt"), pytorch("expected.npz"));
    let names: Vec<&str> = module.names().collect();
    assert_eq!(names.len(), 2 + 16);
    for name in names {
        assert_eq!(module.real::<f32>(name).unwrap(), expected.real::<f32>(name).unwrap(), "{name}");
    }
}

#[test]
fn a_published_file_has_its_tensors() {
    let file = Tensors::open(data("legere_bigru_pt/model.pt")).unwrap();
    assert_eq!(file.shape("model.rnn.weight_ih_l0_reverse"), Some(&[384, 192][..]));
    assert_eq!(file.element("model.rnn.weight_hh_l0"), Some(Element::F32));
}

#[test]
fn networks_load_from_any_container() {
    // RnnConfig by PyTorch's names, through the library's own trait.
    let file = pytorch("tar.pt");
    let config = NamedTensors::config(&file, &wgpu_rnn::cells::GRU, "rnn.").unwrap();
    assert_eq!((config.input_size, config.hidden_size, config.num_layers, config.directions()), (3, 4, 2, 2));
    let weights: Weights<f64> = NamedTensors::weights(&file, &config, "rnn.").unwrap();
    weights.validate(&config).unwrap();
    let error = NamedTensors::config(&file, &wgpu_rnn::cells::GRU, "lstm.").unwrap_err().to_string();
    assert!(error.contains("did you mean the prefix \"rnn.\"?"), "{error}");
}

#[test]
fn tied_tensors_have_both_names() {
    let metadata =
        HashMap::from([("tied.weight".to_string(), "kept.weight".to_string()), ("format".into(), "pt".into())]);
    let file = Tensors::from_bytes("m.safetensors", counted(&[("kept.weight", &[2, 3])], Some(metadata))).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["kept.weight", "tied.weight"]);
    assert_eq!(file.real::<f32>("tied.weight").unwrap(), file.real::<f32>("kept.weight").unwrap());
}

#[test]
fn the_header_says_a_recurrence() {
    let config = RnnConfig { recurrence: Recurrence::Diagonal, ..RnnConfig::lstm(3, 4) };
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("m.safetensors");
    Weights::<f32>::random(&config, 1).unwrap().save(&config, &path, "").unwrap();
    assert_eq!(Tensors::open(&path).unwrap().layer(None).unwrap().config(Some(config.cell)).unwrap(), config);
}

#[test]
fn an_index_has_the_tensors_of_its_files() {
    let at = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(at.path().join(name), bytes).unwrap();
    write("a.safetensors", &counted(&[("one", &[2]), ("two", &[3])], None));
    std::fs::create_dir(at.path().join("more")).unwrap();
    write("more/b.safetensors", &counted(&[("three", &[4])], None));
    let index = |map: &str| {
        write("model.safetensors.index.json", format!("{{\"metadata\": {{}}, \"weight_map\": {{{map}}}}}").as_bytes());
        Tensors::open(at.path().join("model.safetensors.index.json"))
    };
    let file = index(r#""one": "a.safetensors", "two": "a.safetensors", "three": "more/b.safetensors""#).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["one", "three", "two"]);
    assert_eq!(file.real::<f32>("three").unwrap().unwrap().1, [0.0, 1.0, 2.0, 3.0]);
    for outside in ["../a.safetensors", "/etc/hosts", "more/../../a", "", "..\\\\a", "C:a"] {
        let message = index(&format!(r#""one": "{outside}""#)).unwrap_err().to_string();
        assert!(message.contains("expected the name of a file in the index's folder"), "{message}");
    }
    let message = index(r#""four": "a.safetensors""#).unwrap_err().to_string();
    assert!(message.contains("four: expected a tensor of a.safetensors, got none"), "{message}");
    assert!(index(r#""one": "none.safetensors""#).unwrap_err().to_string().contains("none.safetensors: "));
    assert!(index(r#""one": 7"#).unwrap_err().to_string().contains("the name of a file for every tensor"));
}

#[test]
fn other_files_are_called_by_their_names() {
    let expected = "m: no file of named tensors (safetensors, .pt, .pth or .npz)";
    assert_eq!(reason("m", vec![7; 100]), expected);
    for (bytes, what) in [
        (Vec::new(), "this is an empty file"),
        (b"GGUF\x03\x00\x00\x00".to_vec(), "this is a GGUF file"),
        (b"\x93NUMPY\x01\x00".to_vec(), "this is a NumPy .npy file"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), "this is an HDF5 file"),
        (b"\x08\x0a\x12\x07pytorch".to_vec(), "this is an ONNX model"),
        (b"\x80\x04\x95\x00".to_vec(), "this is a Python pickle"),
        (b"<!DOCTYPE html>".to_vec(), "this is a web page"),
        (b"{\"a\": 1}".to_vec(), "this is JSON text"),
        (b"\x1f\x8b\x08".to_vec(), "this is a file packed by gzip"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "this is a Git LFS pointer"),
    ] {
        let message = reason("m", bytes);
        assert!(message.starts_with(&format!("{expected}: {what}")), "{message}");
    }
}
