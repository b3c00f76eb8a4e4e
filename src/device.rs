//! Where a plan runs: the CPU executor, or a GPU through wgpu.

use crate::cpu;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuInfo, adapters};
use crate::plan::Caps;
use std::sync::Arc;

/// The CPU executor or a GPU. Cheap to clone.
#[derive(Clone)]
pub struct Device(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Cpu,
    Gpu(Arc<Gpu>),
}

impl Device {
    /// A real GPU if there is one, else the CPU executor; never a software rasteriser. `to_string()` says which it took.
    pub fn auto() -> Self {
        Gpu::open(|info| !info.software).map_or(Self(Kind::Cpu), |gpu| Self(Kind::Gpu(Arc::new(gpu))))
    }

    /// The CPU executor.
    pub fn cpu() -> Self {
        Self(Kind::Cpu)
    }

    /// Any GPU adapter, real ones first, software rasterisers (lavapipe, WARP) included.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where there is none.
    pub fn gpu() -> Result<Self> {
        Self::gpu_where(|_| true)
    }

    /// The first GPU adapter that `wanted` accepts, real ones first.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], listing the adapters seen, where none is accepted.
    pub fn gpu_where(wanted: impl Fn(&GpuInfo) -> bool) -> Result<Self> {
        Ok(Self(Kind::Gpu(Arc::new(Gpu::open(wanted)?))))
    }

    /// The host's own device and queue. Its error handlers and callbacks stay as they are; its limits bound the plans.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self(Kind::Gpu(Arc::new(Gpu::from_wgpu(device, queue))))
    }

    /// The same device, whose shaders keep the checks of indices and the bounds on loops that wgpu adds: for those who look for
    /// an error in a kernel, and for tests. They are left out otherwise, as every index is in range by the plan (browsers have
    /// them always, and so have cells from outside this crate). The same bits, slower; nothing changes on the CPU executor.
    #[must_use]
    pub fn checked(&self) -> Self {
        match &self.0 {
            Kind::Cpu => Self::cpu(),
            Kind::Gpu(gpu) => Self(Kind::Gpu(Arc::new(gpu.with_checks()))),
        }
    }

    /// Every GPU adapter of this machine, real ones first.
    pub fn list_gpus() -> Vec<GpuInfo> {
        adapters().into_iter().map(|(_, info)| info).collect()
    }

    /// What the planner must know of it.
    pub fn caps(&self) -> Caps {
        match &self.0 {
            Kind::Cpu => cpu::caps(),
            Kind::Gpu(gpu) => gpu.info().caps(),
        }
    }

    /// `"cpu"` or `"gpu"`.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Cpu => "cpu",
            Kind::Gpu(_) => "gpu",
        }
    }

    /// The adapter, if it is a GPU.
    pub fn gpu_info(&self) -> Option<&GpuInfo> {
        match &self.0 {
            Kind::Cpu => None,
            Kind::Gpu(gpu) => Some(gpu.info()),
        }
    }

    /// The wgpu device and queue, if it is a GPU; to make buffers for [`crate::Session::bind`].
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        match &self.0 {
            Kind::Cpu => None,
            Kind::Gpu(gpu) => Some((&gpu.device, &gpu.queue)),
        }
    }

    pub(crate) fn require_gpu(&self, what: &str) -> Result<&Arc<Gpu>> {
        match &self.0 {
            Kind::Gpu(gpu) => Ok(gpu),
            Kind::Cpu => {
                Err(Error::Unsupported { what: what.into(), reason: "the session runs on the CPU executor".into() })
            }
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Cpu => write!(f, "CPU executor, {} threads", rayon::current_num_threads()),
            Kind::Gpu(gpu) => {
                let info = gpu.info();
                write!(f, "{} ({}, {}, {})", info.name, info.backend, info.device_type, info.driver)
            }
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({self})")
    }
}
