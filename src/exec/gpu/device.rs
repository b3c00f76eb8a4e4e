//! Adapter, device, limits, and turning wgpu's errors into ours.

use super::pipeline::Kept;
#[cfg(not(target_family = "wasm"))]
use super::rounds;
use crate::error::{Error, Result};
use crate::plan::{Caps, DeviceClass, FEW_ROUNDS};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(not(target_family = "wasm"))]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(target_family = "wasm")]
use {std::pin::Pin, std::task::Poll};

/// A wgpu device and queue, and what is known of the adapter behind them.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    info: GpuInfo,
    /// Why the device is lost, once that is known.
    lost: Arc<Mutex<Option<String>>>,
    /// An error that no scope has caught.
    stray: Arc<Mutex<Option<String>>>,
    owner: Owner,
    /// As [`Caps::max_rounds`].
    max_rounds: usize,
    /// Whether its shaders check indices and bound loops.
    pub(crate) checked: bool,
    /// What was compiled, by its text: sessions of one configuration share it, in whatever shape.
    pub(super) pipelines: Mutex<Kept>,
    /// Of scopes that are closed, what was done in them, and what they will have caught: a browser says it later.
    #[cfg(target_family = "wasm")]
    later: Mutex<Vec<(String, Caught)>>,
}

#[cfg(target_family = "wasm")]
type Caught = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// Whose device it is: who hears of what goes wrong outside of error scopes.
enum Owner {
    /// The crate's own: its callbacks are ours.
    Ours,
    /// The host's, whose error handlers and lost callback stay as they are: errors are caught in scopes, and a mapping of this
    /// buffer tells whether the device still takes work.
    Host(#[cfg(not(target_family = "wasm"))] Mutex<wgpu::Buffer>),
}

/// What an adapter is and offers.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuInfo {
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, …
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` (a software rasteriser) or `Other`.
    pub device_type: String,
    /// The driver and its version.
    pub driver: String,
    /// f16 in shaders and their buffers ([`crate::ActivationFormat::F16`]): of an adapter, whether it has it; of a host's own
    /// device, whether that was made with `Features::SHADER_F16`.
    pub f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// Timestamp queries.
    pub timestamps: bool,
    /// Limits that plans depend on.
    pub limits: wgpu::Limits,
    /// A software rasteriser.
    pub software: bool,
    /// Lanes of a subgroup, where there are always as many in the order of their index; else 1.
    pub subgroup: usize,
}

/// The one of this process, which costs time to make; a browser's costs none, and belongs to a thread.
fn instance() -> wgpu::Instance {
    let make = || {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        // Validation layers and debug names cost time in debug builds; WGPU_VALIDATION=1 and friends turn them on.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        wgpu::Instance::new(descriptor)
    };
    #[cfg(not(target_family = "wasm"))]
    {
        static INSTANCE: std::sync::OnceLock<wgpu::Instance> = std::sync::OnceLock::new();
        INSTANCE.get_or_init(make).clone()
    }
    #[cfg(target_family = "wasm")]
    make()
}

/// All adapters, real GPUs first.
pub(crate) async fn adapters() -> Vec<(wgpu::Adapter, GpuInfo)> {
    let found = instance().enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let mut list: Vec<_> = found
        .into_iter()
        .map(|a| {
            let info = GpuInfo::new(&a.get_info(), a.features(), a.limits());
            (a, info)
        })
        .collect();
    let rank = |kind: &str| ["DiscreteGpu", "IntegratedGpu", "VirtualGpu", "Other"].iter().position(|k| *k == kind);
    list.sort_by_key(|(_, info)| rank(&info.device_type).unwrap_or(9));
    list
}

impl GpuInfo {
    fn new(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: wgpu::Limits) -> Self {
        Self {
            name: info.name.clone(),
            backend: info.backend.to_string(),
            device_type: format!("{:?}", info.device_type),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            limits,
            software: info.device_type == wgpu::DeviceType::Cpu,
            // llvmpipe's lanes are in the order of the invocations; nobody promises it of another.
            subgroup: match info.subgroup_min_size == info.subgroup_max_size && info.driver == "llvmpipe" {
                true => info.subgroup_min_size as usize,
                false => 1,
            },
        }
    }

    /// What the planner must know.
    pub fn caps(&self) -> Caps {
        let l = &self.limits;
        Caps {
            class: if self.software { DeviceClass::SoftwareGpu } else { DeviceClass::Gpu },
            max_binding: l.max_storage_buffer_binding_size,
            max_buffer: l.max_buffer_size,
            max_workgroup_memory: l.max_compute_workgroup_storage_size as usize,
            max_invocations: l.max_compute_invocations_per_workgroup.min(l.max_compute_workgroup_size_x) as usize,
            max_workgroups: l.max_compute_workgroups_per_dimension as usize,
            parallel_groups: match self.software {
                true => std::thread::available_parallelism().map_or(2, usize::from),
                false => 64,
            },
            f16: self.f16,
            subgroup: if self.subgroups && self.software { self.subgroup } else { 1 },
            // Those of a device know better.
            max_rounds: if self.software { FEW_ROUNDS } else { usize::MAX },
        }
    }

    /// Of those that the adapter has.
    fn wanted_features(&self) -> wgpu::Features {
        // For `ActivationFormat::F16`; no other kernel says that it wants it.
        let f16 = if self.f16 { wgpu::Features::SHADER_F16 } else { wgpu::Features::empty() };
        // For `Tiles::lanes`.
        let subgroups = if self.caps().subgroup > 1 { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        f16 | subgroups
    }
}

/// Tries until a device that refuses the probe counts as lost.
#[cfg(not(target_family = "wasm"))]
const PROBES: usize = 8;

impl Gpu {
    /// The first adapter that `wanted` accepts, real GPUs first.
    pub(crate) async fn open(wanted: impl Fn(&GpuInfo) -> bool) -> Result<Self> {
        let all = adapters().await;
        let seen = all.iter().map(|(_, i)| format!("{} ({})", i.name, i.device_type)).collect::<Vec<_>>().join(", ");
        let Some((adapter, info)) = all.into_iter().find(|(_, info)| wanted(info)) else {
            let reason = match seen.is_empty() {
                true => "adapters found: none; a Vulkan, Metal or DX12 driver is needed".into(),
                false => format!("adapters found: {seen}; the caller wants none of them"),
            };
            return Err(Error::NoAdapter { reason });
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-rnn"),
            required_limits: info.limits.clone(),
            required_features: info.wanted_features(),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::NoAdapter { reason: format!("{}: {e}", info.name) })?;
        #[cfg_attr(target_family = "wasm", expect(unused_mut, reason = "a browser's devices are not asked"))]
        let mut gpu = Self::with(device, queue, info, Owner::Ours);
        let lost = Arc::clone(&gpu.lost);
        gpu.device.set_device_lost_callback(move |reason, message| {
            let text = format!("{reason:?} {message}").trim().to_string();
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        });
        // Errors outside of scopes must not panic in the user's process.
        let stray = Arc::clone(&gpu.stray);
        gpu.device.on_uncaptured_error(Arc::new(move |e| {
            stray.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| e.to_string());
        }));
        #[cfg(not(target_family = "wasm"))]
        if gpu.info.software {
            gpu.max_rounds = rounds::measure(&gpu)?;
        }
        Ok(gpu)
    }

    /// What the planner must know of it.
    pub(crate) fn caps(&self) -> Caps {
        Caps { max_rounds: self.max_rounds, ..self.info.caps() }
    }

    /// The host's own device; its error handlers and callbacks stay as they are.
    pub(crate) fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = GpuInfo::new(&device.adapter_info(), device.features(), device.limits());
        #[cfg(not(target_family = "wasm"))]
        let owner = Owner::Host(Mutex::new(probe(&device)));
        #[cfg(target_family = "wasm")]
        let owner = Owner::Host();
        #[cfg_attr(target_family = "wasm", expect(unused_mut, reason = "a browser's devices are not asked"))]
        let mut gpu = Self::with(device, queue, info, owner);
        #[cfg(not(target_family = "wasm"))]
        if gpu.info.software {
            // One that does not answer is told of when it is used.
            gpu.max_rounds = rounds::measure(&gpu).unwrap_or(FEW_ROUNDS);
        }
        gpu
    }

    fn with(device: wgpu::Device, queue: wgpu::Queue, info: GpuInfo, owner: Owner) -> Self {
        let (lost, stray, pipelines) = Default::default();
        let max_rounds = info.caps().max_rounds;
        Self {
            device,
            queue,
            info,
            lost,
            stray,
            owner,
            max_rounds,
            checked: false,
            pipelines,
            #[cfg(target_family = "wasm")]
            later: Mutex::default(),
        }
    }

    /// The same device, with checks in the shaders that are compiled from now on.
    pub(crate) fn with_checks(&self) -> Self {
        let mut gpu = match &self.owner {
            Owner::Ours => Self::with(self.device.clone(), self.queue.clone(), self.info.clone(), Owner::Ours),
            Owner::Host(..) => Self::from_wgpu(self.device.clone(), self.queue.clone()),
        };
        gpu.max_rounds = self.max_rounds;
        (gpu.lost, gpu.stray, gpu.checked) = (Arc::clone(&self.lost), Arc::clone(&self.stray), true);
        gpu
    }

    /// Whether a host made it.
    pub(crate) fn is_hosts(&self) -> bool {
        matches!(self.owner, Owner::Host(..))
    }

    /// The adapter.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// An error if the device takes no more work. wgpu drops what a lost device is given without a word: of our own device the
    /// callback says so, once it is polled; a host's callback is the host's, and there a mapping fails (in a browser not before
    /// something is read).
    pub(crate) fn check_alive(&self) -> Result<()> {
        match &self.owner {
            Owner::Ours => drop(self.device.poll(wgpu::PollType::Poll)),
            #[cfg(not(target_family = "wasm"))]
            Owner::Host(probe) if !takes_work(&self.device, probe) => {
                self.check_lost()?;
                return Err(Error::DeviceLost { reason: "it takes no more work".into() });
            }
            Owner::Host(..) => {}
        }
        self.check_lost()
    }

    /// Makes objects, with every wgpu error caught and returned.
    pub(crate) fn scoped<R>(&self, what: &str, work: impl FnOnce() -> R) -> Result<R> {
        self.check_alive()?;
        self.caught(what, work)
    }

    fn caught<R>(&self, what: &str, work: impl FnOnce() -> R) -> Result<R> {
        let filters = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|f| self.device.push_error_scope(f));
        let result = work();
        // All are popped, the last one first; of their errors the first counts.
        let errors: Vec<Error> = scopes.into_iter().rev().filter_map(|scope| self.closed(what, scope)).collect();
        self.check_lost()?;
        match errors.into_iter().next() {
            // What made it fail may be that it is gone by now.
            Some(error) => Err(self.check_alive().err().unwrap_or(error)),
            None => Ok(result),
        }
    }

    /// Closes a scope: what it has caught.
    #[cfg(not(target_family = "wasm"))]
    fn closed(&self, what: &str, scope: wgpu::ErrorScopeGuard) -> Option<Error> {
        // Outside of browsers that is known at once.
        pollster::block_on(scope.pop()).map(|e| Error::Gpu { what: what.into(), reason: e.to_string() })
    }

    /// Closes a scope: what scopes closed before it have caught. What it has caught itself is heard when one is closed after it, or
    /// by [`Gpu::settle`].
    #[cfg(target_family = "wasm")]
    fn closed(&self, what: &str, scope: wgpu::ErrorScopeGuard) -> Option<Error> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut heard = None;
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        later.retain_mut(|(what, caught)| match caught.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(error) => {
                let error = error.map(|e| Error::Gpu { what: what.clone(), reason: e.to_string() });
                heard = heard.take().or(error);
                false
            }
        });
        later.push((what.into(), Box::pin(scope.pop())));
        heard
    }

    /// What went wrong in scopes that are closed, where they do not say it at once.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// What went wrong in scopes that are closed.
    #[cfg(target_family = "wasm")]
    pub(crate) async fn settle(&self) -> Result<()> {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        let mut first = None;
        for (what, caught) in later {
            let error = caught.await.map(|e| Error::Gpu { what, reason: e.to_string() });
            first = first.or(error);
        }
        self.check_lost()?;
        match first {
            Some(error) => {
                // Some of what is kept may be what failed: the next who asks tries again.
                *self.pipelines.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Hands work on objects that there are to the queue: writes, copies, runs. On our own device that costs no error scope; what
    /// goes wrong is told by the callbacks.
    pub(crate) fn submit<R>(&self, what: &str, work: impl FnOnce() -> R) -> Result<R> {
        self.check_alive()?;
        self.heard(what, work)
    }

    /// The same as a part of work that has begun.
    pub(super) fn heard<R>(&self, what: &str, work: impl FnOnce() -> R) -> Result<R> {
        if let Owner::Host(..) = self.owner {
            return self.caught(what, work);
        }
        let result = work();
        self.check_lost()?;
        match self.stray.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => Err(Error::Gpu { what: what.into(), reason }),
            None => Ok(result),
        }
    }

    /// What went wrong where a buffer could not be read.
    pub(crate) fn unreadable(&self, reason: String) -> Error {
        self.check_alive().err().unwrap_or(Error::Gpu { what: "reading a buffer".into(), reason })
    }

    /// Waits for the queue and reports a lost device.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn wait(&self) -> Result<()> {
        self.polled(wgpu::PollType::wait_indefinitely()).map(drop)
    }

    /// Hears what is done by now; whether all is.
    pub(crate) fn poll(&self) -> Result<bool> {
        self.polled(wgpu::PollType::Poll).map(|status| status.is_queue_empty())
    }

    fn polled(&self, how: wgpu::PollType) -> Result<wgpu::PollStatus> {
        // wgpu panics where the driver reports a lost device while it waits.
        let poll = || self.device.poll(how);
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll));
        self.check_lost()?;
        let polled = polled.map_err(|_| Error::DeviceLost { reason: "wgpu failed while waiting for it".into() })?;
        polled.map_err(|e| Error::Gpu { what: "waiting for the device".into(), reason: e.to_string() })
    }

    /// Drives `future`, which waits for nothing but this device, to its end.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn block<R>(&self, future: impl Future<Output = Result<R>>) -> Result<R> {
        let mut future = std::pin::pin!(future);
        // Nobody need be woken: the device has answered when the wait for it ends. Only another thread that waits too may be about to
        // give the answer, and then this one asks again.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
            self.wait()?;
        }
    }

    pub(crate) fn check_lost(&self) -> Result<()> {
        match self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(reason) => Err(Error::DeviceLost { reason }),
            None => Ok(()),
        }
    }
}

/// A buffer to map, which nobody maps for its values.
#[cfg(not(target_family = "wasm"))]
fn probe(device: &wgpu::Device) -> wgpu::Buffer {
    // Nothing may reach the host's error handler, not even if the device is lost already.
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let probe = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("wgpu-rnn probe"),
        size: 4,
        usage: wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    drop(scope.pop());
    probe
}

/// Whether a host's device still takes work: mapping is the one operation that says so by itself.
#[cfg(not(target_family = "wasm"))]
fn takes_work(device: &wgpu::Device, probe: &Mutex<wgpu::Buffer>) -> bool {
    let probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
    // A thread that polls or submits at this moment may complete the mapping between the two calls, after which the unmap
    // finds nothing mapped or the next mapping finds it mapped: their complaints are no one's, and another try tells.
    (0..PROBES).any(|_| {
        let ours = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let refused = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&refused);
        probe.map_async(wgpu::MapMode::Read, .., move |result| seen.store(result.is_err(), Ordering::Relaxed));
        let refused = refused.load(Ordering::Relaxed);
        probe.unmap();
        drop(ours.pop());
        !refused
    })
}
