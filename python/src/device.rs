//! Devices by name: opened once, shared by all layers that name them.

use crate::error::Result;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use wgpu_rnn::{Device, Error};

static OPEN: Mutex<Option<HashMap<String, Device>>> = Mutex::new(None);

/// Whether this process was forked off one that had devices: their threads stayed there.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Python calls it in a process that was forked.
#[pyfunction]
pub fn forked() {
    // A lock that another thread held while the process was forked is never free again; nothing that is computed with is looked at.
    let used = OPEN.try_lock().map_or(true, |open| open.is_some());
    FORKED.store(used, Relaxed);
}

/// Refuses to wait for threads that are not there.
pub fn check() -> Result<()> {
    match FORKED.load(Relaxed) {
        false => Ok(()),
        true => Err(Error::Unsupported {
            what: "wgpu_rnn in a forked process".into(),
            reason:
                "the process that it was forked off has used it, and its threads stayed there; start processes with \
                     multiprocessing.get_context(\"spawn\"), or use wgpu_rnn in them alone"
                    .into(),
        }
        .into()),
    }
}

/// The device of a name: `auto`, `cpu`, `cpu:THREADS`, `gpu` or `gpu:N`. Waits for the driver.
pub fn open(name: &str) -> Result<Device> {
    check()?;
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    if let Some(device) = all.get(name) {
        return Ok(device.clone());
    }
    let device = make(name)?;
    all.insert(name.into(), device.clone());
    Ok(device)
}

fn make(name: &str) -> Result<Device> {
    let wrong =
        || Error::mismatch("device", "\"auto\", \"cpu\", \"cpu:THREADS\", \"gpu\" or \"gpu:N\"", format!("{name:?}"));
    let (kind, number) = name.split_once(':').map_or((name, None), |(kind, number)| (kind, Some(number)));
    let number = number.map(|n| n.parse::<usize>().map_err(|_| wrong())).transpose()?;
    Ok(match (kind, number) {
        ("auto", None) => Device::auto(),
        ("cpu", None) => Device::cpu(),
        ("cpu", Some(threads)) => Device::cpu_with_threads(threads)?,
        ("gpu", None) => Device::gpu()?,
        ("gpu", Some(wanted)) => {
            let at = Cell::new(0);
            Device::gpu_where(|_| at.replace(at.get() + 1) == wanted)?
        }
        _ => return Err(wrong().into()),
    })
}

/// Every device of this machine, as keyword arguments of `wgpu_rnn.Device`.
#[pyfunction]
pub fn devices(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let gpus = py.detach(Device::list_gpus);
    let cpu = PyDict::new(py);
    cpu.set_item("name", "cpu")?;
    cpu.set_item("description", Device::cpu().to_string())?;
    cpu.set_item("backend", "cpu")?;
    cpu.set_item("driver", "")?;
    cpu.set_item("software", false)?;
    cpu.set_item("f16", true)?;
    let mut all = vec![cpu];
    for (n, info) in gpus.into_iter().enumerate() {
        let gpu = PyDict::new(py);
        gpu.set_item("name", format!("gpu:{n}"))?;
        gpu.set_item("description", format!("{} ({})", info.name, info.device_type))?;
        gpu.set_item("backend", info.backend)?;
        gpu.set_item("driver", info.driver)?;
        gpu.set_item("software", info.software)?;
        gpu.set_item("f16", info.f16)?;
        all.push(gpu);
    }
    Ok(all)
}
