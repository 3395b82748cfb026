//! Tables, and what a call sees of them and of its key.

use bytes::Bytes;
use hashbrown::HashMap;

use crate::model::{Function, Keyed, LookupError, TableScope};
use crate::window::Windows;

/// The tables of a function. Rows of those that are kept by its key are in its state; of others all rows are here.
#[derive(Default)]
pub struct Tables {
    list: Vec<Table>,
}

struct Table {
    name: String,
    source: usize,
    /// `None`: they are in the state.
    rows: Option<HashMap<Bytes, Bytes>>,
}

impl Tables {
    pub(super) fn new(function: &Function) -> Self {
        let list = function.sources.iter().enumerate().filter_map(|(source, of)| {
            let rows = (of.table? == TableScope::All).then(HashMap::new);
            Some(Table { name: of.name.clone(), source, rows })
        });
        Self { list: list.collect() }
    }

    /// The source is a table.
    pub(super) fn has(&self, source: usize) -> bool {
        self.list.iter().any(|table| table.source == source)
    }

    /// The newest row of a key, of a table of which all rows are here; `None`: it is deleted.
    pub(super) fn set(&mut self, source: usize, key: &[u8], row: Option<&[u8]>) {
        let table = self.list.iter_mut().find(|table| table.source == source);
        let Some(rows) = table.and_then(|table| table.rows.as_mut()) else { return };
        match row {
            Some(row) => drop(rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(row))),
            None => drop(rows.remove(key)),
        }
    }

    /// How many rows are here, and about how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        /// A row's place in the map.
        const OVERHEAD: usize = 80;
        let rows = self.list.iter().filter_map(|table| table.rows.as_ref()).flatten();
        rows.fold((0, 0), |(count, bytes), (key, row)| {
            (count + 1, bytes + (key.len() + row.len() + OVERHEAD) as u64)
        })
    }
}

/// What one call sees.
pub(super) struct View<'a> {
    /// The state of its lane, and its key.
    pub windows: Option<(&'a Windows, &'a [u8])>,
    pub tables: &'a Tables,
    pub has_state: bool,
}

impl Keyed for View<'_> {
    fn value(&self, name: &str) -> Option<&[u8]> {
        let (windows, key) = self.windows?;
        windows.value(key, name)
    }

    fn lookup(&self, table: &str, key: &[u8]) -> Result<Option<&[u8]>, LookupError> {
        let table = self.tables.list.iter().find(|known| known.name == table).ok_or(LookupError::NoTable)?;
        match (&table.rows, self.windows) {
            (Some(rows), _) => Ok(rows.get(key).map(|row| &**row)),
            (None, Some((windows, own))) if own == key => {
                Ok(windows.row(own, u16::try_from(table.source).unwrap_or(u16::MAX)))
            }
            (None, _) => Err(LookupError::OtherKey),
        }
    }

    fn watermark_ms(&self) -> i64 {
        self.windows.map_or(i64::MIN, |(windows, _)| windows.watermark_ms())
    }

    fn has_state(&self) -> bool {
        self.has_state
    }
}
