//! The thread that owns the pool: it takes what clients push, starts ticks when the pool's policy wants them, and hands results on.

use crate::metrics::{Metrics, Refused};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use wgpu_rnn::{PoolStatistics, StreamError, StreamId, StreamPool};
use wgpu_rnn_examples::voice_activity::silero::Model;

/// Batches of results that a client's task has not taken; what comes behind them stays in the pool.
const BATCHES: usize = 16;
/// How often clients that were behind are looked after, where nothing else happens.
const LATER: Duration = Duration::from_millis(10);

/// Probabilities, from frame `first` on.
#[derive(Debug, Default)]
pub struct Results {
    pub first: u64,
    pub probability: Vec<f32>,
}

/// Why the engine does not do something.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No room for these frames yet.
    #[error("{reason}")]
    Full { reason: StreamError, frames: Vec<f32> },
    #[error(transparent)]
    Pool(#[from] wgpu_rnn::Error),
    #[error("the engine has stopped")]
    Stopped,
}

/// A stream that was opened.
pub struct Opened {
    /// Frames that it has had.
    pub position: u64,
    pub results: mpsc::Receiver<Results>,
    pub stream: Stream,
}

/// Where a stream is when its client leaves it.
pub struct Left {
    /// As [`StreamPool::save`] writes it.
    pub state: Vec<u8>,
    /// What the client's task had no room for.
    pub rest: Results,
}

type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

enum Command {
    Open { saved: Option<Vec<u8>>, answer: Answer<Opened> },
    Push { id: StreamId, frames: Vec<f32>, came: Instant, answer: Answer<()> },
    Leave { id: StreamId, answer: Answer<Left> },
    Close { id: StreamId },
    Statistics { answer: Answer<PoolStatistics> },
    Stop,
}

/// How tasks talk to the engine.
#[derive(Clone)]
pub struct Engine {
    commands: Sender<Command>,
    /// Why it has failed, once it has.
    pub failure: watch::Receiver<Option<String>>,
}

/// A stream of the engine, closed when it is dropped.
pub struct Stream {
    id: StreamId,
    engine: Engine,
    is_open: bool,
}

impl Engine {
    /// Starts the thread.
    pub fn start(pool: StreamPool, model: Arc<Model>, metrics: Arc<Metrics>) -> io::Result<(Self, JoinHandle<()>)> {
        let (commands, inbox) = channel();
        let (fail, failure) = watch::channel(None);
        let engine = Self { commands, failure };
        let worker = Worker {
            pool,
            model,
            metrics,
            inbox,
            engine: engine.clone(),
            clients: HashMap::new(),
            behind: BTreeSet::new(),
            rows: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            if let Err(error) = worker.run() {
                fail.send_replace(Some(error.to_string()));
            }
        })?;
        Ok((engine, thread))
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).map_err(|_| Refusal::Stopped)?;
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }

    /// Opens a stream, at the empty state or where another was saved.
    pub async fn open(&self, saved: Option<Vec<u8>>) -> Result<Opened, Refusal> {
        self.ask(|answer| Command::Open { saved, answer }).await
    }

    pub async fn statistics(&self) -> Result<PoolStatistics, Refusal> {
        self.ask(|answer| Command::Statistics { answer }).await
    }

    /// Why it runs no more, where it does not.
    pub fn failed(&self) -> Option<String> {
        let told = self.failure.borrow().clone();
        let is_gone = || self.failure.has_changed().is_err();
        told.or_else(|| is_gone().then(|| "the engine has ended".into()))
    }

    /// Ends the thread. What waits is not run.
    pub fn stop(&self) {
        // It may have ended by itself.
        let _ = self.commands.send(Command::Stop);
    }
}

impl Stream {
    /// Hands the stream frames, which came at `came`.
    pub async fn push(&self, frames: Vec<f32>, came: Instant) -> Result<(), Refusal> {
        self.engine.ask(|answer| Command::Push { id: self.id, frames, came, answer }).await
    }

    /// Runs what waits, saves the stream and closes it.
    pub async fn leave(mut self) -> Result<Left, Refusal> {
        self.is_open = false;
        self.engine.ask(|answer| Command::Leave { id: self.id, answer }).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.is_open {
            let _ = self.engine.commands.send(Command::Close { id: self.id });
        }
    }
}

struct Client {
    results: mpsc::Sender<Results>,
    /// Frames of which results were handed on.
    given: u64,
    /// Frames that were pushed, and when those up to a number came.
    pushed: u64,
    came: VecDeque<(u64, Instant)>,
}

struct Worker {
    pool: StreamPool,
    model: Arc<Model>,
    metrics: Arc<Metrics>,
    inbox: Receiver<Command>,
    engine: Engine,
    clients: HashMap<StreamId, Client>,
    /// Clients with results that they had no room for.
    behind: BTreeSet<StreamId>,
    /// Scratch: results of the pool.
    rows: Vec<f32>,
}

