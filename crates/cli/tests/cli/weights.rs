//! `--weight-format`.

use super::{SMALL, command, complaint, one_line_of_json, printed};
use serde_json::Value;

#[test]
fn plan_prints_the_format_and_the_bytes_it_saves() {
    let args = "plan --cell lstm --time 2 --batch 1 --input 64 --hidden 64";
    let text = printed(command(&format!("{args} --device gpu --weight-format f16")));
    assert!(text.contains("\nweights: f16, 69632 B, 65536 B less than in f32 (135168 B)\n"), "{text}");
    let text = printed(command(&format!("{args} --device cpu --weight-format int8")));
    assert!(text.contains("\nweights: rounded to int8, held in F32 (bytes are saved on GPUs only)\n"), "{text}");
    assert!(!printed(command(&format!("{args} --device gpu"))).contains("weights:"));
}

#[test]
fn bench_verifies_every_format() {
    let mut bytes = Vec::new();
    for device in ["cpu", "gpu"] {
        for (format, more) in [("f32", ""), ("f16", " --train"), ("bf16", ""), ("int8", "")] {
            let flags = "--layers 2 --runs 1 --json";
            let args = format!("bench --cell gru {SMALL} {flags} --device {device} --weight-format {format}{more}");
            let json = one_line_of_json(&printed(command(&args)));
            let expected = (&Value::from(format), &Value::from(true));
            assert_eq!((&json["weights"], &json["verified"]), expected, "{json}");
            if device == "gpu" && more.is_empty() {
                bytes.push(json["weight_bytes"].as_u64().unwrap());
            }
        }
    }
    assert!(bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
    let text = printed(command(&format!("bench --cell gru {SMALL} --runs 1 --device gpu --weight-format int8")));
    assert!(text.contains("\nweights: int8, "), "{text}");
}

#[test]
fn formats_that_do_not_fit_are_refused() {
    let unknown = complaint(command(&format!("plan --cell gru {SMALL} --weight-format f8")));
    assert!(unknown.contains("[possible values: f32, f16, bf16, int8]"), "{unknown}");
    let training = complaint(command(&format!("plan --cell gru {SMALL} --train --weight-format int8")));
    assert!(training.starts_with("error: not supported: training with int8 weights: "), "{training}");
}
