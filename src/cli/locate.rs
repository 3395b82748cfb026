//! Which processes run a function, and where they take orders: asked of the function's consumer group, whose members carry
//! the address of their process's admin listener in their client ids.
//!
//! A function without members (it sleeps, is drained) has nobody whom the group could name, so the process that the
//! platform's settings are of is asked too. Who answers has to be who was looked for: a listener on loopback is another
//! host's, and what listens at that address here may be any process.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::process::{Listener, Process};
use super::run;
use crate::kafka::Admin;
use crate::kafka::admin::Member;
use crate::manifest::Platform;
use crate::runtime::autoscale::scaler_group;
use crate::worker::{AdminAddress, ClientId};

/// How long one may take that nobody asked for by name.
const GLANCE_WITHIN: Duration = Duration::from_secs(2);
/// How long the brokers may take to say who is in a group.
const GROUP_WITHIN: Duration = Duration::from_secs(5);

/// A process that has members in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub instance: String,
    /// Where it connects from, as the brokers see it.
    host: String,
    /// Where it takes orders; `None`: nowhere.
    admin: Option<AdminAddress>,
    /// It has no worker: it decides how many others have.
    scales: bool,
}

/// Who answered, and who did not.
#[derive(Default)]
pub struct Look {
    /// Processes that answered, each once.
    pub answers: Vec<Answer>,
    /// Those that did not.
    pub silent: Vec<Silent>,
}

/// A process that answered.
pub struct Answer {
    /// Its name.
    pub instance: String,
    /// Where it takes orders.
    pub listener: Arc<Listener>,
    /// What `/functions` has.
    pub functions: Vec<Value>,
}

/// A process that did not.
pub struct Silent {
    /// Its name.
    pub instance: String,
    /// It has an admin listener.
    pub listens: bool,
    /// It has workers, and does not only decide how many others have.
    pub works: bool,
    /// Why, and what to do.
    pub why: String,
}

/// The processes whose workers are in a group, each once.
pub fn peers(members: &[Member]) -> Vec<Peer> {
    let ids = members.iter().filter_map(|member| Some((member.client_id.parse::<ClientId>().ok()?, member)));
    let peers = ids.map(|(ClientId { instance, admin, .. }, member)| {
        let host = member.host.trim_start_matches('/').to_owned();
        (instance.clone(), Peer { instance, host, admin, scales: false })
    });
    peers.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The processes whose workers are in `group`, and who scales it; none where no brokers are named.
pub fn peers_of(group: &str, platform: &Platform) -> anyhow::Result<Vec<Peer>> {
    if platform.brokers().is_err() {
        return Ok(Vec::new());
    }
    let admin = Admin::new(&run::cluster(platform)?)?.within(GROUP_WITHIN);
    let scaler = scaler_group(group);
    let mut groups = admin.groups(&[group, &scaler])?.into_iter().zip([false, true]);
    let mut found = Vec::new();
    groups.try_for_each(|(group, scales)| match group {
        Ok(group) => {
            found.extend(peers(&group.members).into_iter().map(|peer| Peer { scales, ..peer }));
            Ok(())
        }
        // Who may look at the function's group alone finds those who work.
        Err(_) if scales => Ok(()),
        Err(error) => Err(error),
    })?;
    Ok(found)
}

impl Peer {
    /// Where to ask it from here.
    fn address(&self) -> Option<SocketAddr> {
        let listens = self.admin?.address;
        if !listens.ip().is_unspecified() {
            return Some(listens);
        }
        // It listens at all of its addresses, of which the brokers know one.
        Some(SocketAddr::new(self.host.parse::<IpAddr>().ok()?, listens.port()))
    }

    fn silent(self, why: &str) -> Silent {
        let Self { instance, host, admin, scales } = self;
        let why = match admin {
            Some(admin) if admin.address.ip().to_canonical().is_loopback() => format!(
                "it listens at {}, on loopback of the host that Kafka knows as {host}: {why} here. Ask there, or let it \
                 listen at an address of its own, with a token (listeners.admin, listeners.adminToken)",
                admin.address
            ),
            Some(_) => why.to_owned(),
            None => format!("it runs on {host} without an admin listener (listeners.admin)"),
        };
        Silent { instance, listens: admin.is_some(), works: !scales, why }
    }
}

/// Asks processes, and the one of the settings, all at once; or the one alone that was named.
pub fn look(process: &Process, platform: &Platform, peers: Vec<Peer>) -> anyhow::Result<Look> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if process.is_given() {
            let listener = Arc::new(process.listener(platform)?);
            let (instance, functions) = functions(&listener).await?;
            let answers = vec![Answer { instance, listener, functions }];
            return Ok(Look { answers, silent: Vec::new() });
        }
        Ok(look_around(process, platform, peers).await)
    })
}

