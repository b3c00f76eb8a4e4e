//! mLSTM, the matrix memory of xLSTM (Beck et al. 2024, arXiv 2405.04517, §2.3).
//!
//! ```text
//! m' = max(log σ(f) + m, i)      C' = σ(f) C + e^i k vᵀ      n' = σ(f) n + e^i k      y = C'ᵀ q / max(|n'·q|, 1)
//! ```
//!
//! with C and n kept relative to e^m, so that e^i cannot overflow. The scale of k (1/√K) and the output gate are the caller's.

use crate::expr::{Expr, exp, softplus};
use crate::model::rule::{Divisor, Form, HeadState, Port, Read, Rule, Stabiliser};

/// mLSTM: input gate e^i, forget gate σ(f).
pub static MLSTM: Rule = Rule {
    name: "mlstm",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v"), Port::head("i"), Port::head("f")],
    params: &[],
    state: HeadState::Matrix,
    form: || {
        let input = |name| Expr::input(MLSTM.port(name));
        let decay = || -softplus(-input("f"));
        Form {
            decay: Some(exp(decay() + input("m_before") - input("m"))),
            erase: None,
            write: exp(input("i") - input("m")) * input("k"),
            query: input("q"),
            through: None,
            value: input("v"),
            read: Read::After,
            stabiliser: Some(Stabiliser { decay: decay(), input: input("i"), divisor: Divisor::AtLeastOne }),
        }
    },
};
