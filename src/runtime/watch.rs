//! Says which worker has not come round for a while, and what it waits for. The worker itself cannot; and
//! librdkafka's own words reach the log only when its worker asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::function::OnHung;
use super::{LOOK_EVERY, Stop};
use crate::model::{Clock, Watch};
use crate::observe::{FunctionReport, Phase, Silence};
use crate::worker::Stopped;

/// How long a worker may wait for the brokers before it is said.
const LONG: Duration = Duration::from_secs(5);

/// Looks at a function's workers until `done`. A call may take `longest_call`; one that takes more than twice as long on
/// the worker's own thread hangs, which is told to `on_hang` once.
pub(super) fn watch(
    report: &FunctionReport,
    (clock, longest_call): (&dyn Clock, Duration),
    on_hang: &OnHung,
    done: &Stop,
) {
    let mut hangs = false;
    let mut silent = BTreeSet::new();
    let mut watches: BTreeMap<_, Watch> = BTreeMap::new();
    while !done.wait(LOOK_EVERY) {
        let now = clock.now().elapsed;
        for Silence { worker, time, phase } in report.silences(now) {
            let time = watches.entry(worker).or_default().look(Some(now.saturating_sub(time)), now);
            let is_long = match phase {
                Phase::Handle => time > longest_call.max(LONG),
                _ => time > LONG,
            };
            // A worker gives a sign of life between two calls, and looks up ten times a second.
            if phase == Phase::Handle
                && time > longest_call * 2 + LOOK_EVERY
                && !longest_call.is_zero()
                && !hangs
            {
                hangs = true;
                on_hang(Stopped::Hangs { timeout: longest_call }.to_string());
            }
            if is_long && silent.insert(worker) {
                let (for_s, waits_for) = (time.as_secs(), phase.waits_for());
                tracing::warn!(worker, for_s, "worker waits for {waits_for}");
            } else if !is_long && silent.remove(&worker) {
                tracing::info!(worker, "worker goes on");
            }
        }
    }
}
