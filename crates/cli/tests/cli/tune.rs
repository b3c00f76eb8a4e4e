//! `tune`, and the file that it leaves for `plan`, `bench` and `run`.

use super::{SMALL, command, complaint, one_line_of_json, printed, stderr};

#[test]
fn tune_stores_what_plan_and_bench_use() {
    for device in ["cpu", "gpu"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache/tuning.json");
        let model = format!("--cell gru {SMALL} --device {device}");
        let tune = printed(command(&format!("tune {model} --rounds 1 --seconds 20 --output {}", file.display())));
        assert!(tune.contains("strategy sequence: ") && tune.contains("  block:\n"), "{tune}");
        assert!(tune.ends_with(&format!("stored in {}\n", file.display())) && !tune.contains("NOT"), "{tune}");
        let output = command(&format!("plan {model} --tuning {}", file.display())).output().unwrap();
        let said = format!("tuning: {}: 1 record(s) for this device and version, 0 for others\n", file.display());
        assert_eq!(stderr(&output), said);
        let text = super::stdout(&output);
        assert!(text.contains("choices: strategy from table, tiles from cache"), "{text}");
        // Another shape has no record.
        let other = model.replace("--time 7", "--time 70");
        let text = printed(command(&format!("plan {other} --tuning {}", file.display())));
        assert!(text.contains("choices: strategy from table, tiles from table, block from table"), "{text}");
        let json = printed(command(&format!("bench {model} --runs 1 --json --tuning {}", file.display())));
        let value = one_line_of_json(&json);
        assert!(value["choices"].as_str().unwrap().contains("tiles from cache"), "{value}");
        assert_eq!(value["verified"], true);
        // The default file is used where it lies, unless it is not wanted, and left aside where it is broken.
        let default = directory.path().join("wgpu-rnn/tuning.json");
        std::fs::create_dir_all(default.parent().unwrap()).unwrap();
        std::fs::copy(&file, &default).unwrap();
        let plan = |flags: &str| {
            let mut command = command(&format!("plan {model} {flags}"));
            let output = command.env("XDG_CACHE_HOME", directory.path()).output().unwrap();
            (super::stdout(&output), stderr(&output))
        };
        assert!(plan("").0.contains("tiles from cache"));
        assert!(plan("--no-tuning").0.contains("tiles from table"));
        std::fs::write(&default, "{").unwrap();
        let (text, said) = plan("");
        assert!(text.contains("tiles from table") && said.contains("; left aside\n"), "{said}");
        let refused = complaint(command(&format!("plan {model} --tuning {}", default.display())));
        assert!(refused.starts_with(&format!("error: {}: ", default.display())), "{refused}");
    }
}

/// Strategies are measured where they are asked for; the faster one then holds for the configuration.
#[test]
fn tune_measures_strategies_where_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tuning.json");
    let model = format!("--cell rnn-tanh {SMALL} --device cpu --train");
    let tune = printed(command(&format!("tune {model} --strategies --rounds 1 --output {}", file.display())));
    let (_, winner) = tune.split_once("\nstrategy: ").unwrap_or_else(|| panic!("no winner in {tune}"));
    let winner = winner.lines().next().unwrap();
    let text = printed(command(&format!("plan --cell rnn-tanh {SMALL} --device cpu --tuning {}", file.display())));
    assert!(text.contains(&format!("strategy: {winner} (measured on this device")), "{text}");
    assert!(complaint(command(&format!("tune {model} --strategies --strategy step"))).contains("cannot be used with"));
}
