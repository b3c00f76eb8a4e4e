//! A client's connection, from its first message to its close frame.

use crate::engine::{Left, Opened, Refusal, Results, Stream};
use crate::protocol::{Ended, Format, Reason, Request, Response};
use crate::saved::{Session, token};
use crate::server::App;
use crate::sound::Sound;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite;
use wgpu_rnn::{Error, StreamError};
use wgpu_rnn_examples::voice_activity::silero::RATE;
use wgpu_rnn_examples::voice_activity::speech::{Heard, Listener, Rules};

/// Frames that are pushed at once: no more than a millisecond of convolutions between two looks at other clients.
const PUSH: usize = 8;
/// When a push is tried again that the pool had no room for.
const AGAIN: Duration = Duration::from_millis(5);
/// How long a client may take to answer a close frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells a connection to end: the first that is said counts.
pub type Told = watch::Sender<Option<Ended>>;

fn tell(told: &Told, ended: Ended) {
    told.send_if_modified(|now| {
        let is_first = now.is_none();
        now.get_or_insert(ended);
        is_first
    });
}

/// What ends a connection from outside.
struct Ends {
    told: watch::Receiver<Option<Ended>>,
    stopping: watch::Receiver<bool>,
    failure: watch::Receiver<Option<String>>,
}

impl Ends {
    /// Waits for one of them.
    async fn any(&mut self) -> Ended {
        tokio::select! {
            Ok(told) = self.told.wait_for(Option::is_some) => told.clone().unwrap_or(gone()),
            Ok(failure) = self.failure.wait_for(Option::is_some) => {
                Ended::new(Reason::Engine, failure.clone().unwrap_or_default())
            }
            Ok(_) = self.stopping.wait_for(|stopping| *stopping) => {
                Ended::new(Reason::Shutdown, "the server stops; the session goes on where it starts again")
            }
            else => gone(),
        }
    }
}

fn gone() -> Ended {
    Ended::new(Reason::Gone, "the client is gone")
}

/// Serves a connection until it ends.
pub async fn run(app: Arc<App>, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let mut out = Out { sink, limit: app.limits.write, is_there: true };
    let ended = session(&app, &mut out, &mut stream).await;
    app.metrics.closed(ended.reason);
    if !matches!(ended.reason, Reason::End | Reason::Gone | Reason::Shutdown) {
        let Ended { reason, message } = ended.clone();
        out.send(&Response::Error { reason, message }).await;
    }
    out.close(ended.reason).await;
    // Its answer: without, the system might take back what it has not read yet.
    let answer = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(FAREWELL, answer).await;
}

/// What goes to a client.
struct Out {
    sink: SplitSink<WebSocket, Message>,
    limit: Duration,
    is_there: bool,
}

impl Out {
    /// Why a message could not be sent; nothing is sent from then on.
    async fn send(&mut self, response: &Response) -> Option<Ended> {
        if !self.is_there {
            return None;
        }
        let text = serde_json::to_string(response).expect("messages are plain data");
        let sent = timeout(self.limit, self.sink.send(Message::Text(text.into()))).await;
        self.is_there = matches!(sent, Ok(Ok(())));
        match sent {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(gone()),
            Err(_) => {
                let message = format!("the client has taken no results for {} s", self.limit.as_secs_f32());
                Some(Ended::new(Reason::SlowReader, message))
            }
        }
    }

    /// Tried even where messages got stuck: it may come through when the client reads on.
    async fn close(&mut self, reason: Reason) {
        let frame = CloseFrame { code: reason.code(), reason: reason.name().into() };
        let _ = timeout(FAREWELL.min(self.limit), self.sink.send(Message::Close(Some(frame)))).await;
    }

    /// Hands on results, and what they say about speech.
    async fn give(&mut self, results: Results, listener: &mut Listener) -> Option<Ended> {
        let Results { first, probability } = results;
        if probability.is_empty() {
            return None;
        }
        let heard: Vec<Response> = probability
            .iter()
            .filter_map(|&p| listener.hear(p))
            .map(|heard| match heard {
                Heard::Began(from) => Response::began(from),
                Heard::Ended(stretch) => Response::ended(&stretch),
            })
            .collect();
        let mut ended = self.send(&Response::Frames { first, probability }).await;
        for response in heard {
            ended = ended.or(self.send(&response).await);
        }
        ended
    }
}

