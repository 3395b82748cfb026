//! SIGTERM and Ctrl-C: the first asks to finish, the second stops at once.

use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::stop::Stop;
use crate::plugin::Notes;

/// The exit code of a stop that did not wait: 128 + SIGTERM.
const AT_ONCE: i32 = 143;

/// Watches on a thread of its own. After the first signal everything has `deadline` to finish; then,
/// or at a second signal, the process ends: what was not cut is done again by the next worker. Calls that are under way
/// then are not to blame for it.
///
/// From when this returns no signal is lost. The first process of a container is sent none that it does not watch, so
/// this comes before anything that takes time; `notes` are given when there are some.
pub fn watch_signals(
    stop: Stop,
    deadline: Duration,
    notes: Arc<OnceLock<Arc<Notes>>>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut interrupt) = {
        let _guard = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(?deadline, "stopping: finishing what is begun (once more to stop at once)");
            stop.set();
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
                () = tokio::time::sleep(deadline) => {
                    tracing::error!(?deadline, "not finished in time: stopping all the same");
                }
            }
            if let Some(notes) = notes.get() {
                notes.forget();
            }
            process::exit(AT_ONCE);
        });
    })?;
    Ok(())
}
