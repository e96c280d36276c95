//! Readiness checks that speak each server's own protocol.
//! An open port alone never counts as ready.

use crate::http;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// How to tell that a server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Probe {
    /// A broker that lists itself in a metadata answer, so is registered and not fenced.
    Kafka { address: String },
    /// Any successful answer to GET.
    Http { url: String },
    /// `SELECT 1` over HTTP.
    ClickHouse { url: String },
    /// dockerd's `/_ping`.
    Docker { socket: PathBuf },
    /// Something accepts connections on a Unix socket.
    UnixSocket { socket: PathBuf },
}

impl Probe {
    pub fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Kafka { address } => kafka(http::resolve(address)?),
            Self::Http { url } => {
                let (address, path) = http::split(url)?;
                http::get(address, &path).map(|_| ())
            }
            Self::ClickHouse { url } => {
                let (address, _) = http::split(url)?;
                let answer = http::get(address, "/?query=SELECT%201")?;
                ensure!(answer.trim() == "1", "SELECT 1 gives {answer:?}");
                Ok(())
            }
            Self::Docker { socket } => {
                let answer = http::unix(socket, "GET", "/_ping")?;
                ensure!(answer.trim() == "OK", "/_ping gives {answer:?}");
                Ok(())
            }
            Self::UnixSocket { socket } => Ok(std::os::unix::net::UnixStream::connect(socket).map(|_| ())?),
        }
    }
}

/// Metadata request, version 1 (Kafka protocol guide), without topics.
fn kafka(address: SocketAddr) -> anyhow::Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const ANSWER_LIMIT_BYTES: usize = 1 << 20;
    let request: &[u8] = &[
        0, 0, 0, 19, // size of what follows
        0, 3, 0, 1, // API key 3 (Metadata), version 1
        0, 0, 0, 7, // correlation id
        0, 5, b'x', b't', b'a', b's', b'k', // client id
        0, 0, 0, 0, // no topics
    ];
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).context("no answer to a metadata request")?;
    let size = u32::from_be_bytes(size) as usize;
    ensure!((12..ANSWER_LIMIT_BYTES).contains(&size), "not a metadata answer: {size} bytes");
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).context("no answer to a metadata request")?;
    ensure!(answer[..4] == request[8..12], "not a metadata answer: wrong correlation id");
    ensure!(answer[4..8] != [0; 4], "no broker is registered yet");
    Ok(())
}
