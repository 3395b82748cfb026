//! A function's seat in the process: what runs there, what is to become of it, and what its workers are told. Only
//! decisions; the threads are the runtime's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::crew::Crew;
use super::{Handlers, Stop};
use crate::model::Function;

/// What there is to run.
#[derive(Clone)]
pub(super) struct Job {
    pub function: Arc<Function>,
    pub handlers: Handlers,
}

/// What the workers of one run are told. Clones tell the same.
#[derive(Clone)]
pub(super) struct Control {
    /// Finish, cut, leave the group: this function's, set with the process's.
    pub stop: Stop,
    /// How many workers there should be.
    pub crew: Crew,
    process: Stop,
    is_draining: Arc<AtomicBool>,
    is_paused: Arc<AtomicBool>,
    is_given_up: Arc<AtomicBool>,
}

impl Control {
    /// Nobody waits for its end any more: a call in it hangs.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        self.stop.set();
    }

    /// Its end is nobody's business any more.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// What has been read is worth finishing; not when the whole process is to end.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire) && !self.process.is_set()
    }

    /// Call nothing more, but stay.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }
}

/// What comes when the present run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is stopped.
    Rest,
    /// Another run.
    Again,
    /// The function is gone.
    Leave,
}

/// The present run.
struct Run {
    control: Control,
    /// Its consumer group, which the next job need not share.
    group: String,
}

/// What runs, and what shall.
pub(super) struct Seat {
    job: Job,
    process: Stop,
    run: Option<Run>,
    next: Next,
    /// Outlasts runs, as what was decided does.
    crew: Crew,
    /// Outlasts runs: who paused a function wants it to rest until it is resumed.
    is_paused: Arc<AtomicBool>,
    /// Somebody wants it not to run.
    is_drained: bool,
    /// Why the last run ended, if nobody asked it to.
    error: Option<anyhow::Error>,
}

impl Seat {
    pub fn new(job: Job, process: &Stop) -> Self {
        Self {
            job,
            process: process.clone(),
            run: None,
            next: Next::Rest,
            crew: Crew::default(),
            is_paused: Arc::default(),
            is_drained: false,
            error: None,
        }
    }

    /// The function that it is for.
    pub fn function(&self) -> &Function {
        &self.job.function
    }

    /// A run begins: what, and how it is told.
    pub fn begin(&mut self) -> (Job, Control) {
        let control = Control {
            stop: self.process.child(),
            crew: self.crew.clone(),
            process: self.process.clone(),
            is_draining: Arc::default(),
            is_paused: Arc::clone(&self.is_paused),
            is_given_up: Arc::default(),
        };
        let group = self.job.function.group.clone();
        self.run = Some(Run { control: control.clone(), group });
        self.next = Next::Rest;
        self.error = None;
        (self.job.clone(), control)
    }

    /// The run has ended; what comes now.
    pub fn ended(&mut self, result: anyhow::Result<()>) -> Next {
        self.run = None;
        self.error = result.err();
        match self.next {
            Next::Again if self.process.is_set() => Next::Rest,
            next => next,
        }
    }

    /// Another job from now on. `true`: nothing runs, it may begin.
    pub fn put(&mut self, job: Job) -> bool {
        self.job = job;
        self.next = if self.is_drained { Next::Rest } else { Next::Again };
        match &self.run {
            Some(run) => run.control.stop.set(),
            None => return !self.is_drained,
        }
        false
    }

    /// The same function in another version, whose handlers are the same.
    pub fn adopt(&mut self, function: Arc<Function>) {
        self.job.function = function;
    }

    /// No job any more. `true`: nothing runs, the seat can go.
    pub fn remove(&mut self) -> bool {
        self.next = Next::Leave;
        if let Some(run) = &self.run {
            run.control.stop.set();
        }
        self.run.is_none()
    }

    /// Its workers rest from now on; `false`: it has none.
    pub fn pause(&mut self) -> bool {
        let is_working = self.run.as_ref().is_some_and(|run| !run.control.stop.is_set());
        if is_working {
            self.is_paused.store(true, Ordering::Release);
        }
        is_working
    }

    /// Finishes what has been read, and stays away until it is resumed.
    pub fn drain(&mut self) {
        self.is_drained = true;
        if self.next == Next::Again {
            self.next = Next::Rest;
        }
        if let Some(run) = &self.run {
            run.control.is_draining.store(true, Ordering::Release);
            self.is_paused.store(false, Ordering::Release);
            run.control.stop.set();
        }
    }

