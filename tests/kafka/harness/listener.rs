//! What a process shows and takes over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::worker::free_port;

/// The admin and the metrics listener of a process that is started with [`env`](Self::env).
pub struct Listeners {
    /// `/functions` and orders.
    pub admin: String,
    /// `/readyz`, `/metrics`.
    pub metrics: String,
}

impl Listeners {
    /// Two addresses that nobody listens on.
    pub fn free() -> Self {
        let address = || format!("127.0.0.1:{}", free_port());
        Self { admin: address(), metrics: address() }
    }

    /// The variables that make a process listen there.
    pub fn env(&self) -> [(&str, &str); 2] {
        [("TIDEMILL_ADMIN", &self.admin), ("TIDEMILL_METRICS", &self.metrics)]
    }

    /// The function `name` of the namespace `default` as `/functions` shows it; `None`: not there, or nobody answers.
    pub fn function(&self, name: &str) -> Option<Value> {
        let name = format!("default/{name}");
        let document = self.functions()?;
        document["functions"].as_array()?.iter().find(|function| function["name"] == name).cloned()
    }

    /// The word for its state; empty when it is not there.
    pub fn state(&self, name: &str) -> String {
        let function = self.function(name).unwrap_or_default();
        function["state"]["is"].as_str().unwrap_or_default().to_owned()
    }

    /// What `/functions` shows; `None`: nobody answers.
    pub fn functions(&self) -> Option<Value> {
        let (status, body) = get(&self.admin, "/functions")?;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).ok()
    }

    /// How many workers the function `name` of the namespace `default` should have and why, as `/scale` shows it.
    pub fn scale(&self, name: &str) -> Option<Value> {
        let (status, body) = get(&self.admin, "/scale")?;
        assert_eq!(status, 200, "{body}");
        let document: Value = serde_json::from_str(&body).ok()?;
        document["functions"].get(format!("default/{name}")).cloned()
    }

    /// Status and body of `GET path` at the metrics listener.
    pub fn metrics(&self, path: &str) -> (u16, String) {
        get(&self.metrics, path).unwrap_or_default()
    }
}

fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    // Bodies of known length come as they are.
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}
