//! How long a loop may be: Mesa's llvmpipe up to 22.3 ends all loops of an invocation, without a word, once together they have gone
//! round 65,535 times; 25.0 and 26.1 do not. Found out by running one.

use super::device::Gpu;
use super::pipeline::create;
use crate::error::{Error, Result};
use crate::plan::FEW_ROUNDS;

const TEXT: &str = include_str!("../../../shaders/lib/rounds.wgsl");

/// Rounds that are run: a loop that is not ended by then is never ended.
const ROUNDS: u32 = 2 * FEW_ROUNDS as u32;
const START: u32 = 12345;

/// What a device lets loops of an invocation go round. Waits for it: a software rasteriser works on this machine's own threads.
pub(super) fn measure(gpu: &Gpu) -> Result<usize> {
    let storage = wgpu::BindGroupLayoutEntry {
        binding: 0,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: false },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let pipeline = create(gpu, "rounds", TEXT, &[storage], true)?;
    let (what, size) = ("finding out how long a loop may be", 8);
    let (given, told) = gpu.scoped(what, || {
        use wgpu::BufferUsages as Usage;
        let buffer = |usage| {
            let label = Some("rounds");
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        };
        let data = buffer(Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let told = buffer(Usage::MAP_READ | Usage::COPY_DST);
        gpu.queue.write_buffer(&data, 0, bytemuck::bytes_of(&[ROUNDS, START]));
        let bindings = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("rounds"),
            layout: &pipeline.layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: data.as_entire_binding() }],
        });
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&data, 0, &told, 0, size);
        gpu.queue.submit([encoder.finish()]);
        told.map_async(wgpu::MapMode::Read, .., |_| {});
        (data, told)
    })?;
    gpu.wait()?;
    let unreadable = |e: wgpu::MapRangeError| Error::Gpu { what: what.into(), reason: e.to_string() };
    let view = told.get_mapped_range(..).map_err(unreadable)?;
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&view);
    drop((view, given));
    let round = |x: u32, _| (x ^ (x >> 7)).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    Ok(if words[1] == (0..ROUNDS).fold(START, round) { usize::MAX } else { FEW_ROUNDS })
}
