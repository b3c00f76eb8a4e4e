//! What the planner makes of an entry on three devices that nobody has: the same on every machine.

use super::networks::Net;
use super::record::{Line, hash, hash_text};
use super::stacks::Stack;
use std::fmt::Write as _;
use wgpu_rnn::network::NetworkPlan;
use wgpu_rnn::*;

/// A GPU as browsers promise it, a software rasteriser on two cores, and the CPU executor with two threads; `f16`: with
/// f16 in shaders.
pub fn caps(f16: bool) -> [(&'static str, Caps); 3] {
    let gpu = Caps { f16, ..Caps::webgpu() };
    let software =
        Caps { class: DeviceClass::SoftwareGpu, parallel_groups: 2, subgroup: 8, max_rounds: 65_535, ..gpu.clone() };
    [("gpu", gpu), ("software", software), ("cpu", cpu_caps())]
}

/// A CPU executor with two threads and 64 GiB, whatever this machine has.
pub fn cpu_caps() -> Caps {
    Caps {
        class: DeviceClass::Cpu,
        max_binding: 64 << 30,
        max_buffer: 64 << 30,
        max_workgroup_memory: usize::MAX,
        max_invocations: usize::MAX,
        max_workgroups: usize::MAX >> 8,
        parallel_groups: 2,
        f16: true,
        subgroup: 1,
        max_rounds: usize::MAX,
    }
}

/// A line per device.
pub fn of_stack(stack: &Stack) -> Vec<Line> {
    let f16 = stack.options.activations == ActivationFormat::F16;
    let on = |(device, caps): (&str, Caps)| {
        let mut line = Line::new(format!("{} {device}", stack.name));
        match Plan::new(&stack.case.config, stack.case.shape, &caps, &stack.options) {
            Ok(plan) => put_plan(&mut line, "", &plan),
            Err(refused) => line.put("refused", hash_text(&refused.to_string())),
        }
        line
    };
    caps(f16).into_iter().map(on).collect()
}

/// The same of a network; texts of kernels on GPUs only.
pub fn of_network(net: &Net) -> Vec<Line> {
    let on = |(device, caps): (&str, Caps)| {
        let mut line = Line::new(format!("{} {device}", net.name));
        match NetworkPlan::new(&net.network, net.shape, &caps, &net.options) {
            Ok(plan) => put_network(&mut line, &plan),
            Err(refused) => line.put("refused", hash_text(&refused.to_string())),
        }
        line
    };
    caps(false).into_iter().map(on).collect()
}

/// `prefix`: in front of the names of all parts.
fn put_plan(line: &mut Line, prefix: &str, plan: &Plan) {
    let mut put = |name: &str, value: String| line.put(&format!("{prefix}{name}"), value);
    put("strategy", plan.strategy.to_string());
    put("plan", hash_text(&plan.to_string()));
    let (forward, backward) = (plan.forward_dispatches(), plan.backward_dispatches());
    put("dispatches", format!("{forward}+{backward}+{}", plan.update_dispatches()));
    let submits = [&plan.submits, &plan.backward_submits, &plan.update_submits].map(|s| s.len().to_string());
    put("submits", submits.join("+"));
    put("work", hash_text(&work(plan)));
    let shaders = plan.shaders();
    if plan.caps.class == DeviceClass::Cpu {
        // Which nothing compiles.
        return put("texts", hash(shaders.iter().flat_map(|s| s.text.bytes())));
    }
    for shader in shaders {
        let (kernel, stage) = (shader.kernel.name(), shader.stage);
        let stage = if stage > 0 { format!(".{stage}") } else { String::new() };
        let head = if shader.head { ".head" } else { "" };
        put(&format!("{kernel}{stage}{head}"), hash_text(&shader.text));
    }
}

/// What the plan's text leaves out: workgroups, words of the uniform blocks, slots of odd steps, and where submits end.
fn work(plan: &Plan) -> String {
    let mut text = String::new();
    let steps = plan.steps.iter().chain(&plan.backward).chain(&plan.update);
    let dispatches = steps.flat_map(|step| match step {
        Step::ClearPadding(_) => &[][..],
        Step::Once(dispatch) => std::slice::from_ref(dispatch),
        Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
    });
    for d in dispatches {
        let words: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&plan.dims[d.dims]));
        let odd: Vec<&str> = d.odd.iter().flatten().map(|&slot| plan.slots[slot].name.as_str()).collect();
        let _ = writeln!(text, "{} {} {:?} {words:?} {odd:?}", d.kernel.name(), d.stage, d.groups);
    }
    let _ = writeln!(text, "{:?} {:?} {:?}", plan.submits, plan.backward_submits, plan.update_submits);
    text
}

fn put_network(line: &mut Line, plan: &NetworkPlan) {
    line.put("way", format!("{:?}", plan.parallel));
    line.put("plan", hash_text(&plan.to_string()));
    let slots = plan.slots.iter().map(|s| format!("{} {} {}\n", s.name, s.len, s.per_step));
    line.put("slots", hash_text(&slots.collect::<String>()));
    if plan.caps.class != DeviceClass::Cpu {
        let jobs = [false, true].map(|back| plan.jobs(back));
        let work = jobs.iter().flatten().map(|(kernel, groups)| format!("{kernel} {groups:?}\n"));
        line.put("dispatches", jobs.each_ref().map(|half| half.len().to_string()).join("+"));
        line.put("work", hash_text(&work.collect::<String>()));
        for (kernel, text) in plan.shaders() {
            line.put(kernel, hash_text(text));
        }
    }
    for (n, layers) in &plan.layers {
        put_plan(line, &format!("{}.", plan.network.nodes[*n].name), layers);
    }
}
