//! Kernels as compiled pipelines, with explicit layouts from the kernel table.

use super::device::Gpu;
use crate::error::Result;
use crate::kernels::{Access, Variant, source};
use crate::model::cells;
use crate::model::stack::RnnConfig;
use crate::plan::Dims;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// Pipelines that a device keeps for sessions to come: more than any network has kernels. (Mesa's lavapipe takes about 1 MB for
/// each; those of sessions that live are theirs, kept here or not.)
const KEPT: usize = 256;

/// A text's pipeline, once it is compiled; whoever compiles it holds the lock.
type Place = Arc<Mutex<Option<Arc<Pipeline>>>>;

/// What a device has compiled, by name and text: at most [`KEPT`], the one that nobody has asked for longest goes first.
#[derive(Default)]
pub(super) struct Kept {
    places: HashMap<(&'static str, String), (Place, u64)>,
    /// How often any was asked for.
    asked: u64,
}

impl Kept {
    fn place(&mut self, key: &(&'static str, String)) -> Place {
        self.asked += 1;
        if let Some((place, last)) = self.places.get_mut(key) {
            *last = self.asked;
            return Arc::clone(place);
        }
        if self.places.len() >= KEPT {
            let oldest = self.places.iter().min_by_key(|(_, (_, last))| *last).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.places.remove(&key));
        }
        let place = Place::default();
        self.places.insert(key.clone(), (Arc::clone(&place), self.asked));
        place
    }
}

/// The kernel's pipeline, and whether it was made now.
pub(super) fn get(gpu: &Gpu, config: &RnnConfig, variant: &Variant) -> Result<(Arc<Pipeline>, bool)> {
    let text = source(config, variant);
    let label = format!("wgpu-rnn {} {} stage {}", variant.kernel.name(), config.cell.name, variant.stage);
    // A cell from outside is text that may name any buffer: nothing is known of its indices.
    let checked = gpu.checked || !cells::is_own(config.cell);
    let entries: Vec<_> = variant.kernel.bindings().iter().enumerate().map(entry).collect();
    kept(gpu, variant.kernel.name(), text, |text| create(gpu, &label, text, &entries, checked))
}

/// The pipeline of a text of this crate's own, with the entries of its one bind group; `checked`: its indices, while it runs.
pub(crate) fn pipeline_of(
    gpu: &Gpu,
    name: &'static str,
    text: &str,
    entries: &[wgpu::BindGroupLayoutEntry],
    checked: bool,
) -> Result<Arc<Pipeline>> {
    let label = format!("wgpu-rnn {name}");
    kept(gpu, name, text.into(), |text| create(gpu, &label, text, entries, checked)).map(|(pipeline, _)| pipeline)
}

/// A device compiles a text once, whichever threads ask for it. One that fails is tried again by the next that asks.
fn kept(
    gpu: &Gpu,
    name: &'static str,
    text: String,
    create: impl FnOnce(&str) -> Result<Pipeline>,
) -> Result<(Arc<Pipeline>, bool)> {
    let key = (name, text);
    let place = gpu.pipelines.lock().unwrap_or_else(PoisonError::into_inner).place(&key);
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipeline) = &*place {
        return Ok((Arc::clone(pipeline), false));
    }
    let pipeline = Arc::new(create(&key.1)?);
    *place = Some(Arc::clone(&pipeline));
    Ok((pipeline, true))
}

/// The pipelines of many variants, in their order, each with whether it was made now: compiled by as many threads as there are
/// cores. wgpu's error scopes belong to a thread; each opens its own.
#[cfg(not(target_family = "wasm"))]
pub(super) fn get_all(gpu: &Gpu, config: &RnnConfig, variants: &[Variant]) -> Result<Vec<(Arc<Pipeline>, bool)>> {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(variants.len());
    if threads <= 1 {
        return variants.iter().map(|variant| get(gpu, config, variant)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        while let Some((n, variant)) = variants.iter().enumerate().nth(next.fetch_add(1, Relaxed)) {
            made.push((n, get(gpu, config, variant)));
        }
        made
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(made) => all.extend(made),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, made)| made).collect()
}

/// The same one after the other, which costs little: a browser compiles while this goes on.
#[cfg(target_family = "wasm")]
pub(super) fn get_all(gpu: &Gpu, config: &RnnConfig, variants: &[Variant]) -> Result<Vec<(Arc<Pipeline>, bool)>> {
    variants.iter().map(|variant| get(gpu, config, variant)).collect()
}

/// A binding of the kernel table, as wgpu wants it.
pub(super) fn entry((binding, (_, access)): (usize, &(&str, Access))) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
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
    }
}

pub(super) fn create(
    gpu: &Gpu,
    label: &str,
    text: &str,
    entries: &[wgpu::BindGroupLayoutEntry],
    checked: bool,
) -> Result<Pipeline> {
    gpu.scoped(&format!("compiling {label}"), || {
        let module = shader_module(gpu, label, text, checked);
        let layout =
            gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries });
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
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

/// The module, validated in any case; `checked`: while it runs, too.
fn shader_module(gpu: &Gpu, label: &str, text: &str, checked: bool) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
    if checked {
        return gpu.device.create_shader_module(descriptor);
    }
    // SAFETY: without checks every index must be in range, every loop must end, and nothing may be read before it is written
    // in workgroup memory. The kernels are this crate's own. Their indices are made of constants and `Dims` of the plan that
    // sized the bound slots (a caller's own buffers are refused where they are smaller, `Executor::bind_io`), of the schedule,
    // which `Schedule` makes from lengths it has checked, and of ids and classes checked against their tables when they are
    // written; lanes past an edge are clamped or return. Every loop counts to one of these. Kernels of networks index one arena, at
    // offsets and by sizes of the `Program` that sized it, and by lengths in 0..=T that the session has checked; the expressions in
    // them only calculate. Buffers of the host's own are refused there, too, where they are smaller (`network::Executor::bind_host`). Between a pool's
    // slots and a batch, slots are below the number that the pool has made, and pieces those of the plan (`States`). The tests run the kernels with checks,
    // which would turn an index out of range into a wrong number, and compare the bits with those of unchecked ones.
    unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// Bytes of the uniform at a binding: 0 is `Dims`, 1 is the step index.
pub(super) fn uniform_size(binding: usize) -> u64 {
    if binding == 0 { size_of::<Dims>() as u64 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked for again and again stays, however many others come and go.
    #[test]
    fn the_one_that_nobody_asked_for_longest_goes_first() {
        let mut kept = Kept::default();
        let key = |n: usize| ("kernel", n.to_string());
        let first = kept.place(&key(0));
        let second = kept.place(&key(1));
        for n in 2..2 * KEPT {
            kept.place(&key(n));
            assert!(Arc::ptr_eq(&first, &kept.place(&key(0))), "{n}");
            assert!(kept.places.len() <= KEPT);
        }
        assert!(!Arc::ptr_eq(&second, &kept.place(&key(1))));
    }
}
