//! What bits depend on: instruction set and mathematical functions on the CPU, adapter and driver on the GPU.

use super::record::hash;
use wgpu_rnn::{Device, InstructionSet};

/// Whose bits they are.
pub struct Key {
    /// For the name of a file.
    pub name: String,
    /// For people.
    pub what: String,
}

/// The registers that a software rasteriser computes in.
fn instruction_set() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    "other"
}

/// A fingerprint of the functions that Rust takes from the system's mathematical library, whose last digits differ from
/// one to another: the CPU executor calls them in f64, and in f32 in pointwise operations of networks.
fn functions() -> String {
    let bits = (0..4096).flat_map(|n| {
        let x = f64::from(n) / 128.0 - 16.0;
        let of_f64 = [x.exp(), x.exp_m1(), x.tanh(), x.abs().ln_1p(), 0.9f64.powf(x)];
        let y = x as f32;
        let of_f32 = [y.exp(), y.exp_m1(), y.tanh(), y.abs().ln_1p()];
        of_f64.map(f64::to_bits).into_iter().chain(of_f32.map(|v| u64::from(v.to_bits())))
    });
    hash(bits.flat_map(u64::to_le_bytes))
}

/// The CPU executor, with the instructions that it uses here (`WGPU_RNN_INSTRUCTIONS=avx2` for those of another machine).
pub fn cpu() -> Key {
    let set = Device::cpu().instructions().expect("the CPU executor's");
    let (isa, functions) = (if set == InstructionSet::Portable { "other" } else { set.name() }, functions());
    let what = format!("Bits of the CPU executor: {isa}, mathematical functions {functions}.");
    Key { name: format!("cpu-{isa}-{}", &functions[..8]), what }
}

/// A GPU. The name or driver of lavapipe tells the version and register width of LLVM.
pub fn gpu(device: &Device) -> Key {
    let (isa, info) = (instruction_set(), device.gpu_info().expect("a GPU"));
    let what = format!("Bits of a GPU: {isa}, {} ({}, {}).", info.name, info.backend, info.driver);
    let words = format!("{} {}", info.name, info.driver).to_lowercase();
    let words: Vec<&str> = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    Key { name: format!("gpu-{isa}-{}", words.join("-")), what }
}
