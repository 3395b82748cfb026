//! How much each handler thread has to do, as far as the worker knows: which one gets the next event.

/// The loads of a worker's handler threads.
#[derive(Debug, Default)]
pub(super) struct Lines {
    out: Vec<u32>,
    /// May name threads that have work again.
    idle: Vec<u16>,
    /// Filled up to a batch before the next one gets anything: neighbours in the log that end together
    /// leave short ledgers.
    current: u16,
    batch: u32,
    depth: u32,
}

impl Lines {
    pub(super) fn new(threads: usize) -> Self {
        let threads = u16::try_from(threads).unwrap_or(u16::MAX);
        Self {
            out: vec![0; usize::from(threads)],
            idle: (0..threads).rev().collect(),
            current: 0,
            batch: 1,
            depth: 2,
        }
    }

    /// There are none: calls run on the worker's own thread.
    #[inline]
    pub(super) fn is_inline(&self) -> bool {
        self.out.is_empty()
    }

    /// So many events at a time are handed to a thread, and so many it may have: at least two batches, so that one
    /// runs while another waits.
    pub(super) fn set_batch(&mut self, batch: u32, depth: u32) {
        self.batch = batch.max(1);
        self.depth = depth.max(self.batch * 2);
    }

    /// The thread takes one more event.
    #[inline]
    pub(super) fn has_room(&self, thread: u16) -> bool {
        self.out.get(usize::from(thread)).is_some_and(|out| *out < self.depth)
    }

    /// A thread that takes one more event; `None`: all have enough.
    pub(super) fn pick(&mut self) -> Option<u16> {
        let is_filling = |out: &u32| *out > 0 && *out < self.batch;
        if self.out.get(usize::from(self.current)).is_some_and(is_filling) {
            return Some(self.current);
        }
        while let Some(thread) = self.idle.pop() {
            if self.out[usize::from(thread)] == 0 {
                self.current = thread;
                return Some(thread);
            }
        }
        let count = self.out.len();
        for step in 1..=count {
            let thread = ((usize::from(self.current) + step) % count) as u16;
            if self.has_room(thread) {
                self.current = thread;
                return Some(thread);
            }
        }
        None
    }

    #[inline]
    pub(super) fn sent(&mut self, thread: u16) {
        if let Some(out) = self.out.get_mut(usize::from(thread)) {
            *out += 1;
        }
    }

    #[inline]
    pub(super) fn returned(&mut self, thread: u16) {
        if let Some(out) = self.out.get_mut(usize::from(thread)) {
            *out = out.saturating_sub(1);
            if *out == 0 {
                self.idle.push(thread);
            }
        }
    }

    /// Calls that threads have.
    pub(super) fn total(&self) -> u64 {
        self.out.iter().map(|out| u64::from(*out)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_threads_come_first_and_batches_are_filled() {
        let mut lines = Lines::new(3);
        let take = |lines: &mut Lines| {
            let thread = lines.pick();
            thread.inspect(|thread| lines.sent(*thread))
        };
        let singly: Vec<_> = (0..7).map(|_| take(&mut lines)).collect();
        assert_eq!(
            singly,
            [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2), None],
            "one runs, one waits, no more"
        );
        lines.returned(1);
        lines.returned(1);
        assert_eq!(take(&mut lines), Some(1));
        let mut lines = Lines::new(2);
        lines.set_batch(3, 0);
        let batches: Vec<_> = (0..7).map(|_| take(&mut lines)).collect();
        assert_eq!(batches, [0, 0, 0, 1, 1, 1, 0].map(Some));
    }
}
