//! What happens to a record, without any I/O: decode, filter, key, invoke, emit. Records and a clock
//! go in; outputs, held events and ledger moves come out. The worker turns those into Kafka calls;
//! `tidemill test` and the tests drive the same code with no broker and in virtual time.

mod account;
mod checkpoint;
mod compare;
mod dead_letter;
mod decode;
mod desk;
mod emit;
mod envelope;
mod filter;
mod gather;
mod give;
mod invoke;
mod key;
mod ledger;
mod origin;
mod pointer;
mod process;
mod sampler;
mod stamp;
mod tables;
mod write;

pub use account::Account;
pub use checkpoint::{Checkpoint, Damaged, METADATA_LIMIT};
pub use dead_letter::{DeadLetters, Death, MAX_ERROR_BYTES};
pub use decode::{Intake, Poison};
pub use desk::{Agenda, Desk, Failed, Placement, Policy, Strand, Ticket, Track};
pub use emit::{EmitError, Routed, Router};
pub use envelope::{Envelope, EnvelopeError, Tidings};
pub use filter::{Filters, Subject};
pub use gather::GatherError;
pub use give::Given;
pub use invoke::{Call, Handler, OfTimer, OfWindow, back_off, result_number};
pub use key::{KeyError, Keyer};
pub use ledger::Ledger;
pub use origin::{FUNCTION, Place, PlaceError, RESULT, ROUND, own_headers_of};
pub use pointer::Pointer;
pub use process::{End, Pass, Pipeline, Settled};
pub use sampler::Sampler;
pub use stamp::{ORIGIN, Origin};
pub use write::{OutRecord, Target, Writer, Written};
