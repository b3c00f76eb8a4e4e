//! Inputs whose values, not their shapes alone, say which network a model is: what an `If` asks, what sizes are made of.
//!
//! A network takes the same way in every run. So a model with such inputs is one network for each of their values: as a file in which they
//! are constants ([`OnnxFile::decided`]).

use super::constant::Constant;
use super::graph::{Bound, is_onnx};
use super::operator::shortened;
use super::{OnnxFile, OnnxSize, fold, proto, whole};
use prost::Message;
use std::collections::HashSet;
use wgpu_rnn::{Error, Result, View};

impl OnnxFile {
    /// The inputs of integers or truth values that the network depends on: single ones and lists that conditions, sizes, axes and places are
    /// made of. [`OnnxFile::model`] needs their values ([`OnnxFile::decided`]).
    pub fn deciding(&self) -> Vec<String> {
        let mut waiting = self.needed_as_constants();
        let mut seen: HashSet<(usize, String)> = HashSet::new();
        let mut inputs: HashSet<String> = HashSet::new();
        while let Some((scope, name)) = waiting.pop() {
            let Some((scope, bound)) = self.resolve(scope, &name) else { continue };
            if !seen.insert((scope, name.clone())) {
                continue;
            }
            match bound {
                Bound::Input if scope == 0 => {
                    inputs.insert(name);
                }
                Bound::Node(bytes) => {
                    let Ok(node) = proto::Node::decode(bytes.clone()) else { continue };
                    // Shapes are known with the shapes of the inputs.
                    if is_onnx(&node.domain)
                        && !matches!(&*node.op_type, "Shape" | "Size")
                        && fold::works_out(&node.op_type)
                    {
                        waiting.extend(node.input.into_iter().map(|input| (scope, input)));
                    }
                }
                Bound::Input | Bound::Constant(_) => {}
            }
        }
        let of_few = |value: &super::OnnxValue| {
            value.element.is_some_and(|e| !e.is_real()) && value.shape.as_ref().is_some_and(|shape| shape.len() <= 1)
        };
        self.inputs().into_iter().filter(of_few).map(|value| value.name).filter(|name| inputs.contains(name)).collect()
    }

    /// What nodes read that must be constant, of all graphs that a run may take.
    fn needed_as_constants(&self) -> Vec<(usize, String)> {
        let untaken = self.untaken();
        let mut needed = Vec::new();
        for (n, scope) in self.scopes.iter().enumerate().filter(|(n, _)| !untaken[*n]) {
            for bytes in &scope.nodes {
                let Ok(node) = proto::Node::decode(bytes.clone()) else { continue };
                let domain = if is_onnx(&node.domain) { String::new() } else { format!("{}.", node.domain) };
                let first = whole::reads(&format!("{domain}{}", node.op_type));
                needed.extend(node.input.into_iter().skip(first).map(|input| (n, input)));
            }
        }
        needed
    }

    /// The model in which those inputs are constants of these values: it does not ask for them any more.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that is no input of integers or truth values, for another shape, and for values that its type does not
    /// have.
    pub fn decided(&self, values: &[(&str, View<'_, i64>)]) -> Result<Self> {
        let inputs = self.inputs();
        let mut file = self.clone();
        for (name, view) in values {
            let what = format!("{}: input {}", self.path.display(), shortened(name));
            let wrong = |expected: &str, got: String| Error::mismatch(what.clone(), expected, got);
            let input = inputs.iter().find(|input| input.name == *name);
            let input = input.ok_or_else(|| wrong("an input of the model", "no such input".into()))?;
            let element = input.element.filter(|element| !element.is_real());
            let element = element.ok_or_else(|| wrong("integers or truth values", "another type".into()))?;
            let declared = input.shape.as_deref();
            let same = |(d, &size): (&OnnxSize, &usize)| !matches!(d, OnnxSize::Fixed(n) if *n != size);
            if declared.is_some_and(|d| d.len() != view.shape.len() || !d.iter().zip(view.shape).all(same)) {
                let sizes = declared.iter().copied().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(wrong(&format!("[{sizes}]"), format!("{:?}", view.shape)));
            }
            let constant = Constant::from_integers_of(&what, view.shape.to_vec(), element, view.data.to_vec())?;
            file.scopes[0].constants.insert((*name).into(), constant.encoded_integers(name)?.encode_to_vec().into());
        }
        // Which branches are taken may be known now.
        file.forget_untaken();
        Ok(file)
    }
}