    /// Goes on, after a pause, a drain or an error. `true`: nothing runs, it may begin.
    pub fn resume(&mut self) -> bool {
        self.is_paused.store(false, Ordering::Release);
        let was_drained = std::mem::take(&mut self.is_drained);
        if was_drained && self.run.is_some() && self.next == Next::Rest {
            self.next = Next::Again;
        }
        self.run.is_none()
    }

    /// Wakes it if it sleeps.
    pub fn wake(&self) -> bool {
        self.crew.wake()
    }

    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// It runs, and was told to end.
    pub fn is_ending(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.control.stop.is_set())
    }

    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Something runs in this consumer group.
    pub fn uses(&self, group: &str) -> bool {
        self.run.as_ref().is_some_and(|run| run.group == group)
    }

    /// Why it has stopped though nobody asked it to.
    pub fn error(&self) -> Option<&anyhow::Error> {
        self.error.as_ref()
    }

    pub fn take_error(&mut self) -> Option<anyhow::Error> {
        self.error.take()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;
    use crate::plugin::Registry;

    fn job(topic: &str) -> Job {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{ name: copy }}\n\
             spec: {{ sources: [{{ topic: {topic} }}], sinks: [{{ topic: out }}] }}"
        );
        let file = Path::new("function.yaml");
        let mut functions = manifest::parse(file, &text).unwrap_or_else(|errors| panic!("{errors}"));
        let function = Arc::new(functions.remove(0));
        let handlers = Handlers::load(&function, &Arc::new(Registry::default()), file).unwrap();
        Job { function, handlers }
    }

    fn running(process: &Stop) -> (Seat, Control) {
        let mut seat = Seat::new(job("a"), process);
        let (_, control) = seat.begin();
        (seat, control)
    }

    #[test]
    fn a_new_job_waits_for_the_old_ones_end() {
        let (mut seat, control) = running(&Stop::default());
        assert!(!seat.put(job("b")));
        assert!(control.stop.is_set() && !control.is_draining());
        assert_eq!(seat.ended(Ok(())), Next::Again);
        let (job, control) = seat.begin();
        assert_eq!(job.function.sources[0].topic, "b");
        assert!(!control.stop.is_set());
        assert_eq!(seat.ended(Err(anyhow::anyhow!("broken"))), Next::Rest);
        assert!(seat.error().is_some() && seat.put(job), "what has stopped may begin at once");
        seat.begin();
        assert!(seat.error().is_none());
    }

    #[test]
    fn nothing_begins_again_when_the_process_ends() {
        let process = Stop::default();
        let (mut seat, control) = running(&process);
        seat.put(job("b"));
        process.set();
        assert!(control.stop.is_set());
        assert_eq!(seat.ended(Ok(())), Next::Rest);
    }

    #[test]
    fn a_removed_function_leaves_unless_it_comes_back_meanwhile() {
        let (mut seat, control) = running(&Stop::default());
        assert!(!seat.remove() && control.stop.is_set());
        seat.resume();
        assert_eq!(seat.ended(Ok(())), Next::Leave, "what is gone cannot be resumed");
        assert!(seat.remove());

        let (mut seat, _) = running(&Stop::default());
        seat.remove();
        seat.put(job("b"));
        assert_eq!(seat.ended(Ok(())), Next::Again);
    }

    #[test]
    fn a_pause_outlasts_a_new_job_and_ends_with_resume() {
        let (mut seat, control) = running(&Stop::default());
        assert!(seat.pause() && control.is_paused() && !control.stop.is_set());
        seat.put(job("b"));
        seat.ended(Ok(()));
        let (_, control) = seat.begin();
        assert!(control.is_paused());
        assert!(!seat.resume() && !control.is_paused());
        seat.ended(Ok(()));
        assert!(!seat.pause(), "nothing is there that could rest");
    }

    #[test]
    fn a_drained_function_stays_away_until_it_is_resumed() {
        let process = Stop::default();
        let (mut seat, control) = running(&process);
        seat.pause();
        seat.drain();
        assert!(control.stop.is_set() && control.is_draining() && !control.is_paused());
        assert!(!seat.put(job("b")), "a new job is for later");
        assert_eq!(seat.ended(Ok(())), Next::Rest);
        assert!(!seat.put(job("c")) && seat.is_drained());
        assert!(seat.resume() && !seat.is_drained());
        assert_eq!(seat.begin().0.function.sources[0].topic, "c");

        let (mut seat, control) = running(&process);
        seat.drain();
        assert!(!seat.resume());
        process.set();
        assert!(!control.is_draining(), "the process's end waits for no batch");

        let (mut seat, _) = running(&Stop::default());
        seat.drain();
        assert!(!seat.resume());
        assert_eq!(seat.ended(Ok(())), Next::Again, "resumed before it had ended");
    }
}
