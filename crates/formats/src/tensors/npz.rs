//! `.npz`: a zip archive of `.npy` files, as `numpy.savez` and `numpy.savez_compressed` write it. An array's name is its file's,
//! without `.npy`.

use super::{Contents, EXPANDED, Stored};
use crate::npy::Header;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use wgpu_rnn::{Error, Result};
use zip::ZipArchive;

/// A small archive may unpack to so many bytes, however small it is.
const ALWAYS: u64 = 1 << 16;

type Archive = ZipArchive<Cursor<Arc<[u8]>>>;

pub(super) fn open(path: &Path, bytes: Vec<u8>) -> Result<Contents> {
    let most = (EXPANDED.saturating_mul(bytes.len()) as u64).saturating_add(ALWAYS);
    let refused = |reason: String| Error::file(path, format!("not a NumPy .npz archive: {reason}"));
    let archive = ZipArchive::new(Cursor::new(Arc::<[u8]>::from(bytes))).map_err(|e| refused(e.to_string()))?;
    let (mut tensors, mut left) = (Vec::new(), most);
    for at in 0..archive.len() {
        let mut archive = archive.clone();
        let entry = archive.by_index(at).map_err(|e| refused(e.to_string()))?;
        let name = entry.name().map_err(|e| refused(e.to_string()))?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(String::from) else { continue };
        let header = Header::read(entry).map_err(|e| refused(format!("{name}.npy: {e}")))?;
        let size = header.file_size();
        left = left.checked_sub(size).ok_or_else(|| {
            refused(format!("{name}.npy: expected arrays of at most {most} bytes in an archive of this size, got more"))
        })?;
        let (shape, element) = (header.shape.clone(), header.element);
        tensors.push((name, Stored { shape, element, read: Box::new(move || values(archive.clone(), at, &header)) }));
    }
    Ok(Contents { tensors, ..Contents::default() })
}

/// The values of the archive's file `at`, whose header was read.
fn values(mut archive: Archive, at: usize, header: &Header) -> Result<Vec<u8>, String> {
    let entry = archive.by_index(at).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    // One byte more than there may be: an array that is longer than its header says is noticed.
    entry.take(header.file_size().saturating_add(1)).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    header.values(&bytes).map(<[u8]>::to_vec)
}
