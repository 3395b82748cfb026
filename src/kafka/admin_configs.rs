//! Settings of topics and brokers that Tidemill looks at.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::cluster::Cluster;
use super::error::Error;

/// Kafka's default for `max.message.bytes` (`message.max.bytes`).
const DEFAULT_BYTES: u64 = 1_048_588;

/// What topics take: their `max.message.bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// The least of them: a batch of records that is no larger fits everywhere.
    pub smallest: u64,
    /// The greatest of them: a record that is larger fits nowhere.
    pub largest: u64,
}

/// The limits of these topics; the broker's default where it does not tell, which it does not without
/// the right to describe configs.
pub fn message_limits(cluster: &Cluster, topics: &[String]) -> MessageLimits {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let told = topic_settings(cluster, &topics, "max.message.bytes").unwrap_or_else(|error| {
        tracing::debug!("topic settings are not known: {error}");
        BTreeMap::new()
    });
    let limits = || told.values().filter_map(|value| value.parse().ok());
    MessageLimits {
        smallest: limits().min().unwrap_or(DEFAULT_BYTES),
        largest: limits().max().unwrap_or(DEFAULT_BYTES),
    }
}

/// How long the brokers keep offsets of groups without members (`offsets.retention.minutes`), if one of them tells.
pub fn offsets_retention(cluster: &Cluster) -> Option<Duration> {
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().ok()?;
    let within = Duration::from_secs(10);
    let broker = admin.inner().fetch_metadata(None, within).ok()?.brokers().first()?.id();
    let options = AdminOptions::new().request_timeout(Some(within));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = [ResourceSpecifier::Broker(broker)];
    let answers = runtime.block_on(admin.describe_configs(&asked, &options)).ok()?;
    let told = answers
        .into_iter()
        .flatten()
        .find_map(|broker| broker.get("offsets.retention.minutes").and_then(|setting| setting.value.clone()));
    Some(Duration::from_secs(told?.parse::<u64>().ok()? * 60))
}

/// The setting `name` of these topics, as far as the broker tells.
pub fn topic_settings(
    cluster: &Cluster,
    topics: &[&str],
    name: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let admin: AdminClient<DefaultClientContext> =
        cluster.client_config().create().map_err(|error| Error::of_call(&error))?;
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Away(error.to_string()))?;
    let answers = runtime.block_on(admin.describe_configs(&asked, &options));
    // It ends at the next of its ticks, which come every 100 ms. A worker that starts has no time for that.
    std::thread::Builder::new()
        .name("admin-ends".to_owned())
        .spawn(move || drop(admin))
        .map_err(|error| Error::Away(error.to_string()))?;
    let answers = answers.map_err(|error| Error::of_call(&error))?;
    let told = answers.into_iter().flatten().filter_map(|resource| {
        let value = resource.get(name)?.value.clone()?;
        match resource.specifier {
            OwnedResourceSpecifier::Topic(topic) => Some((topic, value)),
            _ => None,
        }
    });
    Ok(told.collect())
}
