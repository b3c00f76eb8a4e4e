//! Where a file has the parameters of a stack: [`Names`].

use crate::error::{Error, Result};
use std::borrow::Cow;

/// The names that a file has for a stack's parameters: what stands before the layers' names, and the tensors of the embedding
/// and of the head.
///
/// A `&str` is a `Names` of these layers' prefix and nothing else. A module of PyTorch with `self.embed`, `self.lstm` and
/// `self.fc` saves `embed.weight`, `lstm.weight_ih_l0`, …, `fc.weight` and `fc.bias`:
///
/// ```
/// use wgpu_rnn::weights::Names;
/// let names = Names { layers: "lstm.", embedding: Some("embed.weight"), head: Some("fc.weight") };
/// assert_eq!(Names::from("lstm."), Names { layers: "lstm.", embedding: None, head: None });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Names<'a> {
    /// What stands before `weight_ih_l0` and the other names of layers ([`crate::weights::parameters`]), with its dot: `"lstm."`.
    /// Default: `""`.
    pub layers: &'a str,
    /// The name of the embedding table `[V, I]`. `None`, the default, is the name `embedding.weight` behind the layers' prefix.
    pub embedding: Option<&'a str>,
    /// The name of the head's matrix `[O, D·P]`, which ends in `weight`; its bias `[O]` has the same name with `bias` at the end.
    /// `None`, the default, is the names `head.weight` and `head.bias` behind the layers' prefix.
    pub head: Option<&'a str>,
}

/// The prefix of the layers.
impl<'a> From<&'a str> for Names<'a> {
    fn from(layers: &'a str) -> Self {
        Self { layers, ..Self::default() }
    }
}

/// The prefix of the layers.
impl<'a> From<&&'a str> for Names<'a> {
    fn from(layers: &&'a str) -> Self {
        Self::from(*layers)
    }
}

/// The prefix of the layers.
impl<'a> From<&'a String> for Names<'a> {
    fn from(layers: &'a String) -> Self {
        Self::from(layers.as_str())
    }
}

impl Names<'_> {
    /// Refuses a name of a head from which that of its bias does not follow.
    pub(crate) fn validate(&self) -> Result<()> {
        match self.head {
            Some(head) if !head.ends_with("weight") => {
                let module = head.trim_end_matches('.');
                let expected = format!("the name of its matrix, which ends in weight ({module}.weight?)");
                Err(Error::mismatch("the head in Names", expected, head))
            }
            _ => Ok(()),
        }
    }

    /// The name in the file of a parameter of [`crate::weights::parameters`]: of `weight_ih_l0` behind `"lstm."`, `lstm.weight_ih_l0`.
    pub fn in_file<'n>(&'n self, parameter: &str) -> Cow<'n, str> {
        match (parameter, self.embedding, self.head) {
            ("embedding.weight", Some(name), _) | ("head.weight", _, Some(name)) => name.into(),
            ("head.bias", _, Some(name)) => format!("{}bias", name.strip_suffix("weight").unwrap_or(name)).into(),
            _ => format!("{}{parameter}", self.layers).into(),
        }
    }
}
