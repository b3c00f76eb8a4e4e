//! What configurations and networks compile, plan and compute, held against files that were recorded once
//! (`tests/data/frozen`): a change of the library's structure that is meant to change nothing shows here if it does.
//!
//! - [`plans`]: texts of kernels, texts of plans, numbers of dispatches and submits. The same on every machine.
//! - [`bits`] and [`network_bits`]: the bits of what runs give, on the CPU executor in f32 and f64 and on the GPU. They
//!   depend on the machine: [`machine`] says on what of it. Without a record for a machine the tests say so on stderr,
//!   and hold one run against another.
//!
//! `WGPU_RNN_RECORD=1` writes the files of this machine anew instead of comparing.

#[path = "../harness/mod.rs"]
mod harness;

mod bits;
mod machine;
mod network_bits;
mod networks;
mod plans;
mod record;
mod stacks;

use networks::Net;
use record::{Line, hold, say};
use stacks::{Runs, Stack};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use wgpu_rnn::kernels::Kernel;
use wgpu_rnn::network::Parallel;
use wgpu_rnn::*;

/// The adapter as users get it: one device for all tests, so that kernels of equal text are compiled once.
fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(harness::unchecked_gpu).clone()
}

#[test]
fn plans_and_kernels_are_as_recorded() {
    let mut lines: Vec<Line> = stacks::all().iter().flat_map(plans::of_stack).collect();
    lines.extend(networks::all().iter().flat_map(plans::of_network));
    let recorded = hold("plans.txt", "Plans and kernels: hashes of texts, and counts.", &lines);
    assert!(recorded, "tests/data/frozen/plans.txt is part of the project");
}

#[test]
fn bits_of_the_cpu_executor_are_as_recorded() {
    let mut lines = Vec::new();
    for stack in stacks::all().iter().filter(|s| s.runs != Runs::Nowhere) {
        lines.push(bits::twice::<f32>(stack, &Device::cpu()));
        lines.push(bits::twice::<f64>(stack, &Device::cpu()));
    }
    for net in networks::all().iter().filter(|n| n.runs != Runs::Nowhere) {
        lines.push(network_bits::twice::<f32>(net, &Device::cpu()));
        lines.push(network_bits::twice::<f64>(net, &Device::cpu()));
    }
    compare_bits(&machine::cpu(), &lines);
}

#[test]
fn bits_of_the_gpu_are_as_recorded() {
    let stacks = stacks::all().into_iter().filter(|s| s.runs == Runs::Everywhere);
    let mut lines: Vec<Line> = stacks.map(|s| bits::twice::<f32>(&s, &gpu())).collect();
    let nets = networks::all().into_iter().filter(|n| n.runs == Runs::Everywhere);
    lines.extend(nets.map(|n| network_bits::twice::<f32>(&n, &gpu())));
    compare_bits(&machine::gpu(&gpu()), &lines);
}

/// Holds bits against the record for a machine, or says that there is none.
fn compare_bits(machine: &machine::Key, lines: &[Line]) {
    let file = format!("bits-{}.txt", machine.name);
    if !hold(&file, &machine.what, lines) {
        say(&format!(
            "frozen: NOT COMPARED: no tests/data/frozen/{file} ({}); only that two runs give the same bits was checked",
            machine.what
        ));
    }
}

/// Names are what differences are told by, and a record of few things freezes little.
#[test]
fn the_entries_are_of_all_kinds() {
    let (stacks, nets) = (stacks::all(), networks::all());
    let names: BTreeSet<&str> = stacks.iter().map(|s| s.name).chain(nets.iter().map(|n| n.name.as_str())).collect();
    assert_eq!(names.len(), stacks.len() + nets.len(), "names are unique");

    let run: Vec<&Stack> = stacks.iter().filter(|s| s.runs != Runs::Nowhere).collect();
    for cell in cells::ALL {
        for (strategy, train) in [(Strategy::Step, true), (Strategy::Sequence, false)] {
            let of = |s: &&&Stack| std::ptr::eq(s.case.config.cell, cell) && s.options.strategy == Some(strategy);
            assert!(run.iter().filter(of).any(|s| s.options.train == train), "{} {strategy}", cell.name);
        }
    }
    let mut kernels = BTreeSet::new();
    for stack in &stacks {
        for (_, caps) in plans::caps(stack.options.activations == ActivationFormat::F16) {
            let plan = Plan::new(&stack.case.config, stack.case.shape, &caps, &stack.options);
            kernels.extend(plan.iter().flat_map(Plan::shaders).map(|s| s.kernel.name()));
        }
    }
    let missing: Vec<&str> = Kernel::ALL.iter().map(|k| k.name()).filter(|name| !kernels.contains(name)).collect();
    assert!(missing.is_empty(), "no plan has {missing:?}");

    let run: Vec<&Net> = nets.iter().filter(|n| n.runs != Runs::Nowhere).collect();
    for rule in rules::ALL {
        assert!(run.iter().any(|n| n.has_rule(rule)), "no network has {}", rule.name);
    }
    for way in [Parallel::Recurrent, Parallel::Chunked, Parallel::Products] {
        assert!(run.iter().any(|n| n.options.parallel == Some(way) && n.options.train), "{way:?}");
    }
    let everywhere = stacks.iter().filter(|s| s.runs == Runs::Everywhere).count();
    assert!(everywhere >= 8 && nets.iter().any(|n| n.runs == Runs::Everywhere), "{everywhere}");
}
