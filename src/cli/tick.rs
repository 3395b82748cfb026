//! The event of a clock, for who tries a function out and does not write one.

use super::sample::Sample;
use crate::model::{Source, Tick};

/// Fills in what `sample` leaves out of a tick of `source`: value, key and timestamp; `now_ms` if it has no timestamp.
/// Events of other sources stay as they are.
pub fn fill(sample: &mut Sample, source: &Source, now_ms: i64) {
    let Some(schedule) = source.schedule.as_ref().filter(|_| sample.value.is_none()) else { return };
    let at_ms = *sample.timestamp_ms.get_or_insert(now_ms);
    sample.value = Some(schedule.value(Tick { at_ms, missed: 0 }).into_bytes());
    sample.key.get_or_insert_with(|| source.name.clone().into_bytes());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;

    #[test]
    fn a_tick_is_made_up_where_nothing_is_written() {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  sources: \
                    [{name: m, schedule: {cron: 0 9 * * *, zone: Europe/Berlin}}, {topic: in}]\n  sinks: [{topic: out}]\n";
        let function = manifest::parse(Path::new("/f/function.yaml"), text).unwrap().remove(0);
        let mut tick = Sample::default();
        fill(&mut tick, &function.sources[0], 1_767_225_600_000);
        assert_eq!(tick.value.unwrap(), br#"{"scheduled":"2026-01-01T01:00:00+01:00","missed":0}"#);
        assert_eq!(
            (tick.key.unwrap().as_slice(), tick.timestamp_ms),
            (b"m".as_slice(), Some(1_767_225_600_000))
        );
        let mut written = Sample { value: Some(b"{}".to_vec()), ..Sample::default() };
        fill(&mut written, &function.sources[0], 0);
        assert_eq!((written.value.unwrap().as_slice(), written.key), (b"{}".as_slice(), None));
        let mut other = Sample::default();
        fill(&mut other, &function.sources[1], 0);
        assert_eq!((other.value, other.timestamp_ms), (None, None));
    }
}
