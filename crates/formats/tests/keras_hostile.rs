//! Keras files that are cut off, changed, or lie: a typed error or a file, never a panic, a hang or memory without end.

use proptest::prelude::*;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use wgpu_rnn::{Error, Result};
use wgpu_rnn_formats::keras::KerasFile;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(data(path)).unwrap()
}

/// Reads all that can be read of a file.
fn everything(bytes: Vec<u8>) -> Result<()> {
    let file = KerasFile::from_bytes("hostile", bytes)?;
    let names: Vec<String> = file.layers().map(|label| label.name.clone()).collect();
    for name in names {
        let _ = file.layer(&name);
    }
    let _ = file.network();
    Ok(())
}

#[track_caller]
fn refused(bytes: Vec<u8>) -> String {
    match everything(bytes) {
        Err(error @ Error::File { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("read"),
    }
}

/// An archive of these parts, packed.
fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, data) in parts {
        zip.start_file(*name, options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const METADATA: (&str, &[u8]) = ("metadata.json", b"{\"keras_version\": \"3.0.0\"}");

#[test]
fn what_is_no_keras_file_says_so() {
    assert!(refused(Vec::new()).contains("expected HDF5 (.h5, .weights.h5) or a .keras archive"));
    assert!(refused(b"PK\x03\x04".to_vec()).contains("not a .keras archive: not a zip archive"));
    assert!(refused(b"\x89HDF\r\n\x1a\n".to_vec()).contains("HDF5: "));
    assert!(refused(archive(&[("data.pkl", b"x")])).contains("config.json"));
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![b' '; 100 << 20];
    let error = refused(archive(&[("config.json", &zeros), METADATA, ("model.weights.h5", b"")]));
    assert!(error.contains("config.json: unpacks to far too much"), "{error}");
    let error = refused(archive(&[("config.json", b"{}"), METADATA, ("model.weights.h5", &zeros)]));
    assert!(error.contains("model.weights.h5: unpacks to far too much"), "{error}");
    for (name, reason) in [("absurd", "larger than a file of this size"), ("bomb", "larger than a file of this size")] {
        let error = refused(bytes(&format!("keras/hostile/{name}.h5")));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn links_in_circles_and_out_of_the_file_end() {
    let file = KerasFile::open(data("keras/hostile/cycle.h5")).unwrap();
    assert_eq!(file.only_layer().unwrap().config.input_size, 3);
    let packed = KerasFile::open(data("keras/hostile/packed.h5")).unwrap().only_layer().unwrap();
    assert_eq!(packed.weights.layers[0].w[..3], [0.0, 8.0, 16.0]);
}

#[test]
fn configurations_that_lie_are_refused() {
    let weights = {
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes("keras/keras3/sequential.keras"))).unwrap();
        let mut weights = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name("model.weights.h5").unwrap(), &mut weights).unwrap();
        weights
    };
    let layer = |class: &str, config: &str, inbound: &str| {
        format!(r#"{{"class_name":"{class}","config":{{{config}}},"inbound_nodes":[{inbound}]}}"#)
    };
    let model = |layers: &[String], outputs: &str| {
        let layers = layers.join(",");
        let json = format!(
            r#"{{"class_name":"Functional","config":{{"layers":[{layers}],"input_layers":["x",0,0],"output_layers":["{outputs}",0,0]}}}}"#
        );
        KerasFile::from_bytes(
            "f.keras",
            archive(&[("config.json", json.as_bytes()), METADATA, ("model.weights.h5", &weights)]),
        )
    };
    let reason = |layers: &[String], outputs: &str| match model(layers, outputs).and_then(|file| file.network()) {
        Ok(_) => panic!("a network"),
        Err(error) => error.to_string(),
    };
    let x = |shape: &str| layer("InputLayer", &format!(r#""name":"x","batch_shape":{shape}"#), "");
    let dense = |name: &str, from: &str| {
        layer("Dense", &format!(r#""name":"{name}","units":3"#), &format!(r#"[["{from}",0,0,{{}}]]"#))
    };
    let steps = |class: &str, config: &str| {
        vec![x("[null,7,5]"), layer(class, &format!(r#""name":"a",{config}"#), r#"[["x",0,0,{}]]"#)]
    };
    let circle = [x("[null,null,5]"), dense("a", "b"), dense("b", "a")];
    assert!(reason(&circle, "a").contains("itself, through others"), "{}", reason(&circle, "a"));
    let cases = [
        (vec![x("[null,null,5]"), dense("a", "nobody")], "expected one of the model's, got nobody"),
        (vec![x("[null,null,null]"), dense("a", "x")], "only the batch and the number of steps may be open"),
        (vec![x("[null,null,4]"), dense("a", "x")], "kernel: expected [4, out], got [5, 3]"),
        (vec![x("[null,null,5]"), layer("Attention", r#""name":"a""#, r#"[["x",0,0,{}]]"#)], "class Attention"),
        (vec![x("[null,9000000000000000000,9000000000000000000]"), dense("a", "x")], "kernel: expected"),
        (vec![x("[null]"), dense("a", "x")], "shape of the input"),
        (steps("MaxPooling1D", r#""pool_size":1000000"#), "pool_size: expected one number of 1 to 4096, got [1000000]"),
        (steps("AveragePooling1D", r#""strides":0"#), "strides: expected one number of 1 to 4096, got [0]"),
        (steps("MaxPooling1D", r#""padding":"none""#), "padding: expected valid, same or causal, got none"),
        (steps("UpSampling1D", r#""size":9000000000000000000"#), "steps: expected a number of 1 to 1048576"),
        (steps("ZeroPadding1D", r#""padding":[-1,2]"#), "steps: expected a number of 0 to 1048576, got -1"),
        (steps("Cropping1D", r#""cropping":[5,2]"#), "steps: expected at least 8, got 7"),
        (steps("RepeatVector", r#""n":3"#), "input: expected a row per sequence, got steps"),
    ];
    for (layers, expected) in cases {
        let error = reason(&layers, "a");
        assert!(error.contains("f.keras: layer") && error.contains(expected), "{error:?} does not say {expected:?}");
    }
    // Thousands of layers in a row cost no stack.
    let mut chain = vec![x("[null,null,5]")];
    let last = 10_000;
    chain.extend((0..last).map(|n| {
        let from = if n == 0 { "x".to_string() } else { format!("d{}", n - 1) };
        layer("Dropout", &format!(r#""name":"d{n}""#), &format!(r#"[["{from}",0,0,{{}}]]"#))
    }));
    assert_eq!(model(&chain, &format!("d{}", last - 1)).and_then(|file| file.network()).unwrap().outputs[0].width, 5);
    let error = reason(&[x("[null,null,5]"), dense("a", "x"), dense("a", "x")], "a");
    assert!(error.contains("two layers named a"), "{error}");
    // Models in models, each called twice: more calls than there are atoms.
    let mut inner = format!("{},{}", x("[null,null,5]"), layer("Dropout", r#""name":"leaf""#, r#"[["x",0,0,{}]]"#));
    let (mut name, mut output) = ("leaf".to_string(), 0);
    for level in 0..20 {
        let config = format!(
            r#""name":"m{level}","layers":[{inner}],"input_layers":[["x",0,0]],"output_layers":[["{name}",{output},0]]"#
        );
        let twice = layer("Functional", &config, &format!(r#"[["x",0,0,{{}}]],[["m{level}",0,0,{{}}]]"#));
        inner = format!("{},{twice}", x("[null,null,5]"));
        (name, output) = (format!("m{level}"), 1);
    }
    let config = format!(
        r#"{{"class_name":"Functional","config":{{"layers":[{inner}],"input_layers":[["x",0,0]],"output_layers":[["{name}",1,0]]}}}}"#
    );
    let file = archive(&[("config.json", config.as_bytes()), METADATA, ("model.weights.h5", &weights)]);
    let error = KerasFile::from_bytes("f.keras", file).and_then(|file| file.network()).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    // A deep configuration is refused by the parser.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = refused(archive(&[("config.json", deep.as_bytes()), METADATA, ("model.weights.h5", &weights)]));
    assert!(error.contains("recursion limit"), "{error}");
}

/// Small files of every layout.
const FILES: [&str; 8] = [
    "keras/keras3/sequential.keras",
    "keras/keras3/nested.h5",
    "keras/keras3/sequential.weights.h5",
    "keras/tf213/sequential.keras",
    "keras/tf213/masked.h5",
    "keras/tf213/first.h5",
    "keras/hostile/packed.h5",
    "mhcnuggets_lstm_h5/Patr-A09-01_BA.h5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_truncation_makes_it_panic(file in 0..FILES.len(), at in 0.0..1.0f64) {
        let mut bytes = bytes(FILES[file]);
        bytes.truncate((at * bytes.len() as f64) as usize);
        let _ = everything(bytes);
    }

    #[test]
    fn no_changed_bytes_make_it_panic(
        file in 0..FILES.len(),
        changes in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 1..12),
        early in any::<bool>(),
    ) {
        let mut bytes = bytes(FILES[file]);
        // Structure is in front, for the most part.
        let length = if early { bytes.len().min(4096) } else { bytes.len() };
        for (at, value) in changes {
            let at = (at * length as f64) as usize;
            bytes[at] = value;
        }
        let _ = everything(bytes);
    }

    #[test]
    fn no_changed_size_makes_it_panic(file in 1..FILES.len(), at in 0.0..1.0f64, size in any::<u64>(), shift in 0u32..64) {
        let mut bytes = bytes(FILES[file]);
        let at = (at * (bytes.len() - 8) as f64) as usize / 8 * 8;
        bytes[at..at + 8].copy_from_slice(&(size >> shift).to_le_bytes());
        let _ = everything(bytes);
    }

    #[test]
    fn no_changed_configuration_makes_it_panic(cut in 0.0..1.0f64, length in 0usize..40, text in "[\\[\\]{}\",:0-9a-z]{0,12}") {
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes("keras/keras3/functional.keras"))).unwrap();
        let mut part = |name: &str| {
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut zip.by_name(name).unwrap(), &mut data).unwrap();
            data
        };
        let (mut config, weights) = (part("config.json"), part("model.weights.h5"));
        let at = (cut * config.len() as f64) as usize;
        let end = (at + length).min(config.len());
        config.splice(at..end, text.into_bytes());
        let _ = everything(archive(&[("config.json", &config), METADATA, ("model.weights.h5", &weights)]));
    }
}
