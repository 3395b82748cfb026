//! The plain types that every part speaks: records, events, outcomes, what a function is, and the
//! clock. Nothing here does I/O, knows Kafka's client, or reads a file.

mod clock;
mod dice;
mod event;
mod failure;
mod function;
mod headers;
mod keyed;
mod outbox;
mod protocol;
mod record;
mod schedule;
mod watch;
mod window;
mod window_call;

pub use clock::{Clock, ManualClock, Moment, SystemClock};
pub use dice::Dice;
pub use event::{Event, Shape};
pub use failure::{Class, DeadLetterReason, Failure, FailureKind, Outcome};
pub use function::{
    CircuitSpec, CloudEventsMode, CloudEventsSink, CreateTopic, Delivery, FieldTest, Filter, Format,
    Function, FunctionName, Guarantee, HandlerSpec, KafkaSettings, KeySpec, OnExhausted, OnHang, Order, Rate,
    Retry, ScaleSpec, Sink, Source, StartAt, TimeFormat, TimeSpec,
};
pub use headers::HeaderBuffer;
pub use keyed::{At, Effect, Keyed, LookupError, TimerCall};
pub use outbox::{Emit, KeyChoice, Mark, Outbox};
pub use protocol::{CLASSIC_ONLY, GroupProtocol, ProtocolChoice};
pub use record::{Header, Headers, NoHeaders, OwnedRecord, Record, lend_headers, own_headers};
pub use schedule::{CatchUp, Due, Schedule, ScheduleError, Tick};
pub use watch::Watch;
pub use window::{
    AfterFire, AggregateOp, AggregateSpec, Fire, OnTimeout, Repeat, StateSpec, StitchSpec, TableScope,
    WindowKind, WindowSpec,
};
pub use window_call::WindowCall;
