//! Values that lie beside the model: a file of the model's folder, where they begin in it, and how many bytes they are.

use super::operator::shortened;
use super::proto;
use prost::Message;
use prost::bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use wgpu_rnn::{Error, Result};

/// Where other files of a model may be.
#[derive(Clone, Debug)]
pub enum Folder {
    /// Nowhere: the model came as bytes.
    None,
    /// In the model's folder, or in folders inside it.
    At(PathBuf),
}

impl Folder {
    /// The folder of a file.
    pub fn of(path: &Path) -> Self {
        match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Self::At(".".into()),
            Some(folder) => Self::At(folder.into()),
            None => Self::None,
        }
    }

    /// The `bytes` of a tensor whose entries say where they are.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without a folder, and for a location that is no relative path inside the folder (links that lead
    /// out of it are none); [`Error::Mismatch`] for other entries, or another length than the tensor's; [`Error::File`] for a file that
    /// cannot be read or ends before.
    pub fn read(&self, what: &str, entries: &[Bytes], bytes: usize) -> Result<Vec<u8>> {
        let place = Place::read(what, entries)?;
        let path = self.inside(what, &place.location)?;
        if let Some(length) = place.length.filter(|&n| n != bytes as u64) {
            return Err(Error::mismatch(format!("{what} as external data"), format!("{bytes} bytes"), length));
        }
        let failed = |e: std::io::Error| Error::file(&path, e);
        let mut file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        // Nothing is allocated that the file does not have.
        if place.offset.checked_add(bytes as u64).is_none_or(|end| end > size) {
            let reason = format!("{what} is {bytes} bytes from {} on, beyond its end at {size}", place.offset);
            return Err(Error::file(&path, reason));
        }
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let mut data = vec![0; bytes];
        file.read_exact(&mut data).map_err(failed)?;
        Ok(data)
    }

    fn inside(&self, what: &str, location: &str) -> Result<PathBuf> {
        let what = || format!("{what} as external data in {}", shortened(location));
        let Self::At(folder) = self else {
            let reason = "the model came as bytes, without its folder; open it by its path, or save it as one file";
            return Err(Error::Unsupported { what: what(), reason: reason.into() });
        };
        let outside =
            || Error::Unsupported { what: what(), reason: "only files in the model's folder are read".into() };
        let relative = Path::new(location);
        if location.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(outside());
        }
        let path = folder.join(relative);
        let real = |path: &Path| path.canonicalize().map_err(|e| Error::file(path, e));
        match real(&path)?.starts_with(real(folder)?) {
            true => Ok(path),
            false => Err(outside()),
        }
    }
}

/// What the entries say.
struct Place {
    location: String,
    offset: u64,
    length: Option<u64>,
}

impl Place {
    fn read(what: &str, entries: &[Bytes]) -> Result<Self> {
        let mut place = Self { location: String::new(), offset: 0, length: None };
        for bytes in entries {
            let entry = proto::Entry::decode(bytes.clone());
            let entry = entry.map_err(|e| Error::mismatch(what, "a StringStringEntryProto", e))?;
            let number = || {
                let wrong =
                    |_| Error::mismatch(format!("{} of {what}", entry.key), "a number", shortened(&entry.value));
                entry.value.parse::<u64>().map_err(wrong)
            };
            match entry.key.as_str() {
                "location" => place.location = entry.value,
                "offset" => place.offset = number()?,
                "length" => place.length = Some(number()?),
                // A checksum, or what others may add.
                _ => {}
            }
        }
        Ok(place)
    }
}