async fn session(app: &Arc<App>, out: &mut Out, stream: &mut SplitStream<WebSocket>) -> Ended {
    let (tell_it, told) = watch::channel(None);
    let mut ends = Ends { told, stopping: app.stopping.clone(), failure: app.engine.failure.clone() };
    let mut session = match start(app, &mut ends, stream).await {
        Ok(session) => session,
        Err(ended) => return ended,
    };
    let saved = (!session.state.is_empty()).then(|| std::mem::take(&mut session.state));
    let Opened { position, mut results, stream: pool } = match app.engine.open(saved.clone()).await {
        Ok(opened) => opened,
        Err(Refusal::Pool(error @ Error::Limit { .. })) => {
            if let Some(state) = saved {
                app.kept.put(Session { state, ..session });
            }
            return Ended::new(Reason::NoRoom, error.to_string());
        }
        Err(error) => return Ended::new(Reason::Engine, error.to_string()),
    };
    let _live = app.live(&session.token, tell_it.clone());
    let Session { token, format, sound, listener, .. } = &mut session;
    if let Some(ended) = out.send(&Response::ready(token, sound.received, position)).await {
        tell(&tell_it, ended);
    }

    // The reader ends, and leaves the pool, which ends the writer.
    let reading = async {
        let ended = read(app, &mut ends, stream, &pool, sound, *format).await;
        (ended, pool.leave().await)
    };
    let (ended, left) = {
        let writing = write(out, &mut results, listener, &tell_it);
        tokio::join!(reading, writing).0
    };
    let Left { state, rest } = match left {
        Ok(left) => left,
        Err(error) => return Ended::new(Reason::Engine, error.to_string()),
    };
    out.give(rest, listener).await;
    session.state = state;
    farewell(app, out, session, &ended).await;
    ended
}

/// What a client is told at the end of its session, and whether that is kept.
async fn farewell(app: &App, out: &mut Out, mut session: Session, ended: &Ended) {
    let frames = session.listener.frame as u64;
    if ended.reason == Reason::End {
        if let Some(stretch) = session.listener.end() {
            out.send(&Response::ended(&stretch)).await;
        }
        out.send(&Response::End { frames }).await;
    } else if ended.reason.keeps() {
        let (token, samples) = (session.token.clone(), session.sound.received);
        if ended.reason == Reason::Shutdown {
            app.kept.keep(session);
            out.send(&Response::Saved { session: token, samples, frames }).await;
        } else {
            app.kept.put(session);
        }
    }
}

/// The first message: a new session, or one that goes on.
async fn start(app: &App, ends: &mut Ends, stream: &mut SplitStream<WebSocket>) -> Result<Session, Ended> {
    let until = tokio::time::Instant::now() + app.limits.idle;
    let text = loop {
        match next(ends, stream, until).await? {
            Message::Text(text) => break text,
            Message::Binary(_) => {
                return Err(Ended::new(Reason::BadMessage, "expected a text message of type start first, got sound"));
            }
            _ => {}
        }
    };
    let (format, rate, resumed) = match request(&text)? {
        Request::Start { format, rate, session } => (format, rate, session),
        Request::End {} => return Err(Ended::new(Reason::BadMessage, "expected type start first, got end")),
    };
    if rate != RATE {
        return Err(Ended::new(Reason::WrongRate, format!("expected {RATE} samples per second, got {rate}")));
    }
    match resumed {
        None => Ok(Session {
            token: token(),
            format,
            sound: Sound::default(),
            listener: Listener::new(Rules::SILERO),
            state: Vec::new(),
        }),
        Some(token) => Ok(Session { format, ..resume(app, &token).await? }),
    }
}

/// A session that was kept; one that a connection still has is taken over.
async fn resume(app: &App, token: &str) -> Result<Session, Ended> {
    let until = Instant::now() + app.limits.write + 2 * FAREWELL;
    loop {
        if let Some(session) = app.kept.take(token) {
            return Ok(session);
        }
        let Some(other) = app.live_of(token) else { break };
        tell(&other, Ended::new(Reason::Replaced, "another connection goes on with the session"));
        if Instant::now() >= until {
            break;
        }
        sleep(AGAIN).await;
    }
    // It may have been kept between the two looks.
    app.kept.take(token).ok_or_else(|| {
        Ended::new(
            Reason::UnknownSession,
            "expected a session that is kept, got one that has ended, or was kept too long",
        )
    })
}

