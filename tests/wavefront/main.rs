//! Layers of a stack side by side: as few dispatches as promised (here), the bits of layers one after the other ([`bits`]), and
//! with what else they go together or do not ([`together`]).

#[path = "../harness/mod.rs"]
mod harness;

mod bits;
mod together;

use harness::*;
use wgpu_rnn::kernels::Kernel;
use wgpu_rnn::*;

/// WebGPU's default limits on a GPU that 64 workgroups keep busy.
fn caps() -> Caps {
    Caps {
        class: DeviceClass::Gpu,
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        max_workgroup_memory: 16384,
        max_invocations: 256,
        max_workgroups: 65535,
        parallel_groups: 64,
        f16: true,
        subgroup: 1,
        max_rounds: usize::MAX,
    }
}

fn options(strategy: Strategy, wavefront: Wavefront) -> Options {
    Options { wavefront, ..forced(strategy) }
}

/// Dispatches of the recurrence of a list of steps.
fn recurrent(steps: &[Step]) -> usize {
    let is = |d: &&Dispatch| {
        use Kernel::*;
        let forward = matches!(d.kernel, StepForward | StepForwardTrain | SequenceForward | SequenceForwardTrain);
        let normalising = matches!(d.kernel, StepProduct | StepNormalise | StepNormaliseTrain);
        forward || normalising || matches!(d.kernel, StepBackward | StepNormaliseBackward | SequenceBackward)
    };
    let of = |step: &Step| match step {
        Step::ClearPadding(_) => 0,
        Step::Once(d) => usize::from(is(&d)),
        Step::EachStep(range, body) | Step::EachStepBack(range, body) => range.len() * body.iter().filter(is).count(),
    };
    steps.iter().map(of).sum()
}

fn stack(cell: &'static Cell, layers: usize) -> RnnConfig {
    RnnConfig { cell, input_size: 64, hidden_size: 256, num_layers: layers, ..Default::default() }
}

#[test]
fn four_layers_take_half_the_recurrent_dispatches_or_fewer() {
    for cell in [&cells::LSTM, &cells::GRU] {
        for direction in [Direction::Forward, Direction::Reverse] {
            let config = RnnConfig { direction, ..stack(cell, 4) };
            let shape = Shape { time: 100, batch: 16 };
            for train in [false, true] {
                let make = |wavefront| {
                    let options = Options { train, ..options(Strategy::Step, wavefront) };
                    Plan::new(&config, shape, &caps(), &options).unwrap()
                };
                let (off, auto) = (make(Wavefront::Off), make(Wavefront::Auto));
                assert_eq!((recurrent(&off.steps), off.chunk), (400, None), "{off}");
                let chunk = auto.chunk.expect("side by side");
                assert_eq!(recurrent(&auto.steps), 100 + 3 * chunk, "{auto}");
                assert!(recurrent(&auto.steps) <= 200, "{auto}");
                assert!(auto.forward_dispatches() < off.forward_dispatches(), "{auto}");
                assert_eq!(recurrent(&off.backward), if train { 400 } else { 0 });
                assert_eq!(recurrent(&auto.backward), if train { 100 + 3 * chunk } else { 0 }, "{auto}");
                assert_eq!(auto.flops(), off.flops());
                let work = |plan: &Plan| -> u64 {
                    let list = |s| match s {
                        &Step::ClearPadding(_) => &[][..],
                        Step::Once(d) => std::slice::from_ref(d),
                        Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
                    };
                    plan.steps.iter().chain(&plan.backward).flat_map(list).map(|d| plan.dispatch_flops(d)).sum()
                };
                assert_eq!(work(&auto), work(&off));
                assert!(auto.to_string().contains(&format!("wavefront: layers {chunk} steps apart (one layer's step")));
            }
        }
    }
}
