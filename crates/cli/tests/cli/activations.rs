//! `--activations`.

use super::{SMALL, command, complaint, one_line_of_json, printed};
use serde_json::Value;

#[test]
fn plan_prints_the_format_and_the_bytes_it_saves() {
    let args = "plan --cell lstm --time 2 --batch 1 --input 64 --hidden 64";
    let text = printed(command(&format!("{args} --device gpu --activations f16")));
    // x, the gates' x parts and y of 2 steps.
    assert!(text.contains("\nactivations: f16, 1536 B, 1536 B less than in f32 (3072 B)\n"), "{text}");
    let text = printed(command(&format!("{args} --device cpu --activations f16")));
    assert!(text.contains("\nactivations: rounded to f16, held in F32 (bytes are saved on GPUs only)\n"), "{text}");
    assert!(!printed(command(&format!("{args} --device gpu"))).contains("activations:"));
}

#[test]
fn bench_verifies_both_formats() {
    let mut bytes = Vec::new();
    for device in ["cpu", "gpu"] {
        for format in ["f32", "f16"] {
            let flags = "--layers 2 --runs 1 --json --weight-format bf16";
            let args = format!("bench --cell gru {SMALL} {flags} --device {device} --activations {format}");
            let json = one_line_of_json(&printed(command(&args)));
            let expected = (&Value::from(format), &Value::from(true));
            assert_eq!((&json["activations"], &json["verified"]), expected, "{json}");
            bytes.push(json["activation_bytes"].as_u64().unwrap());
        }
    }
    assert_eq!(bytes[3] * 2, bytes[2]);
    let text = printed(command(&format!("bench --cell gru {SMALL} --runs 1 --device gpu --activations f16")));
    assert!(text.contains("\nactivations: f16, "), "{text}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let unknown = complaint(command(&format!("plan --cell gru {SMALL} --activations bf16")));
    assert!(unknown.contains("[possible values: f32, f16]"), "{unknown}");
    let training = complaint(command(&format!("plan --cell gru {SMALL} --train --activations f16")));
    assert!(training.starts_with("error: not supported: training with f16 activations: "), "{training}");
}
