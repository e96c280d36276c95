//! Reads ClickHouse: one read-only client, bounded queries, and errors that say whose fault they are.
//! It must never write, and never put a reader's text into SQL: values go as query parameters.

mod alerts;
mod applications;
mod artifacts;
mod component_packages;
mod connection;
mod findings;
mod observed;
mod package_rows;
mod purls;
mod reasons;
mod select;
mod vulnerabilities;

pub use alerts::AlertFilter;
pub use artifacts::ArtifactFilter;
pub use component_packages::{ComponentRef, PackageStream};
pub use findings::{FindingFilter, FindingSort};
pub use package_rows::{PackageFilter, PackageSort};

use std::sync::Arc;
use std::time::Duration;

use clickhouse::{Client, RowOwned, RowRead};
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use self::connection::http_client;
use crate::config::ClickHouseConfig;
use crate::error::PortalError;
use select::Select;

/// Added to the server's time limit before the portal gives up on the connection.
const NETWORK_SLACK: Duration = Duration::from_secs(2);
/// A whole report may take this many times as long as a page.
pub const REPORT_TIMEOUT_FACTOR: u32 = 6;
/// Threads of one query: many readers at once are served better by few threads each.
const MAX_THREADS: &str = "1";
/// Memory of one query, in bytes.
const MAX_MEMORY_BYTES: &str = "2000000000";

/// Queries under way at once; further ones wait, so that a crowd of readers cannot overrun ClickHouse.
const QUERIES_MAX: usize = 32;

/// ClickHouse, as the portal may use it.
pub struct Store {
    slots: Arc<Semaphore>,
    client: Client,
    address: String,
    timeout: Duration,
    access: OnceCell<Access>,
}

/// What the account may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Everything: the portal itself sets `readonly`.
    Unrestricted,
    /// Settings, but not `readonly` (the account has `readonly = 2`).
    ReadOnlyWithSettings,
    /// Nothing (the account has `readonly = 1`): the profile must bring the settings.
    ReadOnly,
}

