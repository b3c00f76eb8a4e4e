//! An HDF5 file as a tree of named arrays and texts: all that Keras's files use of the format.
//!
//! The crate `hdf5-reader` parses. In front of it stands a budget: no more is allocated for values and texts than a multiple of the
//! file's bytes, whatever sizes the file declares; groups are visited once each, so that a cycle of links ends.

use hdf5_reader::group::Group;
use hdf5_reader::messages::attribute::AttributeMessage;
use hdf5_reader::{Datatype, Hdf5File, OpenOptions, StringSize, VarLenKind};
use std::collections::{BTreeMap, HashSet};

/// Groups inside groups, at most.
const MOST_DEPTH: usize = 32;
/// Bytes of one object's header, at most: writers keep an attribute within 64 KiB, and there are only few.
const MOST_HEADER: usize = 1 << 20;
/// Groups of a model file that hold no layer's arrays: what training goes on from.
const LEFT_OUT: [&str; 2] = ["optimizer", "optimizer_weights"];

/// An array of floating-point numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Vec<f64>,
}

/// What a file holds, by paths without a slash in front; the root is the empty path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    arrays: BTreeMap<String, Array>,
    /// Datasets that hold no floating-point numbers, and what they hold.
    others: BTreeMap<String, String>,
    /// Texts of attributes, by group and name.
    texts: BTreeMap<(String, String), Vec<String>>,
}

impl Tree {
    /// Reads a file's bytes; `budget`: bytes of values and texts that it may make of them.
    pub fn read(bytes: Vec<u8>, budget: u64) -> Result<Self, String> {
        let most = usize::try_from(budget).unwrap_or(usize::MAX);
        let options = OpenOptions::default()
            .with_max_read_bytes(most)
            .with_max_chunk_bytes(most)
            .with_chunk_cache_bytes(0)
            .with_max_object_header_bytes(MOST_HEADER.min(bytes.len()));
        let file = Hdf5File::from_vec_with_options(bytes, options).map_err(|e| e.to_string())?;
        let root = file.root_group().map_err(|e| e.to_string())?;
        let mut reader = Reader { tree: Self::default(), budget };
        reader.walk(root)?;
        Ok(reader.tree)
    }

    /// The array at a path.
    pub fn array(&self, path: &str) -> Result<&Array, String> {
        match (self.arrays.get(path), self.others.get(path)) {
            (Some(array), _) => Ok(array),
            (None, Some(other)) => Err(format!("{path}: expected floating-point numbers, got {other}")),
            (None, None) => Err(format!("{path}: expected an array, got none")),
        }
    }

    /// The paths of all datasets behind `prefix`, whatever they hold.
    pub fn paths<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let arrays = self.arrays.range(prefix.to_string()..).map(|(name, _)| name.as_str());
        let others = self.others.range(prefix.to_string()..).map(|(name, _)| name.as_str());
        let behind = move |name: &&str| name.starts_with(prefix);
        arrays.take_while(behind).chain(others.take_while(behind))
    }

    /// The only text of a group's attribute.
    pub fn text(&self, group: &str, name: &str) -> Option<&str> {
        match self.texts.get(&(group.to_string(), name.to_string())).map(Vec::as_slice) {
            Some([text]) => Some(text),
            _ => None,
        }
    }

    /// The texts of a group's attribute; where Keras had to cut it into `name0`, `name1` and so on, all of them.
    pub fn texts(&self, group: &str, name: &str) -> Option<Vec<&str>> {
        let of = |name: String| self.texts.get(&(group.to_string(), name));
        if let Some(texts) = of(name.to_string()) {
            return Some(texts.iter().map(String::as_str).collect());
        }
        let parts: Vec<&Vec<String>> = (0..).map_while(|n| of(format!("{name}{n}"))).collect();
        (!parts.is_empty()).then(|| parts.into_iter().flatten().map(String::as_str).collect())
    }
}

struct Reader {
    tree: Tree,
    /// Bytes that are left.
    budget: u64,
}

