//! What the members of a function's group call themselves: which process they are of, and where that takes orders.
//!
//! `tidemill-INSTANCE-SLOT`, and `-ADDRESS` where the process has an admin listener: `IP_PORT`, with `_` for the colons of
//! IPv6, and `_tls` behind it where TLS is spoken. Brokers show client ids in logs, quotas and metrics, so there is nothing
//! in them but letters, digits, `.`, `_` and `-`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Every client of Tidemill calls itself so.
pub const CLIENT_ID_PREFIX: &str = "tidemill-";

/// Behind the address of a listener that speaks TLS.
const TLS: &str = "_tls";

/// Where a process takes orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdminAddress {
    /// Its admin listener, as it listens: all addresses of its host, or loopback, may be among that.
    pub address: SocketAddr,
    /// It speaks TLS.
    pub is_tls: bool,
}

/// A worker's name for brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientId {
    /// Its process.
    pub instance: String,
    /// Which of the function's workers there, from 0.
    pub slot: u32,
    /// Where the process takes orders; `None`: nowhere.
    pub admin: Option<AdminAddress>,
}

impl ClientId {
    /// How those of a process begin.
    pub fn prefix(instance: &str) -> String {
        format!("{CLIENT_ID_PREFIX}{instance}-")
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, slot, admin } = self;
        write!(f, "{}{slot}", Self::prefix(instance))?;
        match admin {
            Some(admin) => write!(f, "-{admin}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.address.ip().to_canonical().to_string().replace(':', "_");
        write!(f, "{ip}_{}{}", self.address.port(), if self.is_tls { TLS } else { "" })
    }
}

/// It is not a worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no client id of a worker")]
pub struct Foreign;

impl FromStr for ClientId {
    type Err = Foreign;

    fn from_str(text: &str) -> Result<Self, Foreign> {
        let rest = text.strip_prefix(CLIENT_ID_PREFIX).ok_or(Foreign)?;
        let (before, last) = rest.rsplit_once('-').ok_or(Foreign)?;
        // An address has a `_`, a number has none.
        let (named, admin) = match last.contains('_') {
            true => (before.rsplit_once('-').ok_or(Foreign)?, Some(last.parse()?)),
            false => ((before, last), None),
        };
        let slot = named.1.parse().map_err(|_| Foreign)?;
        Ok(Self { instance: named.0.to_owned(), slot, admin })
    }
}

impl FromStr for AdminAddress {
    type Err = Foreign;

    fn from_str(text: &str) -> Result<Self, Foreign> {
        let (address, is_tls) = match text.strip_suffix(TLS) {
            Some(address) => (address, true),
            None => (text, false),
        };
        let (ip, port) = address.rsplit_once('_').ok_or(Foreign)?;
        let ip: IpAddr = ip.replace('_', ":").parse().map_err(|_| Foreign)?;
        let address = SocketAddr::new(ip, port.parse().map_err(|_| Foreign)?);
        Ok(Self { address, is_tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(instance: &str, admin: Option<(&str, bool)>) -> ClientId {
        let admin = admin.map(|(address, is_tls)| AdminAddress { address: address.parse().unwrap(), is_tls });
        ClientId { instance: instance.to_owned(), slot: 3, admin }
    }

    #[test]
    fn a_client_id_says_where_its_process_takes_orders() {
        for (id, text) in [
            (id("3f", None), "tidemill-3f-3"),
            (id("a-b_c.d", None), "tidemill-a-b_c.d-3"),
            (id("pod-1", Some(("127.0.0.1:9465", false))), "tidemill-pod-1-3-127.0.0.1_9465"),
            (id("x_1-y", Some(("10.0.0.7:1", true))), "tidemill-x_1-y-3-10.0.0.7_1_tls"),
            (id("p", Some(("[::1]:9465", false))), "tidemill-p-3-__1_9465"),
            (id("p", Some(("[2001:db8::7]:80", true))), "tidemill-p-3-2001_db8__7_80_tls"),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id.clone()), "{text}");
            assert!(text.starts_with(&ClientId::prefix(&id.instance)));
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{text}");
        }
    }

    #[test]
    fn what_is_no_workers_is_nobody_to_ask() {
        for text in [
            "rdkafka",
            "tidemill-doorbell",
            "tidemill-a",
            "tidemill-a-b",
            "tidemill-a-0-host_9465",
            "tidemill-a-0-1.2.3.4_",
            "tidemill-a-0-1.2.3.4_99999",
            "tidemill-1.2.3.4_9",
        ] {
            assert_eq!(text.parse::<ClientId>(), Err(Foreign), "{text}");
        }
    }
}
