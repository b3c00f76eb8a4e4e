//! What the server does not allow.

use super::harness::{client, metric, refusal, server, until, voice, whole};
use serve::limits::Limits;
use serve::load::client::{Event, connect};
use serve::protocol::Format::S16;
use serve::protocol::Request;
use wgpu_rnn_examples::voice_activity::silero::RATE;

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_bounded() {
    let server = server(Limits { clients: 2, ..Limits::default() }).await;
    let address = server.address;
    let (mut first, mut heard) = client(address, S16).await;
    let (_second, _heard) = client(address, S16).await;
    let error = connect(address).await.err().unwrap().to_string();
    assert!(error.contains("503"), "{error}");
    assert_eq!(metric(address, "serve_refused_total{what=\"clients\"}").await, 1.0);
    // Pages and metrics are none of them.
    first.request(&Request::End {}).await.unwrap();
    assert_eq!(heard.rest().await.1, Event::Closed(1000, "end".into()));
    drop((first, heard));
    until(address, "serve_clients", 1.0).await;
    whole(address, &voice(50_000), S16, 512).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_bounded() {
    let server = server(Limits { message: 1024, ..Limits::default() }).await;
    // As long as it may be.
    whole(server.address, &voice(50_000), S16, 512).await;
    let (mut out, mut from) = client(server.address, S16).await;
    out.sound(vec![0; 1026]).await.unwrap();
    let (said, end) = from.rest().await;
    let (code, name, message) = refusal(&said, &end);
    assert_eq!((code, name.as_str()), (1009, "too_large"));
    assert!(message.contains("1026") && message.contains("1024"), "{message}");
    server.stop().await.unwrap();
}

/// A pool with few places runs long messages piece by piece, and one without room for another stream says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_bounded() {
    let server = super::harness::server(Limits { frames: 1, ..Limits::default() }).await;
    whole(server.address, &voice(30_000), S16, 20_000).await;
    server.stop().await.unwrap();

    let server = super::harness::server(Limits { pool: 100 << 10, ..Limits::default() }).await;
    let mut there = Vec::new();
    loop {
        let (mut out, mut from) = connect(server.address).await.unwrap();
        out.request(&Request::Start { format: S16, rate: RATE, session: None }).await.unwrap();
        match from.next().await {
            Event::Said(serve::protocol::Response::Ready { .. }) => there.push((out, from)),
            Event::Said(refused) => {
                let end = from.next().await;
                let (code, name, message) = refusal(&[refused], &end);
                assert_eq!((code, name.as_str()), (1013, "no_room"));
                assert!(message.contains("PoolOptions::bytes"), "{message}");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(there.len() < 1000);
    }
    assert!(!there.is_empty());
    server.stop().await.unwrap();
}
