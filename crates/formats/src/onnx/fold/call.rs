//! A node as an operator's row sees it: attributes, inputs, and how much it may make.

use super::super::constant::{Constant, count};
use super::super::external::Folder;
use super::super::proto;
use crate::element::Element;
use prost::Message;
use wgpu_rnn::{Error, Result};

/// Elements that nodes may make of any file.
const ANY_FILE: usize = 1 << 15;
/// Elements that they may make per byte of the file and per element that it holds: weights pass through a few nodes.
const PER_ELEMENT: usize = 8;

/// How many elements may still be made: constants grow (`Expand`, `Tile`, `ConstantOfShape`), files must not grow without end.
pub struct Budget {
    left: usize,
    all: usize,
}

impl Budget {
    /// In proportion to the bytes of a file.
    pub fn of_file(bytes: usize) -> Self {
        let all = bytes.saturating_add(ANY_FILE);
        Self { left: all, all }
    }

    /// More, for so many elements that were read.
    pub fn earn(&mut self, elements: usize) {
        let more = elements.saturating_mul(PER_ELEMENT);
        (self.left, self.all) = (self.left.saturating_add(more), self.all.saturating_add(more));
    }

    /// Takes what a tensor of that shape needs, and gives how many elements that is.
    ///
    /// # Errors
    /// [`Error::Limit`] where there is not so much left.
    pub fn take(&mut self, shape: &[usize]) -> Result<usize> {
        let needs = count(shape).unwrap_or(usize::MAX);
        if needs > self.left {
            return Err(Error::Limit {
                what: format!("a constant of shape {shape:?}"),
                needs: needs as u64,
                limit: self.all as u64,
                unit: "elements",
                limit_name: "what constants of this file may grow to",
                hint: String::new(),
            });
        }
        self.left -= needs;
        Ok(needs)
    }
}

/// The attributes of a node, by name.
pub struct Attributes<'a> {
    node: &'a proto::Node,
    folder: &'a Folder,
}

impl<'a> Attributes<'a> {
    pub fn new(node: &'a proto::Node, folder: &'a Folder) -> Self {
        Self { node, folder }
    }

    pub fn get(&self, name: &str) -> Result<Option<proto::Attribute>> {
        for bytes in &self.node.attribute {
            let attribute = proto::Attribute::decode(bytes.clone());
            let attribute = attribute.map_err(|e| Error::mismatch("attribute", "an AttributeProto", e))?;
            if attribute.name == name {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    // A scalar that is not there is the zero that proto3 does not write.
    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.get(name)?.map(|a| a.i.unwrap_or(0)))
    }

    pub fn float(&self, name: &str) -> Result<Option<f64>> {
        Ok(self.get(name)?.map(|a| a.f.unwrap_or(0.0).into()))
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.get(name)?.map(|a| a.ints))
    }

    pub fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.get(name)?.map(|a| String::from_utf8_lossy(a.s.as_deref().unwrap_or_default()).into_owned()))
    }

    pub fn tensor(&self, name: &str) -> Result<Option<Constant>> {
        let tensor = self.get(name)?.and_then(|a| a.t);
        tensor.map(|bytes| Constant::decode_in(self.folder, name, bytes)).transpose()
    }
}

/// A node with its inputs.
pub struct Call<'a> {
    pub op: &'a str,
    pub attributes: Attributes<'a>,
    /// `None`: left out.
    pub inputs: Vec<Option<Constant>>,
    /// How many there are.
    pub outputs: usize,
    pub budget: &'a mut Budget,
}

impl Call<'_> {
    pub fn optional(&self, n: usize) -> Option<&Constant> {
        self.inputs.get(n).and_then(Option::as_ref)
    }

    pub fn input(&self, n: usize) -> Result<&Constant> {
        self.optional(n).ok_or_else(|| Error::mismatch(format!("input {n}"), "a tensor", "none"))
    }

    /// Integers that an input gives, or else an attribute.
    pub fn list(&self, n: usize, attribute: &str) -> Result<Option<Vec<i64>>> {
        match self.optional(n) {
            Some(list) => list.integers(attribute).map(|values| Some(values.to_vec())),
            None => self.attributes.ints(attribute),
        }
    }

    /// Sizes, as an input gives them.
    pub fn sizes(&self, n: usize, what: &str) -> Result<Vec<usize>> {
        let size = |&v: &i64| usize::try_from(v).map_err(|_| Error::mismatch(what, "sizes from 0", v));
        self.input(n)?.integers(what)?.iter().map(size).collect()
    }

    /// The elements of `n` at other places, in another shape.
    pub fn taken(&mut self, n: usize, shape: Vec<usize>, places: impl Iterator<Item = usize>) -> Result<Vec<Constant>> {
        self.budget.take(&shape)?;
        Ok(vec![self.input(n)?.taken(shape, places)])
    }

    /// Real or whole numbers of a type, rounded to it.
    pub fn numbers(shape: Vec<usize>, element: Element, values: Vec<f64>) -> Result<Constant> {
        let real = Constant::from_reals("result", shape, Element::F64, values)?;
        real.cast("result", element)
    }
}
