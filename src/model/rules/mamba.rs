//! Mamba's selective scans.
//!
//! ```text
//! mamba            per channel h ∈ R^N:    Δ = softplus(dt + dt_bias)    h' = e^(Δ A) ∘ h + Δ u B    y = C·h' + D u
//! selective-scan   the same with Δ = dt: the caller has made it positive
//! mamba2           per head S ∈ R^{N×P}:   Δ = softplus(dt + dt_bias)    S' = e^(Δ A) S + Δ B xᵀ     y = S'ᵀ C + D x
//! ```
//!
//! Gu and Dao 2023 (arXiv 2312.00752), Dao and Gu 2024 (arXiv 2405.21060). A = −e^`A_log`. B and C belong to all channels, or to
//! groups of heads.

use crate::expr::{Expr, exp, softplus};
use crate::model::rule::{Form, HeadState, Port, Read, Rule};

fn selective(rule: &Rule, value: &str, delta: Expr) -> Form {
    let input = |name| Expr::input(rule.port(name));
    Form {
        decay: Some(exp(-(delta.clone() * exp(input("A_log"))))),
        erase: None,
        write: delta * input("B"),
        query: input("C"),
        through: Some(input("D")),
        value: input(value),
        read: Read::After,
        stabiliser: None,
    }
}

/// Δ = softplus(dt + dt_bias)
fn softened(rule: &Rule) -> Expr {
    softplus(Expr::input(rule.port("dt")) + Expr::input(rule.port("dt_bias")))
}

/// Mamba: a head per channel, V = 1.
pub static MAMBA: Rule = Rule {
    name: "mamba",
    inputs: &[Port::value("u"), Port::head("dt"), Port::key("B"), Port::key("C")],
    params: &[Port::key("A_log"), Port::head("D"), Port::head("dt_bias")],
    state: HeadState::Vector,
    form: || selective(&MAMBA, "u", softened(&MAMBA)),
};

/// Mamba with Δ given.
pub static SELECTIVE_SCAN: Rule = Rule {
    name: "selective-scan",
    inputs: &[Port::value("u"), Port::head("dt"), Port::key("B"), Port::key("C")],
    params: &[Port::key("A_log"), Port::head("D")],
    state: HeadState::Vector,
    form: || selective(&SELECTIVE_SCAN, "u", Expr::input(SELECTIVE_SCAN.port("dt"))),
};

/// Mamba-2: a scalar decay per head.
pub static MAMBA2: Rule = Rule {
    name: "mamba2",
    inputs: &[Port::value("x"), Port::head("dt"), Port::key("B"), Port::key("C")],
    params: &[Port::head("A_log"), Port::head("D"), Port::head("dt_bias")],
    state: HeadState::Matrix,
    form: || selective(&MAMBA2, "x", softened(&MAMBA2)),
};
