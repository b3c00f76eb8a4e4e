//! Sequences of length 0: a batch with some gives the others the bits of the batch without them, there and back.

mod harness;

use harness::*;
use wgpu_rnn::*;

/// Sequences 1, 3 and 5 are not there.
const LENGTHS: [usize; 6] = [5, 0, 2, 0, 7, 0];
const TIME: usize = 7;

fn there(lengths: &[usize]) -> Vec<usize> {
    (0..lengths.len()).filter(|&b| lengths[b] > 0).collect()
}

/// Columns `rows` of the dimension B of `[outer, B, width]`.
fn pick<T: Copy>(v: &[T], batch: usize, width: usize, rows: &[usize]) -> Vec<T> {
    let of = |at: &[T]| rows.iter().flat_map(|&b| at[b * width..][..width].to_vec()).collect::<Vec<_>>();
    v.chunks_exact((batch * width).max(1)).flat_map(of).collect()
}

/// The case without the sequences of length 0.
fn without(case: &Case) -> Case {
    let (lengths, batch) = (case.lengths.clone().unwrap(), case.shape.batch);
    let rows = there(&lengths);
    let (h, c) = (case.config.state_size(), case.config.cell_size());
    // With the batch first a sequence's steps are one row.
    let steps = if case.config.layout == Layout::BatchFirst { case.shape.time } else { 1 };
    Case {
        shape: Shape { batch: rows.len(), ..case.shape },
        x: pick(&case.x, batch, steps * case.config.input_size, &rows),
        lengths: Some(rows.iter().map(|&b| lengths[b]).collect()),
        h0: pick(&case.h0, batch, h, &rows),
        c0: pick(&case.c0, batch, c, &rows),
        dy: pick(&case.dy, batch, steps * case.config.output_size(), &rows),
        dhn: pick(&case.dhn, batch, h, &rows),
        dcn: pick(&case.dcn, batch, c, &rows),
        flags: if case.flags.is_empty() { Vec::new() } else { pick(&case.flags, batch, steps, &rows) },
        ..case.clone()
    }
}

/// Holds what a batch gave for one kind of tensor against the batch without the sequences of length 0, and the rows of those
/// against `absent`.
fn hold(what: &str, case: &Case, (got, expected): (&[f32], &[f32]), width: usize, absent: Option<&[f32]>) {
    let (lengths, batch) = (case.lengths.clone().unwrap(), case.shape.batch);
    let rows = there(&lengths);
    let gone: Vec<usize> = (0..batch).filter(|b| !rows.contains(b)).collect();
    assert_eq!(bits(&pick(got, batch, width, &rows)), bits(expected), "{what}");
    let left = pick(got, batch, width, &gone);
    match absent {
        Some(states) => assert_eq!(bits(&left), bits(&pick(states, batch, width, &gone)), "{what}: absent"),
        None => assert!(left.iter().all(|v| v.to_bits() == 0), "{what}: absent sequences have {left:?}"),
    }
}

/// Forward and back, both ways that absent sequences may end.
fn hold_training(what: &str, case: &Case, device: &Device, options: &Options) {
    let few = without(case);
    let of = |case: &Case, empty| case.poisoned(&mut case.training(device, Options { empty, ..options.clone() }));
    let (small_out, small) = of(&few, Empty::Zero);
    let steps = if case.config.layout == Layout::BatchFirst { case.shape.time } else { 1 };
    let (p, c) = (case.config.state_size(), case.config.cell_size());
    for empty in [Empty::Zero, Empty::Initial] {
        let what = format!("{what} {empty:?}");
        let (out, gradients) = of(case, empty);
        let keep = |v: &'static str| format!("{what}: {v}");
        let initial = |v: &'_ [f32]| (empty == Empty::Initial).then(|| v.to_vec());
        hold(&keep("y"), case, (&out.y.data, &small_out.y.data), steps * case.config.output_size(), None);
        hold(&keep("hn"), case, (&out.hn.data, &small_out.hn.data), p, initial(&case.h0).as_deref());
        hold(&keep("dx"), case, (&gradients.x.data, &small.x.data), steps * case.config.input_size, None);
        hold(&keep("dh0"), case, (&gradients.h0.data, &small.h0.data), p, initial(&case.dhn).as_deref());
        if let (Some(cn), Some(dc0)) = (&out.cn, &gradients.c0) {
            hold(&keep("cn"), case, (&cn.data, &small_out.cn.as_ref().unwrap().data), c, initial(&case.c0).as_deref());
            hold(&keep("dc0"), case, (&dc0.data, &small.c0.as_ref().unwrap().data), c, initial(&case.dcn).as_deref());
        }
        for ((p, a), (_, b)) in gradients.weights.named(&case.config).zip(small.weights.named(&case.config)) {
            assert_eq!(bits(a), bits(b), "{what}: gradient of {}", p.name);
        }
    }
}

