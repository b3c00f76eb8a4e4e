//! `Memory::Recompute`: the gradients of `Save` from h and c alone.

use super::executors::{bounds, worst};
use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

fn recompute(strategy: Strategy) -> Options {
    Options { memory: Memory::Recompute, ..forced(strategy) }
}

/// Two segments (64 and 6 steps), both directions, ragged.
fn case(cell: &'static Cell, proj_size: usize, num_layers: usize) -> Case {
    let direction = Direction::Bidirectional;
    let config =
        RnnConfig { cell, input_size: 3, hidden_size: 5, num_layers, direction, proj_size, ..Default::default() };
    Case::new(config, 70, 3, 40).with_lengths(&[66, 70, 20])
}

#[test]
fn recomputed_gradients_are_within_what_f32_costs() {
    let mut failures = Vec::new();
    for (cell, proj_size) in cells_and_projections(3) {
        let case = case(cell, proj_size, 2);
        let truth = named(&case.config, &case.true_gradients());
        let bounds = bounds(&case, &truth);
        for (device, strategy) in executors_for(cell, proj_size) {
            let mut session = case.training::<f32>(&device, recompute(strategy));
            assert_eq!((session.plan().memory, session.plan().segment), (Memory::Recompute, 64));
            let (out, got) = case.poisoned(&mut session);
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            // The way there is that of any other plan.
            assert_same(&what, &case.train(&device, strategy).0, &out);
            let (name, share) = worst(&case, &got, &truth, &bounds);
            if share > 1.0 {
                failures.push(format!("{what}: {name} {share:.2} of its bound"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// In f64 on the CPU executor the policies agree to 1e-10; the corners: one step, one unit, no bias, one feature; dropout.
#[test]
fn recomputed_gradients_are_those_of_save_in_f64() {
    for (cell, proj_size) in cells_and_projections(3) {
        let tiny = RnnConfig { cell, input_size: 1, hidden_size: 1, bias: Bias::None, ..Default::default() };
        let reverse = RnnConfig { direction: Direction::Reverse, num_layers: 3, ..tiny.clone() };
        let mut dropped = case(cell, proj_size, 2);
        dropped.config.dropout = Dropout { layers: 0.2, input: 0.2, recurrent: 0.4 };
        for case in [case(cell, proj_size, 2), dropped, Case::new(tiny, 1, 1, 71), Case::new(reverse, 66, 1, 72)] {
            let saved = named(&case.config, &case.true_gradients());
            for strategy in [Strategy::Step, Strategy::Sequence] {
                let mut session = case.training::<f64>(&Device::cpu(), recompute(strategy));
                session.poison().unwrap();
                let again = named(&case.config, &case.train_in(&mut session).1);
                for ((name, saved), (_, again)) in saved.iter().zip(&again) {
                    let (error, bound) =
                        (tolerance::error(again, saved), tolerance::bound_f64(tolerance::scale(saved)));
                    assert!(error <= bound, "{} {strategy} {name}: {error:e}, bound {bound:e}", cell.name);
                }
            }
        }
    }
}

/// Bits do not depend on blocks, on the neighbours in the batch, or on whether y is kept.
#[test]
fn cuts_neighbours_and_y_do_not_matter() {
    for (cell, proj_size) in cells_and_projections(3) {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let case = case(cell, proj_size, 1);
            let mut session = case.training(&device, recompute(strategy));
            let (_, whole) = case.poisoned(&mut session);
            let blocks = Options { max_block: Some(30), ..recompute(strategy) };
            let cut = case.poisoned(&mut case.training(&device, blocks)).1;
            assert_same_gradients(&what, &case.config, &whole, &cut);
            let alone = case.alone(0);
            let got = alone.poisoned(&mut alone.training(&device, recompute(strategy))).1;
            assert_eq!(bits(&got.x.data), bits(&sequence(&whole.x.data, 3, 3, 0)), "{what}: x of sequence 0");
            let run = |keep_y: bool| {
                let mut session = case.training::<f32>(&device, Options { keep_y, ..recompute(strategy) });
                session.poison().unwrap();
                case.with_input(|input| session.write(input).unwrap());
                session.run().unwrap();
                let shape = case.state_shapes()[0].clone();
                let upstream = Upstream { y: None, hn: Some(View::new(&case.dhn, &shape)), cn: None };
                session.backward(&upstream).unwrap()
            };
            assert_same_gradients(&format!("{what}, no y"), &case.config, &run(true), &run(false));
        }
    }
}

/// Slot by slot, over two segments.
#[test]
fn executors_agree_after_every_dispatch_of_a_recomputing_way_back() {
    let mut failures = Vec::new();
    for (cell, proj_size) in gpu_cells(5) {
        let config = RnnConfig { cell, input_size: 5, hidden_size: 9, proj_size, ..Default::default() };
        let case = Case::new(config, 67, 3, 21).with_lengths(&[2, 67, 65]);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let trace = |device: &Device| {
                // Blocks of the same size on both, so that the slots are too.
                let mut session = case.training::<f32>(device, Options { max_block: Some(32), ..recompute(strategy) });
                session.poison().unwrap();
                let mut all = case.with_input(|input| session.trace(input).unwrap());
                all.extend(case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap()));
                all
            };
            let (cpu, gpu) = (trace(&Device::cpu()), trace(&gpu()));
            assert!(cpu.iter().any(|s| s.dispatch.starts_with("rebuild")), "{} rebuilds", cell.name);
            // As in executors.rs, for sums over 67 steps of 3 sequences.
            if let Some(what) = first_difference(&cpu, &gpu, (67 * 3) as f32 * 8.0 * f32::EPSILON) {
                failures.push(format!("{} P={proj_size} {strategy}: {what}", cell.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What is kept of a step: h, and c where the cell has one; everything else is a segment long.
#[test]
fn the_plan_keeps_h_and_c_and_nothing_else_of_all_steps() {
    let (time, batch) = (6400, 2);
    for (cell, proj_size) in cells_and_projections(3) {
        let config = RnnConfig { cell, input_size: 2, hidden_size: 8, proj_size, ..Default::default() };
        let shape = Shape { time, batch };
        let of = |memory| {
            let options = Options { train: true, memory, keep_y: false, ..Default::default() };
            Plan::new(&config, shape, &Device::cpu().caps(), &options).unwrap()
        };
        let (saved, plan) = (of(Memory::Save), of(Memory::Recompute));
        let row = config.state_size() + config.cell_size();
        let kept = plan.slots.iter().find(|s| s.name == "kept.l0").unwrap();
        assert_eq!(kept.bytes(), ((time + 1) * batch * row * 4) as u64, "{}", cell.name);
        let rows = |s: &Slot| s.dims[..s.dims.len() - 1].iter().map(|d| d.1).product::<usize>();
        let long =
            |s: &&Slot| rows(s) >= time * batch && !["x", "dx", "schedule", "kept.l0"].contains(&s.name.as_str());
        assert_eq!(plan.slots.iter().find(long), None, "{}", cell.name);
        assert!(plan.bytes() < saved.bytes(), "{}: {} against {} bytes", cell.name, plan.bytes(), saved.bytes());
        assert!(plan.to_string().contains(&format!("{} B  kept.l0", kept.bytes())), "{plan}");
    }
}
