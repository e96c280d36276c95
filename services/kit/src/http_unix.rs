//! HTTP to servers behind a Unix socket (a container engine's API), or behind TCP by the same call.
//! It must never wait without a bound: every request has a deadline for connecting and between bytes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Longest wait for the next bytes of an answer, in milliseconds.
pub const SILENCE_MAX_MS: u64 = 60_000;
/// Longest wait for a connection, in milliseconds.
pub const CONNECT_MAX_MS: u64 = 5_000;

/// Why an endpoint is not usable. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no endpoint; write unix:///path/to/socket, tcp://host:port, http://host:port or https://host:port"
)]
pub struct EndpointError(String);

/// A client of one endpoint.
#[derive(Debug, Clone)]
pub struct HttpClient {
    agent: ureq::Agent,
    base: String,
    endpoint: String,
}

impl HttpClient {
    /// A client of `unix:///path`, `tcp://host:port`, `http://…` or `https://…`. Answers with an error status are
    /// answers, not errors.
    ///
    /// # Errors
    /// [`EndpointError`] if `endpoint` has none of these forms.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_millis(CONNECT_MAX_MS)))
            .timeout_recv_response(Some(Duration::from_millis(SILENCE_MAX_MS)))
            .build();
        let (agent, base) = if let Some(path) = endpoint.strip_prefix("unix://") {
            let connector = UnixConnector { path: PathBuf::from(path) };
            (ureq::Agent::with_parts(config, connector, NoResolver), "http://localhost".to_owned())
        } else if let Some(address) = endpoint.strip_prefix("tcp://") {
            (config.new_agent(), format!("http://{address}"))
        } else if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
            (config.new_agent(), endpoint.trim_end_matches('/').to_owned())
        } else {
            return Err(EndpointError(endpoint.to_owned()));
        };
        Ok(Self { agent, base, endpoint: endpoint.to_owned() })
    }

    /// The endpoint as given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Starts a GET request; `path` begins with a slash and is encoded already.
    ///
    /// # Errors
    /// If the server cannot be reached or does not speak HTTP.
    pub fn get(&self, path: &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        self.agent.get(format!("{}{path}", self.base)).call()
    }
}

#[derive(Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Connector<()> for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let stream = connect(&self.path).map_err(|error| {
            let kind = error.kind();
            ureq::Error::Io(std::io::Error::new(kind, format!("{}: {error}", self.path.display())))
        })?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers }))
    }
}

fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(Duration::from_millis(SILENCE_MAX_MS)))?;
    Ok(stream)
}

#[derive(Debug)]
struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(ureq::Error::Io)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let limit = timeout.not_zero().map_or(Duration::from_millis(SILENCE_MAX_MS), |limit| *limit);
        self.stream.set_read_timeout(Some(limit.min(Duration::from_millis(SILENCE_MAX_MS))))?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match self.stream.read(input) {
                Ok(amount) => break amount,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(ureq::Error::Timeout(timeout.reason));
                }
                Err(error) => return Err(ureq::Error::Io(error)),
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Kept connections are not reused: an engine that was restarted has closed them.
        false
    }
}

#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _uri: &ureq::http::Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        // The connector ignores it, but an empty list counts as an error.
        addresses.push(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn speaks_http_over_a_unix_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let size = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
                .unwrap();
            String::from_utf8_lossy(&request[..size]).into_owned()
        });
        let client = HttpClient::new(&format!("unix://{}", path.display())).unwrap();
        let mut response = client.get("/images/a%2Fb/json").unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.body_mut().read_to_string().unwrap(), "abcde");
        assert!(server.join().unwrap().starts_with("GET /images/a%2Fb/json HTTP/1.1\r\n"));
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        assert!(HttpClient::new("/var/run/docker.sock").is_err());
    }
}
