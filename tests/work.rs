//! What a plan says of its work: operations and bytes by hand, and the floor that rates make of them.

use wgpu_rnn::{
    Amount, Caps, Device, DeviceClass, DispatchWork, Error, Memory, Options, PassWork, Plan, Rates, RnnConfig, Shape,
    Strategy, cells,
};

fn caps(class: DeviceClass) -> Caps {
    Caps {
        class,
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        max_workgroup_memory: 16384,
        max_invocations: 256,
        max_workgroups: 65535,
        parallel_groups: 2,
        f16: true,
        subgroup: 1,
        max_rounds: usize::MAX,
    }
}

/// An LSTM with I = 4, H = 8 over T = 3, B = 2.
fn small(strategy: Strategy, train: bool, caps: &Caps) -> Plan {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 4, hidden_size: 8, ..Default::default() };
    let options = Options { strategy: Some(strategy), train, ..Default::default() };
    Plan::new(&config, Shape { time: 3, batch: 2 }, caps, &options).unwrap()
}

/// `(kernel, dispatches, flops, bytes read, bytes written)` of all its dispatches.
type Line = (&'static str, u64, u64, u64, u64);

fn lines(pass: &PassWork) -> Vec<Line> {
    let line = |k: wgpu_rnn::KernelWork| (k.kernel, k.dispatches, k.amount.flops, k.amount.read, k.amount.written);
    pass.kernels().into_iter().map(line).collect()
}

/// Bytes of so many f32.
const fn f32s(n: u64) -> u64 {
    4 * n
}

// 6 rows (T·B), 32 gates·units; packed W is 4 features and the bias for 32 rows, in fours; R 8 columns for 32 rows.
const ROWS: u64 = 6;
const X: u64 = f32s(ROWS * 4);
const PRE: u64 = f32s(ROWS * 32);
const Y: u64 = f32s(ROWS * 8);
const W: u64 = f32s(2 * 4 * 32);
const R: u64 = f32s(8 * 32);
/// h, or c, of both sequences.
const H: u64 = f32s(2 * 8);
const OF_W: u64 = 2 * ROWS * 32 * 4;
const OF_R: u64 = 2 * ROWS * 32 * 8;

#[test]
fn a_small_lstm_forward_by_hand() {
    for class in [DeviceClass::Cpu, DeviceClass::Gpu, DeviceClass::SoftwareGpu] {
        let sequence = small(Strategy::Sequence, false, &caps(class)).work();
        let expected = [
            ("load_state", 1, 0, 2 * H, 2 * H),
            ("project", 1, OF_W, X + W, PRE),
            ("sequence_forward", 1, OF_R, R + PRE + 2 * H, 2 * H + Y),
            ("store_state", 1, 0, 2 * H, 2 * H),
        ];
        assert_eq!(lines(&sequence.forward), expected, "{class:?}");
        // The same with R, h and c from memory at each of the three steps.
        let step = small(Strategy::Step, false, &caps(class)).work();
        let forward = ("step_forward", 3, OF_R, 3 * (R + 2 * H) + PRE, 3 * 2 * H + Y);
        assert_eq!(lines(&step.forward)[2], forward, "{class:?}");
        assert_eq!(step.forward.dispatches[2].each.flops, OF_R / 3);
        assert_eq!((sequence.backward, sequence.update), Default::default());
    }
}

#[test]
fn a_small_lstm_backward_by_hand() {
    let work = small(Strategy::Sequence, true, &caps(DeviceClass::Cpu)).work();
    // c and h of every step.
    let history = 2 * Y;
    assert_eq!(lines(&work.forward)[1], ("begin_segment", 1, 0, 2 * H, 2 * H));
    let forward = ("sequence_forward", 1, OF_R, R + PRE + 2 * H, 2 * H + Y + PRE + history);
    assert_eq!(lines(&work.forward)[3], forward);
    // Gradients of W, R and their biases; R transposed has the same size, W transposed no bias.
    let (dw, dr) = (f32s(32 * 5), f32s(32 * 9));
    let expected = [
        ("load_gradient", 1, 0, 2 * H, 2 * H),
        ("clear", 1, 0, 0, X),
        ("sequence_backward", 1, OF_R, R + PRE + Y + 2 * H + Y, PRE + H),
        ("weight_backward", 2, OF_W + OF_R, PRE + X + PRE + Y, dw + dr),
        ("input_backward", 1, OF_W, W / 2 + PRE + X, X),
        ("carry_gradient", 1, 0, R + f32s(2 * 32), H),
        ("store_gradient", 1, 0, 2 * H, 2 * H),
    ];
    assert_eq!(lines(&work.backward), expected);
    // The gather of step_backward reads gradients of the step after it.
    let step = small(Strategy::Step, true, &caps(DeviceClass::Cpu)).work();
    let backward = ("step_backward", 3, OF_R, 3 * (R + 2 * H) + PRE + PRE + Y, PRE + 3 * H);
    assert_eq!(lines(&step.backward)[2], backward);
}

/// Weights in 16 bits and activations in f16 are half the bytes; both directions read the same x.
#[test]
fn bytes_follow_the_formats_and_both_directions_share_x() {
    let shape = Shape { time: 3, batch: 2 };
    let config = RnnConfig {
        cell: &cells::LSTM,
        input_size: 4,
        hidden_size: 8,
        bias: wgpu_rnn::Bias::None,
        ..Default::default()
    };
    let options = Options {
        strategy: Some(Strategy::Sequence),
        weights: wgpu_rnn::WeightFormat::F16,
        activations: wgpu_rnn::ActivationFormat::F16,
        ..Default::default()
    };
    let halves = Plan::new(&config, shape, &caps(DeviceClass::Gpu), &options).unwrap().work();
    // The bias stays in 32 bits: two entries of four halves.
    let w = 2 * (4 + 8) * 32;
    assert_eq!(lines(&halves.forward)[1], ("project", 1, OF_W, X / 2 + w, PRE / 2));
    let both = RnnConfig { direction: wgpu_rnn::Direction::Bidirectional, ..config };
    let work = Plan::new(&both, shape, &caps(DeviceClass::Gpu), &Options::default()).unwrap().work();
    assert_eq!(lines(&work.forward)[1], ("project", 1, 2 * OF_W, X + 2 * W, 2 * PRE));
    // Two of three steps of each direction are one another's.
    let blocks = Options { max_block: Some(2), ..Default::default() };
    let work = Plan::new(&both, shape, &caps(DeviceClass::Gpu), &blocks).unwrap().work();
    let first = work.forward.dispatches.iter().find(|d| d.kernel.name() == "project").unwrap();
    assert_eq!(first.each.read, X + 2 * W);
}

/// The sums are the plan's own, for every cell, strategy and policy.
#[test]
fn work_adds_up_to_what_the_plan_says() {
    for cell in cells::ALL {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
                let config = RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, ..Default::default() };
                let saving = Options {
                    strategy: Some(strategy),
                    train: true,
                    wavefront: wgpu_rnn::Wavefront::Off,
                    max_block: Some(30),
                    ..Default::default()
                };
                for memory in [Memory::Save, Memory::Recompute, Memory::Checkpoint(64)] {
                    let options = Options { memory, ..saving.clone() };
                    let plan = Plan::new(&config, Shape { time: 150, batch: 3 }, &caps(class), &options).unwrap();
                    let work = plan.work();
                    let ((forward, f), (backward, b)) = (work.forward.total(), work.backward.total());
                    assert_eq!(forward, plan.forward_dispatches() as u64, "{} {strategy} {memory}", cell.name);
                    assert_eq!(backward, plan.backward_dispatches() as u64, "{} {strategy} {memory}", cell.name);
                    if memory == Memory::Save {
                        assert_eq!(f.flops + b.flops, plan.flops(), "{} {strategy}", cell.name);
                    } else {
                        assert!(f.flops + b.flops > plan.flops(), "{} {strategy} {memory}", cell.name);
                    }
                    // Every dispatch writes something, and reads something unless it clears or reads flags.
                    for d in work.forward.dispatches.iter().chain(&work.backward.dispatches) {
                        assert!(d.each.written > 0, "{} {:?}", cell.name, d.kernel);
                        assert!(d.each.read > 0 || d.kernel.name() == "clear", "{} {:?}", cell.name, d.kernel);
                    }
                    assert!(work.forward.slot_bytes < plan.bytes() && work.backward.slot_bytes < plan.bytes());
                }
            }
        }
    }
}

