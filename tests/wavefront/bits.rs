//! Every chunk gives the bits of layers one after the other, on both executors.

use super::harness::*;
use super::options;
use wgpu_rnn::*;

/// Fewer steps than a wave, as many as several, and one that fits neither.
const CHUNKS: [usize; 3] = [1, 4, 16];

fn session(case: &Case, device: &Device, strategy: Strategy, wavefront: Wavefront) -> Session {
    let options = Options { resets: case.resets, ..options(strategy, wavefront) };
    let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
    assert_eq!(plan.chunk.is_some(), matches!(wavefront, Wavefront::Chunk(_)), "{plan}");
    Session::from_plan(device, plan, &case.weights).unwrap()
}

fn run(case: &Case, device: &Device, strategy: Strategy, wavefront: Wavefront) -> Output<f32> {
    let mut session = session(case, device, strategy, wavefront);
    session.poison().unwrap();
    case.run_in(&mut session)
}

fn train(case: &Case, device: &Device, strategy: Strategy, wavefront: Wavefront) -> (Output<f32>, Gradients<f32>) {
    case.poisoned(&mut case.training(device, options(strategy, wavefront)))
}

/// A stack whose sequences end at steps of all sorts, read forwards or backwards.
fn stack(cell: &'static Cell, proj_size: usize, num_layers: usize, direction: Direction) -> Case {
    let sizes = RnnConfig { cell, input_size: 3, hidden_size: 5, num_layers, direction, ..Default::default() };
    Case::new(RnnConfig { proj_size, ..sizes }, 11, 3, 31).with_lengths(&[4, 10, 7])
}

/// Holds every chunk to the schedule without waves, forward and in training.
pub fn assert_same_bits(what: &str, case: &Case, device: &Device, strategy: Strategy, chunks: &[usize]) {
    let what = format!("{what} on {} with {strategy}", device.kind());
    let plain = run(case, device, strategy, Wavefront::Off);
    let trained = train(case, device, strategy, Wavefront::Off);
    for &chunk in chunks {
        let what = format!("{what}, chunks of {chunk}");
        assert_same(&what, &plain, &run(case, device, strategy, Wavefront::Chunk(chunk)));
        let (out, gradients) = train(case, device, strategy, Wavefront::Chunk(chunk));
        assert_same(&format!("{what}, training"), &trained.0, &out);
        assert_same_gradients(&what, &case.config, &trained.1, &gradients);
    }
}

#[test]
fn every_cell_has_the_bits_of_layers_one_after_the_other() {
    for (n, (cell, proj_size)) in cells_and_projections(4).into_iter().enumerate() {
        let direction = [Direction::Forward, Direction::Reverse][n % 2];
        let case = stack(cell, proj_size, 2 + n % 3, direction);
        for (device, strategy) in executors_for(cell, proj_size) {
            assert_same_bits(&format!("{} P={proj_size}", cell.name), &case, &device, strategy, &CHUNKS);
        }
    }
}

/// Several workgroups per layer, sequences of one step, and batches that tiles do not fit.
#[test]
fn wide_layers_and_short_sequences_keep_their_bits() {
    for (cell, direction) in [(&cells::LSTM, Direction::Reverse), (&cells::GRU, Direction::Forward)] {
        let sizes = RnnConfig { cell, input_size: 8, hidden_size: 65, num_layers: 3, direction, ..Default::default() };
        let case = Case::new(sizes, 6, 9, 32).with_lengths(&[1, 6, 2, 5, 1, 6, 3, 3, 4]);
        for (device, strategy) in executors() {
            assert_same_bits(cell.name, &case, &device, strategy, &[2, 5]);
        }
    }
}

/// Both executors walk the same waves over the same slots.
#[test]
fn executors_agree_after_every_dispatch() {
    const TOLERANCE: f32 = 25.0 * 8.0 * f32::EPSILON;
    for (cell, proj_size) in gpu_cells(4) {
        let case = stack(cell, proj_size, 3, Direction::Forward);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let trace = |device: &Device| {
                let options = Options { max_block: Some(4), ..options(strategy, Wavefront::Chunk(4)) };
                let mut session = case.training::<f32>(device, options);
                session.poison().unwrap();
                let forward = case.with_input(|input| session.trace(input).unwrap());
                let backward = case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap());
                [forward, backward]
            };
            for (cpu, gpu) in trace(&Device::cpu()).iter().zip(&trace(&gpu())) {
                let found = first_difference(cpu, gpu, TOLERANCE);
                assert_eq!(found, None, "{} P={proj_size} {strategy}", cell.name);
            }
        }
    }
}
