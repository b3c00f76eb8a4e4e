//! Plans are pure data: choice of strategy, dispatch counts, blocks, limits and submits, all without a GPU.

use proptest::prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generate;
use std::collections::BTreeSet;
use std::time::Duration;
use wgpu_rnn::kernels::Kernel;
use wgpu_rnn::{
    Caps, Cell, Device, DeviceClass, Direction, Dispatch, Error, Extent, Layout, Options, Plan, Precision, RnnConfig,
    Schedule, Shape, Step, Strategy, Wavefront, cells,
};

/// WebGPU's default limits.
fn caps(class: DeviceClass) -> Caps {
    Caps {
        class,
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        max_workgroup_memory: 16384,
        max_invocations: 256,
        max_workgroups: 65535,
        parallel_groups: if class == DeviceClass::Gpu { 64 } else { 2 },
        f16: true,
        subgroup: 1,
        max_rounds: if class == DeviceClass::SoftwareGpu { 65_535 } else { usize::MAX },
    }
}

fn config(cell: &'static Cell, input_size: usize, hidden_size: usize) -> RnnConfig {
    RnnConfig { cell, input_size, hidden_size, ..Default::default() }
}

fn lstm(hidden_size: usize) -> RnnConfig {
    config(&cells::LSTM, 3, hidden_size)
}

/// With layers one after the other: waves have tests of their own.
fn forced(strategy: Strategy) -> Options {
    Options { strategy: Some(strategy), wavefront: Wavefront::Off, ..Default::default() }
}

/// The same with a backward pass.
fn training(strategy: Strategy) -> Options {
    Options { train: true, ..forced(strategy) }
}

fn plan(config: &RnnConfig, time: usize, batch: usize, caps: &Caps, options: &Options) -> Plan {
    Plan::new(config, Shape { time, batch }, caps, options).unwrap_or_else(|e| panic!("T={time} B={batch}: {e}"))
}

fn dispatches(plan: &Plan) -> Vec<&Dispatch> {
    let list = |s| match s {
        &Step::ClearPadding(_) => &[][..],
        Step::Once(d) => std::slice::from_ref(d),
        Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
    };
    plan.steps.iter().chain(&plan.backward).flat_map(list).collect()
}

#[test]
fn the_strategy_follows_from_device_class_and_hidden_size() {
    use DeviceClass::{Gpu, SoftwareGpu};
    use Strategy::{Sequence, Step};
    let table = [
        (Gpu, 1, Sequence, "4 units fit one workgroup (limit 128)"),
        (Gpu, 64, Sequence, "64 units fit one workgroup (limit 128)"),
        (Gpu, 128, Sequence, "128 units fit one workgroup (limit 128)"),
        (Gpu, 129, Step, "132 units are more than 128, up to which one workgroup keeps up"),
        (Gpu, 256, Step, "256 units are more than 128, up to which one workgroup keeps up"),
        (Gpu, 257, Step, "sequence would need 260 units, but a workgroup has at most 256 invocations"),
        (SoftwareGpu, 1, Sequence, "4 units fit one workgroup (limit 128)"),
        (SoftwareGpu, 128, Sequence, "128 units fit one workgroup (limit 128)"),
        (SoftwareGpu, 129, Step, "132 units are more than 128, up to which one workgroup keeps up"),
        (SoftwareGpu, 257, Step, "sequence would need 260 units, but a workgroup has at most 256 invocations"),
    ];
    for (class, hidden, strategy, reason) in table {
        let p = plan(&lstm(hidden), 5, 3, &caps(class), &Options::default());
        assert_eq!((p.strategy, p.reason.as_str()), (strategy, reason), "{class:?} H={hidden}");
    }
    let large = Caps { max_invocations: 1024, ..caps(SoftwareGpu) };
    let p = plan(&lstm(300), 5, 3, &large, &Options::default());
    assert_eq!((p.strategy, p.reason.contains("300 units are more than 128")), (Step, true), "{}", p.reason);

    for hidden in [1, 64, 1000] {
        let p = plan(&lstm(hidden), 5, 3, &Device::cpu().caps(), &Options::default());
        assert_eq!((p.strategy, p.reason.starts_with("CPU executor")), (Sequence, true), "{}", p.reason);
    }
}

#[test]
fn a_strategy_can_be_forced_where_it_is_possible() {
    for caps in [caps(DeviceClass::Gpu), caps(DeviceClass::SoftwareGpu), Device::cpu().caps()] {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            for hidden in [1, 200] {
                let p = plan(&lstm(hidden), 5, 3, &caps, &forced(strategy));
                assert_eq!((p.strategy, p.reason.as_str()), (strategy, "forced"), "{:?}", caps.class);
            }
        }
    }
}

