//! By which protocol workers join their groups: what the settings say, as far as brokers and groups take it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::Cluster;
use crate::model::{CLASSIC_ONLY, Function, GroupProtocol, Guarantee, ProtocolChoice};

/// How the workers of a process join. Clones share what was found out.
#[derive(Clone, Default)]
pub struct Protocols {
    choice: ProtocolChoice,
    found: Arc<Found>,
}

#[derive(Default)]
struct Found {
    /// The brokers do not have KIP-848, or are told not to.
    is_missing: AtomicBool,
    /// Groups that have classic members only, and must keep to that.
    classic: Mutex<BTreeSet<String>>,
}

/// The protocol for a worker, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The protocol.
    pub protocol: GroupProtocol,
    /// Why it is this one.
    pub why: &'static str,
}

impl Protocols {
    /// As the settings say; nothing is found out yet.
    pub fn new(choice: ProtocolChoice) -> Self {
        Self { choice, found: Arc::default() }
    }

    /// For the next worker of a function.
    pub fn of(&self, function: &Function, cluster: &Cluster) -> Choice {
        let classic = |why| Choice { protocol: GroupProtocol::Classic, why };
        let asks_for = |name: &str| function.kafka.consumer.contains_key(name) || cluster.sets(name);
        let found = &self.found;
        match self.choice {
            // A partition that was given and is not taken over yet is none of those that librdkafka says it has: the brokers
            // count it as let go and may give it to another, while both commit.
            _ if function.delivery.guarantee == Guarantee::ExactlyOnce => classic(
                "by KIP-848 two workers may have a partition for a moment, which exactly once does not bear",
            ),
            ProtocolChoice::Classic => classic("groupProtocol says so"),
            ProtocolChoice::Consumer => {
                Choice { protocol: GroupProtocol::Consumer, why: "groupProtocol says so" }
            }
            ProtocolChoice::Auto if CLASSIC_ONLY.iter().any(|name| asks_for(name)) => {
                classic("session.timeout.ms or heartbeat.interval.ms is set, which no other has")
            }
            ProtocolChoice::Auto if found.is_missing.load(Ordering::Relaxed) => {
                classic("the brokers do not have KIP-848")
            }
            ProtocolChoice::Auto if self.classic().contains(&function.group) => {
                classic("the group has classic members, and the brokers do not let it change")
            }
            ProtocolChoice::Auto => {
                Choice { protocol: GroupProtocol::Consumer, why: "KIP-848, where brokers and group have it" }
            }
        }
    }

    /// Nobody insists on a protocol: what is refused is to be tried in another way.
    pub fn may_change(&self) -> bool {
        self.choice == ProtocolChoice::Auto
    }

    /// The brokers do not take KIP-848.
    pub fn is_missing(&self) {
        self.found.is_missing.store(true, Ordering::Relaxed);
    }

    /// A group keeps to classic members, or is free again.
    pub fn keeps_classic(&self, group: &str, keeps: bool) {
        if keeps {
            self.classic().insert(group.to_owned());
        } else {
            self.classic().remove(group);
        }
    }

    fn classic(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.found.classic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn function(kafka: &str) -> Function {
        guaranteed("atLeastOnce", kafka)
    }

    fn guaranteed(guarantee: &str, kafka: &str) -> Function {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  \
             sources: [{{topic: in}}]\n  sinks: [{{topic: out}}]\n  kafka: {{consumer: {{{kafka}}}}}\n  \
             delivery: {{guarantee: {guarantee}}}\n"
        );
        crate::manifest::parse(Path::new("/f/function.yaml"), &text).unwrap().remove(0)
    }

    #[test]
    fn auto_is_kip_848_unless_something_asks_for_the_other() {
        use GroupProtocol::{Classic, Consumer};
        let plain = Cluster::new("b:9092", []);
        let session = Cluster::new("b:9092", [("session.timeout.ms".to_owned(), "6000".to_owned())]);
        let exact = guaranteed("exactlyOnce", "");
        let (auto, other) = (function(""), function("heartbeat.interval.ms: '500'"));
        for (choice, function, cluster, expected) in [
            (ProtocolChoice::Auto, &auto, &plain, Consumer),
            (ProtocolChoice::Auto, &other, &plain, Classic),
            (ProtocolChoice::Auto, &auto, &session, Classic),
            (ProtocolChoice::Classic, &auto, &plain, Classic),
            (ProtocolChoice::Consumer, &other, &session, Consumer),
            (ProtocolChoice::Auto, &exact, &plain, Classic),
            (ProtocolChoice::Consumer, &exact, &plain, Classic),
        ] {
            assert_eq!(Protocols::new(choice).of(function, cluster).protocol, expected, "{choice:?}");
        }
    }

    #[test]
    fn what_was_refused_is_not_tried_again() {
        let (cluster, function) = (Cluster::new("b:9092", []), function(""));
        let protocols = Protocols::new(ProtocolChoice::Auto);
        let protocol = || protocols.clone().of(&function, &cluster).protocol;
        protocols.keeps_classic(&function.group, true);
        assert_eq!(protocol(), GroupProtocol::Classic);
        protocols.keeps_classic(&function.group, false);
        assert_eq!(protocol(), GroupProtocol::Consumer);
        protocols.is_missing();
        assert_eq!(protocol(), GroupProtocol::Classic);
    }
}
