//! One client of the server.

use crate::protocol::{Format, Request, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use wgpu_rnn_examples::voice_activity::silero::RATE;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The way to the server.
pub struct Out(SplitSink<WebSocketStream<TcpStream>, Message>);
/// The way back.
pub struct In(SplitStream<WebSocketStream<TcpStream>>);

/// What comes from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Said(Response),
    /// The close frame: its code and its reason.
    Closed(u16, String),
    /// The connection is gone without one.
    Gone,
}

/// Connects, without a first message.
///
/// # Errors
/// Where nobody listens, or the server refuses (503: it is full).
pub async fn connect(address: SocketAddr) -> Result<(Out, In), Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    over(stream, address).await
}

/// The same over a connection that is there.
///
/// # Errors
/// As [`connect`].
pub async fn over(stream: TcpStream, address: SocketAddr) -> Result<(Out, In), Failure> {
    let (socket, _) = client_async(format!("ws://{address}/stream"), stream).await?;
    let (sink, stream) = socket.split();
    Ok((Out(sink), In(stream)))
}

/// A session, new or one that goes on: its token, and the samples and frames that it has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub session: String,
    pub samples: u64,
    pub frames: u64,
}

/// Begins a session.
///
/// # Errors
/// Where the server does not say that it is ready: what it says instead.
pub async fn begin(out: &mut Out, from: &mut In, format: Format, session: Option<String>) -> Result<Ready, Failure> {
    out.request(&Request::Start { format, rate: RATE, session }).await?;
    match from.next().await {
        Event::Said(Response::Ready { session, samples, frames, .. }) => Ok(Ready { session, samples, frames }),
        other => Err(format!("expected ready, got {other:?}").into()),
    }
}

impl Out {
    /// # Errors
    /// Where the connection is gone.
    pub async fn request(&mut self, request: &Request) -> Result<(), Failure> {
        self.text(&serde_json::to_string(request)?).await
    }

    /// # Errors
    /// Where the connection is gone.
    pub async fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.0.send(Message::Text(text.into())).await?)
    }

    /// # Errors
    /// Where the connection is gone.
    pub async fn sound(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        Ok(self.0.send(Message::Binary(bytes.into())).await?)
    }

    /// # Errors
    /// Where the connection is gone.
    pub async fn close(&mut self) -> Result<(), Failure> {
        Ok(self.0.send(Message::Close(None)).await?)
    }
}

impl In {
    pub async fn next(&mut self) -> Event {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(response) => Event::Said(response),
                    Err(_) => Event::Gone,
                },
                Some(Ok(Message::Close(Some(frame)))) => Event::Closed(frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None))) | Some(Err(_)) | None => Event::Gone,
                Some(Ok(_)) => continue,
            };
        }
    }

    /// All that comes until the connection ends, and how it ends.
    pub async fn rest(&mut self) -> (Vec<Response>, Event) {
        let mut said = Vec::new();
        loop {
            match self.next().await {
                Event::Said(response) => said.push(response),
                end => return (said, end),
            }
        }
    }
}
