//! Whether bytes are JSON, without building anything of it.

use serde::de::IgnoredAny;

/// The error is the parser's message with line and column. Numbers that no double holds, lone
/// surrogates and very deep nesting pass here: they are valid JSON, whoever reads them may refuse.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    // The parser does not look into strings that it skips, so UTF-8 is checked before.
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        format!("not UTF-8 at line {line} column {column}")
    })?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|error| error.to_string())
}