#[test]
fn a_forced_sequence_beyond_the_device_is_an_error_that_names_the_limit() {
    let refuse = |config: &RnnConfig, caps: &Caps| {
        let shape = Shape { time: 5, batch: 3 };
        match Plan::new(config, shape, caps, &forced(Strategy::Sequence)) {
            Err(e @ Error::Unsupported { .. }) => e.to_string(),
            other => panic!("expected an error, got {:?}", other.err()),
        }
    };
    let gpu = caps(DeviceClass::Gpu);
    assert_eq!(
        refuse(&lstm(300), &gpu),
        "not supported: strategy sequence: it needs 300 units, but a workgroup has at most 256 invocations; use step"
    );
    let small = Caps { max_workgroup_memory: 512, ..gpu };
    assert_eq!(
        refuse(&lstm(128), &small),
        "not supported: strategy sequence: it needs 1024 bytes of workgroup memory, but the device has 512; use step"
    );
    let p = plan(&lstm(128), 5, 3, &small, &Options::default());
    assert_eq!(p.strategy, Strategy::Step);
    assert!(p.reason.contains("1024 bytes of workgroup memory"), "{}", p.reason);
}

#[test]
fn what_decides_the_order_of_additions_depends_on_neither_time_nor_batch() {
    for caps in [caps(DeviceClass::Gpu), caps(DeviceClass::SoftwareGpu), Device::cpu().caps()] {
        for cell in cells::ALL {
            for hidden in [1, 33, 128, 129, 256, 300] {
                let choice = |time, batch| {
                    let p = plan(&config(cell, 7, hidden), time, batch, &caps, &Options::default());
                    let kernels: BTreeSet<_> = dispatches(&p).iter().map(|d| (d.kernel, d.stage)).collect();
                    (p.strategy, p.reason.clone(), kernels)
                };
                let first = choice(1, 1);
                for time in [1, 2, 3, 17, 100, 400] {
                    for batch in [1, 2, 5, 16, 64, 200] {
                        assert_eq!(choice(time, batch), first, "{} H={hidden} T={time} B={batch}", cell.name);
                    }
                }
            }
        }
    }
}

/// load_state, project, store_state.
const FEW: usize = 3;

#[test]
fn dispatch_counts_are_one_per_step_and_stage_or_one_per_block() {
    let projected = RnnConfig { proj_size: 64, ..config(&cells::LSTM, 256, 256) };
    let table = [
        (config(&cells::LSTM, 256, 256), 1),
        (config(&cells::GRU, 256, 256), 1),
        (config(&cells::RNN_TANH, 256, 256), 1),
        (config(&cells::LSTM_PEEPHOLE, 256, 256), 1),
        (config(&cells::GRU_RESET_BEFORE, 256, 256), 2),
        (projected, 2),
    ];
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        for (config, stages) in &table {
            let step = plan(config, 100, 16, &caps(class), &forced(Strategy::Step));
            assert_eq!(step.dispatches(), 100 * stages + FEW, "{step}");
            let sequence = plan(config, 100, 16, &caps(class), &forced(Strategy::Sequence));
            // A software rasteriser may take shorter blocks; a GPU takes all steps at once.
            let blocks = 100usize.div_ceil(sequence.block);
            assert!(blocks == 1 || class == DeviceClass::SoftwareGpu, "{sequence}");
            assert_eq!(sequence.dispatches(), 2 * blocks + FEW - 1, "{sequence}");
            assert_eq!((step.submit_count(), sequence.submit_count()), (1, 1));
        }
    }
    // A single sequence of a small layer: the same.
    for (strategy, count) in [(Strategy::Step, 100 + FEW), (Strategy::Sequence, 1 + FEW)] {
        let small = plan(&config(&cells::LSTM, 64, 64), 100, 1, &caps(DeviceClass::SoftwareGpu), &forced(strategy));
        assert_eq!((small.dispatches(), small.submit_count()), (count, 1), "{small}");
    }
    // Each further layer: its own project and recurrence, nothing else.
    let deep = RnnConfig { num_layers: 3, ..lstm(64) };
    assert_eq!(plan(&deep, 50, 4, &caps(DeviceClass::Gpu), &forced(Strategy::Step)).dispatches(), 3 * (50 + 1) + 2);
    assert_eq!(plan(&deep, 50, 4, &caps(DeviceClass::Gpu), &forced(Strategy::Sequence)).dispatches(), 3 * 2 + 2);
    // At most a few per max_block steps.
    let blocks = Options { max_block: Some(16), ..forced(Strategy::Sequence) };
    assert_eq!(plan(&lstm(64), 100, 4, &caps(DeviceClass::Gpu), &blocks).dispatches(), 7 * 2 + 2);
}

