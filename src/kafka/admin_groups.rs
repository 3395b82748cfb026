//! What many groups have committed, asked at once: Kafka answers for one group a request, so the requests go out
//! together and their answers come as they come.

use std::time::Duration;

use super::admin::{Admin, AdminError};
use super::admin_native::Native;
use super::cluster::Cluster;
use super::partition::{Committed, Partition};

/// The most requests under way at once: more would only wait in the client.
const AT_ONCE: usize = 64;

/// An [`Admin`] that asks for groups too, with one client that is kept from one question to the next. It joins none; but the
/// client carries a group of its own, since librdkafka reads a coordinator's refusal through it (`Native::of_group`).
pub struct GroupAdmin {
    admin: Admin,
}

impl GroupAdmin {
    /// A client for `cluster`, named after what it is for. Nothing connects yet.
    pub fn new(cluster: &Cluster, purpose: &str) -> Result<Self, AdminError> {
        let own = format!("tidemill.{purpose}.{}", std::process::id());
        let native =
            Native::of_group(cluster, &own).map_err(|error| AdminError::Settings(error.to_string()))?;
        Ok(Self { admin: Admin::over(native, cluster) })
    }

    /// The same client with another deadline per call (15 s by default).
    pub fn within(mut self, deadline: Duration) -> Self {
        self.admin = self.admin.within(deadline);
        self
    }

    /// For everything else.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// What each group has committed for its partitions, in the order of the questions; one that fails takes no other
    /// along. Offsets inside open transactions are those from before.
    ///
    /// After a failure make a new client: librdkafka remembers for minutes who coordinates a group, also when that one
    /// has said that it no longer does.
    pub fn committed(&self, groups: &[(&str, &[Partition])]) -> Vec<Result<Vec<Committed>, AdminError>> {
        let mut found = Vec::with_capacity(groups.len());
        for groups in groups.chunks(AT_ONCE) {
            let answers = self.admin.native.committed_of(groups, self.admin.deadline());
            let named = groups.iter().zip(answers);
            found.extend(named.map(|((group, _), answers)| {
                let fail = |refusal| {
                    self.admin.error(refusal, format!("read the committed offsets of group {group}"))
                };
                let mut committed = Vec::new();
                for (place, answer) in answers.map_err(fail)? {
                    match answer {
                        // Of a topic that is gone nothing is committed.
                        Err(refusal) if !refusal.is_about_missing() => {
                            return Err(fail(refusal.on(&place.partition.to_string())));
                        }
                        _ => committed.push(place),
                    }
                }
                Ok(committed)
            }));
        }
        found
    }
}
