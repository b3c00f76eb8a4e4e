//! Proofs about the kernels of networks that need no GPU: every text of every rule and operation parses, validates and translates.

use crate::networks::{of_everything, of_rule};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ResourceBinding};
use std::collections::BTreeSet;
use std::sync::Arc;
use wgpu_rnn::network::{Network, NetworkOptions, NetworkPlan, Parallel};
use wgpu_rnn::{Caps, DeviceClass, Result, Shape, rules};

/// What WebGPU guarantees on every GPU.
fn webgpu_caps() -> Caps {
    let l = wgpu_rnn::wgpu::Limits::default();
    Caps {
        class: DeviceClass::Gpu,
        max_binding: l.max_storage_buffer_binding_size,
        max_buffer: l.max_buffer_size,
        max_workgroup_memory: l.max_compute_workgroup_storage_size as usize,
        max_invocations: l.max_compute_invocations_per_workgroup as usize,
        max_workgroups: l.max_compute_workgroups_per_dimension as usize,
        parallel_groups: 64,
        f16: false,
    }
}

fn parse(text: &str, label: &str) -> (Module, ModuleInfo) {
    let module =
        naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{label}: {}\n{text}", e.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{label}: {}\n{text}", e.emit_to_string(text)));
    (module, info)
}

fn binding(number: u32) -> ResourceBinding {
    ResourceBinding { group: 0, binding: number }
}

fn to_spirv(module: &Module, info: &ModuleInfo) -> std::result::Result<bool, String> {
    let words = naga::back::spv::write_vec(module, info, &naga::back::spv::Options::default(), None);
    Ok(words.map_err(|e| e.to_string())?.first() == Some(&0x0723_0203))
}

fn to_msl(module: &Module, info: &ModuleInfo) -> std::result::Result<bool, String> {
    use naga::back::msl;
    let target =
        |n: u32| (binding(n), msl::BindTarget { buffer: Some(n as u8), mutable: n == 1, ..Default::default() });
    let resources = msl::EntryPointResources {
        resources: (0..4).map(target).collect(),
        sizes_buffer: Some(30),
        ..Default::default()
    };
    let options = msl::Options {
        lang_version: (2, 0),
        per_entry_point_map: [("main".to_string(), resources)].into(),
        fake_missing_bindings: false,
        ..Default::default()
    };
    let written = msl::write_string(module, info, &options, &msl::PipelineOptions::default());
    let (text, translation) = written.map_err(|e| e.to_string())?;
    translation.entry_point_names[0].as_ref().map_err(|e| e.to_string())?;
    Ok(text.contains("kernel void"))
}

fn to_hlsl(module: &Module, info: &ModuleInfo) -> std::result::Result<bool, String> {
    use naga::back::hlsl;
    let target = |n: u32| (binding(n), hlsl::BindTarget { register: n, ..Default::default() });
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V5_1,
        binding_map: (0..4).map(target).collect(),
        fake_missing_bindings: false,
        ..Default::default()
    };
    let (pipeline, mut text) = (hlsl::PipelineOptions::default(), String::new());
    let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
    written.map_err(|e| e.to_string())?.entry_point_names[0].as_ref().map_err(|e| e.to_string())?;
    Ok(text.contains("numthreads"))
}

fn to_glsl(module: &Module, info: &ModuleInfo) -> std::result::Result<bool, String> {
    use naga::back::glsl;
    let options = glsl::Options {
        version: glsl::Version::Desktop(430),
        binding_map: (0..4).map(|n| (binding(n), n as u8)).collect(),
        ..Default::default()
    };
    let pipeline =
        glsl::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into(), multiview: None };
    let (mut text, policies) = (String::new(), naga::proc::BoundsCheckPolicies::default());
    let writer = glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies);
    writer.and_then(|mut w| w.write()).map_err(|e| e.to_string())?;
    Ok(text.contains("void main()"))
}

/// All texts of a network, inferring and training.
fn texts(network: &Arc<Network>) -> Result<BTreeSet<(&'static str, String)>> {
    let mut all = BTreeSet::new();
    for (parallel, train) in [(Parallel::Recurrent, false), (Parallel::Recurrent, true), (Parallel::Chunked, true)] {
        let options = NetworkOptions { parallel: Some(parallel), train, ..Default::default() };
        let plan = NetworkPlan::new(network, Shape { time: 70, batch: 3 }, &webgpu_caps(), &options)?;
        all.extend(plan.shaders()?);
    }
    Ok(all)
}

#[test]
fn every_text_parses_validates_and_translates() -> Result<()> {
    let mut networks = vec![of_everything()?];
    for rule in rules::ALL {
        networks.push(of_rule(rule, false)?);
    }
    let mut all = BTreeSet::new();
    for network in &networks {
        all.extend(texts(network)?);
    }
    println!("{} texts", all.len());
    let kernels: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    assert!(kernels.len() >= 18, "{kernels:?}");
    for (name, text) in &all {
        assert!(!text.contains(" tanh("), "{name}: tanh of the driver may give NaN");
        let (module, info) = parse(text, name);
        let targets = [
            ("spirv", to_spirv(&module, &info)),
            ("msl", to_msl(&module, &info)),
            ("hlsl", to_hlsl(&module, &info)),
            ("glsl", to_glsl(&module, &info)),
        ];
        for (target, result) in targets {
            assert_eq!(result, Ok(true), "{name} as {target}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn layers_of_equal_shape_share_their_texts() -> Result<()> {
    let network = of_rule(&rules::GATED_DELTA, false)?;
    let reverse = of_rule(&rules::GATED_DELTA, true)?;
    assert_eq!(texts(&network)?, texts(&reverse)?, "the way over time is a word, not a text");
    Ok(())
}
