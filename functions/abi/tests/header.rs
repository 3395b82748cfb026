//! `tidemill.h` says the same as the Rust tables: a C compiler checks each size, offset and constant.

use std::fmt::Write as _;
use std::mem::offset_of;
use std::process::Command;

use tidemill_abi::*;

/// Static asserts for every field of a table; the pattern makes sure that none is forgotten.
macro_rules! table {
    ($out:ident, $rust:ident = $c:literal { $($field:ident),+ }) => {
        #[allow(dead_code)]
        fn $out(table: &$rust) {
            let $rust { $($field: _),+ } = table;
        }
        let $out = {
            let mut text = format!("_Static_assert(sizeof({}) == {}, \"size of {}\");\n", $c, size_of::<$rust>(), $c);
            $(
                let field = stringify!($field);
                let offset = offset_of!($rust, $field);
                let bytes = width(|table: &$rust| &raw const table.$field);
                writeln!(text, "_Static_assert(offsetof({}, {field}) == {offset}, \"{field} of {}\");", $c, $c).unwrap();
                writeln!(
                    text,
                    "_Static_assert(sizeof((({} *)0)->{field}) == {bytes}, \"width of {field} of {}\");",
                    $c, $c
                ).unwrap();
            )+
            text
        };
    };
}

/// The size of the field that `_field` leads to.
fn width<T, F>(_field: impl Fn(&T) -> *const F) -> usize {
    size_of::<F>()
}

macro_rules! constants {
    ($($name:ident)+) => {
        [$(format!("_Static_assert(TIDEMILL_{} == {}, \"{}\");\n", stringify!($name), $name, stringify!($name))),+].concat()
    };
}

#[test]
fn the_c_header_has_the_layout_of_the_rust_tables() {
    table!(slice, Slice = "tidemill_slice" { pointer, length });
    table!(header, Header = "tidemill_header" { name, value });
    table!(output, Output = "tidemill_output" {
        size, version, key_kind, has_timestamp, timestamp_ms, sink, key, value, content_type, headers, header_count
    });
    table!(failure, Failure = "tidemill_failure" { size, version, message, code, retry_after_ms });
    table!(host, Host = "tidemill_host" {
        size, version, header, attribute, emit, log, count, fail, window_header, window_attribute,
        state_get, state_put, timer_set, timer_cancel, lookup
    });
    table!(setup, Setup = "tidemill_setup" { size, version, host, context, function, handler, config });
    table!(event, Event = "tidemill_event" {
        size, version, source, topic, partition, reserved, offset, timestamp_ms, time_ms, key, data, content_type
    });
    table!(window, Window = "tidemill_window" {
        size, version, key, start_ms, end_ms, time_ms, fired, aggregates, events, event_count, missing,
        missing_count
    });
    table!(call, Call = "tidemill_call" {
        size, version, host, context, function, now_ms, deadline_ms, attempt, reserved, watermark_ms
    });
    table!(fired, Fired = "tidemill_fired" { size, version, key, name, clock, reserved, at_ms });
    table!(handler, Handler = "tidemill_handler" { size, version, name, init, handle, drop, on_window, on_timer });
    table!(plugin, Plugin = "tidemill_plugin_table" { size, version, made_with, handlers, handler_count });
    let constants = constants!(VERSION OK SKIP RETRY REJECT PANIC STOP FOUND ABSENT TOO_LARGE INVALID NO_STATE
        NO_ON_TIMER OTHER_KEY KEY_OF_EVENT KEY_NULL KEY_BYTES CLOCK_EVENT CLOCK_WALL LOG_ERROR LOG_WARN LOG_INFO LOG_DEBUG);

    let no_watermark =
        format!("_Static_assert(TIDEMILL_NO_WATERMARK == {} - 1, \"NO_WATERMARK\");\n", NO_WATERMARK + 1);

    let source = [
        "#include <tidemill.h>\n".to_owned(),
        slice,
        header,
        output,
        failure,
        host,
        setup,
        event,
        window,
        call,
        fired,
    ]
    .concat()
        + &handler
        + &plugin
        + &constants
        + &no_watermark
        + &format!(
            "static const tidemill_plugin_table *(*symbol)(void) = {SYMBOL};\nint main(void) {{ return symbol == 0; }}\n"
        );
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("layout.c");
    std::fs::write(&file, source).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {compiler}: {error}; install a C compiler or set CC"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
