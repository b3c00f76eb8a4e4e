//! Where a plan runs: the CPU executor, or a GPU through wgpu.

use crate::error::{Error, Result};
use crate::exec::cpu;
use crate::exec::gpu::{Gpu, GpuInfo, adapters};
use crate::num::{InstructionSet, instructions};
use crate::plan::Caps;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::WasmNotSend;

/// The CPU executor or a GPU. Cheap to clone.
#[derive(Clone)]
pub struct Device(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Cpu(Threads),
    Gpu(Arc<Gpu>),
}

/// The threads of a CPU device, and their instructions.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    /// Those of its own; else those of the pool that a call is made in.
    pool: Option<Arc<rayon::ThreadPool>>,
    /// Those asked for; else the usual ones.
    set: Option<InstructionSet>,
}

impl Threads {
    /// Runs `work` with them. On wasm there is one.
    pub(crate) fn run<R: WasmNotSend>(&self, work: impl FnOnce() -> R + WasmNotSend) -> R {
        #[cfg(not(target_family = "wasm"))]
        if let Some(pool) = &self.pool {
            return pool.install(|| self.here(work));
        }
        self.here(work)
    }

    /// Runs `work` on the calling thread and on those of the pool that it is in, with this device's instructions.
    pub(crate) fn here<R>(&self, work: impl FnOnce() -> R) -> R {
        instructions::with(self.instructions(), work)
    }

    fn instructions(&self) -> InstructionSet {
        self.set.unwrap_or_else(|| instructions::usual().unwrap_or(InstructionSet::Portable))
    }

    /// Nothing runs where the environment asks for instructions that there are not.
    pub(crate) fn check(&self) -> Result<()> {
        match instructions::usual() {
            Err(expected) if self.set.is_none() => {
                let got = std::env::var_os(instructions::VARIABLE).unwrap_or_default();
                let what = format!("the environment variable {}", instructions::VARIABLE);
                Err(Error::mismatch(what, expected, got.to_string_lossy()))
            }
            _ => Ok(()),
        }
    }

    fn count(&self) -> usize {
        self.pool.as_ref().map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
    }
}

impl Device {
    /// A real GPU if there is one, else the CPU executor; never a software rasteriser. `to_string()` says which it took. Waits for
    /// the driver; not on wasm, where [`Device::auto_async`] is.
    #[cfg(not(target_family = "wasm"))]
    pub fn auto() -> Self {
        pollster::block_on(Self::auto_async())
    }

    /// [`Device::auto`] for those who may not wait: browsers, and asynchronous programs.
    pub async fn auto_async() -> Self {
        Self::gpu_where_async(|info| !info.software).await.unwrap_or_else(|_| Self::cpu())
    }

    /// The CPU executor, on the calling thread and the threads of the rayon pool that it is in: the global one (as many threads as
    /// cores, or as `RAYON_NUM_THREADS` says), unless the call is made within `ThreadPool::install`. Small runs use the calling
    /// thread alone. Results do not depend on the number of threads.
    pub fn cpu() -> Self {
        Self(Kind::Cpu(Threads::default()))
    }

    /// The CPU executor on `threads` threads of its own, shared by this device's clones and sessions; the calling thread waits for
    /// them. Results do not depend on the number.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for 0 threads, [`Error::Unsupported`] where the system gives none.
    pub fn cpu_with_threads(threads: usize) -> Result<Self> {
        Ok(Self(Kind::Cpu(Threads { pool: Some(pool(threads)?), set: None })))
    }

