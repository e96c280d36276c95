//! What the tests of languages share about servers: started in a watched tree, asked over HTTP, ended by a signal.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part, and may

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::languages::{Measured, Way};
use super::tree;

const PATIENCE: Duration = Duration::from_secs(30);

/// A port of the loopback that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a server answers to one request, head and all; waits until it listens.
pub fn get(port: u16, path: &str, server: &mut Child) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => {
                let ended = server.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < deadline, "{error}; the server: {ended:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // In one piece: PHP's own server wants it so.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server, which ends with the test that fails.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
            self.0.wait().ok();
        }
    }
}

/// Ends a server as its operator does, and waits for that.
pub fn end(server: &mut Child, signal: Signal) {
    kill_process(Pid::from_child(server), signal).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while server.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the server does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a server in a tree with its root there, while `ask` asks it, and ends it by the signal.
pub fn serve(
    way: Way,
    root: &Path,
    mut command: Command,
    signal: Signal,
    ask: impl FnOnce(&mut Child),
) -> Measured {
    let (agent, collected) = way.start();
    let tree = tree(&agent, root);
    command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Running(tree.spawn(command).unwrap());
    ask(&mut server.0);
    end(&mut server.0, signal);
    agent.stop(false);
    Measured::new(collected, root)
}
