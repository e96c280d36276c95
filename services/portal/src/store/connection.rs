//! The HTTP client below ClickHouse's.
//! It must never need certificates for a URL that does not ask for encryption.

use std::time::Duration;

use clickhouse::Client;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Below the 3 s (10 s in newer servers) after which ClickHouse closes idle connections.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client for this URL. The default one, which speaks TLS, cannot be made where the system has no certificates of
/// authorities, as in small container images.
pub fn http_client(url: &str) -> Client {
    if url.starts_with("https://") {
        return Client::default();
    }
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut http = HttpClient::builder(TokioExecutor::new());
    Client::with_http_client(http.pool_idle_timeout(POOL_IDLE_TIMEOUT).build(connector))
}
