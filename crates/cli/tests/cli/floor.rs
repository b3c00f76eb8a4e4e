//! `plan`'s table of work.

use super::{SMALL, command, complaint, printed};

#[test]
fn plan_prints_work_and_with_rates_the_floor() {
    let args = format!("plan --cell lstm {SMALL} --device cpu");
    let counts = printed(command(&args));
    let (_, table) = counts.split_once("\nwork, ").unwrap_or_else(|| panic!("no work in {counts}"));
    for part in ["GFLOP", "MB read", "MB written", "    project ", "    sequence_forward ", "    in all ", "once: "] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    assert!(!table.contains("floor") && !table.contains("backward"), "{table}");
    let floors = printed(command(&format!("{args} --train --gflops 100 --gbytes 20 --dispatch-us 1")));
    let (_, table) = floors.split_once("\nwork, ").unwrap();
    for part in ["floor ms", "bound by", "    weight_backward ", "  backward ", "\nfloor: ", "dispatches alone "] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    // One rate is enough.
    assert!(printed(command(&format!("{args} --gbytes 20"))).contains("\nfloor: "));
    let refused = complaint(command(&format!("{args} --gflops 0")));
    assert_eq!(refused, "error: flops per second: expected a finite number above 0, got 0\n");
}