fn config(cell: &'static Cell, proj_size: usize) -> RnnConfig {
    RnnConfig { cell, input_size: 3, hidden_size: 6, proj_size, num_layers: 2, ..Default::default() }
}

#[test]
fn every_cell_leaves_them_out_on_the_cpu() {
    for (n, (cell, proj_size)) in cells_and_projections(2).into_iter().enumerate() {
        let direction = [Direction::Forward, Direction::Reverse, Direction::Bidirectional][n % 3];
        let layout = [Layout::TimeMajor, Layout::BatchFirst][n % 2];
        let config = RnnConfig { direction, layout, ..config(cell, proj_size) };
        let case = Case::new(config, TIME, 6, n as u64).with_lengths(&LENGTHS);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            for memory in [Memory::Save, Memory::Recompute] {
                let what = format!("{} {proj_size} {direction:?} {strategy} {memory}", cell.name);
                hold_training(&what, &case, &Device::cpu(), &Options { memory, ..forced(strategy) });
            }
        }
    }
}

#[test]
fn a_gpu_leaves_them_out() {
    let config = RnnConfig { direction: Direction::Bidirectional, ..config(&cells::LSTM, 2) };
    let case = Case::new(config, TIME, 6, 11).with_lengths(&LENGTHS);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        hold_training(&format!("gpu {strategy}"), &case, &gpu(), &forced(strategy));
    }
    // Layers side by side, an odd number of steps apart, and episodes over several segments.
    let deep = RnnConfig { num_layers: 3, direction: Direction::Forward, ..case.config.clone() };
    let wave = Options { wavefront: Wavefront::Chunk(1), ..forced(Strategy::Step) };
    hold_training("gpu wave", &Case::new(deep, TIME, 6, 4).with_lengths(&LENGTHS), &gpu(), &wave);
    let long = Case::new(RnnConfig::gru(3, 6), 130, 4, 3).with_lengths(&[0, 130, 0, 66]);
    let long = long.with_resets(Reset::Initial, &[(0, 1), (70, 1), (65, 3), (5, 0)]);
    let segments = Options { memory: Memory::Checkpoint(64), ..forced(Strategy::Sequence) };
    hold_training("gpu segments", &long, &gpu(), &segments);
    // Every dispatch gives what its twin gives.
    for empty in [Empty::Zero, Empty::Initial] {
        let traces = [Device::cpu(), gpu()].map(|device| {
            let mut session: Session = case.training(&device, Options { empty, ..forced(Strategy::Step) });
            session.poison().unwrap();
            let mut trace = case.with_input(|input| session.trace(input).unwrap());
            trace.extend(case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap()));
            trace
        });
        assert_eq!(first_difference(&traces[0], &traces[1], 1e-4), None, "{empty:?}");
    }
}

#[test]
fn segments_waves_and_episodes_leave_them_out() {
    for (cell, proj_size) in [(&cells::LSTM, 0), (&cells::GRU, 0), (&cells::LSTM_LAYER_NORM, 3)] {
        let name = cell.name;
        // Several segments.
        let lengths = [130, 0, 64, 0, 1];
        let long = Case::new(RnnConfig { num_layers: 1, ..config(cell, proj_size) }, 130, 5, 3).with_lengths(&lengths);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let options = Options { memory: Memory::Checkpoint(64), max_block: Some(33), ..forced(strategy) };
            hold_training(&format!("{name} {strategy} checkpoints"), &long, &Device::cpu(), &options);
            for chunk in [1, 2, 3] {
                let deep = RnnConfig { num_layers: 3, ..config(cell, proj_size) };
                let case = Case::new(deep, TIME, 6, 4).with_lengths(&LENGTHS);
                let options = Options { wavefront: Wavefront::Chunk(chunk), ..forced(strategy) };
                hold_training(&format!("{name} {strategy} wave {chunk}"), &case, &Device::cpu(), &options);
            }
            for reset in [Reset::Zero, Reset::Initial] {
                for direction in [Direction::Forward, Direction::Bidirectional] {
                    let config = RnnConfig { direction, ..config(cell, proj_size) };
                    let case = Case::new(config, TIME, 6, 5).with_lengths(&LENGTHS);
                    // Flags of absent sequences and past an end say nothing.
                    let case =
                        case.with_resets(reset, &[(0, 0), (3, 0), (1, 2), (5, 2), (4, 4), (6, 4), (0, 1), (2, 5)]);
                    let what = format!("{name} {strategy} {reset:?} {direction:?}");
                    hold_training(&what, &case, &Device::cpu(), &forced(strategy));
                }
            }
        }
    }
}

