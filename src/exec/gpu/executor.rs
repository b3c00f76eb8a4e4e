//! A plan bound to a device: buffers, pipelines and bind groups made once, then only encoded.

mod slots;

use super::device::Gpu;
use super::pipeline::{self, Pipeline, uniform_size};
use super::states::{Moved, Target};
use crate::error::{Error, Result};
use crate::exec::Startup;
use crate::exec::states::Piece;
use crate::kernels::{Access, Encoder, Pack, Variant};
use crate::num::Clock;
use crate::plan::schedule::Schedule;
use crate::plan::{Dims, Dispatch, Half, Plan, Role, SlotId, Step, Strategy};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What sessions of one configuration share: weights and pipelines.
struct Shared {
    gpu: Arc<Gpu>,
    /// The packed weights of the plan that made them; training plans have more.
    weights: HashMap<Pack, wgpu::Buffer>,
    /// Those of the device that they use: a text need not be made to find its pipeline.
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
}

/// A plan's buffers and bind groups on a device.
pub(crate) struct Executor {
    shared: Arc<Shared>,
    slots: Vec<wgpu::Buffer>,
    uniforms: Uniforms,
    /// Per entry of `plan.steps`, of `plan.backward` and of `plan.update`, per dispatch in it.
    dispatches: [Vec<Vec<Bound>>; 3],
    /// Readback buffers of the outputs.
    readback: Vec<(SlotId, wgpu::Buffer)>,
    created: AtomicUsize,
    startup: Startup,
}

/// The uniform blocks: all `Dims`, and the step indices of a block.
struct Uniforms {
    dims: wgpu::Buffer,
    steps: wgpu::Buffer,
    /// Distance between two blocks.
    stride: u32,
}

/// A dispatch with its pipeline and bind groups (the second for odd steps).
struct Bound {
    pipeline: Arc<Pipeline>,
    even: wgpu::BindGroup,
    odd: Option<wgpu::BindGroup>,
}

/// A dispatch with what it binds and, where it runs once per step, its step and the first step of its block.
#[cfg(not(target_family = "wasm"))]
type Run<'a> = (&'a Dispatch, &'a Bound, Option<(usize, usize)>);

/// Sees a dispatch after it ran, its step if it runs once per step, and the values of a slot it wrote.
#[cfg(not(target_family = "wasm"))]
pub(crate) type Watch<'a> = dyn FnMut(&Dispatch, Option<usize>, SlotId, Vec<f32>) + 'a;

/// The caller's own buffers instead of the session's; `None` keeps the session's. All need `BufferUsages::STORAGE` and the
/// sizes of the plan's slots, and must be made by the session's own `wgpu::Device` ([`crate::Device::wgpu`]): wgpu refuses those
/// of another device of the same instance, but does not detect those of another instance. With [`crate::Options::activations`] in f16,
/// x and y are f16 there too: 2 bytes a value, their sum rounded up to a multiple of 4.
#[derive(Clone, Copy, Default)]
pub struct IoBuffers<'a> {
    /// x `[T, B, I]` (or `[B, T, I]`, as configured)
    pub x: Option<&'a wgpu::Buffer>,
    /// h0 `[L·D, B, P or H]`
    pub h0: Option<&'a wgpu::Buffer>,
    /// c0 `[L·D, B, S·H]` ([`crate::RnnConfig::cell_size`])
    pub c0: Option<&'a wgpu::Buffer>,
    /// y `[T, B, D·(P or H)]`; also needs `COPY_DST` (ragged batches clear it)
    pub y: Option<&'a wgpu::Buffer>,
    /// hn `[L·D, B, P or H]`; where a sequence has length 0 it needs `COPY_DST`, too ([`crate::Empty::Zero`] clears it)
    pub hn: Option<&'a wgpu::Buffer>,
    /// cn `[L·D, B, S·H]`; as hn
    pub cn: Option<&'a wgpu::Buffer>,
}

/// Bind groups over the caller's buffers, from [`crate::Session::bind`].
pub struct IoBinding {
    dispatches: Vec<Vec<Bound>>,
    replaced: HashMap<SlotId, wgpu::Buffer>,
}

