//! What a real GPU would run, run here: kernels and tiles chosen as for class `Gpu` (`Options::kernels`), whatever adapter there
//! is, held against those of a software rasteriser bit for bit.

mod harness;

use harness::*;
use wgpu_rnn::kernels::RPlace;
use wgpu_rnn::*;

/// A case's session with kernels as for a class, on as many workgroups as `busy` says keep the device busy: few of them make large
/// tiles, many small ones.
fn session(case: &Case, class: DeviceClass, busy: usize, options: &Options) -> Session {
    let options = Options { kernels: Some(class), resets: case.resets, ..options.clone() };
    let caps = Caps { parallel_groups: busy, ..gpu().caps() };
    let plan = Plan::new(&case.config, case.shape, &caps, &options).unwrap();
    assert_eq!(plan.tiles.shared, class == DeviceClass::Gpu);
    Session::from_plan(&gpu(), plan, &case.weights).unwrap()
}

const CLASSES: [DeviceClass; 2] = [DeviceClass::Gpu, DeviceClass::SoftwareGpu];

/// Forward and back with both kinds of kernels, over NaN-filled memory; the tiles of the GPU's.
fn assert_same_training(what: &str, case: &Case, busy: usize, options: &Options) -> kernels::Tiles {
    let options = Options { train: true, ..options.clone() };
    let mut sessions = CLASSES.map(|class| session(case, class, busy, &options));
    let [(out, gradients), (other_out, other)] = sessions.each_mut().map(|session| case.poisoned(session));
    assert_same(what, &out, &other_out);
    assert_same_gradients(what, &case.config, &gradients, &other);
    sessions[0].plan().tiles
}

/// The same of the forward pass alone.
fn assert_same_inference(what: &str, case: &Case, busy: usize, options: &Options) {
    let [out, other] = CLASSES.map(|class| {
        let mut session = session(case, class, busy, options);
        session.poison().unwrap();
        case.run_in(&mut session)
    });
    assert_same(what, &out, &other);
}

