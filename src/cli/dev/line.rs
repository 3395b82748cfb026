//! Lines for a terminal: coloured, cut to its width, and free of what could steer it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// How a part of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// Of lesser weight.
    Dim,
    /// What came in.
    Blue,
    /// What went well, or came out.
    Green,
    /// What was left out.
    Yellow,
    /// What failed.
    Red,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Blue => "\x1b[34m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
        }
    }
}

/// What the terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// It shows colours.
    pub colours: bool,
    /// Its columns; `None`: lines may be as long as they are.
    pub width: Option<usize>,
}

/// A line in parts.
#[derive(Debug, Default)]
pub struct Line(Vec<(Paint, String)>);

impl Line {
    /// Adds a part.
    pub fn add(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// The line with its end.
    pub fn render(&self, style: Style) -> String {
        let length: usize = self.0.iter().map(|(_, text)| text.chars().count()).sum();
        let is_cut = style.width.is_some_and(|width| length > width);
        let mut left = match style.width {
            Some(width) if is_cut => width.saturating_sub(1),
            _ => usize::MAX,
        };
        let mut line = String::new();
        for (paint, text) in &self.0 {
            let shown: String = text.chars().take(left).collect();
            left = left.saturating_sub(shown.chars().count());
            match paint {
                _ if shown.is_empty() => {}
                Paint::Plain => line += &shown,
                _ if !style.colours => line += &shown,
                paint => line += &format!("{}{shown}\x1b[0m", paint.code()),
            }
        }
        if is_cut {
            line.push('…');
        }
        line.push('\n');
        line
    }
}

/// Bytes on one line: text with its white space drawn together and other control characters as escapes,
/// anything else by its size and first bytes.
pub fn brief(bytes: Option<&[u8]>) -> Cow<'_, str> {
    let Some(bytes) = bytes else {
        return Cow::Borrowed("null");
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        let mut shown = format!("<{} bytes:", bytes.len());
        for byte in bytes.iter().take(8) {
            let _ = write!(shown, " {byte:02x}");
        }
        shown += if bytes.len() > 8 { " …>" } else { ">" };
        return Cow::Owned(shown);
    };
    if text.is_empty() {
        return Cow::Borrowed("\"\"");
    }
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let words = text.split(['\n', '\r', '\t']).map(str::trim).filter(|word| !word.is_empty());
    let mut shown = String::new();
    for character in words.collect::<Vec<_>>().join(" ").chars() {
        match character {
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// A duration with two or three figures.
pub fn short(took: Duration) -> String {
    let us = took.as_secs_f64() * 1e6;
    match us {
        _ if us < 1000.0 => format!("{us:.0} µs"),
        _ if us < 10_000.0 => format!("{:.1} ms", us / 1e3),
        _ if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_colours_take_no_room() {
        let line = Line::default().add(Paint::Blue, "→ rides").add(Paint::Plain, " {\"fare\": 12}");
        for (colours, width, expected) in [
            (false, None, "→ rides {\"fare\": 12}\n"),
            (false, Some(20), "→ rides {\"fare\": 12}\n"),
            (false, Some(19), "→ rides {\"fare\": 1…\n"),
            (true, Some(10), "\x1b[34m→ rides\x1b[0m {…\n"),
            (true, Some(4), "\x1b[34m→ r\x1b[0m…\n"),
            (false, Some(0), "…\n"),
        ] {
            assert_eq!(line.render(Style { colours, width }), expected, "{colours} {width:?}");
        }
    }

    #[test]
    fn values_take_one_line_and_steer_nothing() {
        for (bytes, shown) in [
            (None, "null"),
            (Some(&b""[..]), "\"\""),
            (Some(b"{\"a\": 1}"), "{\"a\": 1}"),
            (Some(b"{\n  \"a\": 1,\n\n\t\"b\": 2\r\n}\n"), "{ \"a\": 1, \"b\": 2 }"),
            (Some(b"\x1b[31mred"), "\\u{1b}[31mred"),
            (Some(&[0xff, 0]), "<2 bytes: ff 00>"),
            (Some(&[0xff; 9]), "<9 bytes: ff ff ff ff ff ff ff ff …>"),
        ] {
            assert_eq!(brief(bytes), shown);
        }
    }

    #[test]
    fn durations_keep_two_or_three_figures() {
        for (us, shown) in
            [(0, "0 µs"), (12, "12 µs"), (1_340, "1.3 ms"), (56_400, "56 ms"), (2_040_000, "2.0 s")]
        {
            assert_eq!(short(Duration::from_micros(us)), shown);
        }
    }
}
