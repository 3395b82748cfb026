//! The way in, compiled for one source: decode, filter, key. What comes out is an event to handle,
//! nothing (a filter refused it), or why it must become a dead letter.

use thiserror::Error;

use super::emit::EmitError;
use super::filter::Filters;
use super::key::{KeyError, Keyer};
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
}

impl Poison {
    /// The reason of the dead letter; the error's text says more.
    pub fn reason(&self) -> DeadLetterReason {
        match self {
            Self::Decode(error) => error.reason(),
            Self::Key(error) => error.reason(),
            Self::Emit(error) => error.reason(),
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

    /// The event in `record`, with key and time; `None` if a filter refused it. What is filtered away
    /// needs no key.
    pub fn take<'a>(&'a self, record: Record<'a>) -> Result<Option<Event<'a>>, Poison> {
        let mut event = codec::decode(record, &self.source)?;
        if !self.filters.pass(&event) {
            return Ok(None);
        }
        self.keyer.apply(&mut event)?;
        Ok(Some(event))
    }
}
