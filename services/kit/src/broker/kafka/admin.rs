//! Creates and checks topics.
//! Never changes or deletes a topic that exists.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;

use super::KafkaBroker;
use super::client::PlainContext;
use super::errors;
use crate::broker::types::{TopicReport, TopicSpec};
use crate::broker::{Broker, BrokerErrorKind as Kind, BrokerResult, refuse_differences, topic_differences};

/// Wait between two looks for topics that were just created.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread; the admin client's own thread completes it within the request timeout.
fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(super) fn ensure_topics(
    broker: &KafkaBroker,
    config: &ClientConfig,
    topics: &[TopicSpec],
    request_timeout: Duration,
) -> BrokerResult<TopicReport> {
    let existing = broker.partition_counts()?;
    let (present, missing): (Vec<&TopicSpec>, Vec<&TopicSpec>) =
        topics.iter().partition(|spec| existing.contains_key(&*spec.name));
    let admin: AdminClient<PlainContext> =
        AdminClient::from_config_and_context(config, PlainContext::default())
            .map_err(|error| errors::from_kafka(&broker.name(), "opening an admin client", &error, None))?;
    let options =
        AdminOptions::new().request_timeout(Some(request_timeout)).operation_timeout(Some(request_timeout));
    let cleanups = cleanup_policies(broker, &admin, &options, &present)?;
    let mut differences = Vec::new();
    let mut report = TopicReport::default();
    for spec in &present {
        let partitions = existing.get(&*spec.name).copied().unwrap_or(0);
        let cleanup = cleanups.get(&*spec.name).map(String::as_str);
        differences.extend(topic_differences(spec, partitions, cleanup));
        report.existing.push(spec.name.to_string());
    }
    refuse_differences(&broker.name(), differences)?;
    create(broker, &admin, &options, &missing)?;
    wait_until_known(broker, &missing, Instant::now() + request_timeout)?;
    report.created = missing.iter().map(|spec| spec.name.to_string()).collect();
    Ok(report)
}

fn create(
    broker: &KafkaBroker,
    admin: &AdminClient<PlainContext>,
    options: &AdminOptions,
    missing: &[&TopicSpec],
) -> BrokerResult<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let retentions: Vec<Option<String>> =
        missing.iter().map(|spec| spec.retention_ms.map(|ms| ms.to_string())).collect();
    let new_topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&retentions)
        .map(|(spec, retention)| {
            let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
            let replication = spec.replication_factor.map_or(-1, i32::from);
            let mut topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(replication));
            topic = topic.set("cleanup.policy", spec.cleanup.as_str());
            if let Some(retention) = retention {
                topic = topic.set("retention.ms", retention);
            }
            spec.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
        })
        .collect();
    let results = wait_for(admin.create_topics(&new_topics, options))
        .map_err(|error| errors::from_kafka(&broker.name(), "creating topics", &error, None))?;
    for result in results {
        match result {
            // Another process was quicker; its topic is checked below like ours.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let what = format!("creating topic {name}");
                return Err(errors::error(errors::kind_of(code), &broker.name(), &what, &code.to_string()));
            }
        }
    }
    Ok(())
}

/// Waits until the broker's metadata has the topics as wanted.
fn wait_until_known(broker: &KafkaBroker, created: &[&TopicSpec], deadline: Instant) -> BrokerResult<()> {
    while !created.is_empty() {
        let counts = broker.partition_counts()?;
        let absent = created.iter().find(|spec| !counts.contains_key(&*spec.name));
        let Some(absent) = absent else {
            let differences = created.iter().flat_map(|spec| {
                topic_differences(spec, counts.get(&*spec.name).copied().unwrap_or(0), None)
            });
            return refuse_differences(&broker.name(), differences.collect());
        };
        if Instant::now() >= deadline {
            let what = format!("creating topic {}", absent.name);
            return Err(errors::error(Kind::Retriable, &broker.name(), &what, "it does not show up"));
        }
        std::thread::sleep(SETTLE_INTERVAL);
    }
    Ok(())
}

/// `cleanup.policy` of each topic that lets us read it.
fn cleanup_policies(
    broker: &KafkaBroker,
    admin: &AdminClient<PlainContext>,
    options: &AdminOptions,
    topics: &[&TopicSpec],
) -> BrokerResult<BTreeMap<String, String>> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let resources: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let answers = wait_for(admin.describe_configs(&resources, options)).map_err(|error| {
        errors::from_kafka(&broker.name(), "reading the settings of topics", &error, None)
    })?;
    let mut policies = BTreeMap::new();
    for (spec, answer) in topics.iter().zip(answers) {
        match answer {
            Ok(resource) => {
                if let Some(value) = resource.get("cleanup.policy").and_then(|entry| entry.value.clone()) {
                    policies.insert(spec.name.to_string(), value);
                }
            }
            // The right to describe is not needed to run; without it this check is left out.
            Err(code) => tracing::warn!("cannot read the settings of topic {}: {code}", spec.name),
        }
    }
    Ok(policies)
}