impl Reader {
    fn walk(&mut self, root: Group) -> Result<(), String> {
        let mut seen = HashSet::from([root.address()]);
        let mut waiting = vec![(root, String::new(), 0)];
        while let Some((group, path, depth)) = waiting.pop() {
            if depth > MOST_DEPTH {
                return Err(format!("groups nested over {MOST_DEPTH} deep"));
            }
            self.attributes(&group, &path)?;
            let (groups, datasets) = group.members().map_err(|e| format!("group {path:?}: {e}"))?;
            for dataset in datasets {
                self.dataset(&dataset, join(&path, dataset.name()))?;
            }
            for child in groups {
                let left_out = path.is_empty() && LEFT_OUT.contains(&child.name());
                if !left_out && seen.insert(child.address()) {
                    let path = join(&path, child.name());
                    self.spend(path.len() as u64)?;
                    waiting.push((child, path, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Takes bytes out of the budget.
    fn spend(&mut self, bytes: u64) -> Result<(), String> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => self.budget = rest,
            None => {
                return Err("its arrays and texts say that they are larger than a file of this size can hold".into());
            }
        }
        Ok(())
    }

    fn dataset(&mut self, dataset: &hdf5_reader::Dataset, path: String) -> Result<(), String> {
        let within = |e: hdf5_reader::error::Error| format!("{path}: {e}");
        let size = match dataset.dtype() {
            Datatype::FloatingPoint { size: size @ (2 | 4 | 8), .. } => *size,
            other => {
                let what = format!("{other:?}").chars().take(60).collect();
                self.tree.others.insert(path, what);
                return Ok(());
            }
        };
        let shape: Option<Vec<usize>> = dataset.shape().iter().map(|&d| usize::try_from(d).ok()).collect();
        let bytes = dataset.num_elements().map_err(within)?.checked_mul(size.into());
        let (Some(shape), Some(bytes)) = (shape, bytes) else {
            return Err(format!("{path}: more values than can be counted"));
        };
        self.spend(bytes)?;
        let raw = dataset.read_native_bytes().map_err(within)?;
        let data = match size {
            2 => values(&raw, |v| half::f16::from_ne_bytes(v).to_f64()),
            4 => values(&raw, |v| f64::from(f32::from_ne_bytes(v))),
            _ => values(&raw, f64::from_ne_bytes),
        };
        self.tree.arrays.insert(path, Array { shape, data });
        Ok(())
    }

    fn attributes(&mut self, group: &Group, path: &str) -> Result<(), String> {
        for attribute in group.raw_attributes().map_err(|e| format!("attributes of {path:?}: {e}"))? {
            let (message, _) = attribute.into_parts();
            if let Some(texts) = self.strings(group, &message)? {
                self.tree.texts.insert((path.to_string(), message.name), texts);
            }
        }
        Ok(())
    }

    /// The texts of an attribute; `None` where it holds something else.
    fn strings(&mut self, group: &Group, message: &AttributeMessage) -> Result<Option<Vec<String>>, String> {
        let within = |e: hdf5_reader::error::Error| format!("attribute {:?}: {e}", message.name);
        let raw = &message.raw_data;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        // As many as there are bytes of, whatever is declared.
        let count = usize::try_from(message.dataspace.num_elements().map_err(|e| e.to_string())?).unwrap_or(usize::MAX);
        match &message.datatype {
            Datatype::String { size: StringSize::Fixed(width), .. } => {
                self.spend(raw.len() as u64)?;
                let width = usize::try_from(*width).unwrap_or(usize::MAX).max(1);
                Ok(Some(raw.chunks_exact(width).take(count).map(text).collect()))
            }
            Datatype::String { size: StringSize::Variable, .. } | Datatype::VarLen { kind: VarLenKind::String, .. } => {
                let reference = 4 + usize::from(group.offset_size()) + 4;
                let mut all = Vec::new();
                for reference in raw.chunks_exact(reference).take(count) {
                    let length = reference.first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
                    self.spend(u64::from(length) + 32)?;
                    all.push(text(&group.resolve_vlen_reference_bytes(reference, 1).map_err(within)?));
                }
                Ok(Some(all))
            }
            _ => Ok(None),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}

fn values<const N: usize>(raw: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    raw.chunks_exact(N).filter_map(|v| v.first_chunk().copied().map(&value)).collect()
}
