//! What tests of shaders share: naga's check of a text, its translation to every language that wgpu's backends take.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ResourceBinding, back};

/// The module of a text.
pub fn parse(text: &str, label: &str) -> (Module, ModuleInfo) {
    let module =
        naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{label}: {}\n{text}", e.emit_to_string(text)));
    // No capability beyond core WebGPU, of which unpack2x16float is part (naga counts it apart for OpenGL ES 3.0), but for f16
    // where activations are.
    let half = if text.starts_with("enable f16;") { Capabilities::SHADER_FLOAT16 } else { Capabilities::empty() };
    // And but for what llvmpipe's lanes give each other.
    let lanes = if text.contains("subgroupBroadcast(") { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let info = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32 | half | lanes)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{label}: {}\n{text}", e.emit_to_string(text)));
    (module, info)
}

fn binding(number: usize) -> ResourceBinding {
    ResourceBinding { group: 0, binding: number as u32 }
}

/// By target, whether it could be translated; `mutable`: whether it writes each binding.
pub fn to_every_language(
    module: &Module,
    info: &ModuleInfo,
    mutable: &[bool],
) -> [(&'static str, Result<(), String>); 6] {
    use back::{glsl::Version, hlsl::ShaderModel};
    let count = mutable.len();
    [
        ("spirv", to_spirv(module, info)),
        ("msl", to_msl(module, info, mutable)),
        ("hlsl 5.1", to_hlsl(module, info, count, ShaderModel::V5_1)),
        ("hlsl 6.0", to_hlsl(module, info, count, ShaderModel::V6_0)),
        ("glsl es 310", to_glsl(module, info, count, Version::new_gles(310))),
        ("glsl 430", to_glsl(module, info, count, Version::Desktop(430))),
    ]
}

fn to_spirv(module: &Module, info: &ModuleInfo) -> Result<(), String> {
    let words = back::spv::write_vec(module, info, &back::spv::Options::default(), None);
    assert_eq!(words.map_err(|e| e.to_string())?.first(), Some(&0x0723_0203), "SPIR-V's magic number");
    Ok(())
}

fn to_msl(module: &Module, info: &ModuleInfo, mutable: &[bool]) -> Result<(), String> {
    use back::msl;
    let target = |(n, &mutable): (usize, &bool)| {
        (binding(n), msl::BindTarget { buffer: Some(n as u8), mutable, ..Default::default() })
    };
    let resources = msl::EntryPointResources {
        resources: mutable.iter().enumerate().map(target).collect(),
        sizes_buffer: Some(30),
        ..Default::default()
    };
    let options = msl::Options {
        lang_version: (2, 0),
        per_entry_point_map: [("main".to_string(), resources)].into(),
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let (text, translation) =
        msl::write_string(module, info, &options, &msl::PipelineOptions::default()).map_err(|e| e.to_string())?;
    translation.entry_point_names[0].as_ref().map_err(|e| e.to_string())?;
    text.contains("kernel void").then_some(()).ok_or("no kernel in the text".into())
}

fn to_hlsl(module: &Module, info: &ModuleInfo, bindings: usize, model: back::hlsl::ShaderModel) -> Result<(), String> {
    use back::hlsl;
    let target = |n| (binding(n), hlsl::BindTarget { register: n as u32, ..Default::default() });
    let options = hlsl::Options {
        shader_model: model,
        binding_map: (0..bindings).map(target).collect(),
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let pipeline = hlsl::PipelineOptions::default();
    let mut text = String::new();
    let reflection =
        hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    reflection.entry_point_names[0].as_ref().map_err(|e| e.to_string())?;
    text.contains("numthreads").then_some(()).ok_or("no kernel in the text".into())
}

fn to_glsl(module: &Module, info: &ModuleInfo, bindings: usize, version: back::glsl::Version) -> Result<(), String> {
    use back::glsl;
    let options = glsl::Options {
        version,
        binding_map: (0..bindings).map(|n| (binding(n), n as u8)).collect(),
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let pipeline =
        glsl::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into(), multiview: None };
    let mut text = String::new();
    let policies = naga::proc::BoundsCheckPolicies::default();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies)
        .and_then(|mut w| w.write())
        .map_err(|e| e.to_string())?;
    text.contains("void main()").then_some(()).ok_or("no kernel in the text".into())
}
