//! Failed events, kept so that `invoke` can run them again: the embedded broker forgets them when it ends.

use std::fs;
use std::path::{Path, PathBuf};

use super::tap::{Happening, OwnedRecord};
use crate::cli::sample;

/// Files that one run keeps at most.
const MOST: usize = 100;

/// Makes the line that invokes a function with an event that failed.
pub struct Failed {
    place: Kept,
}

enum Kept {
    /// In files of this folder.
    Files { folder: PathBuf, count: usize },
    /// In the topic that they came from.
    Topic { brokers: String },
}

impl Failed {
    /// Keeps events in a folder, without those of an earlier run.
    pub fn in_folder(folder: &Path) -> Self {
        if let Ok(entries) = fs::read_dir(folder) {
            let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
            for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
                let _ = fs::remove_file(file);
            }
        }
        Self { place: Kept::Files { folder: folder.to_owned(), count: 0 } }
    }

    /// Events stay in their topics.
    pub fn in_topic(brokers: &str) -> Self {
        Self { place: Kept::Topic { brokers: brokers.to_owned() } }
    }

    /// The command to copy.
    pub fn invoke(&mut self, happening: &Happening) -> String {
        let manifest = quoted(&happening.function.file.display().to_string());
        let record = &happening.record;
        let address = format!("{}/{}@{}", record.topic, record.partition, record.offset);
        let event = match &mut self.place {
            Kept::Topic { brokers } => format!("{address} --brokers {}", quoted(brokers)),
            Kept::Files { folder, count } => match keep(folder, count, record) {
                Some(file) => quoted(&file.display().to_string()),
                None => address,
            },
        };
        format!("tidemill invoke {manifest} --event {event}")
    }
}

fn keep(folder: &Path, count: &mut usize, record: &OwnedRecord) -> Option<PathBuf> {
    let file = folder.join(format!("{}-{}@{}.json", record.topic, record.partition, record.offset));
    if *count >= MOST {
        return file.exists().then_some(file);
    }
    fs::create_dir_all(folder).ok()?;
    fs::write(&file, record.lend(sample::render) + "\n").ok()?;
    *count += 1;
    Some(file)
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-:,@+".contains(character);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_take_apart_are_quoted() {
        for (word, expected) in [
            ("functions/a/function.yaml", "functions/a/function.yaml"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn an_event_is_kept_as_a_line_of_a_sample() {
        let folder = tempfile::tempdir().unwrap();
        let record = OwnedRecord {
            topic: "rides".to_owned(),
            partition: 2,
            offset: 17,
            timestamp_ms: 5,
            key: Some(b"r-1".to_vec()),
            value: Some(b"{\"fare\": 12}".to_vec()),
            headers: vec![("h".to_owned(), Some(b"1".to_vec()))],
        };
        let file = keep(folder.path(), &mut 0, &record).unwrap();
        assert!(file.ends_with("rides-2@17.json"), "{file:?}");
        let read = sample::Sample::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!((read.key, read.value, read.headers), (record.key, record.value, record.headers));
        Failed::in_folder(folder.path());
        assert!(!file.exists(), "a new run begins without the events of the last");
    }
}
