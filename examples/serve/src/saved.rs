//! Sessions of clients that are gone: kept in memory for a while, and in a folder while the server is not running.
//!
//! ```text
//! FOLDER/TOKEN.stream   what StreamPool::save has written (docs/formats.md)
//! FOLDER/TOKEN.json     the sound around it; written last: a stream without it was not saved to the end
//! ```

use crate::protocol::Format;
use crate::sound::Sound;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wgpu_rnn_examples::voice_activity::silero::{CONTEXT, Framer};
use wgpu_rnn_examples::voice_activity::speech::{Listener, Rules};

/// All that a client's stream is made of.
#[derive(Clone)]
pub struct Session {
    pub token: String,
    pub format: Format,
    pub sound: Sound,
    pub listener: Listener,
    /// The pool's part: [`wgpu_rnn::StreamPool::save`].
    pub state: Vec<u8>,
}

/// What is in the `.json`. Samples are the bits of f32, so that they come back as they were.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Around {
    version: u32,
    format: Format,
    /// Samples so far, and of them those that have not run.
    received: u64,
    samples: Vec<u32>,
    /// The samples before these.
    context: Vec<u32>,
    /// Frames of which results were given, and where they leave the search for speech.
    frames: usize,
    speaking: bool,
    stretch: Option<(usize, usize)>,
}

const VERSION: u32 = 1;

/// Sessions by their tokens.
pub struct Kept {
    sessions: Mutex<HashMap<String, (Instant, Session)>>,
    most: usize,
    keep: Duration,
    folder: Option<PathBuf>,
}

/// A name that nobody guesses.
pub fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Kept {
    /// At most so many sessions for so long; with a folder, they outlive the server.
    pub fn new(most: usize, keep: Duration, folder: Option<PathBuf>) -> Self {
        Self { sessions: Mutex::default(), most, keep, folder }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Session)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session; the oldest go where there are too many.
    pub fn put(&self, session: Session) {
        if self.most == 0 {
            return;
        }
        let mut all = self.lock();
        while all.len() >= self.most {
            let oldest = all.iter().min_by_key(|(_, (since, _))| *since).map(|(token, _)| token.clone());
            let Some(oldest) = oldest else { break };
            self.forget(&mut all, &oldest);
        }
        all.insert(session.token.clone(), (Instant::now(), session));
    }

    /// Keeps a session however many there are: one that is promised to be saved, or was.
    pub fn keep(&self, session: Session) {
        self.lock().insert(session.token.clone(), (Instant::now(), session));
    }

    /// Gives a session back. From then on it is the client's.
    pub fn take(&self, token: &str) -> Option<Session> {
        let mut all = self.lock();
        self.sweep(&mut all);
        self.forget(&mut all, token)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let mut all = self.lock();
        self.sweep(&mut all);
        all.len()
    }

    fn sweep(&self, all: &mut HashMap<String, (Instant, Session)>) {
        let is_over = |since: &Instant| since.elapsed() > self.keep;
        let over: Vec<String> = all.iter().filter(|(_, (since, _))| is_over(since)).map(|(t, _)| t.clone()).collect();
        over.iter().for_each(|token| drop(self.forget(all, token)));
    }

    /// In memory and in the folder: a file that stays would be a session of which the rest is missing.
    fn forget(&self, all: &mut HashMap<String, (Instant, Session)>, token: &str) -> Option<Session> {
        let (_, session) = all.remove(token)?;
        if let Some(folder) = &self.folder {
            // Only those that came out of the folder are in it.
            for path in paths(folder, token) {
                let _ = std::fs::remove_file(path);
            }
        }
        Some(session)
    }

    /// Writes all sessions into the folder; how many.
    ///
    /// # Errors
    /// Of the file system; what could be written is there.
    pub fn save(&self) -> io::Result<usize> {
        let Some(folder) = &self.folder else { return Ok(0) };
        let mut all = self.lock();
        self.sweep(&mut all);
        if all.is_empty() {
            return Ok(0);
        }
        make_folder(folder)?;
        let mut failed = None;
        let mut count = 0;
        for (_, session) in all.values() {
            match session.write(folder) {
                Ok(()) => count += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// What a server before has saved, each with its file.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn load(&self) -> io::Result<Vec<(PathBuf, io::Result<Session>)>> {
        let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_dir()) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let token = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|end| end == "json") && is_token(token) {
                let session = Session::read(folder, token);
                all.push((path, session));
            }
        }
        Ok(all)
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

fn paths(folder: &Path, token: &str) -> [PathBuf; 2] {
    ["json", "stream"].map(|end| folder.join(format!("{token}.{end}")))
}

/// Sessions are sound that somebody has spoken: nobody else's to read.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

impl Session {
    fn write(&self, folder: &Path) -> io::Result<()> {
        let bits = |samples: &[f32]| samples.iter().map(|sample| sample.to_bits()).collect();
        let around = Around {
            version: VERSION,
            format: self.format,
            received: self.sound.received,
            samples: bits(&self.sound.samples),
            context: bits(&self.sound.framer.context),
            frames: self.listener.frame,
            speaking: self.listener.speaking,
            stretch: self.listener.stretch.as_ref().map(|stretch| (stretch.start, stretch.end)),
        };
        let [json, stream] = paths(folder, &self.token);
        std::fs::write(stream, &self.state)?;
        // At once or not at all.
        let beside = json.with_extension("tmp");
        std::fs::write(&beside, serde_json::to_vec(&around)?)?;
        std::fs::rename(beside, json)
    }

    fn read(folder: &Path, token: &str) -> io::Result<Self> {
        let wrong = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        let [json, stream] = paths(folder, token);
        let around: Around = serde_json::from_slice(&std::fs::read(json)?)?;
        let Around { version, format, received, samples, context, frames, speaking, stretch } = around;
        if version != VERSION {
            return Err(wrong(format!("expected version {VERSION}, got {version}")));
        }
        let samples: Vec<f32> = samples.into_iter().map(f32::from_bits).collect();
        let context: Vec<f32> = context.into_iter().map(f32::from_bits).collect();
        let count = context.len();
        let context = <[f32; CONTEXT]>::try_from(context)
            .map_err(|_| wrong(format!("expected {CONTEXT} samples of context, got {count}")))?;
        if samples.iter().chain(&context).any(|sample| !sample.is_finite()) {
            return Err(wrong("expected samples, got one that is not finite".into()));
        }
        let stretch = stretch.map(|(start, end)| start..end);
        Ok(Self {
            token: token.into(),
            format,
            sound: Sound { framer: Framer { context }, samples, received },
            listener: Listener { rules: Rules::SILERO, frame: frames, speaking, stretch },
            state: std::fs::read(stream)?,
        })
    }
}
