//! Native plugins: real shared libraries, built by cargo and by a C compiler, loaded and called.

mod calls;
mod files;
mod keyed;
mod swap;
mod windows;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tidemill::model::{Event, FunctionName, NoHeaders, Outbox, Outcome, Record};
use tidemill::plugin::{Call, Instance, Plugin, Profile, build_crate};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The example `functions/echo`.
static ECHO: LazyLock<PathBuf> = LazyLock::new(|| build("functions/echo", "echo"));
/// The test plugin `tests/plugins/moody`.
static MOODY: LazyLock<PathBuf> = LazyLock::new(|| build("tests/plugins/moody", "moody"));

fn build(crate_dir: &str, name: &str) -> PathBuf {
    let file = scratch().join(library(name));
    build_crate(&Path::new(ROOT).join(crate_dir), &file, Profile::Dev).unwrap();
    file
}

/// Compiles a C file with these macros; the name tells its library from others of the same file.
fn compile(file: &str, name: &str, macros: &[&str]) -> PathBuf {
    let out = scratch().join(library(name));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
        .arg(Path::new(ROOT).join("functions/abi/include"))
        .args(macros.iter().map(|define| format!("-D{define}")))
        .arg("-o")
        .arg(&out)
        .arg(Path::new(ROOT).join(file))
        .output()
        .unwrap_or_else(|error| panic!("cannot run {compiler}: {error}; install a C compiler or set CC"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

fn odd(name: &str, macros: &[&str]) -> PathBuf {
    compile("tests/plugins/c/odd.c", name, macros)
}

fn library(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn load(file: &Path) -> Plugin {
    Plugin::load(file, None, &scratch().join("private")).unwrap()
}

fn function() -> FunctionName {
    FunctionName { namespace: "default".to_owned(), name: "f".to_owned() }
}

fn start(plugin: &Plugin, entry: Option<&str>) -> Instance {
    plugin.instance(&function(), entry, &Value::Null).unwrap()
}

fn record(value: Option<&[u8]>) -> Record<'_> {
    Record {
        topic: "in",
        partition: 3,
        offset: 41,
        timestamp_ms: 1_000,
        key: Some(b"k"),
        value,
        headers: &NoHeaders,
    }
}

fn call(instance: &mut Instance, event: &Event<'_>, outbox: &mut Outbox) -> Outcome {
    instance.call(
        &Call {
            event,
            stands_at: ("rides", 0, 0),
            keyed: None,
            attempt: 1,
            now_ms: 5_000,
            deadline_ms: 10_000,
        },
        outbox,
    )
}

/// Calls with a text; returns the outcome and the values that were emitted.
fn say(instance: &mut Instance, text: &str) -> (Outcome, Vec<String>) {
    let mut outbox = Outbox::default();
    let outcome = call(instance, &Event::plain(record(Some(text.as_bytes())), "s"), &mut outbox);
    (outcome, values(&outbox))
}

fn values(outbox: &Outbox) -> Vec<String> {
    let mut values = Vec::new();
    let all = outbox.visit::<()>(|emit| {
        values.push(String::from_utf8_lossy(emit.value.unwrap_or(b"<null>")).into_owned());
        Ok(())
    });
    all.unwrap();
    values
}
