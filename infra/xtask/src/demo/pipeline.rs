//! What the demo asks of the running pipeline: has it caught up, what stands in ClickHouse, what does the portal say.
//! It never waits by sleeping alone: each wait polls a condition, has a deadline and says what was missing.

use super::kafka::Client;
use crate::http;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longest wait for a condition that the pipeline should fulfil within seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
const TOPIC_PREFIX: &str = "plimsoll";
const DATABASE: &str = "plimsoll";

/// Names of a component version, as `-a`, `-c` and `-V` give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    pub application: &'static str,
    pub component: &'static str,
    pub version: &'static str,
}

impl Component {
    /// Its path in the API and, without `/api/v1`, in the pages.
    pub fn path(&self) -> String {
        format!(
            "/applications/{}/components/{}/versions/{}",
            http::encoded(self.application),
            http::encoded(self.component),
            http::encoded(self.version)
        )
    }

    /// A condition for the tables of ClickHouse.
    pub fn condition(&self) -> String {
        format!(
            "application = '{}' AND component = '{}' AND component_version = '{}'",
            self.application, self.component, self.version
        )
    }
}

/// A started stack with all services.
pub struct Pipeline {
    kafka: String,
    clickhouse: String,
    portal: String,
}

impl Pipeline {
    pub fn new(variables: &[(String, String)]) -> anyhow::Result<Self> {
        let variables: HashMap<&str, &str> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let get = |name: &str| {
            variables.get(name).map(|value| (*value).to_owned()).with_context(|| format!("no {name}"))
        };
        Ok(Self {
            kafka: get("PLIMSOLL_TEST_KAFKA")?,
            clickhouse: get("PLIMSOLL_TEST_CLICKHOUSE")?,
            portal: get("PLIMSOLL_TEST_PORTAL_URL")?,
        })
    }

    /// The portal's address.
    pub fn portal(&self) -> &str {
        &self.portal
    }

    /// Wait until correlator and sink have taken all that is in their topics.
    pub fn wait_caught_up(&self) -> anyhow::Result<()> {
        wait("the pipeline to catch up", PATIENCE, || Ok(self.behind()?.map_or(Ok(()), Err)))
    }

    /// Which consumer is behind in which partition, if one is. The correlator commits its outputs with its position,
    /// so once it has caught up they are there for the sink.
    fn behind(&self) -> anyhow::Result<Option<String>> {
        let mut client = Client::connect(&self.kafka)?;
        // Consumers as in schemas/topics.yaml; what a consumer does not take has no commit and is left out.
        for (consumer, topics) in [
            (
                "correlator",
                ["scan.artifacts", "scan.packages", "scan.findings", "package.", "runtime."].as_slice(),
            ),
            ("sink", ["correlation.", "runtime.", "scan.artifacts"].as_slice()),
        ] {
            let wanted = |name: &str| {
                let short = name.strip_prefix(TOPIC_PREFIX).and_then(|rest| rest.strip_prefix('.'));
                short.is_some_and(|short| {
                    !short.ends_with(".dlq") && topics.iter().any(|topic| short.starts_with(topic))
                })
            };
            let partitions = client.partitions(wanted)?;
            if partitions.is_empty() {
                return Ok(Some(format!("the topics of the {consumer} do not exist yet")));
            }
            let committed = client.committed(&format!("{TOPIC_PREFIX}.{consumer}"))?;
            for partition in partitions {
                if client.has_records(&partition, committed.get(&partition).copied())? {
                    return Ok(Some(format!(
                        "the {consumer} is behind in {} partition {}",
                        partition.0, partition.1
                    )));
                }
            }
        }
        Ok(None)
    }

    /// Rows of a query as JSON objects.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let query = format!("{query} FORMAT JSONEachRow");
        let url = format!("{}/?database={DATABASE}&query={}", self.clickhouse, http::encoded(&query));
        let body = http::call("GET", &url)?;
        body.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The first column of the first row, a number.
    pub fn count(&self, query: &str) -> anyhow::Result<u64> {
        let rows = self.query(query)?;
        let value = rows.first().and_then(Value::as_object).and_then(|row| row.values().next());
        let number = value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        number.with_context(|| format!("`{query}` gives no number"))
    }

    /// An answer of the portal's API; the path is that behind `/api/v1`.
    pub fn api(&self, path: &str) -> anyhow::Result<Value> {
        let body = http::call("GET", &format!("{}/api/v1{path}", self.portal))?;
        serde_json::from_str(&body).with_context(|| format!("the portal's {path} is no JSON"))
    }

    /// The whole report of a component version.
    pub fn report(&self, component: &Component) -> anyhow::Result<Value> {
        self.api(&format!("{}/report", component.path()))
    }
}

/// Poll until `condition` is fulfilled (`Ok(Ok(_))`); `Ok(Err(what))` says what is still missing.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        crate::signals::yield_to_cleanup();
        match condition()? {
            Ok(value) => return Ok(value),
            Err(missing) if Instant::now() > end => {
                bail!("gave up waiting for {what} after {} s: {missing}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
