//! A database of its own, a portal over it, and requests to it.
//! It must never leave a database behind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_portal::config::PortalConfig;
use plimsoll_portal::service;
use serde_json::Value;

/// Longest wait for the portal to listen.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Address of a test server; `None` (said aloud) without one.
pub fn server(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, but {variable} is not");
        println!("skipped: {variable} is not set; start the servers with `cargo xtask stack up`");
    }
    address
}

/// A URL that nobody listens on.
pub fn closed_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A database of its own, dropped at the end.
pub struct Database {
    pub url: String,
    pub name: String,
}

impl Database {
    /// Makes the database and applies all migrations in order.
    pub fn create() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = server("PLIMSOLL_TEST_CLICKHOUSE")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portal_test_{}_{number}", std::process::id());
        let database = Self { url, name };
        post(&format!("{}/", database.url), &format!("CREATE DATABASE {}", database.name));
        for migration in plimsoll_schemas::migrations::MIGRATIONS {
            migration.statements().iter().for_each(|statement| database.execute(statement));
        }
        Some(database)
    }

    /// Runs a statement.
    pub fn execute(&self, statement: &str) {
        post(&format!("{}/?database={}", self.url, self.name), statement);
    }

    /// Inserts rows; what they lack gets the column's default.
    pub fn insert(&self, table: &str, rows: &[Value]) {
        let mut body = format!("INSERT INTO {table} FORMAT JSONEachRow\n");
        for row in rows {
            body.push_str(&row.to_string());
            body.push('\n');
        }
        self.execute(&body);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = ureq::post(format!("{}/", self.url)).send(format!("DROP DATABASE {}", self.name));
    }
}

fn post(url: &str, body: &str) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut response = agent.post(url).send(body).expect("ClickHouse answers");
    let status = response.status();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let statement: String = body.chars().take(300).collect();
    assert!(status.is_success(), "{text}\n{statement}");
}

/// A running portal, stopped at the end.
pub struct RunningPortal {
    pub address: String,
    context: ServiceContext,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    _directory: tempfile::TempDir,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl RunningPortal {
    /// A portal over a database, changed by `change`.
    pub fn start(clickhouse_url: &str, database: &str, change: impl FnOnce(&mut PortalConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address_file = directory.path().join("address");
        let mut config = PortalConfig::default();
        config.portal.bind = "127.0.0.1:0".into();
        config.portal.address_file = Some(address_file.clone());
        config.clickhouse.server.url = clickhouse_url.into();
        config.clickhouse.server.database = database.into();
        change(&mut config);
        let context = ServiceContext::detached(ServiceInfo::new("portal", "0.0.0"));
        let for_thread = context.clone();
        let thread = std::thread::spawn(move || service::run(config, for_thread));
        let deadline = Instant::now() + START_DEADLINE;
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&address_file) {
                break text.trim().to_owned();
            }
            assert!(!thread.is_finished() && Instant::now() < deadline, "the portal did not start");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { address, context, thread: Some(thread), _directory: directory }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// GET, whatever the status.
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// GET with headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().new_agent();
        let mut request = agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call().expect("the portal answers"))
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = agent.post(self.url(path)).header("content-type", "application/json");
        answer(request.send(body).expect("the portal answers"))
    }

    /// GET of JSON that must succeed.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// All items of a list, page by page.
    pub fn all_items(&self, path: &str, limit: u32) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        let mark = if path.contains('?') { '&' } else { '?' };
        loop {
            let page = self.json(&format!("{path}{mark}limit={limit}&cursor={cursor}"));
            let found = page["items"].as_array().unwrap();
            assert!(found.len() <= limit as usize);
            items.extend(found.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => {
                    assert_eq!(found.len(), limit as usize, "only the last page may be short");
                    cursor = next.to_owned();
                }
                None => return items,
            }
        }
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
    Answer { status, headers, body }
}

impl Drop for RunningPortal {
    fn drop(&mut self) {
        self.context.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("the portal does not panic").expect("the portal ends well");
            }
        }
    }
}
