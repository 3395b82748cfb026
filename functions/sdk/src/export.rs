//! The C face of a handler: what `export!` puts into a plugin's tables. Here every panic ends.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use tidemill_abi as abi;

pub use tidemill_abi::{Handler as HandlerTable, Plugin as PluginTable};

use crate::context::{Scratch, Subject};
use crate::{
    Context, Done, Event, Failure, FailureKind, Fired, Handler, OnTimer, OnWindow, Outcome, Setup, Window,
};

/// Exports handlers from a plugin: `"name" => Type` for a [`Handler`], `"name" => fn path` for a plain
/// function `fn(&Event, &mut Context) -> Outcome`. Once per crate; the manifest's `entry` chooses by name.
/// A type that is [`OnWindow`] is called with windows too, one that is [`OnTimer`] with timers.
///
/// The crate is a `cdylib` (add `rlib` if its own integration tests import it).
///
/// ```
/// use tidemill_sdk::{Context, Done, Event, Failure, Handler, Outcome, Setup};
///
/// struct Count { seen: u64 }
///
/// impl Handler for Count {
///     fn init(_: &Setup) -> Result<Self, Failure> { Ok(Self { seen: 0 }) }
///     fn handle(&mut self, _: &Event, ctx: &mut Context) -> Outcome {
///         self.seen += 1;
///         ctx.count("seen", 1);
///         Ok(Done::Ok)
///     }
/// }
///
/// fn echo(event: &Event, ctx: &mut Context) -> Outcome {
///     ctx.emit_bytes(event.key(), event.value())?;
///     Ok(Done::Ok)
/// }
///
/// tidemill_sdk::export! {
///     "count" => Count,
///     "echo" => fn echo,
/// }
/// ```
#[macro_export]
macro_rules! export {
    (@table (plain $name:literal $function:path)) => {{
        struct Plain;
        impl $crate::Handler for Plain {
            fn init(_: &$crate::Setup<'_>) -> ::core::result::Result<Self, $crate::Failure> {
                Ok(Self)
            }
            fn handle(&mut self, event: &$crate::Event<'_>, ctx: &mut $crate::Context<'_>) -> $crate::Outcome {
                $function(event, ctx)
            }
        }
        static TABLE: $crate::export::HandlerTable = $crate::export::table::<Plain>($name, None, None);
        &TABLE
    }};
    (@table (typed $name:literal $handler:ty)) => {{
        #[allow(unused_imports, reason = "needed by handlers that take no windows, or no timers")]
        use $crate::export::{TakesNoTimers as _, TakesNoWindows as _};
        static TABLE: $crate::export::HandlerTable = $crate::export::table::<$handler>(
            $name,
            $crate::export::Probe::<$handler>::ON_WINDOW,
            $crate::export::Probe::<$handler>::ON_TIMER,
        );
        &TABLE
    }};
    (@list [$($done:tt)+]) => {
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn tidemill_plugin() -> *const $crate::export::PluginTable {
                static HANDLERS: &[&$crate::export::HandlerTable] = &[$($crate::export!(@table $done)),+];
                static PLUGIN: $crate::export::PluginTable = $crate::export::plugin(HANDLERS);
                $crate::export::install_panic_hook();
                &PLUGIN
            }
        };
    };
    (@list [$($done:tt)*] $name:literal => fn $function:path $(, $($rest:tt)*)?) => {
        $crate::export!(@list [$($done)* (plain $name $function)] $($($rest)*)?);
    };
    (@list [$($done:tt)*] $name:literal => $handler:ty $(, $($rest:tt)*)?) => {
        $crate::export!(@list [$($done)* (typed $name $handler)] $($($rest)*)?);
    };
    ($name:literal => $($rest:tt)+) => {
        $crate::export!(@list [] $name => $($rest)+);
    };
}

/// What an instance is behind its pointer.
struct Hosted<H> {
    handler: H,
    scratch: Scratch,
}

/// The table of a plugin's handlers.
pub const fn plugin(handlers: &'static [&'static abi::Handler]) -> abi::Plugin {
    abi::Plugin {
        size: size_of::<abi::Plugin>() as u32,
        version: abi::VERSION,
        made_with: abi::Slice::of(concat!("tidemill-sdk ", env!("CARGO_PKG_VERSION")).as_bytes()),
        handlers: handlers.as_ptr().cast(),
        handler_count: handlers.len(),
    }
}