/// A stage that normalises: its product and its statistic are a dispatch each, there and back, and W x is normalised once per
/// block; its gains and biases have gradients of their own. Inside the kernel all of it is a barrier.
#[test]
fn a_normalising_stage_takes_one_more_dispatch_per_step() {
    for (cell, stages, matrices) in [(&cells::LSTM_LAYER_NORM, 2, 1), (&cells::GRU_LAYER_NORM, 1, 1)] {
        let c = config(cell, 64, 64);
        let gpu = caps(DeviceClass::Gpu);
        let step = plan(&c, 100, 16, &gpu, &forced(Strategy::Step));
        assert_eq!(step.dispatches(), 100 * 2 * stages + 1 + FEW, "{step}");
        let sequence = plan(&c, 100, 16, &gpu, &forced(Strategy::Sequence));
        assert_eq!(sequence.dispatches(), 1 + 1 + FEW, "{sequence}");
        for (strategy, recurrent) in [(Strategy::Step, 100 * 2 * stages), (Strategy::Sequence, 1)] {
            let p = plan(&c, 100, 16, &gpu, &training(strategy));
            let stretches = 100usize.div_ceil(p.block.next_multiple_of(64));
            let (forward, backward) = (recurrent + 1 + 4, recurrent + 5 + (1 + matrices) * stretches + 1);
            assert_eq!(p.dispatches(), forward + backward, "{p}");
        }
    }
}

/// Backward, per layer: load_gradient, store_gradient, weight_backward of W, input_backward; weight_backward once more per
/// matrix of a stage; unit_backward if the cell has unit parameters; and the recurrence once more.
#[test]
fn a_backward_pass_is_as_many_recurrent_dispatches_again_and_a_few_sums_per_layer() {
    let projected = RnnConfig { proj_size: 64, ..config(&cells::LSTM, 256, 256) };
    let table = [
        (config(&cells::LSTM, 256, 256), 1, 0),
        (config(&cells::GRU, 256, 256), 1, 0),
        (config(&cells::RNN_TANH, 256, 256), 1, 0),
        (config(&cells::LSTM_PEEPHOLE, 256, 256), 1, 1),
        (config(&cells::GRU_RESET_BEFORE, 256, 256), 2, 0),
        (projected, 2, 0),
    ];
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        for (config, stages, params) in &table {
            for layers in [1, 3] {
                let config = RnnConfig { num_layers: layers, ..config.clone() };
                for strategy in [Strategy::Step, Strategy::Sequence] {
                    let p = plan(&config, 100, 16, &caps(class), &training(strategy));
                    // A software rasteriser may take shorter blocks; a GPU takes all steps at once.
                    let blocks = 100usize.div_ceil(p.block);
                    assert!(blocks == 1 || class == DeviceClass::SoftwareGpu, "{p}");
                    let stretches = 100usize.div_ceil(p.block.next_multiple_of(64));
                    let recurrent = if strategy == Strategy::Step { 100 * stages } else { blocks };
                    let forward = layers * (recurrent + blocks + 1) + 2;
                    let backward = layers * (recurrent + 5 + (1 + stages) * stretches + params);
                    assert_eq!(p.dispatches(), forward + backward, "{p}");
                    assert!(p.train && !p.backward.is_empty() && p.ids.grad.is_some());
                    assert_eq!(p.submit_count(), p.submits.len());
                    let q = plan(&config, 100, 16, &caps(class), &forced(strategy));
                    assert!(!q.train && q.backward.is_empty() && q.backward_submits.is_empty() && q.ids.grad.is_none());
                    assert!(q.bytes() < p.bytes(), "training keeps more");
                }
            }
        }
    }
    // Weight gradients are summed over stretches of 64 steps here: two of them, for W and for R.
    let blocks = Options { max_block: Some(16), ..training(Strategy::Sequence) };
    assert_eq!(plan(&lstm(64), 100, 4, &caps(DeviceClass::Gpu), &blocks).dispatches(), (7 * 2 + 3) + (7 + 9));
}

