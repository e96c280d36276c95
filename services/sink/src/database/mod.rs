//! Talks to ClickHouse over HTTP: statements, questions and inserts, each bounded in time.
//! It must never try again by itself: its callers decide, by what the error says.

mod error;
mod insert;
pub mod migrate;

use std::time::Duration;

use clickhouse::Client;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use plimsoll_schemas::identity::Sha256Digest;

pub use self::error::DatabaseError;
pub use self::insert::InsertStatement;
use crate::config::ClickHouseConfig;

/// Below the 3 s (10 s in newer servers) after which ClickHouse closes idle connections.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A database in ClickHouse. Clones share its connections.
#[derive(Clone)]
pub struct Database {
    client: Client,
    url: String,
    name: String,
    request_timeout: Duration,
}

impl Database {
    /// The configured database; needs no server yet.
    ///
    /// # Errors
    /// [`DatabaseError::Configuration`] if the URL or the name cannot be used.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, DatabaseError> {
        let server = &config.server;
        let plain = server.url.starts_with("http://");
        if !plain && !server.url.starts_with("https://") {
            return Err(DatabaseError::Configuration(format!(
                "clickhouse.url {:?} must start with http:// or https://",
                server.url
            )));
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if server.database.is_empty() || !server.database.chars().all(valid) {
            return Err(DatabaseError::Configuration(format!(
                "clickhouse.database {:?} must be of letters, digits and underscores",
                server.database
            )));
        }
        let client = if plain {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let mut http = HttpClient::builder(TokioExecutor::new());
            Client::with_http_client(http.pool_idle_timeout(POOL_IDLE_TIMEOUT).build(connector))
        } else {
            Client::default()
        };
        let mut client = client
            .with_url(server.url.trim_end_matches('/'))
            .with_user(&server.user)
            .with_product_info("plimsoll-sink", env!("CARGO_PKG_VERSION"))
            .with_setting("async_insert", "0");
        if let Some(password) = &server.password {
            client = client.with_password(password.expose());
        }
        Ok(Self {
            client,
            url: server.url.clone(),
            name: server.database.clone(),
            request_timeout: config.request_timeout(),
        })
    }

    /// Name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Base URL of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn inside(&self) -> Client {
        self.client.clone().with_database(&self.name)
    }

    async fn bounded<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, DatabaseError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(result) => result.map_err(|error| DatabaseError::from_client(&self.url, what, &error)),
            Err(_) => Err(DatabaseError::TimedOut {
                url: self.url.clone(),
                what: what.to_owned(),
                timeout_ms: u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Creates the database if it is missing.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn create(&self) -> Result<(), DatabaseError> {
        let statement = format!("CREATE DATABASE IF NOT EXISTS `{}`", self.name);
        self.bounded("creating the database", self.client.query_raw(&statement).execute()).await
    }

    /// Executes one statement in the database.
    ///
    /// # Errors
    /// See [`DatabaseError`]; `what` names the statement there.
    pub async fn execute(&self, what: &str, statement: &str) -> Result<(), DatabaseError> {
        self.bounded(what, self.inside().query_raw(statement).execute()).await
    }

    /// The rows that a question with `?` for each of `binds` gives; columns must be of type String.
    ///
    /// # Errors
    /// See [`DatabaseError`]; `what` names the question there.
    pub async fn rows<const N: usize>(
        &self,
        what: &str,
        question: &str,
        binds: impl IntoIterator<Item = Bind>,
    ) -> Result<Vec<[String; N]>, DatabaseError> {
        let mut query = self.inside().query(question);
        for bind in binds {
            query = match bind {
                Bind::Text(text) => query.bind(text),
                Bind::Pairs(pairs) => query.bind(pairs),
            };
        }
        let bytes =
            self.bounded(what, async { query.fetch_bytes("JSONCompactStringsEachRow")?.collect().await });
        let bytes = bytes.await?;
        let broken = |error: serde_json::Error| DatabaseError::Unexpected {
            url: self.url.clone(),
            what: what.to_owned(),
            reason: error.to_string(),
        };
        let mut rows = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row: Vec<String> = serde_json::from_slice(line).map_err(broken)?;
            let found = row.len();
            rows.push(
                row.try_into().map_err(|_| {
                    broken(serde::de::Error::custom(format!("{found} columns instead of {N}")))
                })?,
            );
        }
        Ok(rows)
    }

    /// The error of an answer that makes no sense.
    pub fn unexpected(&self, what: &str, reason: &str) -> DatabaseError {
        let (what, reason) = (what.to_owned(), reason.to_owned());
        DatabaseError::Unexpected { url: self.url.clone(), what, reason }
    }

    /// Inserts one block of rows. With a token ClickHouse takes the block once, however often it is sent.
    ///
    /// # Errors
    /// See [`DatabaseError`]. After most of them it is not known whether the rows are in: send them again.
    pub async fn insert(
        &self,
        statement: &InsertStatement,
        rows: bytes::Bytes,
        deduplication_token: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let mut insert = self.inside().insert_formatted_with(statement.sql.clone());
        if let Some(token) = deduplication_token {
            insert = insert
                .with_setting("insert_deduplicate", "1")
                .with_setting("insert_deduplication_token", token);
        }
        let what = format!("the insert into {}", statement.table);
        self.bounded(&what, async move {
            insert.send(rows).await?;
            insert.end().await
        })
        .await
    }
}

/// Text for between single quotes of a statement.
pub fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// A value for a `?` of a question.
pub enum Bind {
    /// Text.
    Text(String),
    /// A list of pairs, for `(a, b) IN ?`.
    Pairs(Vec<(String, String)>),
}

/// Digest of a text, short enough for a message.
fn short_digest(text: &str) -> String {
    Sha256Digest::of(text.as_bytes()).to_string().chars().take("sha256:".len() + 12).collect()
}
