//! The handler of the benchmarks that need more than an echo: a copy that rejects or fails the events of some keys, takes
//! its time, or keeps what it copies.

use std::time::Duration;

use serde::Deserialize;
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Outcome, Setup, State};

const KEPT: State<String> = State::named("kept");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trouble {
    /// Keys `k<number>` whose number this divides are in trouble; 0: none.
    #[serde(default)]
    every: u64,
    /// Their calls are to be tried again; else they are rejected.
    #[serde(default)]
    retry: bool,
    /// A call takes up to so long, by its offset.
    #[serde(default)]
    most_micros: u64,
    /// The key keeps the value, which is a text.
    #[serde(default)]
    keep: bool,
}

impl Handler for Trouble {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        setup.config()
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        if self.most_micros > 0 {
            // Any spread will do: 0x9e37… is 2^64 by the golden ratio.
            let spread = (event.offset() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            sleep(Duration::from_micros(spread % (self.most_micros + 1)));
        }
        if self.every > 0 && number(event.key().unwrap_or_default()).is_multiple_of(self.every) {
            let why = "told to fail";
            return Err(if self.retry { Failure::retry(why) } else { Failure::reject(why) });
        }
        if self.keep {
            ctx.put(&KEPT, &String::from_utf8_lossy(event.value().unwrap_or_default()).into_owned())?;
        }
        ctx.emit_bytes(event.key(), event.value())?;
        Ok(Done::Ok)
    }
}

fn number(key: &[u8]) -> u64 {
    key.iter().skip(1).fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}

#[expect(clippy::disallowed_methods, reason = "a call that waits is what is measured")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

tidemill_sdk::export! { "trouble" => Trouble }