/// Block by block, every step exactly once, last first; and the submits cover the pass in order.
#[test]
fn the_backward_pass_walks_every_step_of_every_layer_backwards() {
    let c = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..lstm(16) };
    for strategy in [Strategy::Step, Strategy::Sequence] {
        for micros in [1, 500_000] {
            let submit_budget = Duration::from_micros(micros);
            let options = Options { max_block: Some(30), submit_budget, ..training(strategy) };
            let p = plan(&c, 100, 4, &caps(DeviceClass::Gpu), &options);
            assert_eq!(p.backward_submits.len() > 1, micros == 1, "{p}");
            let ends: Vec<_> = p.backward_submits.iter().flat_map(|r| [r.start, r.end]).collect();
            assert_eq!((ends[0], ends[ends.len() - 1]), (0, p.backward.len()));
            assert!(ends[1..ends.len() - 1].chunks(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
            let mut seen = [Vec::new(), Vec::new()];
            for step in &p.backward {
                match step {
                    Step::EachStepBack(range, body) => {
                        seen[body[0].layer.expect("a layer")].extend(range.clone().rev());
                    }
                    Step::Once(d) if d.kernel == Kernel::SequenceBackward => {
                        let dims = &p.dims[d.dims];
                        seen[d.layer.expect("a layer")].extend((dims.first as usize..dims.end as usize).rev());
                    }
                    Step::Once(_) => {}
                    other => panic!("{other:?} in a backward pass"),
                }
            }
            let all: Vec<usize> = (0..100).rev().collect();
            assert_eq!(seen, [all.clone(), all]);
        }
    }
}

/// A second direction takes no dispatch of its own, there and back.
#[test]
fn both_directions_of_a_layer_run_in_one_dispatch() {
    for cell in cells::ALL {
        for options in [Strategy::Step, Strategy::Sequence].into_iter().flat_map(|s| [forced(s), training(s)]) {
            for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu, DeviceClass::Cpu] {
                let count = |direction| {
                    let c = RnnConfig { direction, num_layers: 2, ..config(cell, 8, 40) };
                    plan(&c, 30, 4, &caps(class), &options).dispatches()
                };
                let one = count(Direction::Forward);
                let others = [count(Direction::Reverse), count(Direction::Bidirectional)];
                assert_eq!(others, [one, one], "{} {class:?}", cell.name);
            }
        }
    }
}

/// The blocks of each layer, from the project dispatches.
fn blocks(plan: &Plan, layer: usize) -> Vec<std::ops::Range<u32>> {
    let project = |d: &&Dispatch| matches!(d.kernel, Kernel::ProjectVec4 | Kernel::ProjectScalar);
    let list = dispatches(plan).into_iter().filter(project).filter(|d| d.layer == Some(layer));
    list.map(|d| plan.dims[d.dims].first..plan.dims[d.dims].end).collect()
}

fn assert_tiles(ranges: &[std::ops::Range<u32>], time: usize) {
    assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, time as u32), "{ranges:?}");
    assert!(ranges.windows(2).all(|w| w[0].end == w[1].start), "{ranges:?}");
    assert!(ranges.iter().all(|r| r.start < r.end), "{ranges:?}");
}

#[test]
fn pre_beyond_the_binding_limit_is_chunked_over_time() {
    let (time, batch) = (500, 4);
    let c = RnnConfig { num_layers: 2, ..lstm(8) };
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let whole = plan(&c, time, batch, &caps(DeviceClass::Gpu), &forced(strategy));
        assert_eq!(blocks(&whole, 0).len(), 1);
        let limit = 65_536;
        assert!(whole.slots.iter().any(|s| s.name == "pre" && s.bytes() > limit), "{whole}");
        let limits = [
            Caps { max_binding: limit, ..caps(DeviceClass::Gpu) },
            Caps { max_buffer: limit, ..caps(DeviceClass::Gpu) },
        ];
        for small in limits {
            let p = plan(&c, time, batch, &small, &forced(strategy));
            for slot in &p.slots {
                assert!(slot.bytes() <= limit, "{}: {}", slot.name, slot.bytes());
            }
            for layer in 0..2 {
                let ranges = blocks(&p, layer);
                assert_tiles(&ranges, time);
                assert_eq!(ranges.len(), 4, "{ranges:?}");
                assert!(ranges.iter().all(|r| r.len() <= p.block));
            }
        }
    }
}

