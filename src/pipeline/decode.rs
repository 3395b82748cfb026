//! The way in, compiled for one source: decode, filter, key. What comes out is an event to handle,
//! nothing (a filter refused it), or why it must become a dead letter.

use thiserror::Error;

use super::emit::EmitError;
use super::filter::Filters;
use super::gather::GatherError;
use super::key::{KeyError, Keyer};
use super::origin::PlaceError;
use crate::codec::{self, DecodeError};
use crate::model::{DeadLetterReason, Event, Record, Source};

/// An event that will never go well, whichever stage found out.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Poison {
    /// It is not as its format promises.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It has no key or time where the manifest looks for them.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What its handler made of it cannot be written.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// It is in no window.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// It was brought back, and does not say from where.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl Poison {
    /// The reason of the dead letter; the error's text says more.
    pub fn reason(&self) -> DeadLetterReason {
        match self {
            Self::Decode(error) => error.reason(),
            Self::Key(error) => error.reason(),
            Self::Emit(error) => error.reason(),
            Self::Gather(error) => error.reason(),
            Self::Place(_) => DeadLetterReason::Malformed,
        }
    }
}

/// One source, ready to take records.
#[derive(Debug, Clone)]
pub struct Intake {
    source: Source,
    filters: Filters,
    keyer: Keyer,
}

impl Intake {
    /// Compiles a source.
    pub fn new(source: &Source) -> Self {
        Self { source: source.clone(), filters: Filters::compile(&source.filters), keyer: Keyer::new(source) }
    }

    /// The source it was made of.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The event in `record`, with key and time; `None` if a filter refused it.
    pub fn take<'a>(&'a self, record: Record<'a>) -> Result<Option<Event<'a>>, Poison> {
        let mut event = self.open(record);
        Ok(self.admit(&mut event)?.then_some(event))
    }

    /// Shows `act` the function's key of `record`: none of an event that will not be called.
    pub fn with_key<R>(&self, record: &Record<'_>, act: impl FnOnce(Option<&[u8]>) -> R) -> R {
        if self.keyer.is_of_record() {
            return act(record.key);
        }
        match self.take(*record) {
            Ok(Some(event)) => act(event.key.as_deref()),
            Ok(None) | Err(_) => act(None),
        }
    }

    /// An event of `record` into which nobody has looked: the first half of [`Intake::take`], for loops
    /// in which moving an event about would cost more than the event.
    #[inline]
    pub fn open<'a>(&'a self, record: Record<'a>) -> Event<'a> {
        Event::plain(record, &self.source.name)
    }

    /// Decodes an opened event where it stands and sets its key and time; `false` if a filter refused
    /// it, in which case it needs neither.
    #[inline]
    pub fn admit(&self, event: &mut Event<'_>) -> Result<bool, Poison> {
        codec::decode_in_place(event, self.source.format)?;
        if !self.filters.pass(event) {
            return Ok(false);
        }
        self.keyer.apply(event)?;
        Ok(true)
    }
}
