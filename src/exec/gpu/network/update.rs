//! The update of a network's parameters: its own in one dispatch, stacks' by their plans, all in one submit; and before it, where
//! gradients are clipped, one norm over all of them.

use super::{Executor, buffer};
use crate::error::Result;
use crate::exec::Stack;
use crate::exec::gpu::device::Gpu;
use crate::exec::gpu::pipeline::{Pipeline, pipeline_of};
use crate::exec::gpu::read::download;
use crate::kernels::NORM_GROUPS;
use crate::model::optimiser::{Hyper, Optimiser};
use crate::plan::Half;
use crate::plan::network::{NetworkPlan, Program, clip_text, squares_text, update_groups, update_text};
use std::sync::{Arc, PoisonError};

/// Bytes of a stack's, or the own parameters', sums of squares.
const SUMS: u64 = 4 * NORM_GROUPS as u64;

/// An optimiser over the parameters of a network.
pub(super) struct Update {
    /// What the host writes before every update; behind it, as bits, where the gradients of the own parameters begin and how many there
    /// are.
    hyper: wgpu::Buffer,
    /// For the parameters of the network's own operations, where there are any.
    own: Option<Bound>,
    clip: Option<Clip>,
}

/// The norm over all gradients.
struct Clip {
    /// The sums of squares of the own parameters' gradients, then those of every stack.
    sums: wgpu::Buffer,
    norm: wgpu::Buffer,
    squares: Option<Bound>,
    clip: Bound,
}

/// A kernel and what it works on.
struct Bound {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

impl Bound {
    /// `buffers`: each with whether the kernel only reads it.
    fn new(gpu: &Gpu, name: &'static str, text: &str, buffers: &[(&wgpu::Buffer, bool)]) -> Result<Self> {
        let entry = |(n, (_, read_only)): (usize, &(&wgpu::Buffer, bool))| wgpu::BindGroupLayoutEntry {
            binding: n as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: *read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let layout: Vec<_> = buffers.iter().enumerate().map(entry).collect();
        let pipeline = pipeline_of(gpu, name, text, &layout, gpu.checked)?;
        let group = gpu.scoped("creating an optimiser's bind group", || {
            let resources = buffers.iter().map(|(buffer, _)| buffer.as_entire_binding()).enumerate();
            let entries: Vec<_> =
                resources.map(|(n, resource)| wgpu::BindGroupEntry { binding: n as u32, resource }).collect();
            let layout = &pipeline.layout;
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries })
        })?;
        Ok(Self { pipeline, group })
    }

    fn dispatch(&self, encoder: &mut wgpu::CommandEncoder, groups: u32) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(groups, 1, 1);
    }
}

impl Update {
    /// None where there is no optimiser.
    pub fn new(
        gpu: &Gpu,
        plan: &NetworkPlan,
        program: &Program,
        [arena, params]: [&wgpu::Buffer; 2],
    ) -> Result<Option<Self>> {
        let Some(optimiser) = plan.options.optimiser else { return Ok(None) };
        let (count, stacks) = (program.params.1, plan.layers.len());
        let clips = plan.options.clip_norm.is_some();
        let [hyper, moments, sums, norm] = gpu.scoped("creating an optimiser's buffers", || {
            let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let of = |label, len: usize| buffer(gpu, label, len, storage);
            [
                of("network.hyper", Hyper::COUNT + 2),
                of("network.moments", optimiser.moments() * count),
                of("network.sums", if clips { NORM_GROUPS * (1 + stacks) } else { 0 }),
                of("network.norm", 1),
            ]
        })?;
        let own = Self::own(gpu, optimiser, count, [&hyper, arena, params, &moments])?;
        let clip = match clips {
            true => {
                let buffers = [(&hyper, true), (arena, true), (&sums, false)];
                let squares = (count > 0).then(|| Bound::new(gpu, "network.update_squares", &squares_text(), &buffers));
                let text = clip_text(NORM_GROUPS * (1 + stacks));
                let clip =
                    Bound::new(gpu, "network.update_clip", &text, &[(&sums, true), (&norm, false), (&hyper, false)])?;
                Some(Clip { sums, norm, squares: squares.transpose()?, clip })
            }
            false => None,
        };
        Ok(Some(Self { hyper, own, clip }))
    }

