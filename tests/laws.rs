//! The laws that hold bit for bit, within one strategy, on both executors, for every cell of the registry.

mod harness;

use harness::*;
use wgpu_rnn::*;

fn config(cell: &'static Cell, direction: Direction) -> RnnConfig {
    RnnConfig { cell, input_size: 5, hidden_size: 17, num_layers: 2, direction, ..Default::default() }
}

/// Runs `law` for every cell, executor and strategy.
fn for_all(law: impl Fn(&str, &'static Cell, &Device, Strategy)) {
    for cell in cells::ALL {
        for (device, strategy) in executors_for(cell, usize::from(cell == &cells::LSTM)) {
            law(&format!("{} on {} with {strategy}", cell.name, device.kind()), cell, &device, strategy);
        }
    }
}

/// A sequence's result does not depend on its batch neighbours, nor on the batch size.
#[test]
fn batch_neighbours_do_not_matter() {
    for_all(|what, cell, device, strategy| {
        let case = Case::new(config(cell, Direction::Bidirectional), 6, 11, 1);
        let case = case.with_lengths(&[3, 6, 1, 6, 2, 5, 5, 4, 6, 1, 3]);
        let all = case.run(device, strategy);
        for b in [0, 1, 2, 10] {
            let alone = case.alone(b).run(device, strategy);
            let what = format!("{what}, sequence {b}");
            let (p, c_width) = (case.config.state_size(), case.config.cell_size());
            assert_eq!(bits(&alone.y.data), bits(&sequence(&all.y.data, 11, 2 * p, b)), "{what}: y");
            assert_eq!(bits(&alone.hn.data), bits(&sequence(&all.hn.data, 11, p, b)), "{what}: hn");
            if let (Some(a), Some(c)) = (&alone.cn, &all.cn) {
                assert_eq!(bits(&a.data), bits(&sequence(&c.data, 11, c_width, b)), "{what}: cn");
            }
        }
    });
}

/// The same for the input product at depths where the `gemm` crate would change its order of additions with the row count.
#[test]
fn deep_inputs_do_not_depend_on_the_batch() {
    for input_size in [1, 2, 600, 1100] {
        for hidden_size in [1, 3, 65] {
            let config = RnnConfig { cell: &cells::RNN_TANH, input_size, hidden_size, ..Default::default() };
            let case = Case::new(config, 2, 70, 7);
            for device in [Device::cpu(), gpu()] {
                let all = case.run(&device, Strategy::Sequence);
                let alone = case.alone(69).run(&device, Strategy::Sequence);
                let ours = sequence(&all.y.data, 70, hidden_size, 69);
                assert_eq!(bits(&alone.y.data), bits(&ours), "I = {input_size}, H = {hidden_size}, {}", device.kind());
            }
        }
    }
}

/// Two runs, and a run in a session that ran something else before, give the same bits.
#[test]
fn runs_repeat() {
    for_all(|what, cell, device, strategy| {
        let case = Case::new(config(cell, Direction::Bidirectional), 5, 3, 2).with_lengths(&[2, 5, 4]);
        let other = Case { lengths: None, ..Case::new(case.config.clone(), 5, 3, 77) };
        let mut session = case.session(device, strategy, None);
        let first = case.run_in(&mut session);
        other.run_in(&mut session);
        assert_same(what, &first, &case.run_in(&mut session));
        assert_same(what, &first, &case.run(device, strategy));
    });
}

/// T steps at once, in two pieces with the state handed over, and one by one with the state carried on the device.
#[test]
fn split_and_streamed_equal_whole() {
    for_all(|what, cell, device, strategy| {
        let case = Case::new(config(cell, Direction::Forward), 7, 3, 3);
        let whole = case.run(device, strategy);
        let mut y = Vec::new();
        let mut part = case.clone();
        for range in [0..3, 3..7] {
            part.shape.time = range.len();
            part.x = case.x[range.start * 15..range.end * 15].to_vec();
            let out = part.run(device, strategy);
            y.extend(out.y.data);
            part.h0 = out.hn.data;
            part.c0 = out.cn.map_or(part.c0, |c| c.data);
        }
        assert_eq!(bits(&y), bits(&whole.y.data), "{what}: split");
        assert_eq!(bits(&part.h0), bits(&whole.hn.data), "{what}: split");

        streamed_equals(what, &case, &whole, &mut {
            let one = Case { shape: Shape { time: 1, batch: 3 }, ..case.clone() };
            one.session(device, strategy, None)
        });
    });
}

/// Steps one by one, twice: after a run with the state given, and after `set_state`, which replaces what there is to carry.
fn streamed_equals(what: &str, case: &Case, whole: &Output<f32>, session: &mut Session) {
    let [h, c] = case.state_shapes();
    for set in [false, true] {
        let mut last = None;
        if set {
            let c0 = case.config.cell.has_cell_state().then(|| View::new(&case.c0[..], &c));
            session.set_state(View::new(&case.h0, &h), c0).unwrap();
        }
        for t in 0..7 {
            let one = Case { shape: Shape { time: 1, batch: 3 }, x: case.x[t * 15..][..15].to_vec(), ..case.clone() };
            let shape = one.x_shape();
            let given = t == 0 && !set;
            let out = if given { one.run_in(session) } else { session.step(View::new(&one.x, &shape)).unwrap() };
            assert_eq!(bits(&out.y.data), bits(&whole.y.data[t * 51..][..51]), "{what}: step {t}, set_state {set}");
            last = Some(out);
        }
        let last = last.unwrap();
        assert_eq!(bits(&last.hn.data), bits(&whole.hn.data), "{what}: streamed hn");
        let cn = |out: &Output<f32>| out.cn.as_ref().map(|c| bits(&c.data));
        assert_eq!(cn(&last), cn(whole), "{what}: streamed cn");
    }
}

/// The reverse direction is the forward one on flipped time; bidirectional is both, side by side.
#[test]
fn reverse_is_flip_and_bidirectional_is_both() {
    for_all(|what, cell, device, strategy| {
        let one = |direction| RnnConfig { num_layers: 1, ..config(cell, direction) };
        let lengths = [4, 6, 1];
        let both = Case::new(one(Direction::Bidirectional), 6, 3, 4).with_lengths(&lengths);
        let out = both.run(device, strategy);
        let (h, c) = (both.config.hidden_size, both.config.cell_size());
        for direction in 0..2 {
            let mut single = both.clone();
            single.config = one([Direction::Forward, Direction::Reverse][direction]);
            single.weights = Weights { layers: vec![both.weights.layers[direction].clone()], ..Default::default() };
            single.h0 = both.h0[direction * 3 * h..][..3 * h].to_vec();
            single.c0 = both.c0[direction * 3 * c..][..3 * c].to_vec();
            let alone = single.run(device, strategy);
            let half: Vec<f32> =
                out.y.data.chunks_exact(2 * h).flat_map(|r| r[direction * h..][..h].to_vec()).collect();
            assert_eq!(bits(&alone.y.data), bits(&half), "{what}: direction {direction}");
            if direction == 1 {
                // Flip every sequence within its own length.
                let flip = |v: &[f32], width: usize| {
                    let mut flipped = v.to_vec();
                    for (b, &length) in lengths.iter().enumerate() {
                        for t in 0..length {
                            let (to, from) = ((t * 3 + b) * width, ((length - 1 - t) * 3 + b) * width);
                            flipped[to..to + width].copy_from_slice(&v[from..from + width]);
                        }
                    }
                    flipped
                };
                single.config.direction = Direction::Forward;
                single.x = flip(&single.x, 5);
                let forward = single.run(device, strategy);
                assert_eq!(bits(&flip(&forward.y.data, h)), bits(&alone.y.data), "{what}: flip");
                assert_eq!(bits(&forward.hn.data), bits(&alone.hn.data), "{what}: flip hn");
            }
        }
    });
}

/// Noise in padded x changes nothing, and y is 0 there.
#[test]
fn padding_never_leaks() {
    for_all(|what, cell, device, strategy| {
        let lengths = [2, 5, 1, 3];
        let case = Case::new(config(cell, Direction::Bidirectional), 5, 4, 5).with_lengths(&lengths);
        let mut noisy = case.clone();
        for (row, x) in noisy.x.chunks_exact_mut(5).enumerate() {
            if row / 4 >= lengths[row % 4] {
                x.fill(f32::NAN);
            }
        }
        let out = case.run(device, strategy);
        assert_same(what, &out, &noisy.run(device, strategy));
        for (row, y) in out.y.data.chunks_exact(34).enumerate() {
            if row / 4 >= lengths[row % 4] {
                assert!(y.iter().all(|&v| v.to_bits() == 0), "{what}: y is not 0 past the end");
            }
        }
    });
}

/// A session's earlier runs leave nothing behind the ends of later ones' sequences.
#[test]
fn padding_is_zero_whatever_ran_before() {
    for (device, strategy) in executors() {
        for (num_layers, layout) in [(1, Layout::TimeMajor), (2, Layout::BatchFirst)] {
            let config = RnnConfig { num_layers, layout, ..config(&cells::GRU, Direction::Bidirectional) };
            let case = Case::new(config, 6, 3, 15);
            let mut session = case.session(&device, strategy, None);
            for lengths in [[6, 6, 6], [2, 6, 1], [4, 1, 6], [6, 6, 6], [1, 2, 3], [1, 2, 3]] {
                let case = case.clone().with_lengths(&lengths);
                let what = format!("{device} {strategy} layers={num_layers} {lengths:?}");
                assert_same(&what, &case.run_in(&mut session), &case.run(&device, strategy));
            }
        }
    }
}

/// Batch-first data gives what time-major data gives; unbatched is B = 1.
#[test]
fn layouts_agree() {
    for_all(|what, cell, device, strategy| {
        let case = Case::new(config(cell, Direction::Bidirectional), 4, 3, 6).with_lengths(&[4, 1, 3]);
        let out = case.run(device, strategy);
        let swap = |v: &[f32], rows: usize, columns: usize, width: usize| -> Vec<f32> {
            (0..columns)
                .flat_map(|c| (0..rows).flat_map(move |r| v[(r * columns + c) * width..][..width].to_vec()))
                .collect()
        };
        let mut first = case.clone();
        first.config.layout = Layout::BatchFirst;
        first.x = swap(&case.x, 4, 3, 5);
        let got = first.run(device, strategy);
        assert_eq!(bits(&swap(&got.y.data, 3, 4, 34)), bits(&out.y.data), "{what}: y");
        assert_eq!(bits(&got.hn.data), bits(&out.hn.data), "{what}: hn");

        let single = case.alone(0);
        let mut session = single.session(device, strategy, None);
        let out = session.forward(&Input::new(View::new(&single.x, &[4, 5]))).unwrap();
        assert_eq!((out.y.shape, out.hn.shape), (vec![4, 34], vec![4, 17]), "{what}: unbatched");
    });
}

/// How the work is cut (blocks of steps, submits, threads, another shape's session) never shows in the bits.
#[test]
fn cuts_do_not_matter() {
    for_all(|what, cell, device, strategy| {
        let case = Case::new(config(cell, Direction::Bidirectional), 7, 5, 8).with_lengths(&[2, 7, 4, 7, 1]);
        let whole = case.run(device, strategy);
        for block in [1, 2, 3] {
            let mut session = case.session(device, strategy, Some(block));
            session.poison().unwrap();
            assert_same(&format!("{what}, blocks of {block}"), &whole, &case.run_in(&mut session));
        }
        let options = Options {
            strategy: Some(strategy),
            submit_budget: std::time::Duration::from_nanos(1),
            ..Default::default()
        };
        let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
        assert!(device.kind() == "cpu" || plan.submits.len() > 1, "{what}: one submit");
        let mut session = Session::from_plan(device, plan, &case.weights).unwrap();
        assert_same(&format!("{what}, many submits"), &whole, &case.run_in(&mut session));

        let small = Case { shape: Shape { time: 2, batch: 1 }, ..case.clone() };
        let mut sibling = small.session(device, strategy, None).for_shape(case.shape).unwrap();
        assert_same(&format!("{what}, session for another shape"), &whole, &case.run_in(&mut sibling));
        if device.kind() == "cpu" {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let out = pool.install(|| case.run(device, strategy));
                assert_same(&format!("{what}, {threads} threads"), &whole, &out);
            }
        }
    });
}

