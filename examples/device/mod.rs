//! `--device`, as the examples take it.

use wgpu_rnn::{Device, Result};

/// Which executor an example runs on.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum DeviceArg {
    Cpu,
    Gpu,
    Auto,
}

impl DeviceArg {
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::cpu()),
            Self::Gpu => Device::gpu(),
            Self::Auto => Ok(Device::auto()),
        }
    }
}
