//! A worker to which nothing has come for `scale.parkAfter` is parked: it stays a member with its partitions, its state and its
//! producer, gives back handler, handler threads and memory, and waits long. What comes next, or what falls due, finds
//! it at work again within milliseconds.
//!
//! The producer stays: a new one has to find its coordinator and fence its predecessor before it may write, which
//! takes longer than everything else together.

use std::time::Duration;

use super::threads::Threads;
use super::{IDLE_WAIT, LOOK_AGAIN, Stopped, Worker};
use crate::model::HeaderBuffer;
use crate::observe::events::{WorkerParked, WorkerUnparked};
use crate::pipeline::Pipeline;

/// How long a parked worker waits for records before it looks at everything else again.
const PARKED_WAIT: Duration = Duration::from_millis(250);

/// Whatever falls due sooner is awaited at work.
const SOON: Duration = Duration::from_secs(1);

/// What is left of a parked worker's handlers.
pub struct Parked {
    /// The pipelines of its handler threads, without handlers.
    hands: Vec<Pipeline>,
}

impl Worker {
    /// The longest wait for records.
    pub(super) fn longest_wait(&self) -> Duration {
        match self.parked {
            None => IDLE_WAIT,
            // What is due may have to wait for an answer of the brokers.
            Some(_) => PARKED_WAIT.min(self.until_due()).max(LOOK_AGAIN),
        }
    }

    /// Parks when nothing came for long enough; at work again before the first call.
    pub(super) fn park_or_go_on(&mut self) -> Result<(), Stopped> {
        let Some(after) = self.config.function.scale.park_after else { return Ok(()) };
        let now = self.now().elapsed;
        let is_idle = self.idle_since.is_some_and(|since| now.saturating_sub(since) >= after)
            && self.consumer.at_hand() == 0
            && !self.is_dirty()
            && !self.states.as_ref().is_some_and(|states| states.is_any_due() || states.has_waiting());
        match is_idle {
            true if self.parked.is_none() && self.until_due() > SOON => self.park(after),
            false if self.parked.is_some() => self.go_on(),
            _ => Ok(()),
        }
    }

    /// How long until something falls due though nothing comes.
    fn until_due(&self) -> Duration {
        let now = self.now();
        let state = self.states.as_ref().and_then(|states| states.until_due(now));
        self.until_tick().min(state.unwrap_or(Duration::MAX))
    }

    fn park(&mut self, after: Duration) -> Result<(), Stopped> {
        let hands = self.threads.take().map_or(Ok(Vec::new()), Threads::end)?;
        self.pipeline.set_handler(None);
        self.parked = Some(Parked { hands });
        self.spare = Vec::new();
        self.headers = HeaderBuffer::default();
        self.done = None;
        WorkerParked { after }.emit(&mut self.meter);
        self.publish();
        Ok(())
    }

    /// At work again, if it is parked: before each call, whatever brought it about.
    pub(super) fn go_on(&mut self) -> Result<(), Stopped> {
        let Some(Parked { mut hands }) = self.parked.take() else { return Ok(()) };
        let began = self.now().elapsed;
        // Those of now, also if they were replaced meanwhile.
        let made = self.supervision.handlers_again(1 + hands.len()).map_err(Stopped::Handler)?;
        let mut handlers = made.into_iter().flatten();
        self.pipeline.set_handler(handlers.next());
        if !hands.is_empty() {
            hands.iter_mut().for_each(|hand| hand.set_handler(handlers.next()));
            let threads = Threads::start(&self.config.function.name.name, hands, &self.config.clock);
            self.threads = Some(threads.map_err(Stopped::Threads)?);
        }
        WorkerUnparked { took: self.now().elapsed.saturating_sub(began) }.emit(&mut self.meter);
        self.publish();
        Ok(())
    }
}
