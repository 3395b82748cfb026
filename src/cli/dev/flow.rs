//! What was fed and is not finished yet: tells when a sample is through, and how far a feed may run ahead.

use std::collections::{HashMap, HashSet};

use super::tap::{Happening, OwnedRecord};
use crate::model::{Function, FunctionName, Record};

/// Counts for each function that reads a topic what it has still to read there. Outputs that another
/// function reads count as fed.
#[derive(Debug, Default)]
pub struct Flow {
    readers: HashMap<String, Vec<FunctionName>>,
    /// Topics of tables that are read beside the events.
    tables: HashSet<String>,
    unread_bytes: HashMap<(String, FunctionName), u64>,
    unfinished: u64,
}

impl Flow {
    /// Nothing was fed to these functions yet.
    pub fn new<'a>(functions: impl Iterator<Item = &'a Function>) -> Self {
        let mut flow = Self::default();
        for function in functions {
            for source in &function.sources {
                flow.readers.entry(source.topic.clone()).or_default().push(function.name.clone());
                if source.is_read_by_all() {
                    flow.tables.insert(source.topic.clone());
                }
            }
        }
        flow
    }

    /// A record was written to a topic.
    pub fn fed(&mut self, record: &Record<'_>) {
        let Some(readers) = self.readers.get(record.topic) else {
            return;
        };
        for reader in readers {
            *self.unread_bytes.entry((record.topic.to_owned(), reader.clone())).or_default() += size(record);
            self.unfinished += 1;
        }
    }

    /// A record that was counted as fed was refused.
    pub fn refused(&mut self, topic: &str) {
        let readers = self.readers.get(topic).map_or(0, Vec::len);
        self.unfinished = self.unfinished.saturating_sub(readers as u64);
    }

    /// An event ended, in one way or another.
    pub fn happened(&mut self, happening: &Happening) {
        if !happening.is_final() {
            return;
        }
        let record = &happening.record;
        let key = (record.topic.clone(), happening.function.name.clone());
        if let Some(bytes) = self.unread_bytes.get_mut(&key) {
            // What others wrote into the topic was not counted.
            *bytes = bytes.saturating_sub(record.lend(size));
        }
        self.unfinished = self.unfinished.saturating_sub(1);
        self.wrote(&happening.outputs);
    }

    /// Outputs are fed to whoever reads their topics.
    pub fn wrote(&mut self, outputs: &[OwnedRecord]) {
        outputs.iter().for_each(|output| output.lend(|record| self.fed(record)));
    }

    /// Everything that was fed is finished.
    pub fn is_through(&self) -> bool {
        self.unfinished == 0
    }

    /// Rows were fed that are not in their tables yet: an event that looks for them is not to come before.
    pub fn awaits_rows(&self) -> bool {
        self.tables.iter().any(|topic| self.unread_bytes(topic) > 0)
    }

    /// Bytes that the slowest reader of a topic has not read.
    pub fn unread_bytes(&self, topic: &str) -> u64 {
        let unread = self.unread_bytes.iter().filter(|((of, _), _)| of == topic);
        unread.map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }
}

/// What a record takes in a log, about.
fn size(record: &Record<'_>) -> u64 {
    let headers =
        record.headers().iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len) + 4);
    let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    (bytes + headers.sum::<usize>() + 100) as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::tap::OwnedRecord;
    use super::*;
    use crate::manifest;
    use crate::pipeline::Settled;

    fn function(name: &str, source: &str, sink: &str) -> Arc<Function> {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: {name}}}\nspec:\n  \
             sources: [{{topic: {source}}}]\n  sinks: [{{topic: {sink}}}]\n"
        );
        Arc::new(manifest::parse(Path::new("/f/function.yaml"), &text).unwrap().remove(0))
    }

    #[test]
    fn rows_are_waited_for() {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  \
             handler: {plugin: mill}\n  sources: [{topic: grain}, {topic: prices, table: {scope: all}}]\n  \
             sinks: [{topic: flour}]\n";
        let mill = manifest::parse(Path::new("/f/function.yaml"), text).expect("a manifest").remove(0);
        let mut flow = Flow::new(std::iter::once(&mill));
        record("grain").lend(|record| flow.fed(record));
        assert!(!flow.awaits_rows());
        record("prices").lend(|record| flow.fed(record));
        assert!(flow.awaits_rows());
        let row = Happening {
            record: record("prices"),
            ..passed(&Arc::new(mill), Settled::Ok { written: 0, unrouted: 0 }, Vec::new())
        };
        flow.happened(&row);
        assert!(!flow.awaits_rows() && !flow.is_through(), "the event is still under way");
    }

    fn record(topic: &str) -> OwnedRecord {
        OwnedRecord {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            timestamp_ms: -1,
            key: None,
            value: Some(vec![0; 1000]),
            headers: Vec::new(),
        }
    }

    fn passed(function: &Arc<Function>, settled: Settled, outputs: Vec<OwnedRecord>) -> Happening {
        Happening {
            function: Arc::clone(function),
            record: record(&function.sources[0].topic),
            attempt: 1,
            settled,
            took: Duration::ZERO,
            outputs,
        }
    }

    #[test]
    fn a_sample_is_through_when_each_reader_and_whoever_reads_its_outputs_is() {
        let (mill, bakery) = (function("mill", "grain", "flour"), function("bakery", "flour", "bread"));
        let taster = function("taster", "grain", "notes");
        let mut flow = Flow::new([&mill, &bakery, &taster].into_iter().map(AsRef::as_ref));
        assert!(flow.is_through());
        record("grain").lend(|record| flow.fed(record));
        let retry = Settled::Retry { after: None, message: String::new(), is_panic: false };
        flow.happened(&passed(&mill, retry, Vec::new()));
        assert_eq!(flow.unread_bytes("grain"), 1100, "an event that is tried again is not finished");
        flow.happened(&passed(&mill, Settled::Ok { written: 1, unrouted: 0 }, vec![record("flour")]));
        assert_eq!(flow.unread_bytes("grain"), 1100, "the slowest reader counts");
        flow.happened(&passed(&taster, Settled::Skipped, Vec::new()));
        assert_eq!(flow.unread_bytes("grain"), 0);
        assert!(!flow.is_through(), "the bakery has still to read the flour");
        flow.happened(&passed(&bakery, Settled::Ok { written: 1, unrouted: 0 }, vec![record("bread")]));
        assert!(flow.is_through(), "bread is read by nobody");
    }

    #[test]
    fn what_others_write_or_the_broker_refuses_does_not_confuse_it() {
        let mill = function("mill", "grain", "flour");
        let mut flow = Flow::new(std::iter::once(mill.as_ref()));
        flow.happened(&passed(&mill, Settled::Filtered, Vec::new()));
        assert!(flow.is_through() && flow.unread_bytes("grain") == 0);
        record("grain").lend(|record| flow.fed(record));
        flow.refused("grain");
        assert!(flow.is_through());
    }
}