/// Masks are drawn by the caller's index: the absent come last here.
#[test]
fn dropout_and_zoneout_leave_them_out() {
    let dropout = Dropout { layers: 0.3, input: 0.2, recurrent: 0.25 };
    let zoneout = Zoneout { hidden: 0.2, cell: 0.3 };
    let config = RnnConfig { dropout, zoneout, ..config(&cells::LSTM, 0) };
    let mut case = Case::new(config, TIME, 5, 6).with_lengths(&[3, 7, 1, 0, 0]);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        hold_training(&format!("dropped {strategy}"), &case, &Device::cpu(), &forced(strategy));
    }
    case.lengths = Some(vec![0; 5]);
    let (out, _) = case.train(&Device::cpu(), Strategy::Sequence);
    assert!(out.hn.data.iter().all(|&v| v == 0.0));
}

#[test]
fn a_batch_of_none_runs() {
    let config = RnnConfig { direction: Direction::Bidirectional, ..config(&cells::LSTM, 2) };
    let none = Case::new(config, TIME, 6, 11).with_lengths(&[0; 6]);
    let deep = RnnConfig { num_layers: 3, ..none.config.clone() };
    let deep = RnnConfig { direction: Direction::Forward, ..deep };
    let deep = Case::new(deep, TIME, 6, 12).with_lengths(&[0; 6]);
    for (device, strategy) in executors() {
        let gpu = device.kind() != "cpu";
        let waves = Options { wavefront: Wavefront::Chunk(1), ..forced(strategy) };
        let runs = [(&none, forced(strategy)), (&deep, waves)];
        for (case, options) in runs.into_iter().take(if gpu { 1 } else { 2 }) {
            for empty in [Empty::Zero, Empty::Initial] {
                let options = Options { empty, ..options.clone() };
                let (out, gradients) = case.poisoned(&mut case.training(&device, options));
                assert!(out.y.data.iter().chain(&gradients.x.data).all(|v| v.to_bits() == 0));
                let expected = |v: &[f32]| if empty == Empty::Zero { vec![0.0; v.len()] } else { v.to_vec() };
                assert_eq!((bits(&out.hn.data), bits(&gradients.h0.data)), {
                    (bits(&expected(&case.h0)), bits(&expected(&case.dhn)))
                });
                assert_eq!(bits(&out.cn.unwrap().data), bits(&expected(&case.c0)));
                assert_eq!(bits(&gradients.c0.unwrap().data), bits(&expected(&case.dcn)));
                let zeros = |w: &[f32]| w.iter().all(|&v| v == 0.0);
                assert!(gradients.weights.named(&case.config).all(|(_, w)| zeros(w)));
            }
        }
    }
}