/// Layers side by side do the same products as one after the other, and no kernel of theirs moves fewer bytes.
#[test]
fn a_wave_does_the_work_of_its_layers() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 5, hidden_size: 9, num_layers: 3, ..Default::default() };
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let work = |wavefront| {
            let options = Options { strategy: Some(strategy), train: true, wavefront, ..Default::default() };
            Plan::new(&config, Shape { time: 11, batch: 3 }, &caps(DeviceClass::Gpu), &options).unwrap().work()
        };
        let (wave, plain) = (work(wgpu_rnn::Wavefront::Chunk(4)), work(wgpu_rnn::Wavefront::Off));
        for (wave, plain) in [(&wave.forward, &plain.forward), (&wave.backward, &plain.backward)] {
            assert_eq!(wave.total().1.flops, plain.total().1.flops, "{strategy}");
            for of in plain.kernels() {
                let side_by_side = wave.kernels().into_iter().find(|k| k.kernel == of.kernel).unwrap();
                assert_eq!(side_by_side.amount.flops, of.amount.flops, "{strategy} {}", of.kernel);
                // The mean over a wave's steps is rounded down.
                let read = side_by_side.amount.read + side_by_side.dispatches;
                assert!(read >= of.amount.read, "{strategy} {}: {read} of {}", of.kernel, of.amount.read);
            }
        }
    }
}

