//! Topic settings that Tidemill looks at.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
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
    let told = ask(cluster, topics).unwrap_or_else(|error| {
        tracing::debug!("topic settings are not known: {error}");
        Vec::new()
    });
    MessageLimits {
        smallest: told.iter().copied().min().unwrap_or(DEFAULT_BYTES),
        largest: told.iter().copied().max().unwrap_or(DEFAULT_BYTES),
    }
}

fn ask(cluster: &Cluster, topics: &[String]) -> Result<Vec<u64>, Error> {
    let admin: AdminClient<DefaultClientContext> =
        cluster.client_config().create().map_err(|error| Error::of_call(&error))?;
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Away(error.to_string()))?;
    let answers =
        runtime.block_on(admin.describe_configs(&asked, &options)).map_err(|error| Error::of_call(&error))?;
    let told = answers.into_iter().flatten().filter_map(|resource| {
        let value = resource.get("max.message.bytes")?.value.clone()?;
        value.parse().ok()
    });
    Ok(told.collect())
}