/// Ids, targets and their weights of absent sequences may be anything, and do not count.
#[test]
fn ends_do_not_count_them() {
    let head = Some(Head { size: 4, loss: Some(Loss::CrossEntropy) });
    let config = RnnConfig { vocabulary: Some(9), head, ..config(&cells::GRU, 0) };
    let weights = Weights::<f32>::random(&config, 3).unwrap();
    let rows = there(&LENGTHS);
    let (t, b) = (TIME, LENGTHS.len());
    let shape = [t, b];
    let mut ids: Vec<u32> = (0..t * b).map(|n| (n * 5 % 9) as u32).collect();
    let mut classes: Vec<u32> = (0..t * b).map(|n| (n * 7 % 4) as u32).collect();
    for row in (0..t * b).filter(|row| LENGTHS[row % b] == 0) {
        (ids[row], classes[row]) = (77, 88);
    }
    let lengths: Vec<usize> = rows.iter().map(|&b| LENGTHS[b]).collect();
    for device in [Device::cpu(), gpu()] {
        let run = |ids: &[u32], classes: &[u32], lengths: &[usize]| {
            let shape = [t, lengths.len()];
            let options = Options { train: true, ..forced(Strategy::Sequence) };
            let plan = Plan::new(&config, Shape { time: t, batch: shape[1] }, &device.caps(), &options).unwrap();
            let mut session = Session::from_plan(&device, plan, &weights).unwrap();
            let ids = Input { lengths: Some(lengths), ..Input::of_ids(View::new(ids, &shape)) };
            session.write(&ids).unwrap();
            session.write_targets(&Targets::classes(View::new(classes, &shape))).unwrap();
            session.run().unwrap();
            let (loss, logits) = (session.loss().unwrap(), session.predictions().unwrap());
            (loss, logits, session.run_backward().unwrap())
        };
        let (loss, logits, gradients) = run(&ids, &classes, &LENGTHS);
        let (ids, classes) = (pick(&ids, b, 1, &rows), pick(&classes, b, 1, &rows));
        let (expected, few, small) = run(&ids, &classes, &lengths);
        assert_eq!(loss.to_bits(), expected.to_bits());
        assert_eq!(pick(&logits.data, b, 4, &rows), few.data);
        assert_eq!(logits.data.iter().filter(|&&v| v != 0.0).count(), lengths.iter().sum::<usize>() * 4);
        for ((p, a), (_, b)) in gradients.named(&config).zip(small.named(&config)) {
            assert_eq!(bits(a), bits(b), "gradient of {}", p.name);
        }
    }
    // Where nothing counts, there is no mean.
    let mut session = Session::new(&Device::cpu(), &config, Shape { time: t, batch: b }, &weights).unwrap();
    session.write(&Input { lengths: Some(&[0; 6]), ..Input::of_ids(View::new(&ids, &shape)) }).unwrap();
    let refused = session.write_targets(&Targets::classes(View::new(&classes, &shape))).unwrap_err().to_string();
    assert!(refused.starts_with("target weights: expected a positive, finite sum"), "{refused}");
    session.run().unwrap();
    assert!(session.predictions().unwrap().data.iter().all(|&v| v == 0.0));
}

/// A state that is carried past an absent sequence is forgotten or kept; lengths set after an input see its states.
#[test]
fn carried_states_are_forgotten_or_kept() {
    let case = Case::new(config(&cells::LSTM, 0), 2, 3, 9).with_lengths(&[2, 0, 1]);
    let (h, c) = (case.config.state_size(), case.config.cell_size());
    for device in [Device::cpu(), gpu()] {
        for empty in [Empty::Zero, Empty::Initial] {
            let options = Options { empty, ..forced(Strategy::Sequence) };
            let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
            let mut session = Session::from_plan(&device, plan, &case.weights).unwrap();
            case.run_in(&mut session);
            let x = case.x_shape();
            let next = Input { initial: Initial::Carry, ..Input::new(View::new(&case.x, &x)) };
            let out = session.forward(&next).unwrap();
            let mut alone = case.alone(1);
            alone.lengths = None;
            if empty == Empty::Zero {
                alone.h0.fill(0.0);
                alone.c0.fill(0.0);
            }
            let expected = alone.run(&device, Strategy::Sequence);
            assert_eq!(bits(&sequence(&out.hn.data, 3, h, 1)), bits(&expected.hn.data), "{empty:?}");
            assert_eq!(bits(&sequence(&out.cn.unwrap().data, 3, c, 1)), bits(&expected.cn.unwrap().data), "{empty:?}");
            // The input stays as it was written.
            case.with_input(|input| session.write(input)).unwrap();
            session.set_lengths(None).unwrap();
            session.run().unwrap();
            let whole = Case { lengths: None, ..case.clone() };
            assert_same("set_lengths", &session.output().unwrap(), &whole.run(&device, Strategy::Sequence));
        }
    }
}

/// The caller's own buffers are cleared, too.
#[test]
fn bound_buffers_are_cleared() {
    let case = Case::new(config(&cells::LSTM, 0), 2, 3, 9).with_lengths(&[2, 0, 1]);
    let expected = case.run(&gpu(), Strategy::Sequence);
    let mut session = case.session(&gpu(), Strategy::Sequence, None);
    case.with_input(|input| session.write(input)).unwrap();
    let (device, queue) = gpu().wgpu().map(|(d, q)| (d.clone(), q.clone())).unwrap();
    let buffer = |usage| {
        let (label, size) = (None, 4 * expected.hn.data.len() as u64);
        device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    };
    let copied = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let hn = buffer(wgpu::BufferUsages::STORAGE | copied);
    let io = session.bind(&IoBuffers { hn: Some(&hn), ..Default::default() }).unwrap();
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    session.encode(&mut encoder, &io).unwrap();
    let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    encoder.copy_buffer_to_buffer(&hn, 0, &read, 0, read.size());
    queue.submit([encoder.finish()]);
    read.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let got: Vec<f32> = bytemuck::pod_collect_to_vec(&read.get_mapped_range(..).unwrap());
    assert_eq!(bits(&got), bits(&expected.hn.data));
}
