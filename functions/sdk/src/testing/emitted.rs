//! What a handler under test emitted.

use serde::de::DeserializeOwned;

/// One output of a call that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The sink it is addressed to; `None`: each sink whose filters take it.
    pub sink: Option<String>,
    /// Its key; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// Its payload; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its media type, if the handler said one.
    pub content_type: Option<String>,
    /// Its Kafka timestamp, if the handler said one; else it gets the event's or the window's time.
    pub time_ms: Option<i64>,
    /// Its headers in order; attributes are those named `ce_…`.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Emitted {
    /// The payload decoded from JSON.
    ///
    /// # Panics
    /// When it is not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(self.value.as_deref().unwrap_or(b"null"))
            .unwrap_or_else(|error| panic!("not the expected JSON: {error}: {}", self.text()))
    }

    /// The payload as text, what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The key as text; `None` when there is none or it is not UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The last header called `name`, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rfind(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The CloudEvents attribute that the handler set.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.header(&format!("ce_{name}"))
    }
}
