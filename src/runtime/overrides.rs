//! Numbers of workers that a person fixed for a while, instead of what would be decided.
//!
//! They are of this process and end with it: whoever gives one hands it to all processes of a function's group, so whichever of
//! them decides has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::model::{Clock, Function};

/// The functions whose numbers can be fixed here, and those that are. Clones share them.
#[derive(Clone)]
pub struct Overrides {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    clock: Arc<dyn Clock>,
}

struct Entry {
    may_sleep: bool,
    fixed: Option<(u32, Duration)>,
}

/// A number that is fixed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// So many workers there are to be.
    pub workers: u32,
    /// For so much longer, in milliseconds.
    pub left_ms: u64,
}

/// Why a number cannot be fixed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFixed {
    /// Nobody decides here about such a function.
    #[error(
        "nothing decides here how many workers {name} has: it is not here, or its manifest has no `scale`"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It always has workers.
    #[error(
        "{name} may not sleep, so it cannot have 0 workers: give it `scale: {{ min: 0 }}`, or `tidemill pause` or \
         `drain` it"
    )]
    MayNotSleep {
        /// The function.
        name: String,
    },
}

impl Overrides {
    /// Of no function yet.
    pub fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { entries: Arc::default(), clock: Arc::clone(clock) }
    }

    /// From now on the number of a function can be fixed, if it is decided; what is fixed stays so.
    pub fn admit(&self, function: &Function, is_decided: bool) {
        let (name, mut entries) = (function.name.to_string(), self.entries());
        if !is_decided {
            entries.remove(&name);
            return;
        }
        let may_sleep = function.scale.min == 0;
        let fixed = entries.get(&name).and_then(|entry| entry.fixed);
        let fixed = fixed.filter(|(workers, _)| *workers > 0 || may_sleep);
        entries.insert(name, Entry { may_sleep, fixed });
    }

    /// It is gone.
    pub fn forget(&self, function: &str) {
        self.entries().remove(function);
    }

    /// So many workers it is to have, for so long.
    pub fn fix(&self, function: &str, workers: u32, time: Duration) -> Result<(), NotFixed> {
        let until = self.clock.now().elapsed.saturating_add(time);
        let mut entries = self.entries();
        let name = || function.to_owned();
        let entry = entries.get_mut(function).ok_or_else(|| NotFixed::Unknown { name: name() })?;
        if workers == 0 && !entry.may_sleep {
            return Err(NotFixed::MayNotSleep { name: name() });
        }
        entry.fixed = Some((workers, until));
        Ok(())
    }

    /// It is decided again.
    pub fn lift(&self, function: &str) -> Result<(), NotFixed> {
        match self.entries().get_mut(function) {
            Some(entry) => entry.fixed = None,
            None => return Err(NotFixed::Unknown { name: function.to_owned() }),
        }
        Ok(())
    }

    /// Somebody wants a function to be awake: a 0 is over, and no other number. `true`: there was one.
    pub fn lift_zero(&self, function: &str) -> bool {
        let mut entries = self.entries();
        let fixed = entries.get_mut(function).map(|entry| &mut entry.fixed);
        fixed.and_then(|fixed| fixed.take_if(|(workers, _)| *workers == 0)).is_some()
    }

    /// What is fixed for a function now.
    pub fn of(&self, function: &str) -> Option<Override> {
        let now = self.clock.now().elapsed;
        let mut entries = self.entries();
        let entry = entries.get_mut(function)?;
        entry.fixed = entry.fixed.filter(|(_, until)| *until > now);
        let (workers, until) = entry.fixed?;
        let left_ms = u64::try_from((until - now).as_millis()).unwrap_or(u64::MAX);
        Some(Override { workers, left_ms })
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;
    use crate::model::ManualClock;

    fn function(scale: &str) -> Function {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{ name: rides }}\n\
             spec: {{ sources: [{{ topic: in }}], sinks: [{{ topic: out }}]{scale} }}"
        );
        manifest::parse(Path::new("function.yaml"), &text).unwrap().remove(0)
    }

    const NAME: &str = "default/rides";
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_number_holds_until_its_time_is_over_or_it_is_lifted() {
        let clock = Arc::new(ManualClock::at(0));
        let overrides = Overrides::new(&(clock.clone() as Arc<dyn Clock>));
        overrides.admit(&function(", scale: { min: 0, max: 4 }"), true);
        overrides.fix(NAME, 0, HOUR).unwrap();
        clock.advance(HOUR - Duration::from_secs(1));
        assert_eq!(overrides.of(NAME), Some(Override { workers: 0, left_ms: 1000 }));
        clock.advance(Duration::from_secs(1));
        assert_eq!(overrides.of(NAME), None);
        overrides.fix(NAME, 3, HOUR).unwrap();
        overrides.admit(&function(", scale: { min: 1, max: 4 }"), true);
        assert_eq!(
            overrides.of(NAME).map(|fixed| fixed.workers),
            Some(3),
            "another manifest does not end it"
        );
        overrides.lift(NAME).unwrap();
        assert_eq!(overrides.of(NAME), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let overrides = Overrides::new(&clock);
        assert_eq!(overrides.fix(NAME, 1, HOUR), Err(NotFixed::Unknown { name: NAME.to_owned() }));
        overrides.admit(&function(", scale: { min: 0, max: 4 }"), true);
        overrides.fix(NAME, 0, HOUR).unwrap();
        // It may not sleep any more.
        overrides.admit(&function(", scale: { min: 1, max: 4 }"), true);
        assert_eq!(overrides.of(NAME), None);
        assert_eq!(overrides.fix(NAME, 0, HOUR), Err(NotFixed::MayNotSleep { name: NAME.to_owned() }));
        overrides.admit(&function(""), false);
        assert_eq!(overrides.fix(NAME, 2, HOUR), Err(NotFixed::Unknown { name: NAME.to_owned() }));
    }
}