/// Shaders with checks of indices and bounds on loops, as the other tests run them, and without, as users do: an index out of
/// range would be another number in the first and anything in the second.
#[test]
fn checks_in_shaders_change_no_bit() {
    let (checked, unchecked) = (gpu(), unchecked_gpu());
    for (cell, proj_size) in gpu_cells(5) {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let config = RnnConfig { hidden_size: 9, proj_size, ..config(cell, Direction::Bidirectional) };
            let case = Case::new(config, 4, 3, 12).with_lengths(&[2, 4, 1]);
            let [(out, back), (their_out, their_back)] = [&checked, &unchecked].map(|d| case.train(d, strategy));
            let what = format!("{} {strategy}", cell.name);
            assert_same(&what, &out, &their_out);
            assert_same_gradients(&what, &case.config, &back, &their_back);
        }
    }
}

/// Larger than the thresholds at which the CPU executor uses threads.
#[test]
fn threads_do_not_matter_for_large_layers() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 64, hidden_size: 129, ..Default::default() };
    let case = Case::new(config, 40, 13, 9);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.run(&Device::cpu(), Strategy::Sequence))
    };
    let one = run(1);
    assert_same("2 threads", &one, &run(2));
    assert_same("5 threads", &one, &run(5));
}

/// No pipeline or bind group is made while a session runs, lengths changing or not, streaming or not.
#[test]
fn runs_create_nothing() {
    // A device of its own: other tests' objects do not count.
    let device = Device::gpu().unwrap();
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let case = Case::new(config(&cells::GRU, Direction::Bidirectional), 3, 2, 10);
        let mut session = case.session(&device, strategy, None);
        case.run_in(&mut session);
        let (ours, theirs) = (session.objects_created(), allocated(session.device()));
        assert!(ours > 0);
        for lengths in [[3, 1], [2, 2], [3, 3]] {
            case.clone().with_lengths(&lengths).run_in(&mut session);
        }
        assert_eq!(session.objects_created(), ours);
        assert_eq!(allocated(session.device()), theirs, "{strategy}: wgpu objects alive");
    }
}

/// wgpu's own counts of live buffers, bind groups, layouts, pipelines and shader modules.
fn allocated(device: &Device) -> [isize; 5] {
    let (device, _) = device.wgpu().unwrap();
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let hal = device.get_internal_counters().hal;
    [&hal.buffers, &hal.bind_groups, &hal.bind_group_layouts, &hal.compute_pipelines, &hal.shader_modules]
        .map(|c| c.read())
}