    /// The same with certain vector instructions instead of the widest that the machine has: to measure or test on one machine what
    /// another would run. The environment variable `WGPU_RNN_INSTRUCTIONS` (`portable`, `neon`, `avx2`, `avx512`) does so for the
    /// devices of a program that ask for none.
    ///
    /// # Errors
    /// As [`Device::cpu_with_threads`], and [`Error::Unsupported`] for instructions that this machine does not have.
    pub fn cpu_with(threads: usize, instructions: InstructionSet) -> Result<Self> {
        if !instructions.is_available() {
            let reason = format!("this machine does not have them; its widest are {}", InstructionSet::widest());
            return Err(Error::Unsupported {
                what: format!("a CPU executor with {instructions} instructions"),
                reason,
            });
        }
        Ok(Self(Kind::Cpu(Threads { pool: Some(pool(threads)?), set: Some(instructions) })))
    }

    /// The vector instructions that the CPU executor uses on this device; `None` for a GPU.
    pub fn instructions(&self) -> Option<InstructionSet> {
        match &self.0 {
            Kind::Cpu(threads) => Some(threads.instructions()),
            Kind::Gpu(_) => None,
        }
    }

    /// Any GPU adapter, real ones first, software rasterisers (lavapipe, WARP) included. Waits for the driver; not on wasm, where
    /// [`Device::gpu_async`] is.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where there is none.
    #[cfg(not(target_family = "wasm"))]
    pub fn gpu() -> Result<Self> {
        Self::gpu_where(|_| true)
    }

    /// [`Device::gpu`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Device::gpu`].
    pub async fn gpu_async() -> Result<Self> {
        Self::gpu_where_async(|_| true).await
    }

    /// The first GPU adapter that `wanted` accepts, real ones first. Waits for the driver; not on wasm, where
    /// [`Device::gpu_where_async`] is.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], listing the adapters seen, where none is accepted.
    #[cfg(not(target_family = "wasm"))]
    pub fn gpu_where(wanted: impl Fn(&GpuInfo) -> bool) -> Result<Self> {
        pollster::block_on(Self::gpu_where_async(wanted))
    }

    /// [`Device::gpu_where`] for those who may not wait. A browser shows one adapter at most.
    ///
    /// # Errors
    /// As [`Device::gpu_where`].
    pub async fn gpu_where_async(wanted: impl Fn(&GpuInfo) -> bool) -> Result<Self> {
        Ok(Self(Kind::Gpu(Arc::new(Gpu::open(wanted).await?))))
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
            Kind::Cpu(_) => self.clone(),
            Kind::Gpu(gpu) => Self(Kind::Gpu(Arc::new(gpu.with_checks()))),
        }
    }

    /// Every GPU adapter of this machine, real ones first. Waits for the drivers; not on wasm, where [`Device::list_gpus_async`]
    /// is.
    #[cfg(not(target_family = "wasm"))]
    pub fn list_gpus() -> Vec<GpuInfo> {
        pollster::block_on(Self::list_gpus_async())
    }

    /// [`Device::list_gpus`] for those who may not wait.
    pub async fn list_gpus_async() -> Vec<GpuInfo> {
        adapters().await.into_iter().map(|(_, info)| info).collect()
    }

    /// Another device of the same adapter, for when this one is lost.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a host owns it, who alone can make another; [`Error::NoAdapter`] where the adapter is gone.
    pub(crate) async fn another(&self) -> Result<Self> {
        match &self.0 {
            Kind::Cpu(_) => Ok(self.clone()),
            Kind::Gpu(gpu) if gpu.is_hosts() => Err(Error::Unsupported {
                what: "another device in the place of the host's".into(),
                reason: "the host made it (Device::from_wgpu), and must make the next".into(),
            }),
            Kind::Gpu(gpu) => {
                let old = gpu.info();
                let is_same = |info: &GpuInfo| {
                    (&info.name, &info.backend, &info.driver) == (&old.name, &old.backend, &old.driver)
                };
                let device = Self::gpu_where_async(is_same).await?;
                Ok(if gpu.checked { device.checked() } else { device })
            }
        }
    }

    /// Asks the GPU, without waiting, what it has finished, and wakes those who wait for it; whether it has finished all. A
    /// future of this crate that reads from a GPU is ready once somebody has polled the device after the work was done: this
    /// function, one of the functions that wait, or a host that polls its own device. A browser does it by itself. Always `true`
    /// on the CPU executor.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    pub fn poll(&self) -> Result<bool> {
        match &self.0 {
            Kind::Cpu(_) => Ok(true),
            Kind::Gpu(gpu) => gpu.poll(),
        }
    }

    /// Drives `future`, which waits for nothing but this device, to its end.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn block<R>(&self, future: impl Future<Output = Result<R>>) -> Result<R> {
        match &self.0 {
            // Ready when it is first asked.
            Kind::Cpu(_) => pollster::block_on(future),
            Kind::Gpu(gpu) => gpu.block(future),
        }
    }

    /// What went wrong with objects made so far, where the device says so later.
    pub(crate) async fn settle(&self) -> Result<()> {
        match &self.0 {
            Kind::Cpu(_) => Ok(()),
            Kind::Gpu(gpu) => gpu.settle().await,
        }
    }

    /// What the planner must know of it.
    pub fn caps(&self) -> Caps {
        match &self.0 {
            Kind::Cpu(threads) => Caps { parallel_groups: threads.count(), ..cpu::caps() },
            Kind::Gpu(gpu) => gpu.caps(),
        }
    }

    /// `"cpu"` or `"gpu"`.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Cpu(_) => "cpu",
            Kind::Gpu(_) => "gpu",
        }
    }

    /// The adapter, if it is a GPU.
    pub fn gpu_info(&self) -> Option<&GpuInfo> {
        match &self.0 {
            Kind::Cpu(_) => None,
            Kind::Gpu(gpu) => Some(gpu.info()),
        }
    }

    /// The wgpu device and queue, if it is a GPU; to make buffers for [`crate::Session::bind`].
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        match &self.0 {
            Kind::Cpu(_) => None,
            Kind::Gpu(gpu) => Some((&gpu.device, &gpu.queue)),
        }
    }

    pub(crate) fn require_gpu(&self, what: &str) -> Result<&Arc<Gpu>> {
        match &self.0 {
            Kind::Gpu(gpu) => Ok(gpu),
            Kind::Cpu(_) => {
                Err(Error::Unsupported { what: what.into(), reason: "the session runs on the CPU executor".into() })
            }
        }
    }
}

