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
    /// What a [`crate::StreamPool`] refuses a stream.
    #[error("{0}")]
    Stream(StreamError),
    /// A combination this executor or build does not offer; never silently replaced by another.
    #[error("not supported: {what}: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what to use instead.
        reason: String,
    },
}

/// Why a [`crate::StreamPool`] refuses a call about a stream. Nothing has changed then, for that stream or any other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream was closed, or is of another pool.
    #[error("stream {id}: expected an open stream of this pool, got one that was closed, or of another pool")]
    Unknown {
        /// The stream's name.
        id: String,
    },
    /// No room for frames: a frame has a place from its push until its result is pulled.
    #[error(
        "stream {id}: expected room for {frames} frame(s), got {waiting} that wait and {unpulled} result(s) that nobody has pulled, of \
         {places} places; tick and pull first, or push fewer at once (PoolOptions::frames)"
    )]
    Full {
        /// The stream's name.
        id: String,
        /// Frames that were pushed now.
        frames: usize,
        /// Frames that wait.
        waiting: usize,
        /// Results that nobody has pulled.
        unpulled: usize,
        /// Frames and results that a stream may have.
        places: usize,
    },
    /// A value that is not a number, which would make all that comes after it none, too.
    #[error(
        "stream {id}: expected numbers, got NaN in value {column} of frame {frame} of the push; reset a stream whose source went wrong, or \
         push what stands for silence"
    )]
    Poisoned {
        /// The stream's name.
        id: String,
        /// Which of the frames that were pushed now.
        frame: usize,
        /// Which of its values.
        column: usize,
    },
    /// A rollback beyond what is kept of a stream.
    #[error(
        "stream {id}: expected a rollback by at most {kept} step(s), which is what is kept, got {steps} (PoolOptions::history keeps more)"
    )]
    History {
        /// The stream's name.
        id: String,
        /// Steps that were asked for.
        steps: usize,
        /// Steps that may be taken back.
        kept: usize,
    },
    /// A snapshot of another stream, of which the one at hand is no fork.
    #[error(
        "stream {id}: expected a snapshot of it, or of what it was forked from, got one of another stream (open_from opens a stream there)"
    )]
    Snapshot {
        /// The stream's name.
        id: String,
    },
    /// The state of a stream of another model.
    #[error("saved stream: expected a state of the model with the fingerprint {expected:016x}, got one of {got:016x}")]
    Model {
        /// The pool's model.
        expected: u64,
        /// The state's.
        got: u64,
    },
    /// Bytes that are no saved state, or damaged.
    #[error("saved stream: expected {expected}, got {got}")]
    Saved {
        /// What would have been right.
        expected: String,
        /// What was given.
        got: String,
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
