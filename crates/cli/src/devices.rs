//! `wgpu-rnn devices`: what could run a plan here, and what `Device::auto()` takes.

use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use wgpu_rnn::gpu::GpuInfo;
use wgpu_rnn::wgpu::Limits;
use wgpu_rnn::{Device, InstructionSet};

#[derive(clap::Args)]
pub struct Args {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let gpus = Device::list_gpus();
    let (cpu, auto) = (Device::cpu(), Device::auto());
    let mut out = std::io::stdout().lock();
    if args.json {
        let adapters: Vec<Value> = gpus.iter().map(adapter_json).collect();
        let value = json!({
            "adapters": adapters,
            "cpu": { "name": cpu.to_string(), "threads": cpu.caps().parallel_groups, "simd": simd(&cpu) },
            "auto": { "device": auto.kind(), "name": auto.to_string() },
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for gpu in &gpus {
        write_adapter(&mut out, gpu)?;
    }
    if gpus.is_empty() {
        writeln!(out, "no GPU adapter (a Vulkan, Metal or DX12 driver is needed)")?;
    }
    writeln!(out, "{cpu}\n  instruction set: {}; f32 and f64", simd(&cpu))?;
    writeln!(out, "auto: {auto}")?;
    Ok(ExitCode::SUCCESS)
}

/// The instruction set that the CPU executor's kernels are dispatched to.
fn simd(cpu: &Device) -> String {
    match cpu.instructions() {
        Some(InstructionSet::Avx512) => "x86-64-v4 (AVX-512)".into(),
        Some(InstructionSet::Avx2) => "x86-64-v3 (AVX2, FMA)".into(),
        set => set.map(|set| set.to_string()).unwrap_or_default(),
    }
}

/// The limits that decide what a plan may do, by wgpu's names.
fn limits(l: &Limits) -> [(&'static str, u64); 9] {
    [
        ("max_buffer_size", l.max_buffer_size),
        ("max_storage_buffer_binding_size", l.max_storage_buffer_binding_size),
        ("max_storage_buffers_per_shader_stage", l.max_storage_buffers_per_shader_stage.into()),
        ("max_compute_workgroup_storage_size", l.max_compute_workgroup_storage_size.into()),
        ("max_compute_invocations_per_workgroup", l.max_compute_invocations_per_workgroup.into()),
        ("max_compute_workgroup_size_x", l.max_compute_workgroup_size_x.into()),
        ("max_compute_workgroups_per_dimension", l.max_compute_workgroups_per_dimension.into()),
        ("max_uniform_buffer_binding_size", l.max_uniform_buffer_binding_size),
        ("max_bind_groups", l.max_bind_groups.into()),
    ]
}

fn adapter_json(gpu: &GpuInfo) -> Value {
    let limits: serde_json::Map<String, Value> =
        limits(&gpu.limits).into_iter().map(|(name, v)| (name.to_string(), v.into())).collect();
    json!({
        "name": gpu.name,
        "backend": gpu.backend,
        "driver": gpu.driver,
        "device_type": gpu.device_type,
        "software": gpu.software,
        "f16": gpu.f16,
        "subgroups": gpu.subgroups,
        "timestamps": gpu.timestamps,
        "limits": limits,
    })
}

fn write_adapter(out: &mut impl Write, gpu: &GpuInfo) -> std::io::Result<()> {
    let software = if gpu.software { ", a software rasteriser" } else { "" };
    writeln!(out, "{}", gpu.name)?;
    writeln!(out, "  backend: {}; type: {}{software}; driver: {}", gpu.backend, gpu.device_type, gpu.driver)?;
    let yes = |v: bool| if v { "yes" } else { "no" };
    writeln!(out, "  f16: {}; subgroups: {}; timestamps: {}", yes(gpu.f16), yes(gpu.subgroups), yes(gpu.timestamps))?;
    for (name, value) in limits(&gpu.limits) {
        writeln!(out, "  {name}: {value}")?;
    }
    Ok(())
}
