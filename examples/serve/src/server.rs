//! The HTTP server: its pages, its connections, its start and its end.

use crate::client::{self, Told};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::metrics::{Metrics, Refused};
use crate::saved::{Kept, Session};
use axum::Router;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use wgpu_rnn::{Device, StreamPool};
use wgpu_rnn_examples::voice_activity::silero::Model;

/// Connections beside those of clients: pages, metrics.
const OTHERS: usize = 64;
/// How long a connection may take to say what it wants.
const HEAD: Duration = Duration::from_secs(10);

/// How a server is started.
pub struct Setup {
    pub listen: SocketAddr,
    pub device: Device,
    /// The folder of Silero's weights.
    pub model: PathBuf,
    /// Where sessions are while the server is not running; without, they end with it.
    pub sessions: Option<PathBuf>,
    pub limits: Limits,
}

/// What all connections share.
pub struct App {
    pub model: Arc<Model>,
    pub engine: Engine,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub kept: Kept,
    pub stopping: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    live: Mutex<HashMap<String, Told>>,
}

/// A session that a connection has; not any more when it is dropped.
pub struct Live<'a> {
    app: &'a App,
    token: String,
    told: Told,
}

impl App {
    /// From now on the session is this connection's.
    pub fn live(&self, token: &str, told: Told) -> Live<'_> {
        self.lock().insert(token.into(), told.clone());
        Live { app: self, token: token.into(), told }
    }

    /// How the connection that has a session is told to end.
    pub fn live_of(&self, token: &str) -> Option<Told> {
        self.lock().get(token).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        let mut all = self.app.lock();
        // Another connection may have taken the session over already.
        if all.get(&self.token).is_some_and(|told| told.same_channel(&self.told)) {
            all.remove(&self.token);
        }
    }
}

/// A server that runs.
pub struct Server {
    pub address: SocketAddr,
    /// Sessions of the server before, and what of them was refused.
    pub restored: usize,
    pub refused: Vec<String>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    engine: JoinHandle<()>,
}

/// How a server has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Sessions that were saved.
    pub saved: usize,
    /// Clients that did not end in time.
    pub unfinished: usize,
}

/// Starts a server; it runs on the current Tokio runtime.
///
/// # Errors
/// Of the model's files, the device, the folder of sessions, and the address.
pub async fn start(setup: Setup) -> Result<Server, Box<dyn Error + Send + Sync>> {
    let Setup { listen, device, model, sessions, limits } = setup;
    let model = Arc::new(Model::open(model.join("weights.safetensors"))?);
    let made = Arc::clone(&model);
    let make = move || StreamPool::of_rnn(&device, &made.config, &made.weights, &limits.pool());
    // It may wait for a GPU.
    let pool = tokio::task::spawn_blocking(make).await??;
    let metrics = Arc::new(Metrics::default());
    let (engine, thread) = Engine::start(pool, Arc::clone(&model), Arc::clone(&metrics))?;
    let (stop, stopping) = watch::channel(false);
    let kept = Kept::new(limits.kept, limits.keep, sessions);
    let (places, live) = (Arc::new(Semaphore::new(limits.clients)), Mutex::default());
    let app = Arc::new(App { model, engine, limits, metrics, kept, stopping, places, live });
    let (restored, refused) = restore(&app).await?;
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(Arc::clone(&app), listener));
    Ok(Server { address, restored, refused, app, stop, engine: thread })
}

/// Takes up what a server before has saved.
async fn restore(app: &App) -> std::io::Result<(usize, Vec<String>)> {
    let (mut count, mut refused) = (0, Vec::new());
    for (path, session) in app.kept.load()? {
        let checked = match session {
            Ok(session) => check(app, &session).await.map(|()| session),
            Err(error) => Err(error.to_string()),
        };
        match checked {
            Ok(session) => {
                app.kept.keep(session);
                app.metrics.restored.inc();
                count += 1;
            }
            Err(reason) => {
                app.metrics.refused(Refused::Saved);
                refused.push(format!("{}: {reason}", path.display()));
            }
        }
    }
    Ok((count, refused))
}

