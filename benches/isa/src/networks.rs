//! The scans of linear recurrences, whichever way they go over time.

use crate::cases::{compile, heading, row};
use crate::driver::Driver;
use ash::vk::DescriptorType;
use std::collections::BTreeSet;
use std::error::Error;
use wgpu_rnn::network::{NetworkOptions, NetworkPlan, Parallel};
use wgpu_rnn::rule::Rule;
use wgpu_rnn_verify::Bare;
use wgpu_rnn::{Caps, Shape, rules};

/// Words, arena, parameters, lengths and resets.
const BINDINGS: [DescriptorType; 4] = [
    DescriptorType::UNIFORM_BUFFER_DYNAMIC,
    DescriptorType::STORAGE_BUFFER,
    DescriptorType::STORAGE_BUFFER,
    DescriptorType::STORAGE_BUFFER,
];

/// Rules with the K and V of published models.
const RULES: [(&Rule, [usize; 3]); 6] = [
    (&rules::MINGRU, [256, 1, 1]),
    (&rules::MAMBA, [256, 16, 1]),
    (&rules::MAMBA2, [4, 128, 64]),
    (&rules::GLA, [4, 64, 64]),
    (&rules::RWKV6, [4, 64, 64]),
    (&rules::RWKV7, [4, 64, 64]),
];

/// Prints one family's table of scans that train.
pub fn report(driver: &Driver, family: &str, filter: Option<&str>) -> Result<(), Box<dyn Error>> {
    println!("\n## {family}, linear recurrences: {}\n", driver.name);
    heading("K x V");
    for (rule, sizes) in RULES {
        let bare = Bare::new(rule, sizes, Shape { time: 512, batch: 1 }, false, 1)?;
        for parallel in [Parallel::Recurrent, Parallel::Chunked, Parallel::Products] {
            let options = NetworkOptions { parallel: Some(parallel), train: true, ..Default::default() };
            let mut seen = BTreeSet::new();
            let plan = NetworkPlan::new(&bare.network, bare.shape, &Caps::webgpu(), &options)?;
            for (name, text) in plan.shaders()? {
                let of_scan = name.contains("scan") || name.contains("products");
                let label = format!("{}, {}, {parallel:?}", name.trim_start_matches("network."), rule.name);
                if !of_scan || filter.is_some_and(|f| !label.contains(f)) || !seen.insert(text.clone()) {
                    continue;
                }
                let compiled = compile(driver, &text, &BINDINGS)?;
                if std::env::var_os("ISA_ASSEMBLY").is_some() {
                    println!("\n```text\n{label}\n{}\n```\n", compiled.assembly);
                }
                println!("| {label} | {} x {} {}", sizes[1], sizes[2], row(&compiled));
            }
        }
    }
    Ok(())
}