impl Store {
    /// A store; it connects with the first query.
    pub fn new(config: &ClickHouseConfig) -> Self {
        let server = &config.server;
        let mut client = http_client(&server.url)
            .with_url(&server.url)
            .with_database(&server.database)
            .with_user(&server.user)
            .with_product_info("plimsoll-portal", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &server.password {
            client = client.with_password(password.expose());
        }
        Self {
            slots: Arc::new(Semaphore::new(QUERIES_MAX)),
            client,
            address: without_credentials(&server.url),
            timeout: Duration::from_millis(config.query_timeout_ms.max(1)),
            access: OnceCell::new(),
        }
    }

    /// Whether ClickHouse answers and has our tables.
    ///
    /// # Errors
    /// [`PortalError::Unavailable`] with what is missing.
    pub async fn check(&self) -> Result<(), PortalError> {
        let count: Vec<u64> =
            self.all(Select::new("SELECT count() FROM artifacts WHERE artifact = ''")).await?;
        debug_assert_eq!(count.len(), 1);
        Ok(())
    }

    async fn all<T: RowOwned + RowRead>(&self, select: Select) -> Result<Vec<T>, PortalError> {
        let _slot = self.slot().await?;
        self.all_within_slot(select).await
    }

    /// Asks without a slot of its own.
    async fn all_within_slot<T: RowOwned + RowRead>(&self, select: Select) -> Result<Vec<T>, PortalError> {
        let query = self.prepare(select, self.timeout).await?;
        match tokio::time::timeout(self.timeout + NETWORK_SLACK, query.fetch_all::<T>()).await {
            Ok(result) => result.map_err(|error| self.failed(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn first<T: RowOwned + RowRead>(&self, select: Select) -> Result<Option<T>, PortalError> {
        Ok(self.all(select).await?.into_iter().next())
    }

    async fn stream<T: RowOwned + RowRead>(
        &self,
        select: Select,
    ) -> Result<(clickhouse::query::RowCursor<T>, OwnedSemaphorePermit), PortalError> {
        let slot = self.slot().await?;
        let query = self.prepare(select, self.timeout * REPORT_TIMEOUT_FACTOR).await?;
        Ok((query.fetch::<T>().map_err(|error| self.failed(&error))?, slot))
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, PortalError> {
        match tokio::time::timeout(self.timeout, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            // The semaphore is never closed.
            Ok(Err(error)) => Err(PortalError::internal(error.to_string())),
            Err(_) => Err(PortalError::Unavailable {
                detail: format!("{QUERIES_MAX} questions are under way and none of them ended in time"),
                remedy: "ask again later, or start another portal".into(),
            }),
        }
    }

    async fn prepare(
        &self,
        select: Select,
        limit: Duration,
    ) -> Result<clickhouse::query::Query, PortalError> {
        let access = *self.access.get_or_try_init(|| self.find_access()).await?;
        let mut query = select.into_query(&self.client);
        if access != Access::ReadOnly {
            query = query
                .with_setting("final", "1")
                .with_setting("do_not_merge_across_partitions_select_final", "1")
                .with_setting("max_threads", MAX_THREADS)
                .with_setting("max_memory_usage", MAX_MEMORY_BYTES)
                .with_setting("max_execution_time", limit.as_secs().max(1).to_string());
        }
        if access == Access::Unrestricted {
            query = query.with_setting("readonly", "1");
        }
        Ok(query)
    }

    async fn find_access(&self) -> Result<Access, PortalError> {
        let query =
            self.client.query("SELECT toUInt64(getSetting('readonly')), toUInt64(getSetting('final'))");
        let answer =
            tokio::time::timeout(self.timeout + NETWORK_SLACK, query.fetch_one::<(u64, u64)>()).await;
        match answer {
            Err(_) => Err(self.silent()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Ok(Ok((0, _))) => Ok(Access::Unrestricted),
            Ok(Ok((1, 0))) => Err(PortalError::Unavailable {
                detail: format!("the account of ClickHouse at {} may not change settings", self.address),
                remedy: "give its profile readonly = 2, or set final = 1 and \
                         do_not_merge_across_partitions_select_final = 1 in it"
                    .into(),
            }),
            Ok(Ok((1, _))) => Ok(Access::ReadOnly),
            Ok(Ok(_)) => Ok(Access::ReadOnlyWithSettings),
        }
    }

    fn silent(&self) -> PortalError {
        PortalError::Unavailable {
            detail: format!("ClickHouse at {} did not answer in time", self.address),
            remedy: "look at its load, narrow the question, or raise clickhouse.query_timeout_ms".into(),
        }
    }

    fn failed(&self, error: &clickhouse::error::Error) -> PortalError {
        use clickhouse::error::Error;
        let address = &self.address;
        let (detail, remedy) = match error {
            Error::Network(_) | Error::TimedOut => (
                format!("ClickHouse at {address} is unreachable"),
                "start it, or correct clickhouse.url; the portal works again as soon as it answers"
                    .to_owned(),
            ),
            Error::BadResponse(text) => match refusal(text) {
                Refusal::NoTables => (
                    format!("ClickHouse at {address} has no Plimsoll tables in this database"),
                    "start the sink once, which makes them, or correct clickhouse.database".to_owned(),
                ),
                Refusal::Credentials => (
                    format!("ClickHouse at {address} refuses the account"),
                    "correct clickhouse.user and clickhouse.password_file, and grant SELECT".to_owned(),
                ),
                Refusal::Overload => (
                    format!(
                        "ClickHouse at {address} gave up on the question: too long, too much memory, or too many others"
                    ),
                    "narrow the question, or raise clickhouse.query_timeout_ms".to_owned(),
                ),
                Refusal::Other => return PortalError::internal(error.to_string()),
            },
            _ => return PortalError::internal(error.to_string()),
        };
        tracing::debug!(%error, "query failed");
        PortalError::Unavailable { detail, remedy }
    }
}

enum Refusal {
    NoTables,
    Credentials,
    Overload,
    Other,
}

/// Tells refusals apart by ClickHouse's error code, which stands as `Code: 60.` in the text.
fn refusal(text: &str) -> Refusal {
    let code = text.split("Code: ").nth(1).and_then(|rest| rest.split('.').next()).unwrap_or_default();
    match code {
        "60" | "81" => Refusal::NoTables,
        "192" | "193" | "194" | "497" | "516" => Refusal::Credentials,
        "159" | "160" | "202" | "241" => Refusal::Overload,
        _ => Refusal::Other,
    }
}

/// An address that may be shown: no user, password, query or fragment.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// Reads a column that holds JSON; empty and `null` are the default.
fn json<T: DeserializeOwned + Default>(column: &str, text: &str) -> Result<T, PortalError> {
    if text.is_empty() || text == "null" {
        return Ok(T::default());
    }
    serde_json::from_str(text).map_err(|error| {
        PortalError::internal(format!("column {column} holds JSON that does not read: {error}"))
    })
}

/// An empty string means nothing was seen.
fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_credentials() {
        let check = |url: &str, expect: &str| assert_eq!(without_credentials(url), expect);
        check("http://127.0.0.1:8123", "http://127.0.0.1:8123");
        check("https://user:secret@ch.example:8443/?password=secret", "https://ch.example:8443");
        check("ch:8123", "http://ch:8123");
    }

    #[test]
    fn tells_refusals_apart() {
        assert!(matches!(refusal("Code: 60. DB::Exception: Unknown table"), Refusal::NoTables));
        assert!(matches!(refusal("x Code: 516. DB::Exception"), Refusal::Credentials));
        assert!(matches!(refusal("Code: 159. DB::Exception"), Refusal::Overload));
        assert!(matches!(refusal("gateway timeout"), Refusal::Other));
    }

    #[test]
    fn reads_json_columns() {
        assert_eq!(json::<Vec<i32>>("x", "").unwrap(), Vec::<i32>::new());
        assert_eq!(json::<Vec<i32>>("x", "null").unwrap(), Vec::<i32>::new());
        assert_eq!(json::<Vec<i32>>("x", "[1]").unwrap(), vec![1]);
        assert!(json::<Vec<i32>>("x", "[1").is_err());
    }
}