/// Finds out whether a handler takes windows: `Probe::<H>::ON_WINDOW` is the constant of the type itself if `H` is
/// [`OnWindow`], since what a type has goes before what its traits have, else that of [`TakesNoWindows`]. So with
/// `ON_TIMER`, [`OnTimer`] and [`TakesNoTimers`]. Only where `H` is
/// spelt out, as in the macro: in generic code it would be the trait's for all.
pub struct Probe<H>(PhantomData<H>);

impl<H: OnWindow> Probe<H> {
    /// The way into `on_window`.
    pub const ON_WINDOW: Option<abi::OnWindowFn> = Some(on_window::<H>);
}

/// What a [`Probe`] falls back to.
pub trait TakesNoWindows {
    /// None.
    const ON_WINDOW: Option<abi::OnWindowFn> = None;
}

impl<H> TakesNoWindows for Probe<H> {}

impl<H: OnTimer> Probe<H> {
    /// The way into `on_timer`.
    pub const ON_TIMER: Option<abi::OnTimerFn> = Some(on_timer::<H>);
}

/// What a [`Probe`] falls back to.
pub trait TakesNoTimers {
    /// None.
    const ON_TIMER: Option<abi::OnTimerFn> = None;
}

impl<H> TakesNoTimers for Probe<H> {}

/// The table of one handler.
pub const fn table<H: Handler>(
    name: &'static str,
    on_window: Option<abi::OnWindowFn>,
    on_timer: Option<abi::OnTimerFn>,
) -> abi::Handler {
    abi::Handler {
        size: size_of::<abi::Handler>() as u32,
        version: abi::VERSION,
        name: abi::Slice::of(name.as_bytes()),
        init: Some(init::<H>),
        handle: Some(handle::<H>),
        drop: Some(drop_instance::<H>),
        on_window,
        on_timer,
    }
}

unsafe extern "C" fn init<H: Handler>(setup: *const abi::Setup, instance: *mut *mut c_void) -> i32 {
    ON_HOST_THREAD.set(true);
    // SAFETY: the contract: `setup` is valid until this returns.
    let raw = unsafe { &*setup };
    match catch_unwind(AssertUnwindSafe(|| H::init(&Setup::new(raw)))) {
        Ok(Ok(handler)) => {
            let hosted = Box::new(Hosted { handler, scratch: Scratch::default() });
            // SAFETY: the contract: `instance` is the host's place for the pointer.
            unsafe { *instance = Box::into_raw(hosted).cast() };
            abi::OK
        }
        Ok(Err(failure)) => report(raw.host, raw.context, &failure),
        Err(payload) => report(raw.host, raw.context, &panic_failure(payload)),
    }
}

unsafe extern "C" fn handle<H: Handler>(
    instance: *mut c_void,
    event: *const abi::Event,
    call: *const abi::Call,
) -> i32 {
    // SAFETY: the contract: `instance` came from `init::<H>`, no other call of it runs, and `event`
    // and `call` are valid until this returns.
    let (hosted, event, call) =
        unsafe { (&mut *instance.cast::<Hosted<H>>(), &*event, &abi::Call::read(call)) };
    end(call, || {
        let event = Event::new(event, call);
        hosted.handler.handle(&event, &mut Context::new(call, Subject::Event(&event), &mut hosted.scratch))
    })
}

/// The way into a handler's `on_window`.
pub(crate) unsafe extern "C" fn on_window<H: OnWindow>(
    instance: *mut c_void,
    window: *const abi::Window,
    call: *const abi::Call,
) -> i32 {
    // SAFETY: the contract: `instance` came from `init::<H>`, no other call of it runs, and `window`
    // and `call` are valid until this returns.
    let (hosted, window, call) =
        unsafe { (&mut *instance.cast::<Hosted<H>>(), &*window, &abi::Call::read(call)) };
    end(call, || {
        let window = Window::new(window, call);
        let context = &mut Context::new(call, Subject::Window(&window), &mut hosted.scratch);
        hosted.handler.on_window(&window, context)
    })
}