/// Both strategies over sizes that fit no tile, with large tiles and small ones, and sequences that end at different steps.
#[test]
fn the_same_bits_over_odd_sizes() {
    let mut seen = Vec::new();
    for (n, (input_size, hidden_size, strategy, busy)) in [
        (1, 3, Strategy::Sequence, 1),
        (3, 65, Strategy::Step, 1),
        (17, 63, Strategy::Sequence, 1),
        (63, 17, Strategy::Step, 1000),
        (65, 64, Strategy::Sequence, 1000),
        (64, 129, Strategy::Step, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let config = RnnConfig { input_size, hidden_size, direction: Direction::Bidirectional, ..Default::default() };
        let case = Case::new(config, 5, 9, n as u64).with_lengths(&[2, 5, 4, 5, 5, 5, 1, 5, 3]);
        let tiles = assert_same_training(&format!("I={input_size} H={hidden_size}"), &case, busy, &forced(strategy));
        assert_eq!(tiles.r == RPlace::Rows, strategy == Strategy::Sequence, "R of {hidden_size} units in registers");
        seen.push((tiles.tile, tiles.project.0, tiles.back_units));
    }
    assert!(seen.iter().any(|s| s.0 == 8) && seen.iter().any(|s| s.0 == 1), "{seen:?}");
    assert!(seen.iter().any(|s| s.1 == 8) && seen.iter().any(|s| s.1 == 4), "{seen:?}");
    assert!(seen.iter().any(|s| s.2 == 2), "{seen:?}");
}

/// Rows of whole vec4s, which software rasterisers load as such, of sizes that fit no tile; stages with operands of their own.
#[test]
fn the_same_bits_in_fours() {
    for (cell, proj_size, input_size, hidden_size, strategy) in [
        (&cells::LSTM, 0, 4, 20, Strategy::Sequence),
        (&cells::LSTM, 12, 68, 36, Strategy::Step),
        (&cells::GRU_RESET_BEFORE, 0, 20, 8, Strategy::Step),
    ] {
        let direction = Direction::Bidirectional;
        let config = RnnConfig { cell, proj_size, input_size, hidden_size, direction, ..Default::default() };
        let case = Case::new(config, 5, 9, 23).with_lengths(&[2, 5, 4, 5, 5, 5, 1, 5, 3]);
        let options = Options { train: true, ..forced(strategy) };
        assert!(session(&case, DeviceClass::SoftwareGpu, 1, &options).plan().tiles.fours);
        assert_same_training(
            &format!("{} P={proj_size} I={input_size} H={hidden_size}", cell.name),
            &case,
            1,
            &options,
        );
    }
}

/// Software rasterisers, lanes of a subgroup loading together or each by itself, R in registers or not: sizes and batches that lanes
/// share evenly, and such that they do not.
#[test]
fn the_same_bits_whoever_loads() {
    let mut seen = Vec::new();
    for (n, (cell, hidden_size, batch, strategy)) in [
        (&cells::LSTM, 64, 1, Strategy::Sequence),
        (&cells::LSTM, 36, 3, Strategy::Sequence),
        (&cells::GRU, 40, 9, Strategy::Sequence),
        (&cells::GRU, 30, 4, Strategy::Sequence),
        (&cells::GRU_RESET_BEFORE, 33, 2, Strategy::Sequence),
        (&cells::LSTM, 64, 9, Strategy::Step),
        (&cells::LSTM, 36, 2, Strategy::Step),
        (&cells::GRU, 35, 1, Strategy::Step),
        (&cells::LSTM_LAYER_NORM, 20, 3, Strategy::Sequence),
    ]
    .into_iter()
    .enumerate()
    {
        let config = RnnConfig { cell, input_size: hidden_size, hidden_size, ..Default::default() };
        let lengths: Vec<usize> = (0..batch).map(|b| 5 - b % 4).collect();
        let case = Case::new(config, 5, batch, 40 + n as u64).with_lengths(&lengths);
        let mut results = Vec::new();
        for subgroup in [1, gpu().caps().subgroup] {
            let options = Options { train: true, ..forced(strategy) };
            let caps = Caps { subgroup, parallel_groups: 1, ..gpu().caps() };
            let options = Options { kernels: Some(DeviceClass::SoftwareGpu), ..options };
            let plan = Plan::new(&case.config, case.shape, &caps, &options).unwrap();
            seen.push((plan.tiles.lanes, plan.tiles.r, plan.tiles.tile));
            results.push(case.poisoned(&mut Session::from_plan(&gpu(), plan, &case.weights).unwrap()));
        }
        let what = format!("{} H={hidden_size} B={batch} {strategy}", cell.name);
        assert_same(&what, &results[0].0, &results[1].0);
        assert_same_gradients(&what, &case.config, &results[0].1, &results[1].1);
        assert_same_training(&what, &case, 1, &forced(strategy));
    }
    assert!(seen.iter().any(|s| s.1 == RPlace::Units) && seen.iter().any(|s| s.1 == RPlace::Cache), "{seen:?}");
    assert!(seen.iter().any(|s| s.2 == 8) && seen.iter().any(|s| s.2 == 1), "{seen:?}");
    assert_eq!(seen.iter().any(|s| s.0), gpu().caps().subgroup == 8, "{seen:?}");
}

/// Every cell, projections and heads of block-diagonal recurrences included.
#[test]
fn the_same_bits_with_every_cell() {
    let mut rows = 0;
    // Beside the typical cells one of a single stage: those keep R in registers.
    let mut cells = gpu_cells(5);
    cells.extend((!everything()).then_some((&cells::GRU, 0)));
    for (cell, proj_size) in cells {
        for (strategy, recurrence) in [
            (Strategy::Step, Recurrence::Dense),
            (Strategy::Sequence, Recurrence::Dense),
            (Strategy::Step, Recurrence::Diagonal),
        ] {
            let config = RnnConfig { cell, input_size: 5, hidden_size: 9, proj_size, recurrence, ..Default::default() };
            if config.validate().is_err() {
                continue;
            }
            let case = Case::new(config, 3, 2, 11).with_lengths(&[2, 3]);
            let what = format!("{} P={proj_size} {recurrence} {strategy}", cell.name);
            rows += usize::from(assert_same_training(&what, &case, 1000, &forced(strategy)).r == RPlace::Rows);
        }
    }
    assert!(rows >= if everything() { 4 } else { 1 }, "cells of one stage keep R in registers: {rows}");
}

/// The gradient of W is summed in blocks of 64 steps: three of them, cut into stretches, with lengths that end inside a block.
#[test]
fn the_same_bits_over_several_blocks_of_steps() {
    for (input_size, hidden_size) in [(5, 6), (4, 8)] {
        let config = RnnConfig { cell: &cells::GRU, input_size, hidden_size, ..Default::default() };
        let case = Case::new(config, 130, 3, 5).with_lengths(&[130, 70, 3]);
        for max_block in [None, Some(40)] {
            let options = Options { max_block, ..forced(Strategy::Sequence) };
            assert_same_training(&format!("H={hidden_size}, blocks of {max_block:?}"), &case, 1, &options);
        }
        let options = Options { memory: Memory::Checkpoint(64), ..forced(Strategy::Sequence) };
        assert_same_training(&format!("H={hidden_size}, checkpoints"), &case, 1, &options);
        let options = Options { accumulate: true, ..forced(Strategy::Step) };
        assert_same_training(&format!("H={hidden_size}, sums that add up"), &case, 1, &options);
    }
}

/// Lanes that share a unit of a large layer add in an order of their own: within the calibrated bound of the truth, and the same bits
/// whatever the batch, however few sequences a workgroup has, and with layers side by side.
#[test]
fn shared_units_are_exact_enough_and_independent_of_the_batch() {
    for (cell, weights) in [(&cells::LSTM, WeightFormat::F32), (&cells::GRU, WeightFormat::Int8)] {
        let config = RnnConfig { cell, input_size: 3, hidden_size: 262, num_layers: 2, ..Default::default() };
        let case = Case::new(config, 3, 9, 17).with_lengths(&[2, 3, 1, 3, 3, 3, 1, 3, 2]);
        let options = Options { weights, ..forced(Strategy::Step) };
        let run = |case: &Case, busy, options: &Options| {
            let mut session = session(case, DeviceClass::Gpu, busy, options);
            session.poison().unwrap();
            (case.run_in(&mut session), session.plan().tiles)
        };
        let (out, tiles) = run(&case, 1, &options);
        assert_eq!((tiles.split, tiles.tile), (4, 8), "{}", cell.name);
        let (small, tiles) = run(&case, 1000, &options);
        assert_eq!((tiles.split, tiles.tile), (4, 1), "{}", cell.name);
        assert_same(cell.name, &out, &small);
        let waves = Options { wavefront: Wavefront::Chunk(2), ..options.clone() };
        assert_same(cell.name, &out, &run(&case, 1, &waves).0);
        for b in [0, 3, 6] {
            let alone = run(&case.alone(b), 1, &options).0;
            assert_eq!(bits(&alone.y.data), bits(&sequence(&out.y.data, 9, 262, b)), "{} alone", cell.name);
        }
        let mut whole = session(&case, DeviceClass::SoftwareGpu, 1, &options);
        let other = case.run_in(&mut whole);
        assert_ne!(bits(&other.y.data), bits(&out.y.data), "{}: another order of additions", cell.name);
        if weights == WeightFormat::F32 {
            let plan = Plan::new(
                &case.config,
                case.shape,
                &gpu().caps(),
                &Options { kernels: Some(DeviceClass::Gpu), ..options },
            )
            .unwrap();
            let mut session = Session::from_plan(&gpu(), plan.clone(), &case.weights).unwrap();
            let check =
                wgpu_rnn_verify::check(&mut session, &case.weights, &wgpu_rnn_verify::Numbers::random(&plan, 5))
                    .unwrap();
            assert!(check.passed(), "{check:?}");
        }
    }
}

/// Weights in fewer bits, x and y in 16 bits, and episodes that begin inside a run.
#[test]
fn the_same_bits_in_every_format() {
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let config = RnnConfig { input_size: 10, hidden_size: 13, ..Default::default() };
        let case = Case::new(config, 3, 3, 3);
        for weights in [WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Int8] {
            let what = format!("{weights} {strategy}");
            assert_same_inference(&what, &case, 1000, &Options { weights, ..forced(strategy) });
        }
        let options = Options { weights: WeightFormat::F16, ..forced(strategy) };
        assert_same_training(&format!("f16 {strategy}"), &case, 1000, &options);
        if gpu().caps().f16 {
            let options = Options { activations: ActivationFormat::F16, ..forced(strategy) };
            assert_same_inference(&format!("f16 activations {strategy}"), &case, 1000, &options);
        }
        let case = case.with_resets(Reset::Initial, &[(2, 1), (1, 2)]);
        assert_same_training(&format!("episodes {strategy}"), &case, 1000, &forced(strategy));
    }
}

/// A first layer without W: the gradient of its bias alone.
#[test]
fn the_same_bits_without_w() {
    let config =
        RnnConfig { input_size: 11, hidden_size: 11, input: InputMode::Skip, num_layers: 2, ..Default::default() };
    assert_same_training("skipped input", &Case::new(config, 3, 2, 9), 1000, &forced(Strategy::Step));
}

/// What belongs to one class of GPUs is no choice for the CPU executor.
#[test]
fn kernels_of_gpus_are_refused_on_the_cpu() {
    let config = RnnConfig { input_size: 2, hidden_size: 3, ..Default::default() };
    let refused = |caps: &Caps, kernels| {
        let options = Options { kernels: Some(kernels), ..Default::default() };
        let plan = Plan::new(&config, Shape { time: 2, batch: 1 }, caps, &options);
        assert!(matches!(plan, Err(Error::Unsupported { .. })), "{plan:?}");
    };
    refused(&Device::cpu().caps(), DeviceClass::Gpu);
    refused(&gpu().caps(), DeviceClass::Cpu);
}