async fn look_around(process: &Process, platform: &Platform, peers: Vec<Peer>) -> Look {
    let mut look = Look::default();
    let mut asked = JoinSet::new();
    let mut addresses = Vec::new();
    for peer in peers {
        let Some((at, admin)) = peer.address().zip(peer.admin) else {
            look.silent.push(peer.silent("it does not answer"));
            continue;
        };
        match process.listener_at(at, admin.is_tls, platform) {
            Ok(listener) => {
                addresses.push(listener.address.clone());
                asked.spawn(glance(Some(peer), listener));
            }
            Err(error) => look.silent.push(peer.silent(&format!("{error:#}"))),
        }
    }
    // Nobody has to be there.
    if let Ok(own) = process.listener(platform)
        && !addresses.contains(&own.address)
    {
        asked.spawn(glance(None, own));
    }
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) => look.answers.push(answer),
            Ok(Err(silent)) => look.silent.extend(silent),
            Err(_) => {}
        }
    }
    look.answers.sort_by(|a, b| a.instance.cmp(&b.instance));
    look.answers.dedup_by(|a, b| a.instance == b.instance);
    // Asked by another way, it answered.
    look.silent.retain(|silent| look.answers.iter().all(|answer| answer.instance != silent.instance));
    look.silent.sort_by(|a, b| a.instance.cmp(&b.instance));
    look
}

/// One short question; of a process that the settings name nothing is said if it is not there.
async fn glance(peer: Option<Peer>, listener: Listener) -> Result<Answer, Option<Silent>> {
    let listener = Arc::new(listener);
    let answer = tokio::time::timeout(GLANCE_WITHIN, functions(&listener)).await;
    let answer = answer.context("it does not answer in time").and_then(|answer| answer);
    match (answer, peer) {
        (Ok((instance, functions)), peer) if peer.as_ref().is_none_or(|peer| peer.instance == instance) => {
            Ok(Answer { instance, listener, functions })
        }
        (Ok((instance, _)), Some(peer)) => {
            Err(Some(peer.silent(&format!("at that address {instance} answers"))))
        }
        (Err(error), Some(peer)) => Err(Some(peer.silent(&format!("{error:#}")))),
        (_, None) => Err(None),
    }
}

/// The name of a process, and what it says of its functions.
async fn functions(listener: &Listener) -> anyhow::Result<(String, Vec<Value>)> {
    let (status, answer) = listener.ask(Method::GET, "/functions").await?;
    anyhow::ensure!(
        status != StatusCode::UNAUTHORIZED || listener.has_token(),
        "it wants the token, which processes that a group names get over TLS alone (listeners.adminTls, or --ca); --admin \
         names a process that may have it as it is"
    );
    anyhow::ensure!(status.is_success(), "{}: {}", status, answer.trim());
    let mut document: Value = serde_json::from_str(&answer).context("the answer to /functions")?;
    let instance = document["instance"].as_str().unwrap_or_default().to_owned();
    match document["functions"].take() {
        Value::Array(functions) => Ok((instance, functions)),
        _ => anyhow::bail!("the answer to /functions lists none"),
    }
}

impl Look {
    /// Those that run a function.
    pub fn of<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a Answer> {
        let runs = move |answer: &&Answer| answer.functions.iter().any(|found| found["name"] == function);
        self.answers.iter().filter(runs)
    }

