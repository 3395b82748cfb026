//! Writes every event on as it came: the smallest handler there is.

use tidemill_sdk::{Context, Done, Event, Outcome};

fn echo(event: &Event, ctx: &mut Context) -> Outcome {
    ctx.emit_bytes(event.key(), event.value())?;
    Ok(Done::Ok)
}

tidemill_sdk::export! { "echo" => fn echo }

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_sdk::testing::{Given, Harness};

    #[test]
    fn what_comes_in_goes_out() {
        let mut harness = Harness::of(echo).strict();
        harness.expect_ok(Given::text("a", "hello"));
        harness.expect_ok(Given::tombstone("a"));
        let values: Vec<_> = harness.take_emitted().into_iter().map(|out| (out.key, out.value)).collect();
        let key = Some(b"a".to_vec());
        assert_eq!(values, [(key.clone(), Some(b"hello".to_vec())), (key, None)]);
    }
}