    fn own(gpu: &Gpu, optimiser: Optimiser, count: usize, buffers: [&wgpu::Buffer; 4]) -> Result<Option<Bound>> {
        if count == 0 {
            return Ok(None);
        }
        let [hyper, arena, params, moments] = buffers;
        let buffers = [(hyper, true), (arena, true), (params, false), (moments, false)];
        Bound::new(gpu, "network.update", &update_text(optimiser), &buffers).map(Some)
    }
}

impl Clip {
    /// What every update multiplies gradients by, into `hyper`, from the gradients that are there.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, stacks: &[Stack<f32>]) {
        match &self.squares {
            Some(squares) => squares.dispatch(encoder, NORM_GROUPS as u32),
            None => encoder.clear_buffer(&self.sums, 0, Some(SUMS)),
        }
        for (n, sums) in stacks.iter().map(Stack::sums_buffer).enumerate() {
            if let Some(sums) = sums {
                encoder.copy_buffer_to_buffer(sums, 0, &self.sums, SUMS * (1 + n as u64), SUMS);
            }
        }
        self.clip.dispatch(encoder, 1);
    }
}

impl Executor {
    /// One update of all parameters.
    pub(crate) fn update(&mut self, hyper: &[f32]) -> Result<()> {
        let turn = self.turn();
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(update) = &self.update else { return Ok(()) };
        let mut words: Vec<u32> = hyper.iter().map(|v| v.to_bits()).collect();
        words.extend([self.program.param_gradients as u32, self.program.params.1 as u32]);
        self.submits += 1;
        self.bytes_written += 4 * words.len() as u64;
        for stack in &mut self.layers {
            stack.write_hyper(hyper)?;
        }
        let stacks = &self.layers;
        self.gpu.submit("updating parameters", || {
            self.gpu.queue.write_buffer(&update.hyper, 0, bytemuck::cast_slice(&words));
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            match &update.clip {
                None => stacks.iter().for_each(|stack| {
                    let (before, after) = stack.update_parts();
                    stack.encode_steps(&mut encoder, Half::Update, before.start..after.end);
                }),
                Some(clip) => {
                    stacks
                        .iter()
                        .for_each(|stack| stack.encode_steps(&mut encoder, Half::Update, stack.update_parts().0));
                    clip.encode(&mut encoder, stacks);
                    let (at, scale) = (4 * Hyper::Scale as u64, 4);
                    for stack in stacks {
                        if let Some(hyper) = stack.hyper_buffer() {
                            encoder.copy_buffer_to_buffer(&update.hyper, at, hyper, at, scale);
                        }
                        stack.encode_steps(&mut encoder, Half::Update, stack.update_parts().1);
                    }
                }
            }
            if let Some(own) = &update.own {
                own.dispatch(&mut encoder, update_groups(self.program.params.1));
            }
            self.gpu.queue.submit([encoder.finish()]);
        })
    }

    /// The norm of all gradients at the last update, where they are clipped.
    pub(crate) async fn gradient_norm(&self) -> Result<f32> {
        let Some(clip) = self.update.as_ref().and_then(|u| u.clip.as_ref()) else { return Ok(f32::NAN) };
        Ok(download(&self.gpu, &clip.norm, 0, 1).await?[0])
    }

    /// Zeros in the gradients of all parameters.
    pub(crate) fn clear_param_gradients(&mut self) -> Result<()> {
        self.layers.iter_mut().try_for_each(Stack::clear_gradients)?;
        self.submits += 1;
        self.gpu.submit("clearing gradients", || {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.clear_own(&mut encoder);
            self.gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Zeros in the gradients of the own parameters.
    pub(super) fn clear_own(&self, encoder: &mut wgpu::CommandEncoder) {
        let (at, size) = (4 * self.program.param_gradients as u64, 4 * self.program.params.1 as u64);
        if size > 0 {
            encoder.clear_buffer(&self.arena, at, Some(size));
        }
    }
}
