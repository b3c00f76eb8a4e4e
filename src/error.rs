//! The one error type. Every message names what was wrong, what was expected and what was got.

use std::path::PathBuf;

/// What can go wrong. No function of this crate panics on user input, bad files, a missing adapter, a lost device or a
/// size beyond a limit: it returns one of these. `{:?}` prints the same message as `{}`, so that a `main` that returns
/// [`Result`] shows it to people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value, shape or count that does not fit: `x: expected [T, B, I] = [100, 8, 64], got [100, 8, 63]`.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// The argument, tensor or field.
        what: String,
        /// What would have been right.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A file that cannot be read or does not hold what it should.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it was refused.
        reason: String,
    },
    /// A request beyond what the device offers or the crate takes.
    #[error("{what}: needs {needs} {unit}, over {limit_name} of {limit} {unit}{hint}")]
    Limit {
        /// The slot or request.
        what: String,
        /// How much is asked for.
        needs: u64,
        /// How much there may be.
        limit: u64,
        /// What both count: `bytes`, `workgroups`, …
        unit: &'static str,
        /// Whose limit, and its name: `the device's max_buffer_size`.
        limit_name: &'static str,
        /// What would help; empty or starting with `; `.
        hint: String,
    },
    /// No GPU adapter (or none of the kind asked for).
    #[error("no GPU adapter: {reason}")]
    NoAdapter {
        /// What the search found.
        reason: String,
    },
    /// The device was lost; results of the running call are gone, the session must be made anew on a new device.
    #[error("device lost: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// The GPU API refused something (validation, out of memory, shader compilation).
    #[error("gpu: {what}: {reason}")]
    Gpu {
        /// What was being done.
        what: String,
        /// wgpu's message.
        reason: String,
    },
    /// A combination this executor or build does not offer; never silently replaced by another.
    #[error("not supported: {what}: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what to use instead.
        reason: String,
    },
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// [`Error::Mismatch`] of these: `what: expected …, got …`.
    pub fn mismatch(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Self::Mismatch { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// [`Error::File`]: a file with the reason why it was refused.
    pub fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
