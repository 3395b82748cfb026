//! Which cluster, and how to reach it: the librdkafka settings that every client shares.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

/// Settings common to consumers, producers and admin clients: `bootstrap.servers`, security, and
/// what the platform passes through. Values of secrets are resolved already.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    settings: BTreeMap<String, String>,
}

impl Cluster {
    /// A cluster at `brokers` (`host:port,host:port`) with further librdkafka settings.
    pub fn new(brokers: &str, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut settings: BTreeMap<_, _> = settings.into_iter().collect();
        settings.insert("bootstrap.servers".to_owned(), brokers.to_owned());
        Self { settings }
    }

    /// The same with one more setting.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The addresses that were given.
    pub fn brokers(&self) -> &str {
        self.settings.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// This setting is given.
    pub fn sets(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// A fresh client configuration with these settings.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        config
    }
}

impl std::fmt::Debug for Cluster {
    /// Names the brokers only: the settings may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.brokers()).finish_non_exhaustive()
    }
}