#[test]
fn a_slot_beyond_the_limit_is_an_error_that_names_slot_size_and_limit() {
    let small = Caps { max_binding: 65_536, ..caps(DeviceClass::Gpu) };
    let refuse =
        |config: &RnnConfig, shape: Shape, caps: &Caps| match Plan::new(config, shape, caps, &Options::default()) {
            Err(e @ Error::Limit { .. }) => e.to_string(),
            other => panic!("expected Error::Limit, got {:?}", other.err()),
        };
    let limit = "over the device's max_storage_buffer_binding_size of 65536 bytes";
    let text = refuse(&config(&cells::LSTM, 50, 2), Shape { time: 100, batch: 4 }, &small);
    assert!(text.starts_with("slot x [T, B, I] = [100, 4, 50]: needs 80000 bytes") && text.contains(limit), "{text}");
    let text = refuse(&config(&cells::LSTM, 1, 40), Shape { time: 150, batch: 4 }, &small);
    assert!(text.starts_with("slot y [T, B, D·P] = [150, 4, 40]: needs 96000 bytes") && text.contains(limit), "{text}");
    let text = refuse(&config(&cells::LSTM, 1, 65), Shape { time: 1, batch: 1 }, &small);
    assert!(text.starts_with("slot r.l0 ") && text.contains(limit), "{text}");
    let text = refuse(&config(&cells::LSTM, 300, 20), Shape { time: 1, batch: 1 }, &small);
    assert!(text.starts_with("slot w.l0 ") && text.contains(limit), "{text}");
    let text = refuse(&config(&cells::LSTM, 1, 16), Shape { time: 1, batch: 300 }, &small);
    assert!(text.starts_with("slot pre for a single step of 300 sequences: needs 76800 bytes"), "{text}");
    assert!(text.contains(limit), "{text}");
    let buffer = Caps { max_buffer: 65_536, ..caps(DeviceClass::Gpu) };
    let text = refuse(&config(&cells::LSTM, 50, 2), Shape { time: 100, batch: 4 }, &buffer);
    assert!(text.contains("slot x") && text.contains("max_buffer_size of 65536 bytes"), "{text}");
    // A batch, or layers, beyond the grid of one dispatch.
    let text = refuse(&config(&cells::RNN_TANH, 1, 1), Shape { time: 1, batch: 70_000 }, &caps(DeviceClass::Gpu));
    let grid = "over the device's max_compute_workgroups_per_dimension of 65535 workgroups";
    assert!(text.starts_with("B = 70000: needs 70000 workgroups") && text.contains(grid), "{text}");
    let few = Caps { max_workgroups: 100, ..caps(DeviceClass::Gpu) };
    let deep = RnnConfig { num_layers: 60, direction: Direction::Bidirectional, ..config(&cells::RNN_TANH, 1, 1) };
    let text = refuse(&deep, Shape { time: 1, batch: 1 }, &few);
    let grid = "over the device's max_compute_workgroups_per_dimension of 100 workgroups";
    assert!(text.starts_with("L·D = 120: needs 120 workgroups") && text.contains(grid), "{text}");
}

/// What training keeps over all T steps must fit whole; the error says which slot does not, and every grid of the backward
/// pass fits the device.
#[test]
fn a_training_plan_beyond_the_device_is_an_error() {
    let refuse = |config: &RnnConfig, shape: Shape, caps: &Caps, strategy| match Plan::new(
        config,
        shape,
        caps,
        &training(strategy),
    ) {
        Err(e @ Error::Limit { .. }) => e.to_string(),
        other => panic!("expected Error::Limit, got {:?}", other.err()),
    };
    let small = Caps { max_binding: 65_536, ..caps(DeviceClass::Gpu) };
    let shape = Shape { time: 500, batch: 4 };
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let text = refuse(&lstm(8), shape, &small, strategy);
        let limit = "over the device's max_storage_buffer_binding_size of 65536 bytes";
        assert!(text.starts_with("slot ") && text.contains(limit), "{text}");
        Plan::new(&lstm(8), shape, &small, &forced(strategy)).expect("inference goes block by block");

        // T·B rows for input_backward: 8 rows per workgroup, 65535 workgroups along one dimension.
        let long = config(&cells::RNN_TANH, 1, 1);
        let shape = Shape { time: 8 * 65_535, batch: 1 };
        let p = Plan::new(&long, shape, &caps(DeviceClass::Gpu), &training(strategy)).expect("just fits");
        assert!(grids(&p).iter().all(|&n| n <= 65_535), "{p}");
        match Plan::new(&long, Shape { time: 8 * 65_535 + 1, batch: 1 }, &caps(DeviceClass::Gpu), &training(strategy)) {
            Ok(p) => assert!(grids(&p).iter().all(|&n| n <= 65_535), "a grid of {:?}", grids(&p).iter().max()),
            Err(e) => assert!(matches!(e, Error::Limit { .. }), "{e}"),
        }
    }
}