/// Whether the pool takes a session's state.
async fn check(app: &App, session: &Session) -> Result<(), String> {
    let opened = app.engine.open(Some(session.state.clone())).await.map_err(|error| error.to_string())?;
    let frames = session.listener.frame as u64;
    if opened.position == frames {
        return Ok(());
    }
    Err(format!("expected a stream of {frames} frames, got one of {}", opened.position))
}

impl Server {
    /// Waits for the engine to fail, which it does not as long as all is well: why it has.
    pub async fn failure(&self) -> String {
        let mut failure = self.app.engine.failure.clone();
        // Either it says why, or it has ended without a word.
        let _ = failure.wait_for(Option::is_some).await;
        self.app.engine.failed().unwrap_or_default()
    }

    /// Takes no clients any more, gives those that are there their results, and saves their sessions.
    ///
    /// # Errors
    /// Where sessions cannot be saved.
    pub async fn stop(self) -> std::io::Result<Stopped> {
        let Self { app, stop, engine, .. } = self;
        stop.send_replace(true);
        let all = u32::try_from(app.limits.clients).unwrap_or(u32::MAX);
        let patience = 2 * app.limits.write + Duration::from_secs(5);
        let ended = timeout(patience, app.places.acquire_many(all)).await;
        let unfinished = if ended.is_ok() { 0 } else { app.limits.clients - app.places.available_permits() };
        app.engine.stop();
        let saved = app.kept.save();
        // It has nothing to wait for.
        let _ = tokio::task::spawn_blocking(|| engine.join()).await;
        let saved = saved?;
        app.metrics.saved.inc_by(saved as u64);
        Ok(Stopped { saved, unfinished })
    }
}

async fn accept(app: Arc<App>, listener: TcpListener) {
    let router = router(&app);
    let connections = Arc::new(Semaphore::new(app.limits.clients + OTHERS));
    let mut stopping = app.stopping.clone();
    let next = async || {
        let place = Arc::clone(&connections).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((place, stream)),
                // Too many files, or a connection that is gone already.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    loop {
        let (place, stream) = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            next = next() => match next {
                Some(next) => next,
                None => return,
            },
        };
        prepare(&stream, &app.limits);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // Whatever goes wrong on it is the end of this connection alone.
            let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            drop(place);
        });
    }
}

/// Results go out at once, and the system keeps as few of them as it is told.
fn prepare(stream: &TcpStream, limits: &Limits) {
    // Without them it is only slower.
    let _ = stream.set_nodelay(true);
    if let Some(bytes) = limits.send_buffer {
        let _ = socket2::SockRef::from(stream).set_send_buffer_size(bytes);
    }
}

fn router(app: &Arc<App>) -> Router {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    Router::new()
        .route("/", get(async || file(HTML, include_str!("../page/index.html"))))
        .route("/page.css", get(async || file(STYLE, include_str!("../page/page.css"))))
        .route("/page.js", get(async || file(SCRIPT, include_str!("../page/page.js"))))
        .route("/microphone.js", get(async || file(SCRIPT, include_str!("../page/microphone.js"))))
        // Browsers ask for one.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/stream", get(stream))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(Arc::clone(app))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache"), (CONTENT_SECURITY_POLICY, "default-src 'self'")];
    (headers, text).into_response()
}

async fn stream(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    if *app.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the server stops\n").into_response();
    }
    let Ok(place) = Arc::clone(&app.places).try_acquire_owned() else {
        app.metrics.refused(Refused::Clients);
        let text = format!("expected at most {} clients, got one more: come back later\n", app.limits.clients);
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let message = app.limits.message;
    // Its own buffers are a client's, too.
    let upgrade = upgrade.max_message_size(message).max_frame_size(message).read_buffer_size(8 << 10);
    upgrade.on_upgrade(async move |socket| {
        app.metrics.clients.inc();
        client::run(Arc::clone(&app), socket).await;
        app.metrics.clients.dec();
        drop(place);
    })
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    app.metrics.kept.set(i64::try_from(app.kept.count()).unwrap_or(i64::MAX));
    let text = match app.engine.statistics().await {
        Ok(pool) => app.metrics.text(&pool).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

async fn health(State(app): State<Arc<App>>) -> Response {
    match app.engine.failed() {
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")).into_response(),
        None if *app.stopping.borrow() => (StatusCode::SERVICE_UNAVAILABLE, "the server stops\n").into_response(),
        None => "ok\n".into_response(),
    }
}
