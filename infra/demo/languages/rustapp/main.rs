//! A Rust service with the list of its crates inside, as `cargo auditable` puts it there.
//! It must never need a crate: the list is what is looked at.

use std::io::{Read, Write};
use std::net::TcpListener;

#[used]
#[unsafe(link_section = ".dep-v0")]
static CRATES: [u8; include_bytes!("crates.zlib").len()] = *include_bytes!("crates.zlib");

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_default();
    for connection in TcpListener::bind(format!("127.0.0.1:{port}"))?.incoming() {
        let mut connection = connection?;
        // A client that goes away is no reason to end.
        let _ = connection.read(&mut [0; 4096]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
    }
    Ok(())
}
