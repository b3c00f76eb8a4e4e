//! The command line as a user or a script sees it: the binary, its output, its messages and its exit codes.

mod activations;
mod files;
mod floor;
mod linear;
mod onnx;
mod recurrence;
mod run;
mod streams;
mod tune;
mod verify;
mod weights;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use wgpu_rnn::cells;

/// The exit code of an error; 1 is a failed comparison.
const ERROR: Option<i32> = Some(2);

/// A path of the repository.
fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The command in the repository's top folder, where the test data is.
fn command(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgpu-rnn"));
    command.args(args.split_whitespace()).current_dir(top(""));
    // What was measured on this machine before is not what a test is about.
    command.env("XDG_CACHE_HOME", std::env::temp_dir().join("no-such-directory"));
    // Without it Mesa complains on stderr, which tests compare.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    command
}

/// A machine without a Vulkan driver.
fn without_driver(args: &str) -> Command {
    let mut command = command(args);
    command.env("VK_DRIVER_FILES", "no-such-driver.json").env("VK_ICD_FILENAMES", "no-such-driver.json");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it printed; it must have succeeded.
fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {:?} {}", output.status, stderr(&output));
    stdout(&output)
}

/// What it complained; it must have failed, with nothing on stdout.
fn complaint(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), ERROR, "{command:?}: {}", stdout(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

fn one_line_of_json(text: &str) -> Value {
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

const SMALL: &str = "--time 7 --batch 3 --input 5 --hidden 9";

#[test]
fn devices_lists_adapters_and_the_cpu_executor() {
    let text = printed(command("devices"));
    for part in ["backend: ", "driver: ", "f16: ", "subgroups: ", "timestamps: ", "CPU executor, ", "\nauto: "] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let json = one_line_of_json(&printed(command("devices --json")));
    let adapters = json["adapters"].as_array().unwrap();
    assert!(!adapters.is_empty(), "these tests need a Vulkan, Metal or DX12 adapter (lavapipe will do)");
    for adapter in adapters {
        for (key, is_right) in [
            ("name", Value::is_string as fn(&Value) -> bool),
            ("backend", Value::is_string),
            ("driver", Value::is_string),
            ("device_type", Value::is_string),
            ("f16", Value::is_boolean),
            ("subgroups", Value::is_boolean),
            ("timestamps", Value::is_boolean),
            ("limits", Value::is_object),
        ] {
            assert!(is_right(&adapter[key]), "{key} of {adapter}");
        }
        assert!(adapter["limits"]["max_storage_buffer_binding_size"].as_u64().unwrap() > 0);
    }
    assert!(json["cpu"]["threads"].as_u64().unwrap() > 0);
    // Auto never takes a software rasteriser.
    let real = adapters.iter().any(|a| a["software"] == false);
    assert_eq!(json["auto"]["device"], if real { "gpu" } else { "cpu" });
}

#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_there_is_the_cpu_executor() {
    let text = printed(without_driver("devices"));
    assert!(text.starts_with("no GPU adapter") && text.contains("\nCPU executor, "), "{text}");
    let json = one_line_of_json(&printed(without_driver("devices --json")));
    assert_eq!((&json["adapters"], &json["auto"]["device"]), (&Value::Array(vec![]), &Value::from("cpu")));

    assert!(printed(without_driver(&format!("plan --cell gru {SMALL}"))).starts_with("device: CPU executor, "));
    let message = "error: no GPU adapter: adapters found: none; a Vulkan, Metal or DX12 driver is needed\n";
    for subcommand in ["plan", "bench"] {
        assert_eq!(complaint(without_driver(&format!("{subcommand} --cell gru {SMALL} --device gpu"))), message);
    }
}

#[test]
fn plan_prints_strategy_reason_slots_and_dispatches() {
    for device in ["cpu", "gpu", "auto"] {
        for strategy in ["step", "sequence"] {
            let text = printed(command(&format!(
                "plan --cell lstm {SMALL} --layers 2 --bidirectional --proj 4 --device {device} --strategy {strategy}"
            )));
            let head = "lstm T=7 B=3 I=5 H=9 P=4 layers=2 directions=2 F32";
            for part in [head, &format!("strategy: {strategy} (forced)"), "dispatches: ", "slots:", "load_state ("] {
                assert!(text.contains(part), "{part:?} is not in {text}");
            }
        }
    }
    let slot = |flags: &str, slot: &str| {
        let text = printed(command(&format!("plan --cell lstm {SMALL} --device cpu {flags}")));
        text.lines().find(|l| l.contains(slot)).map(String::from).unwrap()
    };
    assert!(slot("--reverse", " hn ").ends_with("[1, 3, 9]"));
    assert!(slot("--bias none", " hn ").ends_with("[1, 3, 9]"));
}

#[test]
fn plan_train_prints_both_passes() {
    for cell in cells::ALL {
        for device in ["cpu", "gpu"] {
            for strategy in ["step", "sequence"] {
                let args = format!("plan --cell {} {SMALL} --device {device} --strategy {strategy}", cell.name);
                let number = |text: &str, after: &str| -> usize {
                    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{after:?} is not in {text}"));
                    rest.split_once(|c: char| !c.is_ascii_digit()).unwrap().0.parse().unwrap()
                };
                let bytes = |text: &str| -> usize {
                    let line = text.lines().find(|l| l.ends_with(" B  total")).unwrap();
                    line.trim().split_once(' ').unwrap().0.parse().unwrap()
                };
                let (inference, training) = (printed(command(&args)), printed(command(&format!("{args} --train"))));
                let (forward, backward) = (number(&training, "  forward: "), number(&training, "; backward: "));
                assert_eq!(number(&training, "dispatches: "), forward + backward, "{training}");
                // The layer's state before its segment is kept.
                assert_eq!(number(&inference, "dispatches: ") + 1, forward, "{training}");
                assert!(backward >= if strategy == "step" { 7 + 5 } else { 1 + 5 }, "{training}");
                assert!(bytes(&training) > bytes(&inference), "{training}");
                assert!(!inference.contains("backward") && training.contains("weight_backward"), "{inference}");
            }
        }
    }
}

/// `--memory` is what training keeps; `plan --train` prints the bytes of every policy.
#[test]
fn plan_and_bench_take_a_memory_policy() {
    let long = "--cell gru --time 640 --batch 2 --input 5 --hidden 9 --device cpu --train";
    let bytes = |policy: &str| -> u64 {
        let text = printed(command(&format!("plan {long} --memory {policy}")));
        let (_, line) = text.split_once("\nmemory: ").unwrap_or_else(|| panic!("no memory in {text}"));
        let line = line.lines().next().unwrap();
        let name = if policy.starts_with("auto") { "recompute" } else { policy };
        assert!(line.starts_with(&format!("{name}, segments of ")), "{line}");
        let bytes = line.strip_suffix(" B beside x").unwrap().rsplit(' ').next().unwrap();
        // The table has it too.
        let table = text.split_once("\nbytes beside x by --memory:\n").unwrap().1;
        assert!(table.lines().any(|l| l.trim() == format!("{bytes} B  {name}")), "{bytes} of {name} in {table}");
        bytes.parse().unwrap()
    };
    let [save, recompute, checkpoint] = ["save", "recompute", "checkpoint=64"].map(bytes);
    assert!(save > recompute && recompute > checkpoint, "{save} {recompute} {checkpoint}");
    // x takes 640 · 2 · 5 · 4 bytes.
    assert_eq!(bytes(&format!("auto={}", recompute + 25600)), recompute);
    let timed = printed(command(&format!("bench {long} --runs 1 --memory recompute")));
    assert!(timed.contains("verified: ") && !timed.contains("NOT"), "{timed}");
    for wrong in ["all", "checkpoint", "checkpoint=0", "save=3"] {
        let text = complaint(command(&format!("plan {long} --memory {wrong}")));
        assert!(text.contains("expected save, recompute, checkpoint=STEPS or auto=BYTES"), "{text}");
    }
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    let unknown = complaint(command(&format!("plan --cell lsmt {SMALL}")));
    assert!(unknown.starts_with("error: invalid value 'lsmt' for '--cell <NAME>'\n"), "{unknown}");
    for cell in cells::ALL {
        assert!(unknown.contains(cell.name), "{} is not listed in {unknown}", cell.name);
    }
    let cases = [
        (
            "plan --cell lstm --time 7 --batch 0 --input 5 --hidden 9 --device cpu",
            "batch: expected 1..=1073741824, got 0",
        ),
        (
            "plan --cell lstm --time 7 --batch 3 --input 5 --hidden 9 --proj 9",
            "proj_size: expected less than hidden_size 9, got 9",
        ),
        (
            "plan --cell gru --time 7 --batch 3 --input 5 --hidden 9 --proj 2",
            "not supported: proj_size 2 with gru: a projection needs a cell whose own state is not h (the LSTMs)",
        ),
    ];
    for (args, message) in cases {
        assert_eq!(complaint(command(args)), format!("error: {message}\n"));
    }
    let both = complaint(command(&format!("plan --cell gru {SMALL} --reverse --bidirectional")));
    assert!(both.starts_with("error: the argument '--reverse' cannot be used with '--bidirectional'"), "{both}");
    assert!(complaint(command(&format!("bench --cell gru {SMALL} --runs 0"))).contains("0 is not in 1.."));
}

#[test]
fn bench_verifies_every_cell_and_reports_in_json() {
    for cell in cells::ALL {
        for device in ["cpu", "gpu"] {
            let flags = "--layers 2 --bidirectional --runs 2 --json";
            let args = format!("bench --cell {} {SMALL} {flags} --device {device}", cell.name);
            let json = one_line_of_json(&printed(command(&args)));
            for (key, expected) in [
                ("device", Value::from(device)),
                ("cell", cell.name.into()),
                ("time", 7.into()),
                ("batch", 3.into()),
                ("input_size", 5.into()),
                ("hidden_size", 9.into()),
                ("layers", 2.into()),
                ("train", false.into()),
                ("verified", true.into()),
                ("runs", 2.into()),
            ] {
                assert_eq!(json[key], expected, "{key} of {json}");
            }
            assert!(["step", "sequence"].contains(&json["strategy"].as_str().unwrap()));
            assert!(!json["adapter"].as_str().unwrap().is_empty());
            assert!(json["dispatches"].as_u64().unwrap() > 0);
            let number = |key: &str| json[key].as_f64().unwrap();
            assert!(number("min_ms") > 0.0 && number("median_ms") >= number("min_ms") && number("gflops") > 0.0);
        }
    }
}

#[test]
fn bench_train_verifies_gradients_of_every_cell() {
    for cell in cells::ALL {
        for device in ["cpu", "gpu"] {
            // The gains of fresh weights are 1: deeper, small normalised layers are near chaos, and their f32 error chance.
            let layers = if cell.normalises() { 1 } else { 2 };
            let flags = format!("--layers {layers} --bidirectional --runs 2 --train --json");
            let args = format!("bench --cell {} {SMALL} {flags} --device {device}", cell.name);
            let json = one_line_of_json(&printed(command(&args)));
            assert_eq!((&json["train"], &json["verified"]), (&true.into(), &true.into()), "{json}");
            for check in json["checks"].as_array().unwrap() {
                let names: Vec<_> =
                    check["tensors"].as_array().unwrap().iter().map(|t| t["tensor"].as_str().unwrap()).collect();
                let last = format!("grad.bias_hh_l{}_reverse", layers - 1);
                for name in ["y", "hn", "grad.x", "grad.h0", "grad.weight_ih_l0", &last] {
                    assert!(names.contains(&name), "{name} is not in {names:?}");
                }
            }
            let number = |key: &str| json[key].as_f64().unwrap();
            assert!(number("min_ms") > 0.0 && number("median_ms") >= number("min_ms") && number("gflops") > 0.0);
        }
    }
}

#[test]
fn bench_train_says_what_it_checked() {
    let args = "bench --cell gru --train --time 60 --batch 9 --input 512 --hidden 512 --device cpu --runs 1";
    let text = printed(command(args));
    let checks: Vec<_> = text.lines().filter(|l| l.starts_with("verified: ")).collect();
    assert_eq!(checks.len(), 2, "{text}");
    for line in checks {
        assert!(line.contains("; worst of 6 gradients: grad."), "{text}");
    }
    assert!(text.contains("\n  (of the parameters' gradients: times T·B over the naive loop's)\n"), "{text}");
}

#[test]
fn bench_says_what_it_checked() {
    // More work than the naive loops take on: they see a part of it.
    for (shape, part) in
        [("--time 40 --batch 9", "sequence(s) of 40 step(s)"), ("--time 300 --batch 2", "1 sequence(s) of ")]
    {
        let args = format!("bench --cell lstm {shape} --input 512 --hidden 512 --reverse --device cpu --runs 1");
        let text = printed(command(&args));
        let checks: Vec<_> = text.lines().filter(|l| l.starts_with("verified: ")).collect();
        assert_eq!(checks.len(), 2, "{text}");
        assert!(checks[0].contains(" against the f64 CPU executor: y "), "{text}");
        assert!(checks[1].contains(part) && checks[1].contains(" against the naive f64 loop: y "), "{text}");
        assert!(text.contains("\ntime: median "), "{text}");
    }
}

#[test]
fn verify_counts_what_passed() {
    let text = printed(command("verify --device cpu tests/data/torch_golden/lstm_l1.safetensors"));
    assert!(text.starts_with("PASS lstm_l1 "), "{text}");
    assert_eq!(text.lines().last(), Some("1 passed, 0 failed"));
}
