//! The bits of what a stack gives: outputs, states, gradients, and the parameters after two updates.

use super::harness::cast;
use super::plans::cpu_caps;
use super::record::{Line, hash};
use super::stacks::Stack;
use std::sync::Arc;
use wgpu_rnn::*;

/// Of masks.
const SEED: u64 = 5;
const LEARNING_RATE: f64 = 0.05;

/// The hash of numbers, which must be numbers and not all 0: else there would be little to hold fast.
pub fn put<T: Element>(line: &mut Line, name: &str, values: &[T]) {
    let entry = &line.entry;
    assert!(values.iter().all(|v| v.to_f64().is_finite()), "{entry}, {name}: not all numbers are finite");
    assert!(values.iter().any(|v| v.to_f64() != 0.0), "{entry}, {name}: nothing but zeros");
    let bytes = |v: &T| match size_of::<T>() {
        8 => v.to_f64().to_le_bytes().to_vec(),
        _ => (v.to_f64() as f32).to_le_bytes().to_vec(),
    };
    line.put(name, hash(values.iter().flat_map(bytes)));
}

/// What the planner is told of a device: nothing that another machine with the same executor would not have too.
pub fn caps(device: &Device) -> Caps {
    match device.kind() {
        "cpu" => cpu_caps(),
        _ => Caps { parallel_groups: 2, ..device.caps() },
    }
}

/// The entry's name for an executor.
pub fn name<T: Element>(entry: &str, device: &Device) -> String {
    if device.kind() == "cpu" { format!("{entry} {}", T::NAME) } else { entry.into() }
}

/// Runs a stack twice, the second time over memory filled with NaN.
///
/// # Panics
/// If the bits differ.
pub fn twice<T: Element>(stack: &Stack, device: &Device) -> Line {
    let [line, again] = [false, true].map(|poison| run::<T>(stack, device, poison));
    assert_eq!(line, again, "two runs on {device}");
    line
}

fn run<T: Element>(stack: &Stack, device: &Device, poison: bool) -> Line {
    let mut session = session::<T>(stack, device);
    if poison {
        session.poison().unwrap();
    }
    session.set_seed(SEED);
    let mut line = Line::new(name::<T>(stack.name, device));
    if !stack.options.train {
        forward(stack, &mut session, false);
        put_output(&mut line, "", &mut session);
        forward(stack, &mut session, true);
        put_output(&mut line, "carried.", &mut session);
        return line;
    }
    // What accumulates gradients has two ways back for every update.
    let passes = if stack.options.accumulate { 2 } else { 1 };
    for update in 0..2 {
        for _ in 0..passes {
            forward(stack, &mut session, false);
            if update == 0 {
                put_output(&mut line, "", &mut session);
            }
            let gradients = backward(stack, &mut session);
            if update == 0 {
                put(&mut line, "dx", &gradients.x.data);
                put(&mut line, "dh0", &gradients.h0.data);
                gradients.c0.iter().for_each(|c0| put(&mut line, "dc0", &c0.data));
                put(&mut line, "dparams", &flat(stack, &gradients.weights));
            }
        }
        session.update(LEARNING_RATE).unwrap();
        if stack.options.clip_norm.is_some() {
            put(&mut line, "norm", &[session.gradient_norm().unwrap()]);
        }
    }
    put(&mut line, "params", &flat(stack, &session.weights().unwrap()));
    line
}

fn session<T: Element>(stack: &Stack, device: &Device) -> Session<T> {
    let precision = if size_of::<T>() == 8 { Precision::F64 } else { Precision::F32 };
    // The CPU executor has kernels of its own.
    let kernels = stack.options.kernels.filter(|_| device.kind() != "cpu");
    // The budget is for f32.
    let memory = match stack.options.memory {
        Memory::Auto(bytes) => Memory::Auto(bytes / 4 * size_of::<T>() as u64),
        other => other,
    };
    let tuning = small_tiles(stack, device);
    let options = Options { precision, memory, kernels, tuning, ..stack.options.clone() };
    let plan = Plan::new(&stack.case.config, stack.case.shape, &caps(device), &options).unwrap();
    Session::from_plan(device, plan, &stack.case.weights.cast()).unwrap()
}

/// Register tiles of a GPU that compile in a fifth of the time; they change no bits (tests/tuning.rs). Where kernels
/// are those of another class, that class's own.
fn small_tiles(stack: &Stack, device: &Device) -> Option<Arc<Tuning>> {
    if device.kind() == "cpu" || stack.options.kernels.is_some() {
        return None;
    }
    let tiles = TileChoice { tile: 2, back_units: 2, project: (2, 2), weight: (2, 2), input: 2 };
    let mut tuning = Tuning::new(device);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let choice = Choice { tiles, block: None, ratio: 1.0 };
        tuning.set(&stack.case.config, stack.case.shape, &stack.options, strategy, choice).unwrap();
    }
    Some(Arc::new(tuning))
}

/// Writes and runs; `carry`: from where the last run ended.
fn forward<T: Element>(stack: &Stack, session: &mut Session<T>, carry: bool) {
    let outer = outer(stack);
    let ids = stack.ids();
    let ids = ids.as_ref().map(|ids| View::new(ids, &outer));
    stack.case.with_input_as(|input| {
        let initial = if carry { Initial::Carry } else { input.initial };
        session.write(&Input { ids, initial, ..*input }).unwrap();
    });
    write_targets(stack, session);
    session.run().unwrap();
}

/// T and B in the order of x's layout.
fn outer(stack: &Stack) -> [usize; 2] {
    let [first, second, _] = stack.case.x_shape().try_into().expect("three dimensions");
    [first, second]
}

fn write_targets<T: Element>(stack: &Stack, session: &mut Session<T>) {
    let Some(head) = stack.case.config.head else { return };
    let [first, second] = outer(stack);
    let classes = stack.classes();
    let numbers = cast::<T>(&super::harness::values(23, first * second * head.size, 2.0));
    let shape = [first, second, head.size];
    let targets = match head.loss.unwrap() {
        Loss::CrossEntropy => Targets::classes(View::new(&classes, &shape[..2])),
        Loss::MeanSquared => Targets::values(View::new(&numbers, &shape)),
    };
    session.write_targets(&targets).unwrap();
}

fn backward<T: Element>(stack: &Stack, session: &mut Session<T>) -> Gradients<T> {
    let takes_y = stack.case.config.head.is_none() && stack.options.keep_y;
    stack.case.with_upstream_as(|upstream| {
        let y = upstream.y.filter(|_| takes_y);
        session.backward(&Upstream { y, ..*upstream }).unwrap()
    })
}

fn put_output<T: Element>(line: &mut Line, prefix: &str, session: &mut Session<T>) {
    let mut put = |name: &str, values: &[T]| put(line, &format!("{prefix}{name}"), values);
    let out = session.output().unwrap();
    if session.plan().keep_y {
        put("y", &out.y.data);
    }
    put("hn", &out.hn.data);
    out.cn.iter().for_each(|cn| put("cn", &cn.data));
    if session.plan().config.head.is_some() {
        put("outputs", &session.predictions().unwrap().data);
        put("loss", &[session.loss().unwrap()]);
    }
}

/// All parameters, or their gradients, in canonical order.
fn flat<T: Element>(stack: &Stack, weights: &Weights<T>) -> Vec<T> {
    weights.named(&stack.case.config).flat_map(|(_, values)| values.to_vec()).collect()
}
