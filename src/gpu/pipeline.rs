//! Kernels as compiled pipelines, with explicit layouts from the kernel table.

use super::device::Gpu;
use crate::config::RnnConfig;
use crate::error::Result;
use crate::kernels::{Access, Variant, source};
use crate::plan::Dims;

/// A compiled kernel.
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

pub(super) fn create(gpu: &Gpu, config: &RnnConfig, variant: &Variant) -> Result<Pipeline> {
    let Variant { kernel, stage, .. } = *variant;
    let label = format!("wgpu-rnn {} {} stage {stage}", kernel.name(), config.cell.name);
    gpu.scoped(&format!("compiling {label}"), || {
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source(config, variant).into()),
        });
        let entry = |(binding, (_, access)): (usize, &(&str, Access))| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: match access {
                Access::Uniform => wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: std::num::NonZero::new(uniform_size(binding)),
                },
                Access::Read | Access::ReadWrite => wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
            },
            count: None,
        };
        let entries: Vec<_> = kernel.bindings().iter().enumerate().map(entry).collect();
        let layout = gpu
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it; the NaN-filled tests hold it to that.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    })
}

/// Bytes of the uniform at a binding: 0 is `Dims`, 1 is the step index.
pub(super) fn uniform_size(binding: usize) -> u64 {
    if binding == 0 { size_of::<Dims>() as u64 } else { 4 }
}
