//! `wgpu-rnn verify`: folders, files and lists of cases, those that pass and those that do not.

#[path = "../../../../tests/harness/parts.rs"]
mod parts;
#[path = "../../../../tests/onnx/wire.rs"]
#[expect(dead_code, reason = "the tests of ONNX write more than one node")]
mod wire;

use super::{command, top};
use parts::Parts;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    top("tests/data").join(name)
}

fn folder() -> PathBuf {
    data("torch_golden")
}

fn verify(flags: &str, paths: &[&Path]) -> Output {
    command(&format!("verify {flags}")).args(paths).output().expect("it starts")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

#[test]
fn the_command_passes_the_folder() {
    let output = verify("--device cpu --precision f64", &[&folder()]);
    let lines = lines(&output);
    assert_eq!(
        (output.status.code(), lines.len(), lines[37].as_str()),
        (Some(0), 38, "37 passed, 0 failed"),
        "{lines:?}"
    );
    let files = std::fs::read_dir(folder()).expect("the goldens").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    for (line, file) in lines.iter().zip(files) {
        let (head, numbers) = line.split_once("  ").expect("two spaces before the numbers");
        assert_eq!(head, format!("PASS {}", file.file_stem().unwrap_or_default().display()));
        let fields: Vec<&str> = numbers.split(' ').collect();
        let compared = ["out.", "grad.", "grad0.", "w10."].iter().any(|group| fields[0].starts_with(group));
        assert!(compared && fields.len() == 3, "{line}");
        assert!(fields[1].parse::<f64>().expect("the error") <= fields[2].parse().expect("the bound"), "{line}");
    }
}

#[test]
fn the_command_fails_what_is_wrong_and_goes_on() {
    let at = TempDir::new().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(at.path().join(name), bytes).expect("written");
    let mut wrong = Parts::of("gru_l1");
    wrong.values("out.y", |v| v[0] += 1e-4);
    write("a_wrong.safetensors", &wrong.bytes());
    write("b_good.safetensors", &Parts::of("gru_l1").bytes());
    write("c_empty.safetensors", b"");
    let mut unknown = Parts::of("gru_l1");
    unknown.config = unknown.config.replace("GRU", "mamba\\nselective_scan");
    write("d_unknown.safetensors", &unknown.bytes());
    let mut wrong = Parts::of("gru_l1");
    wrong.values("grad.weight_hh_l0", |v| v[40] += 1e-4);
    write("e_wrong_gradient.safetensors", &wrong.bytes());
    write("not_a_golden.txt", b"ignored in a folder");
    std::fs::create_dir(at.path().join("empty")).expect("a folder");

    for precision in ["f64", "f32"] {
        let missing = at.path().join("missing.safetensors");
        let paths = [at.path(), &at.path().join("empty"), &missing, &folder().join("gru_l1.safetensors")];
        let output = verify(&format!("--precision {precision}"), &paths);
        let lines = lines(&output);
        assert_eq!(output.status.code(), Some(1), "{lines:?}");
        let starts = [
            "FAIL a_wrong  out.y ",
            "PASS b_good  ",
            "FAIL c_empty  ",
            "FAIL d_unknown  not supported: ",
            "FAIL e_wrong_gradient  grad.weight_hh_l0 ",
        ];
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(
            lines[5].starts_with("FAIL ")
                && lines[5].ends_with(" a folder without *.safetensors, ONNX or WebNN test cases"),
            "{lines:?}"
        );
        assert!(lines[6].starts_with("FAIL missing  "), "{lines:?}");
        assert!(lines[7].starts_with("PASS gru_l1  "), "{lines:?}");
        assert_eq!(lines[8..], ["2 passed, 6 failed"]);
    }
}

#[test]
fn the_command_refuses_f64_on_a_gpu() {
    let output = verify("--device gpu --precision f64", &[&folder()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("WGSL has no f64"));
}

#[test]
fn the_command_takes_folders_files_and_lists() {
    let node = data("onnx_node/test_gru_seq_length");
    let paths = [&node, &node.with_extension("safetensors"), &data("wpt/wpt_distinct_cases.json")];
    let output = verify("", &paths.map(PathBuf::as_path));
    let (code, lines) = (output.status.code(), lines(&output));
    assert_eq!((code, lines.len()), (Some(0), 7), "{lines:?}");
    assert!(lines[0].starts_with("PASS test_gru_seq_length  out.hn "), "{lines:?}");
    assert!(lines[1].starts_with("PASS test_gru_seq_length  out.hn "), "{lines:?}");
    assert!(lines[2].starts_with("PASS wpt_distinct_cases: float32 steps=1 forward relu  out."), "{lines:?}");
    assert_eq!(lines[6], "6 passed, 0 failed");
}

#[test]
fn the_command_fails_what_no_layer_is() {
    let at = TempDir::new().expect("a folder");
    let source = data("onnx_node/test_gru_defaults");
    std::fs::create_dir(at.path().join("test_data_set_0")).expect("a folder");
    for file in ["input_0.pb", "input_1.pb", "input_2.pb", "output_0.pb"] {
        let file = Path::new("test_data_set_0").join(file);
        std::fs::copy(source.join(&file), at.path().join(&file)).expect("copied");
    }
    let clip = wire::Value::Float(-3.0);
    let node = wire::node("GRU", "", &["X", "W", "R"], &["", "Y_h"], &[("clip", clip)]);
    let mut graph = wire::graph(&[node], &[], &["X", "W", "R"]);
    graph.extend(wire::bytes(12, &wire::bytes(1, b"Y_h")));
    std::fs::write(at.path().join("model.onnx"), wire::model(22, &graph)).expect("written");
    let output = verify("", &[at.path()]);
    let (code, lines) = (output.status.code(), lines(&output));
    assert_eq!(code, Some(1), "{lines:?}");
    assert!(
        lines[0].starts_with("FAIL ") && lines[0].contains("clip: expected a float above 0, got Float(-3.0)"),
        "{lines:?}"
    );
}