/// The way into a handler's `on_timer`.
pub(crate) unsafe extern "C" fn on_timer<H: OnTimer>(
    instance: *mut c_void,
    fired: *const abi::Fired,
    call: *const abi::Call,
) -> i32 {
    // SAFETY: the contract: `instance` came from `init::<H>`, no other call of it runs, and `fired`
    // and `call` are valid until this returns.
    let (hosted, fired, call) =
        unsafe { (&mut *instance.cast::<Hosted<H>>(), &*fired, &abi::Call::read(call)) };
    end(call, || {
        let fired = Fired::new(fired);
        let context = &mut Context::new(call, Subject::Timer(&fired), &mut hosted.scratch);
        hosted.handler.on_timer(&fired, context)
    })
}

/// Makes a call and says how it ended. What a panic leaves half done in the handler is never seen again: the host drops
/// the instance.
#[inline]
fn end(call: &abi::Call, run: impl FnOnce() -> Outcome) -> i32 {
    // An instance may be called on another thread than the one that made it.
    ON_HOST_THREAD.set(true);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(Done::Ok)) => abi::OK,
        Ok(Ok(Done::Skip)) => abi::SKIP,
        Ok(Err(failure)) => report(call.host, call.context, &failure),
        Err(payload) => report(call.host, call.context, &panic_failure(payload)),
    }
}

unsafe extern "C" fn drop_instance<H: Handler>(instance: *mut c_void) {
    // SAFETY: the contract: `instance` came from `init::<H>` and is dropped once.
    let hosted = unsafe { Box::from_raw(instance.cast::<Hosted<H>>()) };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(hosted))) {
        forget_unless_text(payload);
    }
}

/// Tells the host why, and returns the status that says what.
#[cold]
fn report(host: *const abi::Host, context: *mut c_void, failure: &Failure) -> i32 {
    let (status, code, retry_after_ms) = match failure.kind() {
        FailureKind::Retry(None) => (abi::RETRY, None, 0),
        FailureKind::Retry(Some(pause)) => {
            (abi::RETRY, None, u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1))
        }
        FailureKind::Reject(code) => (abi::REJECT, code.as_ref(), 0),
        // SAFETY: the contract: the host table is valid while the call lasts.
        FailureKind::Stop if unsafe { abi::Host::keeps_state(host) } => (abi::STOP, None, 0),
        // A host that does not know the word goes on trying.
        FailureKind::Stop => (abi::RETRY, None, 0),
        FailureKind::Panic => (abi::PANIC, None, 0),
    };
    let failure = abi::Failure {
        size: size_of::<abi::Failure>() as u32,
        version: abi::VERSION,
        message: abi::Slice::of(failure.message().as_bytes()),
        code: abi::Slice::of_option(code.map(String::as_bytes)),
        retry_after_ms,
    };
    // SAFETY: the contract: the host table is valid while the call lasts; the callback takes its own
    // context and copies the failure.
    unsafe { ((*host).fail)(context, &failure) };
    status
}

/// A panic as a failure, with the place where it happened if the hook saw it.
fn panic_failure(payload: Box<dyn Any + Send>) -> Failure {
    let place = PLACE.take();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    let message = match place {
        Some(place) => format!("{text} (at {place})"),
        None => text.to_owned(),
    };
    forget_unless_text(payload);
    Failure::panic(message)
}

/// Drops the payload of a panic unless that could panic again.
fn forget_unless_text(payload: Box<dyn Any + Send>) {
    if !payload.is::<&str>() && !payload.is::<String>() {
        std::mem::forget(payload);
    }
}

thread_local! {
    /// This thread made an instance, so its panics are told to the host instead of standard error.
    static ON_HOST_THREAD: Cell<bool> = const { Cell::new(false) };
    /// Where this thread panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes where a panic happens, for the failure that it becomes. A plugin has a standard library of its own, so
/// this changes nothing for the host; tests of a handler never come here and see panics as ever.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if ON_HOST_THREAD.get() {
                PLACE.set(panic.location().map(ToString::to_string));
            } else {
                previous(panic);
            }
        }));
    });
}