/// Workgroups along each dimension of every dispatch, as far as the plan alone fixes them.
fn grids(plan: &Plan) -> Vec<usize> {
    let grid = |d: &&Dispatch| {
        let y = match d.groups.1 {
            Extent::Fixed(n) => n,
            Extent::Rows(per) => (plan.block * plan.shape.batch).div_ceil(per),
            Extent::Active(per) => plan.shape.batch.div_ceil(per),
            Extent::Batch => plan.shape.batch,
            Extent::SegmentRows(per) => (plan.segment * plan.shape.batch).div_ceil(per),
        };
        [d.groups.0, y, d.groups.2]
    };
    dispatches(plan).iter().flat_map(grid).collect()
}

#[test]
fn absurd_sizes_are_typed_errors() {
    let (big, far) = (1 << 30, usize::MAX);
    let sizes = [
        // (I, H, L, T, B)
        (1, 1, 1, big, big),
        (big, 1, 1, big, big),
        (1, big, 1, 1, big),
        (1, big, 1, 1, 1),
        (big, big, 1, big, big),
        (1, 1, big, 1, 1),
        (big, big, big, big, big),
        (far, 1, 1, 1, 1),
        (1, far, 1, 1, 1),
        (1, 1, far, 1, 1),
        (1, 1, 1, far, 1),
        (1, 1, 1, 1, far),
        (far, far, far, far, far),
    ];
    for caps in [caps(DeviceClass::Gpu), caps(DeviceClass::SoftwareGpu), Device::cpu().caps()] {
        for (input_size, hidden_size, num_layers, time, batch) in sizes {
            for direction in [Direction::Forward, Direction::Bidirectional] {
                let choices = [None, Some(Strategy::Step), Some(Strategy::Sequence)];
                for (strategy, train) in choices.into_iter().flat_map(|s| [(s, false), (s, true)]) {
                    let c = RnnConfig { input_size, hidden_size, num_layers, direction, ..Default::default() };
                    let options = Options { strategy, train, ..Default::default() };
                    let error = Plan::new(&c, Shape { time, batch }, &caps, &options).err();
                    let Some(error) = error else {
                        let sizes = [input_size, hidden_size, num_layers, time, batch];
                        panic!("I, H, L, T, B = {sizes:?} {direction:?} {strategy:?} on {:?}: no error", caps.class)
                    };
                    let typed =
                        matches!(error, Error::Limit { .. } | Error::Mismatch { .. } | Error::Unsupported { .. });
                    assert!(typed && !error.to_string().is_empty(), "{error:?}");
                }
            }
        }
    }
}

#[test]
fn a_small_submit_budget_splits_the_plan_into_submits_in_order() {
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let c = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..lstm(64) };
            let whole = plan(&c, 200, 16, &caps(class), &forced(strategy));
            assert_eq!(whole.submit_count(), 1, "{whole}");
            for micros in [0, 1, 100, 2000] {
                let options = Options { submit_budget: Duration::from_micros(micros), ..forced(strategy) };
                let p = plan(&c, 200, 16, &caps(class), &options);
                assert!(p.submit_count() > 1, "{class:?} {strategy} {micros} us");
                let mut next = 0;
                for part in &p.submits {
                    assert_eq!(part.start, next);
                    assert!(part.end > part.start);
                    next = part.end;
                }
                assert_eq!(next, p.steps.len());
                for layer in 0..2 {
                    assert_tiles(&blocks(&p, layer), 200);
                }
                let recurrent = |d: &&Dispatch| matches!(d.kernel, Kernel::StepForward | Kernel::SequenceForward);
                assert_eq!(dispatches(&p).iter().filter(|d| recurrent(d)).count(), blocks(&p, 0).len() * 2);
            }
        }
    }
    // The CPU executor has no watchdog to please.
    let least = Options { submit_budget: Duration::from_nanos(1), ..Default::default() };
    let p = plan(&lstm(8), 20, 2, &Device::cpu().caps(), &least);
    assert_eq!(p.submit_count(), 1, "{p}");
}