/// The device that some work is on, for as long as it may go on with another. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Moving(Arc<Mutex<Device>>);

/// How often in a row a device may fail while a future waits for it that may know of another.
#[cfg(not(target_family = "wasm"))]
const FAILURES: usize = 8;

impl Moving {
    pub(crate) fn new(device: &Device) -> Self {
        Self(Arc::new(Mutex::new(device.clone())))
    }

    /// From now on it is on this one.
    pub(crate) fn to(&self, device: &Device) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = device.clone();
    }

    /// [`Device::block`] of a future that waits for the device that this is on, whichever that is.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn block<R>(&self, future: impl Future<Output = Result<R>>) -> Result<R> {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut failures = 0;
        loop {
            if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
            let device = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let waited = match &device.0 {
                Kind::Cpu(_) => Ok(()),
                Kind::Gpu(gpu) => gpu.wait(),
            };
            // The future hears of it when it is asked again, and goes on with another or gives up.
            match waited {
                Ok(()) => failures = 0,
                Err(error) if failures == FAILURES => return Err(error),
                Err(_) => failures += 1,
            }
        }
    }
}

/// `threads` threads of a device's own.
fn pool(threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    if threads == 0 {
        return Err(Error::mismatch("threads of the CPU executor", "at least 1", 0));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let what = || format!("a CPU executor of {threads} threads");
    let pool = pool.map_err(|e| Error::Unsupported { what: what(), reason: e.to_string() })?;
    Ok(Arc::new(pool))
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Cpu(threads) => {
                write!(f, "CPU executor, {} threads", threads.count())?;
                match threads.instructions() {
                    set if set == InstructionSet::widest() => Ok(()),
                    set => write!(f, ", {set} instructions"),
                }
            }
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
