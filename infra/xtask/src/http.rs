//! A tiny HTTP client for readiness checks of local servers, over TCP or a Unix socket.
//! It never talks to anything but servers on this machine, and always within a time limit.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT_BYTES: u64 = 8 << 20;

/// Body of a successful `GET http://address/path`.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream, "GET", &address.to_string(), path)
}

/// Body of a successful request over a Unix socket.
pub fn unix(socket: &Path, method: &str, path: &str) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream, method, "localhost", path)
}

/// HTTP/1.0, so that the answer is neither chunked nor kept alive.
fn exchange(mut stream: impl Read + Write, method: &str, host: &str, path: &str) -> anyhow::Result<String> {
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("answer is not HTTP")?;
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("answer is not HTTP")?;
    if !(200..300).contains(&status) {
        bail!("HTTP status {status}: {}", body.chars().take(300).collect::<String>());
    }
    Ok(body.to_owned())
}