#[test]
fn f64_is_for_the_cpu_only_and_doubles_the_bytes() {
    let options = |precision| Options { precision, ..Default::default() };
    let cpu = Device::cpu().caps();
    let p = plan(&lstm(5), 4, 3, &cpu, &options(Precision::F64));
    let q = plan(&lstm(5), 4, 3, &cpu, &options(Precision::F32));
    assert_eq!(p.slots[p.ids.x].bytes(), 2 * q.slots[q.ids.x].bytes());
    assert_eq!(p.slots[p.ids.schedule].bytes(), q.slots[q.ids.schedule].bytes());
    let shape = Shape { time: 4, batch: 3 };
    for class in [DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        let error = Plan::new(&lstm(5), shape, &caps(class), &options(Precision::F64)).expect_err("no f64 in WGSL");
        assert_eq!(error.to_string(), "not supported: f64 on a GPU: WGSL has no f64; use the CPU executor");
    }
}

#[test]
fn plans_are_equal_exactly_where_their_request_is() {
    let gpu = caps(DeviceClass::Gpu);
    let first = plan(&lstm(20), 10, 3, &gpu, &Options::default());
    assert_eq!(first, plan(&lstm(20), 10, 3, &gpu, &Options::default()));
    assert_ne!(first, plan(&lstm(20), 11, 3, &gpu, &Options::default()));
    assert_ne!(first, plan(&lstm(20), 10, 4, &gpu, &Options::default()));
    assert_ne!(first, plan(&lstm(21), 10, 3, &gpu, &Options::default()));
    assert_ne!(first, plan(&config(&cells::LSTM_PEEPHOLE, 3, 20), 10, 3, &gpu, &Options::default()));
    assert_ne!(first, plan(&lstm(20), 10, 3, &gpu, &forced(Strategy::Step)));
    assert_ne!(first, plan(&lstm(20), 10, 3, &gpu, &Options { train: true, ..Default::default() }));
}

#[test]
fn display_shows_strategy_reason_slots_and_dispatches() {
    let c = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..lstm(20) };
    for (caps, options) in [
        (caps(DeviceClass::Gpu), Options::default()),
        (caps(DeviceClass::Gpu), forced(Strategy::Step)),
        (Device::cpu().caps(), Options::default()),
        (caps(DeviceClass::Gpu), training(Strategy::Sequence)),
        (caps(DeviceClass::Gpu), training(Strategy::Step)),
    ] {
        let p = plan(&c, 10, 3, &caps, &options);
        let text = p.to_string();
        let has = |part: &str| assert!(text.contains(part), "no {part:?} in\n{text}");
        has("lstm T=10 B=3 I=3 H=20 layers=2 directions=2 F32");
        has(&format!("strategy: {} ({})", p.strategy, p.reason));
        has(&format!("dispatches: {} in {} submit(s)", p.dispatches(), p.submit_count()));
        for slot in &p.slots {
            let line = text.lines().find(|l| l.split_whitespace().nth(2) == Some(&slot.name));
            let line = line.unwrap_or_else(|| panic!("no slot {} in\n{text}", slot.name));
            assert!(line.trim_start().starts_with(&format!("{} B", slot.bytes())), "{line}");
        }
        has(&format!("{} B  total", p.bytes()));
        for d in dispatches(&p) {
            has(d.kernel.name());
        }
    }
}

#[test]
fn a_submit_takes_as_many_blocks_as_its_budget_allows() {
    // Blocks much shorter than the budget share a submit, with either strategy.
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let with = |max_block| Options { max_block, submit_budget: Duration::from_millis(4), ..forced(strategy) };
        let gpu = caps(DeviceClass::Gpu);
        let whole = plan(&lstm(64), 1000, 16, &gpu, &with(None));
        let short = plan(&lstm(64), 1000, 16, &gpu, &with(Some(20)));
        assert_eq!(blocks(&short, 0).len(), 50);
        let submits = whole.submit_count()..=whole.submit_count() + 1;
        assert!(whole.submit_count() > 1 && submits.contains(&short.submit_count()), "{strategy}: {short}");
    }
}

#[test]
fn too_many_blocks_are_an_error() {
    let shape = Shape { time: 1 << 22, batch: 1 };
    let blocks = Options { max_block: Some(1), ..Default::default() };
    let budget = Options { submit_budget: Duration::ZERO, ..Default::default() };
    let (gpu, cpu) = (caps(DeviceClass::Gpu), Device::cpu().caps());
    // 256 MiB of buffer hold so many blocks' sizes, and those of load_state and store_state.
    let most = (1 << 20) - 1;
    for (caps, options, limit) in [(&gpu, &blocks, most), (&gpu, &budget, most), (&cpu, &blocks, 1 << 20)] {
        match Plan::new(&lstm(1), shape, caps, options) {
            Err(Error::Limit { needs, limit: named, unit: "blocks", .. }) => {
                assert_eq!((needs, named), (1 << 22, limit));
            }
            other => panic!("expected Error::Limit, got {:?}", other.err()),
        }
    }
}

