//! The registry of linear recurrences.
//!
//! # Adding a rule
//!
//! 1. `src/rules/<name>.rs`: equations, ports and source in the module doc; a `pub static` [`Rule`] whose form is pointwise
//!    expressions. No WGSL: both executors run the expressions.
//! 2. One line in [`ALL`].
//! 3. Its naive step in `crates/verify/src/naive_linear.rs`, written from the paper and not from the rule.
//!
//! Tests, benches, the command line and the shader checks iterate the registry.
//!
//! | rule | state per head | decay | correction | inputs per step | source |
//! |---|---|---|---|---|---|
//! | `linear` | K × V | - | - | q, k, v | Katharopoulos et al. 2020 |
//! | `retention` | K × V | per head, fixed | - | q, k, v | Sun et al. 2023 |
//! | `gla` | K × V | per key | - | q, k, v, g | Yang et al. 2023; ONNX `gated` |
//! | `delta` | K × V | - | yes | q, k, v, beta | Schlag et al. 2021; ONNX `delta` |
//! | `gated-delta` | K × V | per key or head | yes | q, k, v, g, beta | Yang et al. 2024; ONNX `gated_delta` |
//! | `mamba` | N × 1 | per channel and state | - | u, dt, B, C | Gu and Dao 2023 |
//! | `selective-scan` | N × 1 | per channel and state | - | u, dt, B, C | the same with Δ given |
//! | `mamba2` | N × P | per head | - | x, dt, B, C | Dao and Gu 2024 |
//! | `rwkv4` | 1 × 1 | per channel, fixed | - | k, v | Peng et al. 2023 |
//! | `rwkv5` | K × V | per key, fixed | - | r, k, v | Peng et al. 2024 |
//! | `rwkv6` | K × V | per key | - | r, w, k, v | Peng et al. 2024 |
//! | `rwkv7` | K × V | per key | yes | r, w, k, v, a, b | Peng et al. 2025 |
//! | `mlstm` | K × V | per head | - | q, k, v, i, f | Beck et al. 2024 |
//! | `mingru` | 1 × 1 | per channel | - | z, h | Feng et al. 2024 |
//! | `minlstm` | 1 × 1 | per channel | - | f, i, h | Feng et al. 2024 |
//! | `sru` | 1 × 1 | per channel | - | f, x | Lei et al. 2018 |
//! | `qrnn` | 1 × 1 | per channel | - | f, z | Bradbury et al. 2017 |
//! | `indrnn` | 1 × 1 | per channel, fixed | - | x | Li et al. 2018, without activation |
//! | `rg-lru` | 1 × 1 | per channel | - | r, i, x | De et al. 2024 |

mod attention;
mod elementwise;
mod mamba;
mod mlstm;
mod rwkv;

pub use attention::{DELTA, GATED_DELTA, GLA, LINEAR, RETENTION};
pub use elementwise::{INDRNN, MINGRU, MINLSTM, QRNN, RG_LRU, SRU};
pub use mamba::{MAMBA, MAMBA2, SELECTIVE_SCAN};
pub use mlstm::MLSTM;
pub use rwkv::{RWKV4, RWKV5, RWKV6, RWKV7};

use crate::model::rule::Rule;

/// Every rule, in the order the documentation lists them.
pub static ALL: [&Rule; 19] = [
    &LINEAR,
    &RETENTION,
    &GLA,
    &DELTA,
    &GATED_DELTA,
    &MAMBA,
    &SELECTIVE_SCAN,
    &MAMBA2,
    &RWKV4,
    &RWKV5,
    &RWKV6,
    &RWKV7,
    &MLSTM,
    &MINGRU,
    &MINLSTM,
    &SRU,
    &QRNN,
    &INDRNN,
    &RG_LRU,
];

/// The rule of that name.
pub fn by_name(name: &str) -> Option<&'static Rule> {
    ALL.iter().find(|r| r.name == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::Extent;

    #[test]
    fn expressions_use_ports_that_their_place_has() {
        for rule in ALL {
            let (form, ports) = ((rule.form)(), rule.ports());
            let only = |e: &crate::expr::Expr, extents: &[Extent]| {
                ports.iter().enumerate().all(|(n, p)| !e.uses(n) || extents.contains(&p.extent))
            };
            let key = form.of_key().into_iter().flatten().all(|e| only(e, &[Extent::Head, Extent::Key]));
            assert!(key && only(&form.value, &[Extent::Head, Extent::Value]), "{}", rule.name);
            if let Some(s) = &form.stabiliser {
                assert!(only(&s.decay, &[Extent::Head]) && only(&s.input, &[Extent::Head]), "{}", rule.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        assert!(ALL.iter().all(|r| ALL.iter().filter(|o| o.name == r.name).count() == 1));
    }
}