impl Worker {
    fn run(mut self) -> wgpu_rnn::Result<()> {
        loop {
            let due = self.pool.due().map(|due| due.saturating_sub(self.pool.now()));
            let later = (!self.behind.is_empty()).then_some(LATER);
            let wait = due.into_iter().chain(later).min();
            let mut next = match wait {
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.inbox.recv_timeout(wait),
            };
            // All that is there, so that a tick has as many as possible.
            loop {
                match next {
                    Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Ok(command) => self.obey(command)?,
                    Err(RecvTimeoutError::Timeout) => break,
                }
                next = self.inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            while self.pool.is_ready() {
                let tick = self.pool.tick()?;
                self.metrics.ticked(tick.streams, tick.took);
                for n in 0..self.pool.last().len() {
                    let id = self.pool.last()[n].0;
                    self.deliver(id)?;
                }
            }
            for id in std::mem::take(&mut self.behind) {
                self.deliver(id)?;
            }
        }
    }

    /// Answers a command. An error is the engine's end.
    fn obey(&mut self, command: Command) -> wgpu_rnn::Result<()> {
        match command {
            // Who has asked may be gone: then nobody hears the answer.
            Command::Open { saved, answer } => drop(answer.send(self.open(saved))),
            Command::Push { id, frames, came, answer } => drop(answer.send(self.push(id, frames, came))),
            Command::Statistics { answer } => drop(answer.send(Ok(self.pool.statistics()))),
            Command::Leave { id, answer } => {
                let state = self.pool.save(id)?;
                let rest = self.pull(id)?;
                // It may have run others' frames with its own.
                self.behind.extend(self.clients.keys());
                self.close(id)?;
                drop(answer.send(Ok(Left { state, rest })));
            }
            Command::Close { id } => self.close(id)?,
            Command::Stop => {}
        }
        Ok(())
    }

    fn open(&mut self, saved: Option<Vec<u8>>) -> Result<Opened, Refusal> {
        let id = self.pool.open()?;
        if let Some(saved) = saved
            && let Err(error) = self.pool.restore(id, &saved)
        {
            self.pool.close(id)?;
            return Err(error.into());
        }
        let position = self.pool.position(id)?;
        let (sender, results) = mpsc::channel(BATCHES);
        let client = Client { results: sender, given: position, pushed: position, came: VecDeque::new() };
        self.clients.insert(id, client);
        Ok(Opened { position, results, stream: Stream { id, engine: self.engine.clone(), is_open: true } })
    }

    fn push(&mut self, id: StreamId, frames: Vec<f32>, came: Instant) -> Result<(), Refusal> {
        match self.pool.push(id, &frames) {
            Ok(()) => {}
            Err(wgpu_rnn::Error::Stream(reason @ StreamError::Full { .. })) => {
                self.metrics.refused(Refused::Full);
                return Err(Refusal::Full { reason, frames });
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.pushed += (frames.len() / self.model.config.input_size) as u64;
            client.came.push_back((client.pushed, came));
        }
        Ok(())
    }

    /// Hands a client the results that it has room for.
    fn deliver(&mut self, id: StreamId) -> wgpu_rnn::Result<()> {
        let Some(client) = self.clients.get(&id) else { return Ok(()) };
        if self.pool.unpulled(id)? == 0 {
            return Ok(());
        }
        let results = client.results.clone();
        match results.try_reserve() {
            Ok(place) => place.send(self.pull(id)?),
            Err(mpsc::error::TrySendError::Full(())) => {
                self.behind.insert(id);
            }
            // Its task has ended, and closes the stream.
            Err(mpsc::error::TrySendError::Closed(())) => {}
        }
        Ok(())
    }

    /// Takes a stream's results out of the pool.
    fn pull(&mut self, id: StreamId) -> wgpu_rnn::Result<Results> {
        self.rows.clear();
        let count = self.pool.pull_into(id, &mut self.rows)? as u64;
        let Some(client) = self.clients.get_mut(&id) else { return Ok(Results::default()) };
        let rows = self.rows.chunks_exact(self.model.config.hidden_size);
        let results =
            Results { first: client.given, probability: rows.map(|row| self.model.probability(row)).collect() };
        let now = Instant::now();
        let mut left = count;
        while left > 0 {
            let Some(&(end, came)) = client.came.front() else { break };
            let these = left.min(end - client.given);
            self.metrics.gave(these, now - came);
            (client.given, left) = (client.given + these, left - these);
            if client.given == end {
                client.came.pop_front();
            }
        }
        Ok(results)
    }

    fn close(&mut self, id: StreamId) -> wgpu_rnn::Result<()> {
        self.behind.remove(&id);
        let Some(client) = self.clients.remove(&id) else { return Ok(()) };
        let owed = client.pushed - client.given;
        let there = (self.pool.waiting(id)? + self.pool.unpulled(id)?) as u64;
        self.metrics.abandoned.inc_by(there.min(owed));
        self.metrics.lost.inc_by(owed.saturating_sub(there));
        self.pool.close(id)
    }
}
