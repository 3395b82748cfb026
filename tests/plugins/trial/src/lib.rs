//! The handler of the tests on a real broker: it does to each event what the event's headers ask for.
//!
//! | header | what happens |
//! |---|---|
//! | `sleep-ms` | the call takes so long |
//! | `fail` | so many calls fail, to be tried again |
//! | `panic` | so many calls panic |
//! | `abort` | so many calls end the process |
//! | `reject` | rejected, with the header's value as code |
//! | `size` | the output's value has so many bytes |
//! | `ahead-ms` | the output is stamped so far in the future |
//!
//! An event without any of these goes on as it came. A window does what its first event asks for, and else gives the values of
//! its events, joined by `+`. With `calls` in its config it adds a line
//! `topic/partition@offset attempt` to that file for each call, before anything else happens. While the file `outage`
//! of its config is there, all calls fail. With `mended: true` it rejects nothing any more, as if its author had mended
//! it. A window that gives its result goes on as how many events it has.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidemill_sdk::{
    Context, Done, Event, Failure, Handler, OnWindow, OrFail as _, Out, Outcome, Setup, Window,
};

#[derive(Deserialize)]
struct Config {
    calls: Option<String>,
    outage: Option<PathBuf>,
    #[serde(default)]
    mended: bool,
}

struct Trial {
    calls: Option<File>,
    outage: Option<PathBuf>,
    is_mended: bool,
}

impl Handler for Trial {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        let Config { calls, outage, mended } = setup.config::<Config>()?;
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self { calls: calls.map(open).transpose().or_reject()?, outage, is_mended: mended })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let attempt = ctx.attempt();
        if let Some(calls) = &mut self.calls {
            let line = format!("{}/{}@{} {attempt}\n", event.topic(), event.partition(), event.offset());
            calls.write_all(line.as_bytes())?;
        }
        self.obey(event, attempt)?;
        let size = asked(event, "size")?;
        let ahead = asked(event, "ahead-ms")?;
        if size.is_none() && ahead.is_none() {
            ctx.emit_bytes(event.key(), event.value())?;
            return Ok(Done::Ok);
        }
        let value = size.map_or_else(|| event.data().to_vec(), |size| vec![b'x'; size as usize]);
        let mut out = Out::bytes(event.key(), value);
        if let Some(ahead) = ahead {
            out = out.at(ctx.now_ms() + ahead as i64);
        }
        ctx.send(out)?;
        Ok(Done::Ok)
    }
}

impl OnWindow for Trial {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        if let Some(first) = window.events().first() {
            self.obey(first, ctx.attempt())?;
        }
        let values: Vec<_> = window.events().iter().map(|event| event.data()).collect();
        ctx.emit_bytes(window.key(), values.join(&b'+').as_slice())?;
        Ok(Done::Ok)
    }
}

impl Trial {
    /// Does what the event's headers ask for, up to where the call ends well.
    fn obey(&self, event: &Event, attempt: u32) -> Result<(), Failure> {
        if self.outage.as_ref().is_some_and(|file| file.exists()) {
            return Err(Failure::retry("the database is away"));
        }
        if let Some(millis) = asked(event, "sleep-ms")? {
            sleep(Duration::from_millis(millis));
        }
        if asked(event, "fail")?.is_some_and(|times| u64::from(attempt) <= times) {
            return Err(Failure::retry(format_args!("call {attempt} fails as asked")));
        }
        if asked(event, "panic")?.is_some_and(|times| u64::from(attempt) <= times) {
            panic!("call {attempt} panics as asked");
        }
        // The attempt is the process's only memory of those before.
        if asked(event, "abort")?.is_some_and(|times| u64::from(attempt) <= times) {
            std::process::abort();
        }
        if let Some(code) = event.header("reject").filter(|_| !self.is_mended) {
            return Err(Failure::reject_with_code(String::from_utf8_lossy(code), "rejected as asked"));
        }
        Ok(())
    }
}

/// The number in a header.
fn asked(event: &Event, name: &str) -> Result<Option<u64>, Failure> {
    let number = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse();
    event.header(name).map(number).transpose().or_reject()
}

#[expect(clippy::disallowed_methods, reason = "a call that takes long is what the test asks for")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

tidemill_sdk::export! { "trial" => Trial }
