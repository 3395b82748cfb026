//! What is open, for who looks on.

use super::Windows;

/// A window that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow<'w> {
    /// Whose it is.
    pub key: &'w [u8],
    /// Its bounds, milliseconds since the epoch; of sessions and counted windows as far as they go yet.
    pub bounds: (i64, i64),
    /// The first watermark at which it is closed; `None`: time closes it not.
    pub closes_at_ms: Option<i64>,
}

impl Windows {
    /// Every window that is open, by key and start.
    pub fn all_open(&self) -> Vec<OpenWindow<'_>> {
        let of_key = |key| {
            let open = self.open_of(key).into_iter();
            open.map(move |open| OpenWindow { key, bounds: open.bounds, closes_at_ms: open.closes_at_ms })
        };
        let mut open: Vec<_> = self.keys.iter().flat_map(|(key, _)| of_key(&**key)).collect();
        open.sort_by_key(|open| (open.key, open.bounds));
        open.dedup();
        open
    }
}
