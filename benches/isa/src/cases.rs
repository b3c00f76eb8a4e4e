//! Which kernels of layers, of which plans; and the table.

use crate::driver::{Compiled, Driver};
use crate::mix::hot_block;
use ash::vk;
use std::collections::HashMap;
use std::error::Error;
use wgpu_rnn::kernels::{Access, Kernel};
use wgpu_rnn::{Caps, Options, Plan, RnnConfig, Shader, Shape, WeightFormat, cells};

/// Kernels that most of a layer's time is in.
fn is_hot(kernel: Kernel) -> bool {
    use Kernel::*;
    matches!(
        kernel,
        ProjectVec4
            | ProjectScalar
            | StepForward
            | StepForwardTrain
            | SequenceForward
            | SequenceForwardTrain
            | StepBackward
            | SequenceBackward
            | InputBackward
            | WeightBackwardInput
            | WeightBackwardRecurrent
            | Rebuild
    )
}

/// A GPU with the limits that WebGPU promises on every one.
fn caps() -> Caps {
    Caps { f16: true, ..Caps::webgpu() }
}

/// Which plan: the cell, how weights are stored, `H (B)`.
struct What {
    cell: &'static str,
    weights: WeightFormat,
    size: String,
}

/// Layers of I = H, forward alone and training; T = 100, or 30 with 512 sequences (what one binding holds).
fn plans() -> Result<Vec<(What, Plan)>, wgpu_rnn::Error> {
    let mut list = Vec::new();
    for (name, cell) in [("LSTM", &cells::LSTM), ("GRU", &cells::GRU)] {
        for (size, batch) in [64, 256, 512].into_iter().flat_map(|size| [1, 64, 512].map(|batch| (size, batch))) {
            for (weights, train) in
                [WeightFormat::F32, WeightFormat::F16].into_iter().flat_map(|w| [(w, false), (w, true)])
            {
                let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
                let options = Options { weights, train, ..Default::default() };
                let plan =
                    Plan::new(&config, Shape { time: if batch > 64 { 30 } else { 100 }, batch }, &caps(), &options)?;
                list.push((What { cell: name, weights, size: format!("{size} ({batch})") }, plan));
            }
        }
    }
    Ok(list)
}

fn name(what: &What, shader: &Shader) -> String {
    let part = match shader.kernel {
        Kernel::WeightBackwardInput => " of W",
        Kernel::WeightBackwardRecurrent => " of R",
        Kernel::StepForwardTrain | Kernel::SequenceForwardTrain => ", training",
        _ => "",
    };
    let weights =
        if shader.kernel.bindings().iter().any(|b| b.0 == "weights") { what.weights } else { WeightFormat::F32 };
    format!("{}{part}, {} {weights}", shader.kernel.name(), what.cell)
}

/// Prints one family's table: a line per kernel and figures, with the plans that have them.
pub fn report(driver: &Driver, family: &str, filter: Option<&str>) -> Result<(), Box<dyn Error>> {
    println!("\n## {family}: {}\n", driver.name);
    heading("H (B) of the plan");
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut lines: Vec<(String, String, Vec<String>)> = Vec::new();
    for (what, plan) in plans()? {
        for shader in plan.shaders().iter().filter(|s| is_hot(s.kernel)) {
            let name = name(&what, shader);
            if filter.is_some_and(|f| !format!("{name} {}", what.size).contains(f)) {
                continue;
            }
            let figures = match seen.get(&shader.text) {
                Some(figures) => figures.clone(),
                None => {
                    let compiled = compile(driver, &shader.text, &kinds(shader.kernel))?;
                    if std::env::var_os("ISA_ASSEMBLY").is_some() {
                        println!("\n```text\n{name} {}\n{}\n```\n", what.size, compiled.assembly);
                    }
                    seen.entry(shader.text.clone()).or_insert(row(&compiled)).clone()
                }
            };
            match lines.iter_mut().find(|l| l.0 == name && l.1 == figures) {
                Some(line) if line.2.contains(&what.size) => {}
                Some(line) => line.2.push(what.size.clone()),
                None => lines.push((name, figures, vec![what.size.clone()])),
            }
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, figures, sizes) in lines {
        println!("| {name} | {} {figures}", sizes.join(", "));
    }
    Ok(())
}

pub fn heading(of: &str) {
    println!("| kernel | {of} | VGPRs | spilled | scratch | LDS | waves | code | hot block | multiply-adds |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
}

/// Vector registers of a lane, spilled registers, bytes of scratch and of workgroup memory, waves per SIMD unit, bytes of code, and
/// the hot block.
pub fn row(compiled: &Compiled) -> String {
    let get = |name: &str| compiled.get(name).unwrap_or(0);
    let hot = hot_block(&compiled.assembly);
    format!(
        "| {} | {} | {} | {} | {} | {} | {}: {} buffer, {} scalar, {} LDS, {} other vector | {} % |",
        get("VGPRs"),
        get("Spilled VGPRs") + get("Spilled SGPRs"),
        get("Scratch size"),
        get("LDS size"),
        get("Subgroups per SIMD"),
        get("Code size"),
        hot.all,
        hot.vector_memory,
        hot.scalar_memory,
        hot.shared_memory,
        hot.vector,
        hot.share()
    )
}

/// Through naga as wgpu's Vulkan backend uses it for trusted modules, and the driver.
pub fn compile(driver: &Driver, text: &str, bindings: &[vk::DescriptorType]) -> Result<Compiled, Box<dyn Error>> {
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy::Unchecked};
    let module = naga::front::wgsl::parse_str(text)?;
    let capabilities = naga::valid::Capabilities::all();
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities).validate(&module)?;
    let options = naga::back::spv::Options {
        lang_version: (1, 4),
        flags: naga::back::spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: Unchecked,
            buffer: Unchecked,
            image_load: Unchecked,
            binding_array: Unchecked,
        },
        zero_initialize_workgroup_memory: naga::back::spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    let entry =
        naga::back::spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    let words = naga::back::spv::write_vec(&module, &info, &options, Some(&entry))?;
    let bindings: Vec<_> = bindings.iter().enumerate().map(|(n, &kind)| (n as u32, kind)).collect();
    driver.compile(&words, &bindings)
}

/// A kernel's bindings.
fn kinds(kernel: Kernel) -> Vec<vk::DescriptorType> {
    let kind = |access: &Access| match access {
        Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
        _ => vk::DescriptorType::STORAGE_BUFFER,
    };
    kernel.bindings().iter().map(|(_, access)| kind(access)).collect()
}
