//! A counter of a worker that is split by a word of a short list: reasons, classes.

use metrics::Counter;

use super::exposition::Exposition;
use super::metrics::Id;

/// A counter that is split by a word of a short list; a word beyond the list is taken up when it comes.
pub(super) struct Words {
    exposition: Exposition,
    function: String,
    id: Id,
    label: &'static str,
    entries: Vec<(&'static str, u64, Counter)>,
}

impl Words {
    pub(super) fn new(
        exposition: &Exposition,
        function: &str,
        id: Id,
        label: &'static str,
        words: &[&'static str],
    ) -> Self {
        let (exposition, function) = (exposition.clone(), function.to_owned());
        let mut all = Self { exposition, function, id, label, entries: Vec::new() };
        for word in words {
            all.enter(word);
        }
        all
    }

    fn enter(&mut self, word: &'static str) -> usize {
        let labels = [("function", self.function.as_str()), (self.label, word)];
        self.entries.push((word, 0, self.exposition.counter(self.id, &labels)));
        self.entries.len() - 1
    }

    /// How often `word` was counted since the last `clear`, this time included.
    pub(super) fn count(&mut self, word: &'static str) -> u64 {
        let known = self.entries.iter().position(|(known, ..)| *known == word);
        let place = known.unwrap_or_else(|| self.enter(word));
        let counted = &mut self.entries[place].1;
        *counted += 1;
        *counted
    }

    /// How often all words were counted since the last `clear`.
    pub(super) fn pending(&self) -> u64 {
        self.entries.iter().map(|(_, counted, _)| counted).sum()
    }

    pub(super) fn publish(&self) {
        for (_, counted, counter) in &self.entries {
            counter.increment(*counted);
        }
    }

    pub(super) fn clear(&mut self) {
        for (_, counted, _) in &mut self.entries {
            *counted = 0;
        }
    }
}
