//! JSON pointers (RFC 6901), taken apart once: `serde_json` would unescape each token of each record.

use serde_json::Value;

/// A compiled pointer.
#[derive(Debug, Clone, PartialEq)]
pub struct Pointer {
    /// `None`: the text is no pointer, and nothing is found by it.
    tokens: Option<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    member: String,
    index: Option<usize>,
}

impl Pointer {
    /// Compiles `path`; the manifest has checked it before.
    pub fn new(path: &str) -> Self {
        let tokens = match path.strip_prefix('/') {
            Some(rest) => Some(rest.split('/').map(Token::new).collect()),
            None => path.is_empty().then(Vec::new),
        };
        Self { tokens }
    }

    /// The value it points to.
    pub fn find<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.tokens.as_ref()?.iter().try_fold(root, |value, token| match value {
            Value::Object(members) => members.get(&token.member),
            Value::Array(items) => items.get(token.index?),
            _ => None,
        })
    }
}

impl Token {
    fn new(text: &str) -> Self {
        let member = text.replace("~1", "/").replace("~0", "~");
        let plain = member == "0" || member.starts_with(|first: char| matches!(first, '1'..='9'));
        let index = member.parse().ok().filter(|_| plain);
        Self { member, index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_rfc_6901_are_found() {
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8
        });
        for (path, expected) in [
            ("", document.clone()),
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/e^f", json!(3)),
            ("/g|h", json!(4)),
            ("/i\\j", json!(5)),
            ("/k\"l", json!(6)),
            ("/ ", json!(7)),
            ("/m~0n", json!(8)),
        ] {
            assert_eq!(Pointer::new(path).find(&document), Some(&expected), "{path}");
        }
    }

    #[test]
    fn what_points_nowhere_finds_nothing() {
        let document = json!({ "foo": ["bar"], "n": 1 });
        for path in ["/bar", "/foo/1", "/foo/00", "/foo/+0", "/foo/-", "/foo/bar", "/n/0", "foo", "~"] {
            assert_eq!(Pointer::new(path).find(&document), None, "{path}");
        }
    }
}