impl Executor {
    /// `parameters`: all of them, in canonical order.
    pub(crate) fn new(gpu: &Arc<Gpu>, plan: &Plan, parameters: &[f32]) -> Result<Self> {
        let start = Clock::start();
        let weights = gpu.scoped("uploading weights", || {
            let encoder = Encoder::new(&plan.config, plan.options.weights, parameters);
            let upload = |(slot, pack): (SlotId, Pack)| {
                let data = encoder.words(pack);
                let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(&plan.slots[slot].name),
                    size: size_of_val(&data[..]) as u64,
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&data));
                (pack, buffer)
            };
            plan.ids.packs().into_iter().map(upload).collect()
        })?;
        let shared = Shared { gpu: Arc::clone(gpu), weights, pipelines: Mutex::default() };
        let mut executor = Self::with_shared(Arc::new(shared), plan)?;
        if let Some(update) = &plan.ids.update {
            executor.write(update.parameters, bytemuck::cast_slice(parameters))?;
            for &(table, _, of) in &update.tables {
                let values = of.values(&plan.config, plan.slots[table].len());
                executor.write(table, bytemuck::cast_slice(&values))?;
            }
        }
        executor.startup.buffers = start.elapsed() - executor.startup.compile;
        Ok(executor)
    }

    /// Other parameters in the place of those it was made with: all of them, in canonical order.
    pub(crate) fn set_weights(&self, plan: &Plan, parameters: &[f32]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("uploading weights", || {
            let encoder = Encoder::new(&plan.config, plan.options.weights, parameters);
            for (pack, buffer) in &self.shared.weights {
                gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&encoder.words(*pack)));
            }
        })?;
        plan.ids.update.as_ref().map_or(Ok(()), |u| self.write(u.parameters, bytemuck::cast_slice(parameters)))
    }

    /// A slot's buffer.
    pub(crate) fn buffer(&self, slot: SlotId) -> &wgpu::Buffer {
        &self.slots[slot]
    }

    /// The same weights and pipelines for another shape.
    pub(crate) fn sibling(&self, plan: &Plan) -> Result<Self> {
        Self::with_shared(Arc::clone(&self.shared), plan)
    }

    fn with_shared(shared: Arc<Shared>, plan: &Plan) -> Result<Self> {
        let start = Clock::start();
        let gpu = Arc::clone(&shared.gpu);
        let (slots, uniforms, readback) = gpu.scoped("creating buffers", || {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let buffer = |label: &str, size: u64, usage| {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: size.next_multiple_of(4),
                    usage,
                    mapped_at_creation: false,
                })
            };
            let packs: HashMap<SlotId, Pack> = plan.ids.packs().into_iter().collect();
            let weights = |id: SlotId| shared.weights.get(packs.get(&id)?).cloned();
            let slots: Vec<_> = plan
                .slots
                .iter()
                .enumerate()
                .map(|(id, slot)| weights(id).unwrap_or_else(|| buffer(&slot.name, slot.bytes(), usage)))
                .collect();
            let stride =
                (size_of::<Dims>() as u32).next_multiple_of(gpu.info().limits.min_uniform_buffer_offset_alignment);
            let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let spread = |label: &str, blocks: &mut dyn Iterator<Item = Vec<u8>>| {
                let mut bytes = Vec::new();
                for block in blocks {
                    bytes.extend_from_slice(&block);
                    bytes.resize(bytes.len().next_multiple_of(stride as usize), 0);
                }
                let buffer = buffer(label, bytes.len() as u64, uniform);
                gpu.queue.write_buffer(&buffer, 0, &bytes);
                buffer
            };
            // With the time loop inside the kernel nothing reads a step's index.
            let steps = if plan.strategy == Strategy::Step { plan.block } else { 1 };
            let uniforms = Uniforms {
                dims: spread("dims", &mut plan.dims.iter().map(|d| bytemuck::bytes_of(d).to_vec())),
                steps: spread("steps", &mut (0..steps as u32).map(|s| s.to_le_bytes().to_vec())),
                stride,
            };
            let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let readback = plan
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| slot.role == Role::Output)
                .map(|(id, slot)| (id, buffer("readback", slot.bytes(), read)))
                .collect();
            (slots, uniforms, readback)
        })?;
        let (dispatches, created, startup) = (Default::default(), AtomicUsize::new(0), Startup::default());
        let mut executor = Self { shared, slots, uniforms, dispatches, readback, created, startup };
        executor.compile(plan)?;
        let none = HashMap::new();
        let bind = |half: Half| executor.bind_all(plan, plan.half(half).0, &none);
        executor.dispatches = [bind(Half::Forward)?, bind(Half::Backward)?, bind(Half::Update)?];
        executor.startup.buffers = start.elapsed() - executor.startup.compile;
        Ok(executor)
    }

    /// Pipelines and bind groups made so far; must not grow while a session runs.
    pub(crate) fn created(&self) -> usize {
        self.created.load(Relaxed)
    }

    /// Makes the pipelines of a plan that are not there yet: distinct ones, several at a time.
    fn compile(&mut self, plan: &Plan) -> Result<()> {
        let start = Clock::start();
        let steps = plan.steps.iter().chain(&plan.backward).chain(&plan.update);
        let mut wanted: Vec<Variant> = Vec::new();
        let mut seen = HashSet::new();
        wanted.extend(steps.flat_map(|s| s.body().0).map(|d| plan.variant(d)).filter(|v| seen.insert(*v)));
        self.startup.pipelines = wanted.len();
        {
            let known = self.shared.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.retain(|variant| !known.contains_key(variant));
        }
        let made = pipeline::get_all(&self.shared.gpu, &plan.config, &wanted)?;
        self.startup.compiled = made.iter().filter(|(_, now)| *now).count();
        self.created.fetch_add(self.startup.compiled, Relaxed);
        let mut pipelines = self.shared.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        pipelines.extend(wanted.into_iter().zip(made).map(|(variant, (pipeline, _))| (variant, pipeline)));
        self.startup.compile = start.elapsed();
        Ok(())
    }

    /// What making it took.
    pub(crate) fn startup(&self) -> Startup {
        self.startup
    }

    fn pipeline(&self, plan: &Plan, d: &Dispatch) -> Result<Arc<Pipeline>> {
        let key = plan.variant(d);
        let known = self.shared.pipelines.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(pipeline) = known {
            return Ok(pipeline);
        }
        let (pipeline, made) = pipeline::get(&self.shared.gpu, &plan.config, &key)?;
        self.created.fetch_add(usize::from(made), Relaxed);
        let mut pipelines = self.shared.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(pipelines.entry(key).or_insert(pipeline)))
    }

    fn bind_all(
        &self,
        plan: &Plan,
        steps: &[Step],
        replaced: &HashMap<SlotId, wgpu::Buffer>,
    ) -> Result<Vec<Vec<Bound>>> {
        steps
            .iter()
            .map(|step| {
                let list = match step {
                    Step::ClearPadding(_) => &[][..],
                    Step::Once(d) => std::slice::from_ref(d),
                    Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
                };
                list.iter().map(|d| self.bind(plan, d, replaced)).collect()
            })
            .collect()
    }

    fn bind(&self, plan: &Plan, d: &Dispatch, replaced: &HashMap<SlotId, wgpu::Buffer>) -> Result<Bound> {
        let pipeline = self.pipeline(plan, d)?;
        let group = |slots: &[SlotId]| {
            self.created.fetch_add(1, Relaxed);
            let mut slots = slots.iter();
            let entries: Vec<_> = d
                .kernel
                .bindings()
                .iter()
                .enumerate()
                .map(|(binding, (_, access))| {
                    let resource = match access {
                        Access::Uniform => {
                            let buffer = if binding == 0 { &self.uniforms.dims } else { &self.uniforms.steps };
                            let size = std::num::NonZero::new(uniform_size(binding));
                            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size })
                        }
                        _ => {
                            let id = slots.next().expect("one slot per storage binding");
                            replaced.get(id).unwrap_or(&self.slots[*id]).as_entire_binding()
                        }
                    };
                    wgpu::BindGroupEntry { binding: binding as u32, resource }
                })
                .collect();
            self.shared.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(d.kernel.name()),
                layout: &pipeline.layout,
                entries: &entries,
            })
        };
        let gpu = &self.shared.gpu;
        let (even, odd) =
            gpu.scoped("creating bind groups", || (group(&d.slots), d.odd.as_ref().map(|slots| group(slots))))?;
        Ok(Bound { pipeline, even, odd })
    }

    /// Bind groups over the caller's buffers.
    pub(crate) fn bind_io(&self, plan: &Plan, io: &IoBuffers<'_>) -> Result<IoBinding> {
        let ids = &plan.ids;
        let cn = plan.config.cell.has_cell_state().then_some(ids.cn);
        let given = [
            ("x", ids.embedding.is_none().then_some(ids.x), io.x),
            ("h0", Some(ids.h0), io.h0),
            ("c0", ids.c0, io.c0),
            ("y", Some(ids.y), io.y),
            ("hn", Some(ids.hn), io.hn),
            ("cn", cn, io.cn),
        ];
        let mut replaced = HashMap::new();
        for (name, id, buffer) in given {
            let Some(buffer) = buffer else { continue };
            let id = id.ok_or_else(|| {
                let expected = match name {
                    "x" => "none (the embedding makes x)".into(),
                    _ => format!("none ({} has no cell state)", plan.config.cell.name),
                };
                Error::mismatch(name, expected, "a buffer")
            })?;
            // A binding is whole words.
            let wanted = plan.slots[id].bytes().next_multiple_of(4);
            if buffer.size() < wanted {
                let got = format!("{} bytes", buffer.size());
                return Err(Error::mismatch(format!("buffer {name}"), format!("at least {wanted} bytes"), got));
            }
            replaced.insert(id, buffer.clone());
        }
        Ok(IoBinding { dispatches: self.bind_all(plan, &plan.steps, &replaced)?, replaced })
    }

    /// Encodes one submit's share of the plan: clears, then one compute pass.
    pub(crate) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        schedule: &Schedule,
        half: Half,
        part: Range<usize>,
        io: Option<&IoBinding>,
    ) {
        let steps = plan.half(half).0;
        let slot = |id: SlotId| io.and_then(|io| io.replaced.get(&id)).unwrap_or(&self.slots[id]);
        for step in &steps[part.clone()] {
            if let (Step::ClearPadding(id), true) = (step, schedule.is_ragged()) {
                encoder.clear_buffer(slot(*id), 0, None);
            }
        }
        let dispatches = io.map_or(&self.dispatches[half as usize], |io| &io.dispatches);
        let label = Some("wgpu-rnn");
        let mut pass = Pass {
            pass: encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None }),
            current: None,
        };
        for (step, bound) in steps[part.clone()].iter().zip(&dispatches[part.clone()]) {
            match step {
                Step::ClearPadding(_) => {}
                Step::Once(d) => pass.dispatch(self, plan, schedule, d, &bound[0], None),
                Step::EachStep(range, body) => {
                    for s in plan.steps_of(range, body, schedule) {
                        for (d, bound) in body.iter().zip(bound) {
                            pass.dispatch(self, plan, schedule, d, bound, Some((s, range.start)));
                        }
                    }
                }
                Step::EachStepBack(range, body) => {
                    for s in plan.steps_of(range, body, schedule).rev() {
                        for (d, bound) in body.iter().zip(bound) {
                            pass.dispatch(self, plan, schedule, d, bound, Some((s, range.start)));
                        }
                    }
                }
            }
        }
        drop(pass);
        // What writes states runs once, and nothing of the same part reads them.
        for step in &steps[part] {
            if let Step::Once(d) = step {
                clear_after(encoder, plan, schedule, d, slot);
            }
        }
    }

    /// Runs a pass of the plan, submit by submit, then copies `read` (outputs) to their readback buffers.
    pub(crate) fn run(&self, plan: &Plan, schedule: &Schedule, half: Half, read: &[SlotId]) -> Result<()> {
        self.shared.gpu.submit("running", || self.submit_all(plan, schedule, half, read, None))
    }

    /// The same of the way there, between states that are read from slots and written to slots.
    pub(crate) fn run_streams(
        &self,
        plan: &Plan,
        schedule: &Schedule,
        moved: Moved<'_>,
        read: &[SlotId],
    ) -> Result<()> {
        self.shared.gpu.submit("running streams", || {
            moved.write();
            self.submit_all(plan, schedule, Half::Forward, read, Some(moved));
        })
    }

    /// Where pieces of states are, buffer by buffer.
    pub(crate) fn targets(&self, pieces: &[Piece]) -> Vec<Target> {
        let mut all: Vec<(SlotId, Target)> = Vec::new();
        let mut at = 0;
        for piece in pieces {
            let place = [at, piece.first, piece.width];
            at += piece.width;
            match all.iter_mut().find(|(slot, _)| *slot == piece.slot) {
                Some((_, target)) => target.pieces.push(place),
                None => {
                    let buffer = self.slots[piece.slot].clone();
                    all.push((piece.slot, Target { buffer, pieces: vec![place] }));
                }
            }
        }
        all.into_iter().map(|(_, target)| target).collect()
    }

    fn submit_all(&self, plan: &Plan, schedule: &Schedule, half: Half, read: &[SlotId], moved: Option<Moved<'_>>) {
        let submits = plan.half(half).1;
        let gpu = &self.shared.gpu;
        for (n, part) in submits.iter().enumerate() {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            moved.filter(|_| n == 0).into_iter().for_each(|moved| moved.gather(&mut encoder));
            self.encode(&mut encoder, plan, schedule, half, part.clone(), None);
            if n + 1 == submits.len() {
                moved.into_iter().for_each(|moved| moved.scatter(&mut encoder));
                self.copy_out(&mut encoder, plan, read);
            }
            gpu.queue.submit([encoder.finish()]);
        }
    }

    /// Runs one entry of the plan and waits for it.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn run_entry(&self, plan: &Plan, schedule: &Schedule, half: Half, n: usize) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("running", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.encode(&mut encoder, plan, schedule, half, n..n + 1, None);
            gpu.queue.submit([encoder.finish()]);
        })?;
        gpu.wait()
    }

    /// Runs dispatch by dispatch; `watch` gets every read-write slot's values after each.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn trace(&self, plan: &Plan, schedule: &Schedule, half: Half, watch: &mut Watch<'_>) -> Result<()> {
        let gpu = &self.shared.gpu;
        for (step, bound) in plan.half(half).0.iter().zip(&self.dispatches[half as usize]) {
            let runs: Vec<Run<'_>> = match step {
                Step::ClearPadding(id) => {
                    if schedule.is_ragged() {
                        self.fill(plan, *id, 0.0)?;
                    }
                    continue;
                }
                Step::Once(d) => vec![(d, &bound[0], None)],
                Step::EachStep(range, body) => plan
                    .steps_of(range, body, schedule)
                    .flat_map(|s| body.iter().zip(bound).map(move |(d, b)| (d, b, Some((s, range.start)))))
                    .collect(),
                Step::EachStepBack(range, body) => plan
                    .steps_of(range, body, schedule)
                    .rev()
                    .flat_map(|s| body.iter().zip(bound).map(move |(d, b)| (d, b, Some((s, range.start)))))
                    .collect(),
            };
            for (d, bound, at) in runs {
                if plan.groups_y(d, schedule, at.map(|a| a.0)) == 0 {
                    continue;
                }
                gpu.submit("tracing", || {
                    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                    let pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    Pass { pass, current: None }.dispatch(self, plan, schedule, d, bound, at);
                    clear_after(&mut encoder, plan, schedule, d, |id| &self.slots[id]);
                    gpu.queue.submit([encoder.finish()]);
                })?;
                for id in written(d, at.map(|a| a.0)) {
                    watch(d, at.map(|a| a.0), id, gpu.block(self.download(plan, id))?);
                }
            }
        }
        Ok(())
    }
}

