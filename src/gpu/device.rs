//! Adapter, device, limits, and turning wgpu's errors into ours.

use super::pipeline::Kept;
use crate::error::{Error, Result};
use crate::plan::{Caps, DeviceClass};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A wgpu device and queue, and what is known of the adapter behind them.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    info: GpuInfo,
    lost: Arc<Mutex<Option<String>>>,
    probe: Mutex<wgpu::Buffer>,
    /// Whether its shaders check indices and bound loops.
    pub(crate) checked: bool,
    /// What was compiled, by its text: sessions of one configuration share it, in whatever shape.
    pub(super) pipelines: Mutex<HashMap<(&'static str, String), Kept>>,
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

fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        // Validation layers and debug names cost time in debug builds; WGPU_VALIDATION=1 and friends turn them on.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        wgpu::Instance::new(descriptor)
    })
}

/// All adapters, real GPUs first.
pub(crate) fn adapters() -> Vec<(wgpu::Adapter, GpuInfo)> {
    let mut list: Vec<_> = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY))
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
const PROBES: usize = 8;

impl Gpu {
    /// The first adapter that `wanted` accepts, real GPUs first.
    pub(crate) fn open(wanted: impl Fn(&GpuInfo) -> bool) -> Result<Self> {
        let all = adapters();
        let seen = all.iter().map(|(_, i)| format!("{} ({})", i.name, i.device_type)).collect::<Vec<_>>().join(", ");
        let Some((adapter, info)) = all.into_iter().find(|(_, info)| wanted(info)) else {
            let seen = if seen.is_empty() { "none".to_string() } else { seen };
            return Err(Error::NoAdapter {
                reason: format!("adapters found: {seen}; a Vulkan, Metal or DX12 driver is needed"),
            });
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-rnn"),
            required_limits: info.limits.clone(),
            required_features: info.wanted_features(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::NoAdapter { reason: format!("{}: {e}", info.name) })?;
        let gpu = Self::new(device, queue, info);
        let lost = Arc::clone(&gpu.lost);
        gpu.device.set_device_lost_callback(move |reason, message| {
            let text = format!("{reason:?} {message}").trim().to_string();
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        });
        // Errors outside our scopes (there should be none) must not panic in the user's process.
        let stray = Arc::clone(&gpu.lost);
        gpu.device.on_uncaptured_error(Arc::new(move |e| {
            let mut lost = stray.lock().unwrap_or_else(PoisonError::into_inner);
            lost.get_or_insert_with(|| e.to_string());
        }));
        Ok(gpu)
    }

    /// The host's own device; its error handlers and callbacks stay as they are.
    pub(crate) fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = GpuInfo::new(&device.adapter_info(), device.features(), device.limits());
        Self::new(device, queue, info)
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, info: GpuInfo) -> Self {
        // Nothing may reach the host's error handler, not even if the device is lost already.
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let probe = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-rnn probe"),
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        drop(pollster::block_on(scope.pop()));
        Self {
            device,
            queue,
            info,
            lost: Arc::default(),
            probe: Mutex::new(probe),
            checked: false,
            pipelines: Mutex::default(),
        }
    }

    /// The same device, with checks in the shaders that are compiled from now on.
    pub(crate) fn with_checks(&self) -> Self {
        let lost = Arc::clone(&self.lost);
        Self { lost, checked: true, ..Self::new(self.device.clone(), self.queue.clone(), self.info.clone()) }
    }

    /// The adapter.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Whether the device still takes work. wgpu drops work for a lost device silently and tells the lost callback alone, which
    /// belongs to the host (and is late after a `destroy`). Mapping is the one operation that says so by itself.
    fn takes_work(&self) -> bool {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that polls or submits at this moment may complete the mapping between the two calls, after which the unmap
        // finds nothing mapped or the next mapping finds it mapped: their complaints are no one's, and another try tells.
        (0..PROBES).any(|_| {
            let ours = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let refused = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&refused);
            probe.map_async(wgpu::MapMode::Read, .., move |result| seen.store(result.is_err(), Ordering::Relaxed));
            let refused = refused.load(Ordering::Relaxed);
            probe.unmap();
            drop(pollster::block_on(ours.pop()));
            !refused
        })
    }

    /// Runs `work` with every wgpu error caught and returned.
    pub(crate) fn scoped<R>(&self, what: &str, work: impl FnOnce() -> R) -> Result<R> {
        self.check_lost()?;
        let filters = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|f| self.device.push_error_scope(f));
        let result = self.takes_work().then(work);
        let errors =
            scopes.map(Some).into_iter().rev().filter_map(|mut s| s.take().and_then(|s| pollster::block_on(s.pop())));
        let errors: Vec<String> = errors.map(|e| e.to_string()).collect();
        self.check_lost()?;
        let Some(result) = result else {
            return Err(Error::DeviceLost { reason: "it takes no more work".into() });
        };
        match errors.into_iter().next() {
            Some(reason) if reason.to_lowercase().contains("lost") => Err(Error::DeviceLost { reason }),
            Some(reason) => Err(Error::Gpu { what: what.into(), reason }),
            None => Ok(result),
        }
    }

    /// Waits for the queue and reports a lost device.
    pub(crate) fn wait(&self) -> Result<()> {
        // wgpu panics where the driver reports a lost device while it waits.
        let poll = || self.device.poll(wgpu::PollType::wait_indefinitely());
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll));
        self.check_lost()?;
        let polled = polled.map_err(|_| Error::DeviceLost { reason: "wgpu failed while waiting for it".into() })?;
        polled.map(|_| ()).map_err(|e| Error::Gpu { what: "waiting for the device".into(), reason: e.to_string() })
    }

    pub(crate) fn check_lost(&self) -> Result<()> {
        match self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(reason) => Err(Error::DeviceLost { reason }),
            None => Ok(()),
        }
    }
}
