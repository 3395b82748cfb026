//! The small languages inside strings: durations, names, topics, pointers, attributes.

use std::time::Duration;

use crate::model::Rate;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `250ms`, `10s`, `15m`, `2h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if unit.is_empty() && !number.is_empty() {
        return Err(format!("{text:?} has no unit: write `{text}s` or `{text}ms`"));
    }
    let wrong = || format!("{text:?} is no duration: write a whole number and ms, s, m, h or d, as in `10s`");
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if number.is_empty() {
        return Err(wrong());
    }
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    // The rest of the engine adds durations to epoch milliseconds: a century leaves room for that.
    match millis {
        Some(millis) if millis <= 36_525 * 86_400_000 => Ok(Duration::from_millis(millis)),
        _ => Err(format!("{text:?} is too long: at most 36525d")),
    }
}

/// A duration in the largest unit that holds it without a rest.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis() as u64;
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor)).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// `100/s`, `30/m`, `5/h`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate: write a whole number, `/` and s, m or h, as in `100/s`");
    let (calls, unit) = text.split_once('/').ok_or_else(wrong)?;
    let calls: u32 = calls.parse().map_err(|_| wrong())?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    match calls {
        0 => Err(format!("{text:?} would never call anything: leave `rate` out, or write at least 1")),
        calls => Ok(Rate { calls, per: Duration::from_secs(per) }),
    }
}

/// A rate as it is written.
pub(super) fn rate_text(rate: Rate) -> String {
    let unit = match rate.per.as_secs() {
        1 => "s",
        60 => "m",
        _ => "h",
    };
    format!("{}/{unit}", rate.calls)
}

/// Units of sizes: those of Kubernetes quantities.
const SIZES: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// Bytes: a Kubernetes quantity without a fraction, `256Mi`, `1G`, `1000000`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no size: write a whole number of bytes, or with Ki, Mi, Gi, as in `256Mi`");
    let unit = SIZES.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes)).ok_or_else(wrong)
}

/// A size as it is written.
pub(super) fn size_text(bytes: u64) -> String {
    let (unit, factor) =
        SIZES.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)).unwrap_or(&("", 1));
    format!("{}{unit}", bytes / factor)
}

/// A name as Kubernetes has it: an RFC 1123 label.
pub(super) fn label(text: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no name: up to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
    ))
}

/// A topic, or a group that prefixes topics, by Kafka's rules.
pub(super) fn topic(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(1..=249).contains(&text.len()) || !text.chars().all(plain) {
        return Err(format!("{text:?} is no topic name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`"));
    }
    if matches!(text, "." | "..") {
        return Err(format!("{text:?} is no topic name: Kafka refuses `.` and `..`"));
    }
    Ok(())
}

/// The name of a CloudEvents attribute (CloudEvents 1.0, "naming conventions").
pub(super) fn attribute(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{text:?} is no CloudEvents attribute: its name is made of a-z and 0-9"))
}

/// A JSON pointer (RFC 6901).
pub(super) fn pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(format!("{text:?} is no JSON pointer: write `/{text}`"));
    }
    let mut rest = text;
    while let Some(tilde) = rest.find('~') {
        rest = &rest[tilde + 1..];
        if !rest.starts_with(['0', '1']) {
            return Err(format!(
                "{text:?} is no JSON pointer: write `~` as `~0` and a `/` in a name as `~1`"
            ));
        }
    }
    Ok(())
}

/// The one of `known` that was most likely meant, if any is close.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3) && *distance < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_kubernetes_quantities_without_fractions() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("16Ki", 16 << 10),
            ("256Mi", 256 << 20),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for wrong in ["", "Mi", "1.5Gi", "-1", "1 Mi", "1m", "1MB", "99999999Ti"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for text in ["0", "1", "256Mi", "3Gi", "1M", "1025"] {
            assert_eq!(size_text(size(text).unwrap()), text);
        }
    }

    #[test]
    fn durations_have_a_unit() {
        let good =
            [("250ms", 250), ("10s", 10_000), ("15m", 900_000), ("2h", 7_200_000), ("7d", 604_800_000)];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let bad = [
            ("5", "\"5\" has no unit: write `5s` or `5ms`"),
            ("5x", "\"5x\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`"),
            ("1.5s", "\"1.5s\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`"),
            ("-1s", "\"-1s\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`"),
            ("s", "\"s\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`"),
            ("", "\"\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`"),
            ("99999999d", "\"99999999d\" is too long: at most 36525d"),
            ("99999999999999999999s", "\"99999999999999999999s\" is too long: at most 36525d"),
        ];
        for (text, message) in bad {
            assert_eq!(duration(text).unwrap_err(), message);
        }
    }

    #[test]
    fn names_topics_attributes_and_pointers_follow_their_rules() {
        type Rule = fn(&str) -> Result<(), String>;
        let long = "a".repeat(250);
        let cases: [(Rule, &[&str], &[&str]); 4] = [
            (label, &["a", "a-1", "0"], &["", "A", "-a", "a-", "a.b", "a_b", &long[..64]]),
            (topic, &["a", "A.b_c-1", "...", &long[..249]], &["", ".", "..", "a b", "ä", &long]),
            (attribute, &["type", "x1"], &["", "Type", "a_b", "a-b"]),
            (pointer, &["", "/", "/a/b", "/a~0b~1c"], &["a", "a/b", "/~", "/~2"]),
        ];
        for (rule, good, bad) in cases {
            for text in good {
                assert_eq!(rule(text), Ok(()), "{text:?}");
            }
            for text in bad {
                assert!(rule(text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn the_nearest_word_is_close_or_none() {
        let known = ["topic", "name", "format", "filters", "startAt"];
        for (text, expected) in [
            ("filter", Some("filters")),
            ("start_at", Some("startAt")),
            ("nmae", Some("name")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(text, known), expected);
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_was_written(millis in 0..36_525_u64 * 86_400_000) {
            let written = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(written)), Ok(written));
        }
    }
}
