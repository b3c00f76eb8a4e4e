//! Safetensors: one file, or several with an index. The library's [`TensorFile`] reads a file.
//!
//! `safetensors.torch.save_model` drops a tensor that shares its memory with another and writes `{dropped: kept}` into the
//! metadata: such a name gives the tensor that was kept.

use super::{Contents, Kept, Read, Stored};
use crate::element::Element;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;
use wgpu_rnn::io::NamedTensors;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Error, Recurrence, Result};

/// A whole file.
pub(super) fn file(path: &Path, bytes: Vec<u8>) -> Result<Contents> {
    let file = Arc::new(TensorFile::from_bytes(path, bytes)?);
    Ok(Contents { recurrence: file.recurrence()?, tensors: tensors(&file), kept: kept(&file) })
}

/// `{"weight_map": {name: file, …}}`, beside those files.
pub(super) fn index(path: &Path, bytes: Vec<u8>) -> Result<Contents> {
    let refused = |reason: String| Error::file(path, format!("not an index of safetensors files: {reason}"));
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
    let Some(map) = json.get("weight_map").and_then(serde_json::Value::as_object) else {
        return Err(refused("weight_map: expected names with the file of each, got none".into()));
    };
    let names: Option<BTreeMap<&str, &str>> =
        map.iter().map(|(name, shard)| Some((name.as_str(), shard.as_str()?))).collect();
    let names = names.ok_or_else(|| refused("weight_map: expected the name of a file for every tensor".into()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut all, mut recurrence, mut beside) = (BTreeMap::new(), Recurrence::Dense, Kept::default());
    for shard in names.values().collect::<BTreeSet<_>>() {
        if !within(shard) {
            let expected = "the name of a file in the index's folder, or below it";
            return Err(Error::mismatch(format!("{}: weight_map", path.display()), expected, shard));
        }
        let file = Arc::new(TensorFile::open(folder.join(shard))?);
        if file.recurrence()? != Recurrence::Dense {
            recurrence = file.recurrence()?;
        }
        all.extend(tensors(&file));
        let Kept { metadata, tied, unread } = kept(&file);
        beside.metadata.extend(metadata);
        beside.tied.extend(tied);
        beside.unread.extend(unread);
    }
    match names.iter().find(|(name, _)| !all.contains_key(**name)) {
        Some((name, shard)) => {
            Err(Error::mismatch(format!("{}: {name}", path.display()), format!("a tensor of {shard}"), "none"))
        }
        None => Ok(Contents { tensors: all.into_iter().collect(), recurrence, kept: beside }),
    }
}

/// Whether a path stays in the folder that it is taken from.
fn within(path: &str) -> bool {
    // A backslash is a separator for some systems, and no part of a name that anybody writes.
    let parts = Path::new(path).components();
    !path.is_empty() && !path.contains(['\\', ':']) && parts.into_iter().all(|c| matches!(c, Component::Normal(_)))
}

fn tensors(file: &Arc<TensorFile>) -> Vec<(String, Stored)> {
    let stored = |name: &str, of: &str| {
        let (shape, dtype) = (file.shape(of)?, file.dtype(of)?);
        // Formats of 8 bits and less are none that a recurrent layer has been saved in.
        let element = Element::by_name(&format!("{dtype:?}"))?;
        let (file, of) = (file.clone(), of.to_string());
        let read = Box::new(move || file.bytes(&of).map(<[u8]>::to_vec).ok_or_else(|| "no values".to_string()));
        Some((name.to_string(), Stored { shape, element, read }))
    };
    let own = file.names().into_iter().filter_map(|name| stored(&name, &name));
    own.chain(tied(file).iter().filter_map(|(dropped, kept)| stored(dropped, kept))).collect()
}

/// Names that were dropped, and those that were kept for them.
fn tied(file: &TensorFile) -> BTreeMap<String, String> {
    let names: BTreeSet<String> = file.names().into_iter().collect();
    let dropped = |(dropped, kept): &(String, String)| names.contains(kept) && !names.contains(dropped);
    file.metadata().into_iter().filter(dropped).collect()
}

fn kept(file: &Arc<TensorFile>) -> Kept {
    let unread = |name: String| {
        let (shape, dtype) = (file.shape(&name)?, file.dtype(&name)?);
        if Element::by_name(&format!("{dtype:?}")).is_some() {
            return None;
        }
        let (file, of) = (file.clone(), name.clone());
        let read: Read = Box::new(move || file.bytes(&of).map(<[u8]>::to_vec).ok_or_else(|| "no values".to_string()));
        Some((name, dtype, shape, read))
    };
    Kept {
        metadata: file.metadata().into_iter().collect(),
        tied: tied(file),
        unread: file.names().into_iter().filter_map(unread).collect(),
    }
}