    /// What each says of the functions about which it decides, by their names.
    pub fn standings(&self) -> BTreeMap<String, Value> {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return BTreeMap::new();
        };
        runtime.block_on(async {
            let mut asked = JoinSet::new();
            for answer in &self.answers {
                let listener = Arc::clone(&answer.listener);
                asked.spawn(async move {
                    let answer =
                        tokio::time::timeout(GLANCE_WITHIN, listener.ask(Method::GET, "/scale")).await;
                    let (_, answer) = answer.ok()?.ok()?;
                    serde_json::from_str::<Value>(&answer).ok()?["functions"].as_object().cloned()
                });
            }
            let mut standings = BTreeMap::new();
            while let Some(answer) = asked.join_next().await {
                let said = answer.ok().flatten().into_iter().flatten();
                standings.extend(said.filter(|(_, standing)| standing["decidedBy"].is_null()));
            }
            standings
        })
    }

    /// What a person fixed for a function instead of what is decided.
    pub fn fixed(&self, function: &str) -> Option<Value> {
        let said = self.of(function).flat_map(|answer| &answer.functions);
        let own = said.filter(|found| found["name"] == function).map(|found| found["override"].clone());
        let decided = self.standings().remove(function).map(|mut standing| standing["override"].take());
        own.chain(decided).find(Value::is_object)
    }

    /// Says who has a listener and does not answer.
    pub fn complain(&self) {
        for Silent { instance, why, .. } in self.silent.iter().filter(|silent| silent.listens) {
            eprintln!("tidemill: {instance} was not asked: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(client_id: &str, host: &str) -> Member {
        let (client_id, host) = (client_id.to_owned(), host.to_owned());
        Member { client_id, member_id: String::new(), instance_id: None, host }
    }

    #[test]
    fn a_group_names_its_processes() {
        let members = [
            member("tidemill-a-0-127.0.0.1_7", "/10.0.0.3"),
            member("tidemill-a-1-127.0.0.1_7", "/10.0.0.3"),
            member("tidemill-b-0-0.0.0.0_8", "/10.0.0.4"),
            member("tidemill-c-0", "/10.0.0.5"),
            member("somebody", "/10.0.0.6"),
        ];
        let found = peers(&members);
        let found: Vec<_> = found.iter().map(|peer| (peer.instance.as_str(), peer.address())).collect();
        let at = |address: &str| Some(address.parse().unwrap());
        assert_eq!(found, [("a", at("127.0.0.1:7")), ("b", at("10.0.0.4:8")), ("c", None)]);
    }

    #[test]
    fn another_hosts_loopback_is_said_to_be_that() {
        let mut found = peers(&[member("tidemill-a-0-127.0.0.1_7", "/10.0.0.3")]);
        let silent = found.remove(0).silent("b answers");
        assert!(silent.listens);
        for part in ["127.0.0.1:7, on loopback", "10.0.0.3: b answers here", "listeners.adminToken"] {
            assert!(silent.why.contains(part), "{part:?} is missing in: {}", silent.why);
        }
    }

    /// What listens there is asked its name before it is told anything.
    #[test]
    fn who_answers_has_to_be_who_was_looked_for() {
        use crate::manifest::Overrides;
        use crate::runtime::admin::Config;
        use crate::runtime::admin::tests::{loopback, start};

        let running = start(&Config { admin: Some(loopback()), ..Config::default() }).unwrap();
        let at = running.admin.admin().unwrap();
        let mut platform = Platform::load(None, [], &Overrides::default()).unwrap();
        platform.admin = None;
        let id = |instance: &str| {
            let admin = Some(AdminAddress { address: at, is_tls: false });
            ClientId { instance: instance.to_owned(), slot: 0, admin }.to_string()
        };
        let ask = |platform: &Platform, instance: &str| {
            let peers = peers(&[member(&id(instance), "/10.0.0.3")]);
            let look = look(&Process::default(), platform, peers).unwrap();
            let answers = look.answers.into_iter().map(|answer| answer.instance).collect::<Vec<_>>();
            (answers, look.silent.into_iter().map(|silent| silent.why).collect::<Vec<_>>())
        };
        assert_eq!(ask(&platform, "test"), (vec!["test".to_owned()], vec![]));
        let (answers, silent) = ask(&platform, "other");
        assert!(answers.is_empty() && silent[0].contains("at that address test answers here"), "{silent:?}");
        // The process of the settings is asked besides, and counts once.
        platform.admin = Some(at);
        assert_eq!(ask(&platform, "test"), (vec!["test".to_owned()], vec![]));
    }
}