/// T, lengths (one per sequence, each within 0..=T), layout, direction.
fn batches() -> impl Generate<Value = (usize, Vec<usize>, Layout, Direction)> {
    (1usize..12).prop_flat_map(|time| {
        let layout = prop_oneof![Just(Layout::TimeMajor), Just(Layout::BatchFirst)];
        let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse), Just(Direction::Bidirectional)];
        (Just(time), prop::collection::vec(0..=time, 1..10), layout, direction)
    })
}

proptest! {
    #[test]
    fn the_schedule_is_right_for_any_lengths((time, lengths, layout, direction) in batches()) {
        let batch = lengths.len();
        let config = RnnConfig { layout, direction, ..Default::default() };
        let s = Schedule::new(&config, Shape { time, batch }, Some(&lengths));

        let order: Vec<_> = (0..batch).map(|b| s.order(b)).collect();
        prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..batch).collect::<BTreeSet<_>>());
        for b in 0..batch {
            prop_assert_eq!(s.length(b), lengths[s.order(b)]);
            prop_assert!(b == 0 || s.length(b - 1) >= s.length(b));
        }
        let longest = *lengths.iter().max().expect("at least one sequence");
        prop_assert_eq!(s.steps(), longest);
        prop_assert_eq!(s.is_ragged(), lengths.iter().any(|&l| l != time));

        prop_assert_eq!(s.row_offset(0), 0);
        prop_assert_eq!(s.row_offset(time), lengths.iter().sum::<usize>());
        for step in 0..time {
            prop_assert_eq!(s.active(step), lengths.iter().filter(|&&l| l > step).count());
        }
        prop_assert_eq!(s.table().len(), 2 * batch + time + 1 + config.directions() * time * batch);

        let row_of = |t: usize, b: usize| match layout {
            Layout::TimeMajor => t * batch + b,
            Layout::BatchFirst => b * time + t,
        };
        let real: BTreeSet<_> = (0..batch).flat_map(|b| (0..lengths[b]).map(move |t| row_of(t, b))).collect();
        for d in 0..config.directions() {
            let reverse = direction == Direction::Reverse || d == 1;
            let rows = &s.rows(d)[..s.row_offset(time)];
            for step in 0..longest {
                for b in 0..s.active(step) {
                    let t = if reverse { s.length(b) - 1 - step } else { step };
                    prop_assert_eq!(rows[s.row_offset(step) + b] as usize, row_of(t, s.order(b)));
                }
            }
            let seen: BTreeSet<_> = rows.iter().map(|&r| r as usize).collect();
            prop_assert_eq!(rows.len(), seen.len());
            prop_assert_eq!(&seen, &real);
        }
    }

    #[test]
    fn no_lengths_is_all_of_full_length(time in 1usize..8, batch in 1usize..8) {
        let shape = Shape { time, batch };
        let config = RnnConfig { direction: Direction::Bidirectional, ..Default::default() };
        let full = vec![time; batch];
        let given = Schedule::new(&config, shape, Some(&full));
        prop_assert_eq!(Schedule::new(&config, shape, None), given);
    }

    #[test]
    fn blocks_cover_all_steps_for_any_sizes(
        time in 1usize..400, batch in 1usize..40, hidden in 1usize..80, layers in 1usize..4, max_block in 1usize..500,
        limit in 16u64..22, train: bool,
    ) {
        let c = RnnConfig { num_layers: layers, ..lstm(hidden) };
        let small = Caps { max_binding: 1 << limit, ..caps(DeviceClass::Gpu) };
        let options = Options { max_block: Some(max_block), train, ..Default::default() };
        match Plan::new(&c, Shape { time, batch }, &small, &options) {
            Ok(p) => {
                for layer in 0..layers {
                    assert_tiles(&blocks(&p, layer), time);
                }
                prop_assert!(p.block <= max_block);
                prop_assert!(p.slots.iter().all(|s| s.bytes() <= small.max_binding));
            }
            Err(e) => prop_assert!(matches!(e, Error::Limit { .. }), "{}", e),
        }
    }
}
