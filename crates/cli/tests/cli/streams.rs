//! `bench --streams`.

use super::{command, complaint, printed};
use serde_json::Value;

#[test]
fn streams_are_checked_and_timed() {
    let args = "bench --streams 7 --cell gru --input 3 --hidden 5 --device cpu --runs 5";
    let text = printed(command(args));
    for part in [
        "verified: 7 of 7 stream(s) against streams alone",
        "one batch without a pool (ideal)",
        "us a frame; frame to result p50",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    for (more, arrivals, chunk) in [("--chunk 3", "clock", 3), ("--arrivals poisson", "poisson", 1)] {
        let line = printed(command(&format!("{args} {more} --json")));
        assert_eq!(line.lines().count(), 1);
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((json["streams"].as_u64(), json["chunk"].as_u64()), (Some(7), Some(chunk)));
        assert_eq!((json["arrivals"].as_str(), json["verified"].as_bool()), (Some(arrivals), Some(true)));
        for number in ["frames_per_second", "us_per_frame", "p50_us", "p99_us", "ideal_frames_per_second", "of_ideal"] {
            assert!(json[number].as_f64().is_some_and(|v| v > 0.0), "{number} in {line}");
        }
    }
}

#[test]
fn flags_of_streams_and_of_runs_are_told_apart() {
    let gru = "--cell gru --input 3 --hidden 5 --device cpu";
    for (args, part) in [
        (format!("bench {gru}"), "--time <T>"),
        (format!("bench --streams 7 --time 3 {gru}"), "cannot be used with"),
        (format!("bench --streams 7 --train {gru}"), "cannot be used with"),
        (format!("bench --streams 0 {gru}"), "0 is not in"),
        (format!("bench --streams 7 --chunk 0 {gru}"), "--chunk: expected at least 1, got 0"),
        (format!("bench --time 3 --batch 2 --chunk 2 {gru}"), "'--chunk' cannot be used with '--cell gru'"),
        (format!("bench --time 3 --batch 2 --arrivals clock {gru}"), "cannot be used with"),
        (
            "bench --streams 7 --cell mamba --heads 3 --device cpu".into(),
            "'--streams' cannot be used with '--cell mamba'",
        ),
        (format!("bench --streams 7 --bidirectional {gru}"), "reads time backwards"),
        (format!("plan {gru}"), "--time <T>"),
    ] {
        let refused = complaint(command(&args));
        assert!(refused.contains(part), "{args}: {part:?} is not in {refused}");
    }
}
