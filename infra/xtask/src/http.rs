//! A tiny HTTP client for local servers, over TCP or a Unix socket: readiness checks, and the demo's questions.
//! It never talks to anything but servers on this machine, and always within a time limit.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Long enough for a server that answers at all.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// For answers that take work, on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT_BYTES: u64 = 64 << 20;

/// Body of a successful `GET http://address/path`.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    tcp(address, "GET", path, PROBE_TIMEOUT)
}

/// Body of a successful request of a URL (`http://host:port/path`), with more patience than a readiness check has.
pub fn call(method: &str, url: &str) -> anyhow::Result<String> {
    let (address, path) = split(url)?;
    tcp(address, method, &path, CALL_TIMEOUT).with_context(|| format!("{method} {url}"))
}

/// Body of a successful request over a Unix socket.
pub fn unix(socket: &Path, method: &str, path: &str) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    exchange(stream, method, "localhost", path)
}

/// The address of a URL, and its path with the query.
pub fn split(url: &str) -> anyhow::Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` does not begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((resolve(host)?, format!("/{path}")))
}

/// The first address of `host:port`.
pub fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut found = address.to_socket_addrs().with_context(|| format!("`{address}` is not host:port"))?;
    found.next().with_context(|| format!("`{address}` has no address"))
}

/// Percent-encoding for a query's value or a path's segment (RFC 3986: all but unreserved characters).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn tcp(address: SocketAddr, method: &str, path: &str, timeout: Duration) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    exchange(stream, method, &address.to_string(), path)
}

/// HTTP/1.0, so that the answer is neither chunked nor kept alive.
fn exchange(mut stream: impl Read + Write, method: &str, host: &str, path: &str) -> anyhow::Result<String> {
    // At once: PHP's own server answers, and closes, before it has read what comes in parts.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding() {
        let check = |text: &str, expect: &str| assert_eq!(encoded(text), expect);
        check("", "");
        check("image/sha256:0a", "image%2Fsha256%3A0a");
        check("a-b.c_d~e", "a-b.c_d~e");
        check("ä %", "%C3%A4%20%25");
    }
}
