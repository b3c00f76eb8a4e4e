//! The server. `cargo run --release -p serve` starts it on the CPU executor or a GPU, `-- --help` lists what may be set.

use clap::Parser;
use serve::limits::Limits;
use serve::server::{Server, Setup, start};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use wgpu_rnn::Policy;
use wgpu_rnn_examples::device::DeviceArg;

/// Find speech in the sound of many clients at once, over WebSockets (docs/serve.md).
#[derive(Parser)]
struct Args {
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArg,
    /// Where sessions are while the server is not running.
    #[arg(long, default_value = "target/serve-sessions")]
    sessions: PathBuf,
    /// The folder of Silero's weights.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/silero_vad"))]
    model: PathBuf,
    /// Milliseconds that a frame may wait for those of others.
    #[arg(long, default_value_t = ms(Limits::default().policy.max_delay))]
    max_delay: u64,
    /// Streams of a batch at most.
    #[arg(long, default_value_t = Limits::default().policy.max_batch)]
    max_batch: usize,
    /// Clients at the same time.
    #[arg(long, default_value_t = Limits::default().clients)]
    clients: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = Limits::default().message)]
    message: usize,
    /// Milliseconds without sound until a connection is closed.
    #[arg(long, default_value_t = ms(Limits::default().idle))]
    idle: u64,
    /// Milliseconds without taking results until a client is dropped.
    #[arg(long, default_value_t = ms(Limits::default().write))]
    write: u64,
    /// Frames of a client that wait, or have results that it has not taken.
    #[arg(long, default_value_t = Limits::default().frames)]
    frames: usize,
    /// Sessions of clients that are gone.
    #[arg(long, default_value_t = Limits::default().kept)]
    kept: usize,
    /// Milliseconds that they are kept.
    #[arg(long, default_value_t = ms(Limits::default().keep))]
    keep: u64,
    /// MiB of all streams in the pool.
    #[arg(long, default_value_t = Limits::default().pool >> 20)]
    pool: u64,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let limits = Limits {
        clients: args.clients,
        message: args.message,
        idle: Duration::from_millis(args.idle),
        write: Duration::from_millis(args.write),
        frames: args.frames,
        kept: args.kept,
        keep: Duration::from_millis(args.keep),
        policy: Policy {
            max_delay: Duration::from_millis(args.max_delay),
            max_batch: args.max_batch,
            ..Limits::default().policy
        },
        pool: args.pool << 20,
        ..Limits::default()
    };
    let device = args.device.open()?;
    println!("device    {device}");
    let sessions = args.sessions.display().to_string();
    let server =
        start(Setup { listen: args.listen, device, model: args.model, sessions: Some(args.sessions), limits }).await?;
    for refused in &server.refused {
        eprintln!("refused   {refused}");
    }
    println!("sessions  {} restored from {sessions}", server.restored);
    println!("listening http://{}", server.address);
    let failure = until_the_end(&server).await?;
    let stopped = server.stop().await?;
    println!("sessions  {} saved to {sessions}, {} clients did not end in time", stopped.saved, stopped.unfinished);
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Waits for Ctrl-C or SIGTERM, or for the engine to fail: why it has.
async fn until_the_end(server: &Server) -> std::io::Result<Option<String>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let terminated = terminate.recv();
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = terminated => Ok(None),
        done = tokio::signal::ctrl_c() => done.map(|()| None),
        failure = server.failure() => Ok(Some(failure)),
    }
}
