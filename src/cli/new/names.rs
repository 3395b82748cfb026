//! Names in Rust for the fields and structs of sampled JSON.

use std::collections::HashSet;

/// Words that no item may be called by.
pub const KEYWORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Keywords that stay keywords after `r#`.
const NEVER_RAW: &[&str] = &["Self", "crate", "self", "super"];

/// Types that the crate's code, its tests or the prelude already call so.
const TAKEN_TYPES: &[&str] = &[
    "Box",
    "Config",
    "Context",
    "Deserialize",
    "Done",
    "Err",
    "Event",
    "Failure",
    "Function",
    "Given",
    "Handler",
    "Harness",
    "Input",
    "None",
    "Ok",
    "Option",
    "Outcome",
    "Output",
    "Result",
    "Self",
    "Serialize",
    "Setup",
    "Some",
    "String",
    "Value",
    "Vec",
];

/// Names that are given once each.
#[derive(Debug, Default)]
pub struct Names {
    given: HashSet<String>,
}

impl Names {
    /// Names of types, those that are taken by the crate's code left out.
    pub fn of_types() -> Self {
        Self { given: TAKEN_TYPES.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// The name of the field for the JSON key `key`: snake case.
    pub fn field(&mut self, key: &str) -> String {
        let mut name = words(key).join("_");
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert_str(0, if name.is_empty() { "field" } else { "field_" });
        }
        if NEVER_RAW.contains(&name.as_str()) {
            name.push('_');
        } else if KEYWORDS.contains(&name.as_str()) {
            name.insert_str(0, "r#");
        }
        self.first_free(&[&name], "_")
    }

    /// The name of the struct for the JSON key `key` in the struct `parent`: camel case.
    pub fn of_struct(&mut self, parent: &str, key: &str) -> String {
        let mut name: String = words(key).iter().map(|word| capitalized(word)).collect();
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            name.insert_str(0, "Part");
        }
        self.first_free(&[&name, &format!("{parent}{name}")], "")
    }

    /// The first of `wishes` that was not given yet, else the last with a number.
    fn first_free(&mut self, wishes: &[&str], before_number: &str) -> String {
        let last = wishes.last().copied().unwrap_or_default();
        let numbered = (2..).map(|n| format!("{last}{before_number}{n}"));
        let mut candidates = wishes.iter().map(|wish| (*wish).to_owned()).chain(numbered);
        let name = candidates.find(|name| !self.given.contains(name)).expect("numbers do not end");
        self.given.insert(name.clone());
        name
    }
}

/// The words of a key in lower case: parted where it is neither letter nor digit, before a capital after a small
/// letter, and before the last of several capitals (`HTTPStatus`: http, status).
fn words(key: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    let letters: Vec<char> = key.chars().collect();
    for (at, &letter) in letters.iter().enumerate() {
        if !letter.is_ascii_alphanumeric() {
            inside = false;
            continue;
        }
        let before = at.checked_sub(1).map_or(' ', |before| letters[before]);
        let after = letters.get(at + 1).copied().unwrap_or(' ');
        let rises = letter.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || before.is_ascii_digit() || after.is_ascii_lowercase());
        if !inside || rises {
            words.push(String::new());
        }
        inside = true;
        if let Some(word) = words.last_mut() {
            word.push(letter.to_ascii_lowercase());
        }
    }
    words
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_snake_case_and_no_keywords() {
        for (key, name) in [
            ("item", "item"),
            ("fareCents", "fare_cents"),
            ("HTTPStatus", "http_status"),
            ("order-id", "order_id"),
            ("Über uns", "ber_uns"),
            ("ipV4Address", "ip_v4_address"),
            ("@type", "r#type"),
            ("self", "self_"),
            ("Self", "self_"),
            ("1st", "field_1st"),
            ("_id", "id"),
            ("", "field"),
            ("日本", "field"),
        ] {
            assert_eq!(Names::default().field(key), name, "{key}");
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names = Names::default();
        let given = ["fooBar", "foo_bar", "foo-bar", "type", "Type"].map(|key| names.field(key));
        assert_eq!(given, ["foo_bar", "foo_bar_2", "foo_bar_3", "r#type", "r#type_2"]);
        let mut names = Names::of_types();
        let given = [("Input", "address"), ("Input", "address"), ("Input", "address"), ("Line", "event")]
            .map(|(parent, key)| names.of_struct(parent, key));
        assert_eq!(given, ["Address", "InputAddress", "InputAddress2", "LineEvent"]);
        assert_eq!(names.of_struct("Input", "3d"), "Part3d");
    }
}
