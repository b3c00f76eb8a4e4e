//! Clients that load a server with speech, and check every probability against the library over the whole sound alone.

pub mod client;
pub mod drive;
pub mod voice;

use crate::load::client::Failure;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A page of the server: its status and its text.
///
/// # Errors
/// Where nobody answers, or not as HTTP has it.
pub async fn page(address: SocketAddr, path: &str) -> Result<(u16, String), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let ask = async {
        let request = hyper::Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answer = ask => answer,
        ended = connection => Err(ended.err().map_or_else(|| "the connection ended".into(), Failure::from)),
    }
}

/// The number that a metric without labels has, or one with exactly these.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.split_whitespace().next()?.parse().ok()
}
