//! The time budget: no dispatch and no submit is estimated beyond it, and cutting work to it changes no bit.

use std::time::Duration;
use wgpu_rnn::*;

mod harness;
use harness::{Case, forced, gpu};

/// A device with room for everything.
fn caps(class: DeviceClass) -> Caps {
    Caps {
        class,
        max_binding: 4 << 30,
        max_buffer: 8 << 30,
        max_workgroup_memory: 16384,
        max_invocations: 256,
        max_workgroups: 65535,
        parallel_groups: if class == DeviceClass::Gpu { 64 } else { 2 },
        f16: true,
        subgroup: 1,
        max_rounds: if class == DeviceClass::SoftwareGpu { 65_535 } else { usize::MAX },
    }
}

fn lstm(input_size: usize, hidden_size: usize) -> RnnConfig {
    RnnConfig { cell: &cells::LSTM, input_size, hidden_size, ..Default::default() }
}

fn dispatches(steps: &[Step]) -> Vec<&Dispatch> {
    let of = |step| match step {
        &Step::ClearPadding(_) => &[][..],
        Step::Once(d) => std::slice::from_ref(d),
        Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
    };
    steps.iter().flat_map(of).collect()
}

#[test]
fn no_dispatch_is_estimated_beyond_the_budget() {
    let head = Some(Head { size: 3000, loss: Some(Loss::CrossEntropy) });
    let normalised = RnnConfig { cell: &cells::LSTM_LAYER_NORM, ..lstm(64, 64) };
    let stacked = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..lstm(300, 128) };
    // What is cut: steps of the recurrence, rows of x's product and gradient, of the head's, sums of weights.
    let cases = [
        (lstm(8, 64), 1_000_000, 1),
        (lstm(64, 64), 20_000, 8),
        (lstm(2000, 8), 5000, 4),
        (stacked, 3000, 8),
        (normalised, 3000, 8),
        (RnnConfig { head, ..lstm(8, 32) }, 10_000, 4),
    ];
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        for (config, time, batch) in &cases {
            for strategy in [Strategy::Step, Strategy::Sequence] {
                for (train, memory) in [
                    (false, Memory::Save),
                    (true, Memory::Save),
                    (true, Memory::Recompute),
                    (true, Memory::Checkpoint(2000)),
                ] {
                    for millis in [100, 500] {
                        let submit_budget = Duration::from_millis(millis);
                        let options = Options { train, memory, submit_budget, ..forced(strategy) };
                        let shape = Shape { time: *time, batch: *batch };
                        let plan = match Plan::new(config, shape, &caps(class), &options) {
                            Ok(plan) => plan,
                            // Save keeps more than a binding holds, at a million steps.
                            Err(Error::Limit { .. }) if train => continue,
                            Err(e) => panic!("{config:?} {shape:?}: {e}"),
                        };
                        let what = format!("{class:?} {strategy} {memory} T={time} B={batch} {millis} ms");
                        let all = [&plan.steps, &plan.backward].map(|steps| dispatches(steps)).concat();
                        for d in all {
                            let time = plan.estimate(d);
                            assert!(time <= submit_budget, "{what}: {:?} of {time:?}", d.kernel);
                        }
                        assert!(plan.longest_estimate().unwrap().1 <= submit_budget, "{what}");
                        let text = plan.to_string();
                        assert!(text.contains("\nlongest dispatch: ") && !text.contains("beyond"), "{what}: {text}");
                    }
                }
            }
        }
    }
}

/// Where the least that a dispatch can do takes longer than the budget, the plan says so.
#[test]
fn what_cannot_be_cut_is_told() {
    let options = Options { submit_budget: Duration::from_micros(1), ..forced(Strategy::Sequence) };
    let plan =
        Plan::new(&lstm(64, 64), Shape { time: 20, batch: 8 }, &caps(DeviceClass::SoftwareGpu), &options).unwrap();
    assert_eq!(plan.block, 1);
    assert!(
        plan.to_string().contains("of a budget of 1.00µs, which the least that a dispatch can do is beyond"),
        "{plan}"
    );
    // The CPU executor has no watchdog.
    let plan = Plan::new(&lstm(64, 64), Shape { time: 20, batch: 8 }, &Device::cpu().caps(), &options).unwrap();
    assert_eq!(plan.longest_estimate().unwrap().1, Duration::ZERO);
    assert!(!plan.to_string().contains("budget"), "{plan}");
}

/// A million steps of inference take as much memory beside x as a block of them does.
#[test]
fn a_million_steps_run_in_bounded_memory() {
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        let options = Options { keep_y: false, ..Default::default() };
        let beside = |time| {
            let plan = Plan::new(&lstm(8, 64), Shape { time, batch: 1 }, &caps(class), &options).unwrap();
            // x and the schedule (two words a step) are the run's own.
            plan.bytes() - plan.slots[plan.ids.x].bytes() - plan.slots[plan.ids.schedule].bytes()
        };
        assert!(beside(1_000_000) < 100 << 20, "{} bytes", beside(1_000_000));
        assert_eq!(beside(1_000_000), beside(500_000));
    }
}

/// Rows of x's gradient, of the head's outputs and sums of weights cut as short as they can be: the same bits.
#[test]
fn cutting_to_a_budget_changes_no_bit() {
    let device = gpu();
    for (input, direction) in [(InputMode::Linear, Direction::Bidirectional), (InputMode::Skip, Direction::Forward)] {
        let config = RnnConfig { input, direction, num_layers: 2, ..lstm(7, 7) };
        let case = Case::new(config, 140, 3, 5).with_lengths(&[140, 77, 130]);
        for memory in [Memory::Save, Memory::Checkpoint(64)] {
            let mut results = Vec::new();
            let mut counts = Vec::new();
            for submit_budget in [Duration::from_millis(500), Duration::from_micros(200)] {
                let options = Options { memory, submit_budget, ..forced(Strategy::Sequence) };
                let mut session: Session = case.training(&device, options);
                counts.push(session.plan().backward_dispatches());
                results.push(case.poisoned(&mut session));
            }
            assert!(counts[1] > counts[0] + 20, "{counts:?}");
            assert!(results[0] == results[1], "{memory} {input:?}");
        }
    }
}

/// Every dispatch is measured against its budget.
#[test]
fn a_profile_tells_the_longest_dispatch() {
    let case = Case::new(lstm(3, 5), 40, 2, 1);
    for device in [Device::cpu(), gpu()] {
        let options = Options { train: true, max_block: Some(10), ..forced(Strategy::Sequence) };
        let mut session: Session = case.training(&device, options);
        case.train_in(&mut session);
        let times = session.profile().unwrap();
        for t in times.iter().chain(&session.profile_backward().unwrap()) {
            assert!(t.longest > Duration::ZERO && t.longest <= t.time, "{t:?}");
            assert!(t.longest * t.dispatches as u32 >= t.time, "{t:?}");
        }
    }
}
