//! RFC 3339 times, strictly and without an allocation: CloudEvents times are checked on the way in,
//! compared by filters, and written for each output, so this is on the path of a record.

/// A moment on the UTC time line, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// A rendered time, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct Rendered {
    bytes: [u8; LONGEST],
    len: usize,
}

/// `9999-12-31T23:59:59.999999999Z`.
const LONGEST: usize = 30;

impl Timestamp {
    /// The moment `ms` milliseconds after the epoch.
    pub fn from_millisecond(ms: i64) -> Self {
        Self { seconds: ms.div_euclid(1000), nanos: ms.rem_euclid(1000) as u32 * 1_000_000 }
    }

    /// Milliseconds since the epoch, rounded down.
    pub fn as_millisecond(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanos / 1_000_000)
    }

    /// Reads an RFC 3339 `date-time` (section 5.6), which is stricter than ISO 8601: a full date and
    /// time, `T` between them, an offset. A leap second counts as the one before it; digits below the
    /// nanosecond are dropped.
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = text.as_ref();
        let (head, tail) = bytes.split_at_checked(19)?;
        let separators = head[4] == b'-'
            && head[7] == b'-'
            && head[10] | 0x20 == b't'
            && head[13] == b':'
            && head[16] == b':';
        if !separators {
            return None;
        }
        let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
        let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..])?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (nanos, zone) = fraction(tail)?;
        let offset = offset_seconds(zone)?;
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset;
        Some(Self { seconds, nanos })
    }

    /// The canonical text: UTC with `Z`, no trailing zeros in the fraction, no fraction when it is
    /// zero (as Go's `RFC3339Nano`, which Knative compares with). `None` outside the years 0 to 9999.
    pub fn render(self) -> Option<Rendered> {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(86_400));
        if !(0..=9999).contains(&year) {
            return None;
        }
        let of_day = self.seconds.rem_euclid(86_400) as u32;
        let mut bytes = *b"0000-00-00T00:00:00.000000000Z";
        put(&mut bytes[0..4], year as u32);
        put(&mut bytes[5..7], month);
        put(&mut bytes[8..10], day);
        put(&mut bytes[11..13], of_day / 3600);
        put(&mut bytes[14..16], of_day / 60 % 60);
        put(&mut bytes[17..19], of_day % 60);
        put(&mut bytes[20..29], self.nanos);
        let mut end = 29;
        while bytes[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        if end == 20 {
            end = 19;
        }
        bytes[end] = b'Z';
        Some(Rendered { bytes, len: end + 1 })
    }
}

impl Rendered {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits and separators are ASCII")
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let mut number = 0;
    for byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(byte - b'0');
    }
    Some(number)
}

/// The nanoseconds of an optional `.digits`, and what follows.
fn fraction(tail: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = tail.strip_prefix(b".") else { return Some((0, tail)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nine = rest[..count].iter().map(|byte| u32::from(byte - b'0')).chain(std::iter::repeat(0)).take(9);
    let nanos = nine.fold(0, |nanos, digit| nanos * 10 + digit);
    Some((nanos, &rest[count..]))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch of a date of the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

fn put(place: &mut [u8], mut number: u32) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR_0: i64 = -62_167_219_200_000;
    const YEAR_9999: i64 = 253_402_207_200_000;

    #[test]
    fn what_rfc_3339_does_not_allow_is_refused() {
        for text in [
            "",
            "2020-03-21",
            "2020-03-21T12:34:56",
            "2020-03-21 12:34:56Z",
            "2020-03-21T12:34Z",
            "20200321T123456Z",
            "2020-13-21T12:34:56Z",
            "2020-00-21T12:34:56Z",
            "2019-02-29T12:34:56Z",
            "1900-02-29T12:34:56Z",
            "2020-03-00T12:34:56Z",
            "2020-03-21T24:00:00Z",
            "2020-03-21T12:60:00Z",
            "2020-03-21T12:34:61Z",
            "2020-03-21T12:34:56.Z",
            "2020-03-21T12:34:56,5Z",
            "2020-03-21T12:34:56+0100",
            "2020-03-21T12:34:56+24:00",
            "2020-03-21T12:34:56ZZ",
            "+020-03-21T12:34:56Z",
            "2020-03-21T12:34:5äZ",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn one_moment_has_one_canonical_text() {
        for (text, canonical) in [
            ("2020-03-21T12:34:56.78Z", "2020-03-21T12:34:56.78Z"),
            ("2020-03-21T12:34:56.780000Z", "2020-03-21T12:34:56.78Z"),
            ("2020-03-21t14:34:56.78+02:00", "2020-03-21T12:34:56.78Z"),
            ("2020-03-20T23:34:56-13:00", "2020-03-21T12:34:56Z"),
            ("2020-02-29T00:00:00.1234567899z", "2020-02-29T00:00:00.123456789Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("2020-03-21T12:34:10.000Z", "2020-03-21T12:34:10Z"),
        ] {
            let time = Timestamp::parse(text).expect(text);
            assert_eq!(time.render().expect(text).as_str(), canonical);
        }
    }

    #[test]
    fn years_beyond_four_digits_are_not_rendered() {
        assert!(Timestamp::from_millisecond(253_402_300_800_000).render().is_none());
        assert!(Timestamp::from_millisecond(YEAR_0 - 1).render().is_none());
        assert!(Timestamp::from_millisecond(i64::MAX).render().is_none());
        assert!(Timestamp::from_millisecond(i64::MIN).render().is_none());
    }

    proptest! {
        #[test]
        fn milliseconds_are_rendered_as_jiff_does(ms in YEAR_0..YEAR_9999) {
            let ours = Timestamp::from_millisecond(ms).render().unwrap();
            let theirs = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            prop_assert_eq!(ours.as_str(), theirs.as_str());
        }

        #[test]
        fn times_are_read_as_jiff_does(ms in YEAR_0..YEAR_9999, nanos in 0i64..1_000_000, minutes in -1439i32..1440) {
            let time = jiff::Timestamp::from_millisecond(ms).unwrap() + jiff::SignedDuration::from_nanos(nanos);
            let offset = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
            let text = time.display_with_offset(offset).to_string();
            let Some(ours) = Timestamp::parse(&text) else {
                // Only a local time outside the years 0 to 9999 is written in more digits.
                return Err(TestCaseError::reject("six-digit year"));
            };
            prop_assert_eq!(ours.as_millisecond(), ms);
            let rendered = ours.render().unwrap();
            prop_assert_eq!(rendered.as_str(), time.to_string());
        }
    }
}
