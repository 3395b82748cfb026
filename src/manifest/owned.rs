//! librdkafka settings that a manifest may not pass through, and what to use instead.

/// Settings that the engine's guarantees stand on.
const ENGINE: [(&str, &str); 38] = [
    ("group.id", "use `spec.group`"),
    ("group.instance.id", "use `spec.instance` of the platform's settings"),
    ("group.protocol", "use `spec.groupProtocol` of the platform's settings"),
    ("group.protocol.type", "use `spec.groupProtocol` of the platform's settings"),
    ("group.remote.assignor", "the engine chooses it"),
    ("partition.assignment.strategy", "the engine chooses it"),
    ("enable.auto.commit", "use `spec.delivery.commitInterval`"),
    ("auto.commit.interval.ms", "use `spec.delivery.commitInterval`"),
    ("auto.commit.enable", "use `spec.delivery.commitInterval`"),
    ("enable.auto.offset.store", "the engine keeps the offsets"),
    ("offset.store.method", "the engine keeps the offsets"),
    ("offset.store.path", "the engine keeps the offsets"),
    ("offset.store.sync.interval.ms", "the engine keeps the offsets"),
    ("auto.offset.reset", "use `startAt` of the source"),
    ("isolation.level", "use `spec.delivery.guarantee`"),
    ("enable.partition.eof", "the engine needs the ends of partitions"),
    ("transactional.id", "use `spec.group`"),
    ("transaction.timeout.ms", "use `spec.handler.timeout`"),
    ("enable.idempotence", "use `spec.delivery.guarantee`"),
    ("enable.gapless.guarantee", "use `spec.delivery.guarantee`"),
    ("acks", "use `spec.delivery.guarantee`"),
    ("request.required.acks", "use `spec.delivery.guarantee`"),
    ("retries", "writes are tried again until `spec.delivery` gives up"),
    ("message.send.max.retries", "writes are tried again until `spec.delivery` gives up"),
    ("max.in.flight", "writes must stay in order"),
    ("max.in.flight.requests.per.connection", "writes must stay in order"),
    ("queuing.strategy", "another order would break `spec.order`"),
    ("partitioner", "keys land where Java producers put them"),
    ("delivery.report.only.error", "the engine reads the delivery reports"),
    ("produce.offset.report", "the engine reads the delivery reports"),
    ("message.timeout.ms", "the transaction ends it"),
    ("delivery.timeout.ms", "the transaction ends it"),
    ("client.id", "use `spec.instance` of the platform's settings"),
    ("enabled_events", "the engine reads the events"),
    ("consume.callback.max.messages", "the engine polls in batches"),
    ("opaque", "it holds a pointer"),
    ("plugin.library.paths", "librdkafka plugins are not loaded"),
    ("default_topic_conf", "it holds a pointer"),
];

/// Why a function may not set `name`; `None`: it may.
pub(super) fn by_function(name: &str) -> Option<String> {
    if is_cluster(name) {
        return Some("belongs to the platform: put it into `spec.kafka` of tidemill.yaml".to_owned());
    }
    if matches!(name, "bootstrap.servers" | "metadata.broker.list") {
        return Some(
            "belongs to the platform: use `spec.brokers` of tidemill.yaml, TIDEMILL_BROKERS or --brokers"
                .to_owned(),
        );
    }
    engine(name)
}

/// Why the platform may not set `name`; `None`: it may.
pub(super) fn by_platform(name: &str) -> Option<String> {
    if matches!(name, "bootstrap.servers" | "metadata.broker.list") {
        return Some("use `spec.brokers`, TIDEMILL_BROKERS or --brokers".to_owned());
    }
    engine(name)
}

fn engine(name: &str) -> Option<String> {
    if name.ends_with("_cb") {
        return Some("callbacks belong to the engine: remove it".to_owned());
    }
    let (_, instead) = ENGINE.iter().find(|(owned, _)| *owned == name)?;
    Some(format!("the engine sets it: {instead}"))
}

/// How a cluster is reached and who one is there: the platform's, the same for every function.
fn is_cluster(name: &str) -> bool {
    ["security.", "sasl.", "ssl.", "ssl_", "enable.ssl.", "enable.sasl.", "https.ca."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Settings whose values are secrets: only references are taken.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "sasl.password"
            | "sasl.oauthbearer.client.secret"
            | "sasl.oauthbearer.config"
            | "sasl.oauthbearer.assertion.private.key.passphrase"
            | "sasl.oauthbearer.assertion.private.key.pem"
            | "ssl.key.password"
            | "ssl.key.pem"
            | "ssl.keystore.password"
    )
}
