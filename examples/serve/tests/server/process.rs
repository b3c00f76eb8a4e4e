//! The program itself.

use super::harness::{client, speak, take, voice};
use serve::protocol::Format::S16;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// SIGTERM ends it well, with sessions saved; the next one has them.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_saves_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for expected in [["0 restored", "1 saved"], ["1 restored", "2 saved"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_serve"))
            .args(["--listen", "127.0.0.1:0", "--device", "cpu", "--sessions"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut head = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "{head}");
            if let Some(address) = line.trim_end().strip_prefix("listening http://") {
                break address.parse().unwrap();
            }
            head += &line;
        };
        let (mut sound, mut heard) = client(address, S16).await;
        speak(&mut sound, &voice(0), 0..5120, S16, 512).await;
        take(&mut heard, 10, &mut Vec::new()).await;
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let (_, end) = heard.rest().await;
        assert_eq!(end, serve::load::client::Event::Closed(1012, "shutdown".into()));
        let mut tail = String::new();
        out.read_to_string(&mut tail).unwrap();
        assert!(child.wait().unwrap().success(), "{tail}");
        assert!(head.contains(expected[0]) && tail.contains(expected[1]), "{head}{tail}");
    }
}