#[test]
fn a_floor_is_the_longer_of_products_and_bytes_of_every_dispatch() {
    let of = |flops, read, written, runs| DispatchWork {
        kernel: wgpu_rnn::kernels::Kernel::StepForward,
        runs,
        each: Amount { flops, read, written },
    };
    let pass = PassWork { dispatches: vec![of(4000, 100, 100, 2), of(0, 1000, 2000, 1)], slot_bytes: 0 };
    let rates = Rates { flops: Some(1000.0), bytes: Some(100.0), dispatch: Some(0.5) };
    let floor = pass.floor(&rates);
    // Two of 4 s (bytes take 2), one of 30 s; three starts.
    assert_eq!((floor.compute, floor.memory, floor.dispatch, floor.total), (8.0, 34.0, 1.5, 8.0 + 30.0 + 1.5));
    assert_eq!(pass.floor(&Rates { bytes: Some(100.0), ..Default::default() }).total, 34.0);
    assert_eq!(pass.floor(&Rates::default()).total, 0.0);
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let rates =
            [Rates { flops: Some(wrong), ..Default::default() }, Rates { bytes: Some(wrong), ..Default::default() }];
        for rates in rates {
            assert!(matches!(rates.validate(), Err(Error::Mismatch { .. })), "{wrong}");
        }
    }
    assert!(Rates { dispatch: Some(0.0), ..Default::default() }.validate().is_ok());
    assert!(Rates { dispatch: Some(-1e-9), ..Default::default() }.validate().is_err());
}

/// The CPU executor's plans too.
#[test]
fn the_cpu_executor_has_a_count() {
    let plan = small(Strategy::Sequence, true, &Device::cpu().caps());
    assert_eq!(plan.work().forward.total().1.flops, OF_W + OF_R);
}