fn request(text: &str) -> Result<Request, Ended> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("expected a message of type start or end (docs/serve.md), got another: {error}");
        Ended::new(Reason::BadMessage, message)
    })
}

/// The next message, unless the connection ends.
async fn next(
    ends: &mut Ends,
    stream: &mut SplitStream<WebSocket>,
    until: tokio::time::Instant,
) -> Result<Message, Ended> {
    let message = tokio::select! {
        biased;
        ended = ends.any() => return Err(ended),
        message = timeout_at(until, stream.next()) => message,
    };
    match message {
        Err(_) => Err(Ended::new(Reason::Idle, "no sound for too long")),
        Ok(None | Some(Ok(Message::Close(_)))) => Err(gone()),
        Ok(Some(Ok(message))) => Ok(message),
        Ok(Some(Err(error))) => {
            let error = error.into_inner();
            Err(match error.downcast_ref() {
                Some(tungstenite::Error::Capacity(error)) => Ended::new(Reason::TooLarge, error.to_string()),
                Some(tungstenite::Error::Utf8(error)) => Ended::new(Reason::BadMessage, error.to_string()),
                Some(tungstenite::Error::Protocol(error))
                    if !matches!(error, tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) =>
                {
                    Ended::new(Reason::BadMessage, error.to_string())
                }
                _ => gone(),
            })
        }
    }
}

/// Takes a client's sound to the pool. Where it ends, what has not run is still in `sound`.
async fn read(
    app: &App,
    ends: &mut Ends,
    stream: &mut SplitStream<WebSocket>,
    pool: &Stream,
    sound: &mut Sound,
    format: Format,
) -> Ended {
    let mut heard = Instant::now();
    loop {
        if let Err(ended) = run_frames(app, ends, pool, sound, heard).await {
            return ended;
        }
        let message = match next(ends, stream, (heard + app.limits.idle).into()).await {
            Ok(message) => message,
            Err(ended) => return ended,
        };
        let done = match message {
            Message::Binary(bytes) => {
                if !bytes.is_empty() {
                    heard = Instant::now();
                }
                sound.take(&bytes, format)
            }
            Message::Text(text) => match request(&text) {
                Ok(Request::End {}) => return end(app, ends, pool, sound).await,
                Ok(Request::Start { .. }) => {
                    Err(Ended::new(Reason::BadMessage, "expected sound or end, got start again"))
                }
                Err(ended) => Err(ended),
            },
            _ => Ok(()),
        };
        if let Err(ended) = done {
            return ended;
        }
    }
}

/// What is left is a last frame.
async fn end(app: &App, ends: &mut Ends, pool: &Stream, sound: &mut Sound) -> Ended {
    let samples = sound.samples.len();
    sound.pad();
    match run_frames(app, ends, pool, sound, Instant::now()).await {
        Ok(()) => Ended::new(Reason::End, "all results were given"),
        Err(ended) => {
            // It has not run: the session goes on without the zeros.
            sound.samples.truncate(samples);
            ended
        }
    }
}

/// Pushes all whole frames, waiting for room.
async fn run_frames(app: &App, ends: &mut Ends, pool: &Stream, sound: &mut Sound, came: Instant) -> Result<(), Ended> {
    while sound.frames() > 0 {
        let count = sound.frames().min(PUSH).min(app.limits.frames);
        let mut frames = sound.encode(&app.model.encoder, count);
        loop {
            frames = match pool.push(frames, came).await {
                Ok(()) => break,
                Err(Refusal::Full { reason: StreamError::Full { .. }, frames }) => frames,
                Err(Refusal::Pool(error @ Error::Limit { .. })) => {
                    return Err(Ended::new(Reason::NoRoom, error.to_string()));
                }
                Err(error) => return Err(Ended::new(Reason::Engine, error.to_string())),
            };
            tokio::select! {
                ended = ends.any() => return Err(ended),
                () = sleep(AGAIN) => {}
            }
        }
        sound.advance(count);
    }
    Ok(())
}

/// Hands on results until the stream is left. Where the client does not take them, its reader is told.
async fn write(out: &mut Out, results: &mut mpsc::Receiver<Results>, listener: &mut Listener, told: &Told) {
    while let Some(results) = results.recv().await {
        if let Some(ended) = out.give(results, listener).await {
            tell(told, ended);
        }
    }
}
