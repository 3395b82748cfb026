//! SIGTERM and Ctrl-C: the first asks to finish, the second stops at once. The end of standard input asks too, where it is
//! watched.

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
            end_at_once(&notes);
        });
    })?;
    Ok(())
}

/// Watches standard input on a thread of its own: its end, which comes when whoever started this process closes it or is no
/// more, means the same as a first signal.
pub fn watch_stdin(stop: Stop, deadline: Duration, notes: Arc<OnceLock<Arc<Notes>>>) -> std::io::Result<()> {
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // What is written there says nothing; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!(?deadline, "stopping, as standard input has ended: finishing what is begun");
        stop.set();
        Stop::default().wait(deadline);
        tracing::error!(?deadline, "not finished in time: stopping all the same");
        end_at_once(&notes);
    })?;
    Ok(())
}

fn end_at_once(notes: &OnceLock<Arc<Notes>>) -> ! {
    if let Some(notes) = notes.get() {
        notes.forget();
    }
    process::exit(AT_ONCE)
}
