//! `plan` and `bench` of linear recurrences.

use super::{command, complaint, printed};

#[test]
fn plan_says_what_a_recurrence_takes_per_step() {
    let plan = printed(command("plan --cell gla --time 100 --batch 2 --heads 2 --head-dim 8 --train --device cpu"));
    let kept = "gla, 2 heads, state 8 x 8, states kept every 32 steps";
    for part in [kept, "training", "Recurrent: Cpu", "MiB + T x ", "GFLOP forward"] {
        assert!(plan.contains(part), "{part:?} is not in {plan}");
    }
    let chunked =
        printed(command("plan --cell=mamba --time 9 --batch 1 --heads 3 --scan chunked --chunk 4 --device cpu"));
    let scanned = "state 16 x 1, chunks of 4 scanned twice";
    assert!(chunked.contains("Chunked: forced") && chunked.contains(scanned), "{chunked}");
    let products = printed(command("plan --cell=gla --time 99 --batch 1 --heads 3 --scan products --device cpu"));
    assert!(products.contains("Products: forced") && products.contains("chunks of 32 as products"), "{products}");
}

#[test]
fn bench_verifies_every_rule_before_it_times() {
    for rule in wgpu_rnn::rules::ALL {
        for train in ["", "--train"] {
            let args = format!(
                "bench --cell {} --time 9 --batch 2 --heads 2 --head-dim 3 --state 2 --runs 1 --device cpu {train}",
                rule.name
            );
            let text = printed(command(&args));
            assert!(text.contains("\nverified: 2 sequence(s) of 9 step(s)") && text.contains("us a step"), "{text}");
            let last = rule.inputs.iter().chain(rule.params).last().unwrap().name;
            assert_eq!(text.contains(&format!(" d.{last} ")), !train.is_empty(), "{text}");
        }
    }
}

#[test]
fn bench_takes_every_way_over_time() {
    for (scan, way) in [("recurrent", "Recurrent"), ("chunked", "Chunked"), ("products", "Products")] {
        for device in ["cpu", "gpu"] {
            let args = format!(
                "bench --cell rwkv7 --time 40 --batch 2 --heads 2 --head-dim 5 --state 6 --runs 1 --train \
                 --scan {scan} --chunk 7 --device {device}"
            );
            let text = printed(command(&args));
            assert!(text.contains("\nverified: ") && text.contains(&format!("{way}: forced")), "{text}");
        }
    }
}

#[test]
fn refusals_name_what_was_expected() {
    let refused = complaint(command("bench --cell gla --time 0 --batch 2 --heads 2 --device cpu"));
    assert!(refused.starts_with("error: ") && refused.contains("expected"), "{refused}");
    let refused = complaint(command("plan --cell rwkv7 --time 9 --batch 2 --heads 0 --device cpu"));
    assert_eq!(refused, "error: columns of r: expected at least 1, got 0\n");
    let refused = complaint(command("bench --cell gla --time 268435456 --batch 1 --heads 64 --device cpu"));
    assert!(refused.starts_with("error: network of T=268435456 B=1: needs "), "{refused}");
    let refused = complaint(command("plan --cell retention --time 9 --batch 1 --heads 99999999999999 --device cpu"));
    assert!(refused.starts_with("error: network of T=9 B=1: needs "), "{refused}");
    let refused =
        complaint(command("bench --cell retention --time 9 --batch 1 --heads 999999999999999999 --device cpu"));
    assert!(refused.starts_with("error: heads, K, V of scan: expected "), "{refused}");
    // Flags of a cell with hidden units.
    let refused = complaint(command("plan --cell rwkv7 --time 9 --batch 2 --hidden 4"));
    assert!(refused.contains("--hidden"), "{refused}");
    let refused = complaint(command("bench --cell rwkv7 --time 9 --batch 2 --heads 2 --json"));
    assert!(refused.contains("the argument '--json' cannot be used with '--cell rwkv7'"), "{refused}");
    // Flags of one with heads.
    let refused = complaint(command("plan --cell gru --time 9 --batch 2 --input 3 --hidden 4 --head-dim 2"));
    assert!(refused.contains("the argument '--head-dim' cannot be used with '--cell gru'"), "{refused}");
    for (cell, missing) in [("gru", "--hidden <H>"), ("gla", "--heads <N>")] {
        let refused = complaint(command(&format!("plan --cell {cell} --time 9 --batch 2")));
        assert!(refused.contains("required arguments were not provided") && refused.contains(missing), "{refused}");
    }
}