/// Zeros in states of sequences that have none, after the dispatch that wrote them ([`Plan::cleared_after`]).
fn clear_after<'a>(
    encoder: &mut wgpu::CommandEncoder,
    plan: &Plan,
    schedule: &Schedule,
    d: &Dispatch,
    buffer: impl Fn(SlotId) -> &'a wgpu::Buffer,
) {
    for (slot, values) in plan.cleared_after(d, schedule) {
        encoder.clear_buffer(buffer(slot), at(values.start), Some(at(values.len())));
    }
}

/// The read-write slots of a dispatch at a step.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn written(d: &Dispatch, step: Option<usize>) -> Vec<SlotId> {
    let slots = match (&d.odd, step) {
        (Some(odd), Some(s)) if s % 2 == 1 => odd,
        _ => &d.slots,
    };
    let storage = d.kernel.bindings().iter().filter(|b| b.1 != Access::Uniform);
    let mut list: Vec<_> = storage.zip(slots).filter(|(b, _)| b.1 == Access::ReadWrite).map(|(_, &s)| s).collect();
    list.dedup();
    list
}

/// Where a value of f32 starts in its buffer.
fn at(value: usize) -> u64 {
    (value * size_of::<f32>()) as u64
}

/// A compute pass that does not set the same pipeline twice in a row.
struct Pass<'a> {
    pass: wgpu::ComputePass<'a>,
    current: Option<Arc<Pipeline>>,
}

impl Pass<'_> {
    fn dispatch(
        &mut self,
        executor: &Executor,
        plan: &Plan,
        schedule: &Schedule,
        d: &Dispatch,
        bound: &Bound,
        at: Option<(usize, usize)>,
    ) {
        let groups = plan.groups_y(d, schedule, at.map(|a| a.0));
        if groups == 0 {
            return;
        }
        if !self.current.as_ref().is_some_and(|p| Arc::ptr_eq(p, &bound.pipeline)) {
            self.pass.set_pipeline(&bound.pipeline.pipeline);
            self.current = Some(Arc::clone(&bound.pipeline));
        }
        let stride = executor.uniforms.stride;
        let dims = d.dims as u32 * stride;
        match at {
            Some((step, first)) => {
                let group = if step % 2 == 1 { bound.odd.as_ref().unwrap_or(&bound.even) } else { &bound.even };
                self.pass.set_bind_group(0, group, &[dims, (step - first) as u32 * stride]);
            }
            None => self.pass.set_bind_group(0, &bound.even, &[dims]),
        }
        self.pass.dispatch_workgroups(d.groups.0 as u32, groups as u32, d.groups.2 as u32);
    }
}
