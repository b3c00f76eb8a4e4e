//! Which kernels, of which plans; and the table.

use crate::driver::{Compiled, Driver};
use crate::mix::hot_block;
use ash::vk;
use std::collections::HashSet;
use std::error::Error;
use wgpu_rnn::kernels::{Access, Kernel};
use wgpu_rnn::{Caps, DeviceClass, Options, Plan, RnnConfig, Shader, Shape, WeightFormat, cells, wgpu};

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
    let l = wgpu::Limits::default();
    Caps {
        class: DeviceClass::Gpu,
        max_binding: l.max_storage_buffer_binding_size,
        max_buffer: l.max_buffer_size,
        max_workgroup_memory: l.max_compute_workgroup_storage_size as usize,
        max_invocations: l.max_compute_invocations_per_workgroup as usize,
        max_workgroups: l.max_compute_workgroups_per_dimension as usize,
        parallel_groups: 64,
        f16: true,
    }
}

/// `(what, plan)`
fn plans() -> Result<Vec<(String, Plan)>, wgpu_rnn::Error> {
    let mut list = Vec::new();
    for (name, cell) in [("LSTM", &cells::LSTM), ("GRU", &cells::GRU)] {
        for size in [64, 256, 512] {
            for batch in [1, 64, 512] {
                for weights in [WeightFormat::F32, WeightFormat::F16] {
                    for train in [false, true] {
                        let config = RnnConfig { cell, input_size: size, hidden_size: size, ..Default::default() };
                        let options = Options { weights, train, ..Default::default() };
                        let plan = Plan::new(&config, Shape { time: 100, batch }, &caps(), &options)?;
                        list.push((format!("{name} H={size} B={batch} {weights}"), plan));
                    }
                }
            }
        }
    }
    Ok(list)
}

fn name(shader: &Shader) -> String {
    let part = match shader.kernel {
        Kernel::WeightBackwardInput => " (W)",
        Kernel::WeightBackwardRecurrent => " (R)",
        Kernel::StepForwardTrain | Kernel::SequenceForwardTrain => " (training)",
        _ => "",
    };
    format!("{}{part}", shader.kernel.name())
}

/// Prints one family's table.
pub fn report(driver: &Driver, family: &str, filter: Option<&str>) -> Result<(), Box<dyn Error>> {
    println!("\n## {family}: {}\n", driver.name);
    println!("| kernel | plan | VGPRs | spilled | scratch | LDS | waves | code | hot block | multiply-adds |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut seen = HashSet::new();
    for (what, plan) in plans()? {
        for shader in plan.shaders().iter().filter(|s| is_hot(s.kernel)) {
            let name = name(shader);
            if !seen.insert(shader.text.clone()) || filter.is_some_and(|f| !format!("{name} {what}").contains(f)) {
                continue;
            }
            let compiled = compile(driver, shader)?;
            println!("| {name} | {what} {}", row(&compiled));
            if std::env::var_os("ISA_ASSEMBLY").is_some() {
                println!("\n```text\n{}\n```\n", compiled.assembly);
            }
        }
    }
    Ok(())
}

fn row(compiled: &Compiled) -> String {
    let get = |name: &str| compiled.get(name).unwrap_or(0);
    let hot = hot_block(&compiled.assembly);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} ({} loops): {} buffer, {} scalar, {} shared, {} other vector | {} % |",
        get("VGPRs"),
        get("Spilled VGPRs") + get("Spilled SGPRs"),
        get("Scratch size"),
        get("LDS size"),
        get("Subgroups per SIMD"),
        get("Code size"),
        hot.all,
        hot.depth,
        hot.vector_memory,
        hot.scalar_memory,
        hot.shared_memory,
        hot.vector,
        hot.share()
    )
}

/// Through naga as wgpu's Vulkan backend uses it for trusted modules, and the driver.
pub fn compile(driver: &Driver, shader: &Shader) -> Result<Compiled, Box<dyn Error>> {
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy::Unchecked};
    let module = naga::front::wgsl::parse_str(&shader.text)?;
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
    let entry = naga::back::spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    let words = naga::back::spv::write_vec(&module, &info, &options, Some(&entry))?;
    let bindings: Vec<_> = shader
        .kernel
        .bindings()
        .iter()
        .enumerate()
        .map(|(n, (_, access))| {
            let uniform = *access == Access::Uniform;
            (n as u32, if uniform { vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC } else { vk::DescriptorType::STORAGE_BUFFER })
        })
        .collect();
    driver.compile(&words, &bindings)
}
