//! The two executors, slot by slot: after every dispatch, every slot it wrote. A failure names the first dispatch and slot
//! that differ.

mod harness;

use harness::*;
use wgpu_rnn::*;

fn trace(case: &Case, device: &Device, strategy: Strategy) -> Vec<Snapshot<f32>> {
    // Blocks of 3 steps on both, so that the slots have the same sizes.
    let mut session = case.session(device, strategy, Some(3));
    session.poison().unwrap();
    case.with_input(|input| session.trace(input).unwrap())
}

fn case(cell: &'static Cell, proj_size: usize) -> Case {
    let direction = Direction::Bidirectional;
    let config =
        RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, direction, proj_size, ..Default::default() };
    Case::new(config, 5, 3, 11).with_lengths(&[2, 5, 4])
}

/// Values are of order 1, sums of 25 products at most: eight roundings of size 2^-24 each way per product is generous, and a
/// wrong index is wrong by 0.1.
const TOLERANCE: f32 = 25.0 * 8.0 * f32::EPSILON;

#[test]
fn executors_agree_after_every_dispatch() {
    let mut failures = Vec::new();
    for (cell, proj_size) in gpu_cells(5) {
        let case = case(cell, proj_size);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let (cpu, gpu) = (trace(&case, &Device::cpu(), strategy), trace(&case, &gpu(), strategy));
            assert!(cpu.len() > 6, "{} {strategy}: a trace of {} entries", cell.name, cpu.len());
            if let Some(what) = first_difference(&cpu, &gpu, TOLERANCE) {
                failures.push(format!("{} P={proj_size} {strategy}: {what}", cell.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The comparison does name the first place: a changed weight of layer 1 shows in layer 1's first recurrent dispatch.
#[test]
fn a_difference_is_named() {
    let good = case(&cells::LSTM, 0);
    let mut bad = good.clone();
    bad.weights.layers[2].r[0] += 0.5;
    let found = first_difference(
        &trace(&good, &Device::cpu(), Strategy::Step),
        &trace(&bad, &gpu(), Strategy::Step),
        TOLERANCE,
    );
    let found = found.expect("a difference");
    assert!(found.starts_with("step_forward stage 0 layer 1 from step 0 step 0 wrote operand.odd"), "{found}");
}
