//! Proofs about the kernels of networks that need no GPU: every text of every rule and operation parses, validates and translates.

use crate::networks::{of_everything, of_rule, of_tokens};
use crate::translate::{parse, to_every_language};
use std::collections::BTreeSet;
use std::sync::Arc;
use wgpu_rnn::network::{Network, NetworkOptions, NetworkPlan, Parallel};
use wgpu_rnn::{Caps, DeviceClass, Result, Shape, rules};

/// Whether kernels write words, arena, parameters, times.
const BINDINGS: [bool; 4] = [false, true, false, false];

/// All texts of a network, inferring and training.
fn texts(network: &Arc<Network>) -> Result<BTreeSet<(&'static str, String)>> {
    let mut all = BTreeSet::new();
    for (parallel, train) in [
        (Parallel::Recurrent, false),
        (Parallel::Recurrent, true),
        (Parallel::Chunked, true),
        (Parallel::Products, true),
    ] {
        // A plan is refused if a kernel's words are not those that its text names.
        for kernels in [None, Some(DeviceClass::SoftwareGpu)] {
            let options = NetworkOptions { parallel: Some(parallel), train, kernels, ..Default::default() };
            let plan = NetworkPlan::new(network, Shape { time: 70, batch: 3 }, &Caps::webgpu(), &options)?;
            all.extend(plan.shaders().into_iter().map(|(kernel, text)| (kernel, text.to_string())));
        }
    }
    Ok(all)
}

#[test]
fn every_text_parses_validates_and_translates() -> Result<()> {
    let mut networks = vec![of_everything()?, of_tokens()?];
    for rule in rules::ALL {
        networks.push(of_rule(rule, false)?);
    }
    let mut all = BTreeSet::new();
    for network in &networks {
        all.extend(texts(network)?);
    }
    println!("{} texts", all.len());
    let kernels: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    assert!(kernels.len() >= 18, "{kernels:?}");
    for (name, text) in &all {
        assert!(!text.contains(" tanh("), "{name}: tanh of the driver may give NaN");
        let (module, info) = parse(text, name);
        for (target, result) in to_every_language(&module, &info, &BINDINGS) {
            assert_eq!(result, Ok(()), "{name} as {target}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn layers_of_equal_shape_share_their_texts() -> Result<()> {
    let network = of_rule(&rules::GATED_DELTA, false)?;
    let reverse = of_rule(&rules::GATED_DELTA, true)?;
    assert_eq!(texts(&network)?, texts(&reverse)?, "the way over time is a word, not a text");
    Ok(())
}
