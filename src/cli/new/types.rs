//! Rust source of an inferred type: a struct for each object, `Input` on top.

use std::fmt::Write as _;

use super::names::Names;
use super::shape::Type;

/// The definition of `Input`, documented by `about`, and of the structs in it.
pub fn render(input: &Type, about: &str) -> String {
    let mut source = Source { names: Names::of_types(), structs: Vec::new() };
    let first = match input {
        Type::Struct(fields) => source.define("Input", about, fields),
        other => {
            let whole = source.name_of(other, "Input", "item");
            format!("/// {about}\ntype Input = {whole};")
        }
    };
    source.structs.insert(0, first);
    source.structs.join("\n\n")
}

struct Source {
    names: Names,
    /// Definitions, done.
    structs: Vec<String>,
}

impl Source {
    fn define(&mut self, name: &str, about: &str, fields: &[(String, Type)]) -> String {
        let mut text = format!("/// {about}\n#[derive(Serialize, Deserialize)]\nstruct {name} {{\n");
        let mut names = Names::default();
        for (key, whole) in fields {
            let field = names.field(key);
            let mut attributes = Vec::new();
            if field.trim_start_matches("r#") != key {
                attributes.push(format!("rename = {key:?}"));
            }
            if matches!(whole, Type::Optional(_)) {
                attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
            }
            let whole = self.name_of(whole, name, key);
            if !attributes.is_empty() {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "    #[serde({})]", attributes.join(", "));
            }
            let _ = writeln!(text, "    {field}: {whole},");
        }
        text + "}"
    }

    /// The type as Rust names it, for the field `key` of `parent`.
    fn name_of(&mut self, whole: &Type, parent: &str, key: &str) -> String {
        match whole {
            Type::Bool => "bool".to_owned(),
            Type::Signed => "i64".to_owned(),
            Type::Unsigned => "u64".to_owned(),
            Type::Float => "f64".to_owned(),
            Type::Text => "String".to_owned(),
            Type::Any => "tidemill_sdk::serde_json::Value".to_owned(),
            Type::Optional(inner) => format!("Option<{}>", self.name_of(inner, parent, key)),
            Type::List(item) => format!("Vec<{}>", self.name_of(item, parent, singular(key))),
            Type::Struct(fields) => {
                let name = self.names.of_struct(parent, key);
                // Its place is before those of its own fields.
                let place = self.structs.len();
                let text = self.define(&name, &format!("In [`{parent}`]."), fields);
                self.structs.insert(place, text);
                name
            }
        }
    }
}

/// What one of `lines` is called: `line`.
fn singular(key: &str) -> &str {
    match key.strip_suffix('s') {
        Some(one) if one.len() > 2 && !one.ends_with(['s', 'u', 'i']) => one,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::shape::Shape;
    use super::*;

    fn rendered(samples: &[Value]) -> String {
        let mut shape = Shape::default();
        samples.iter().for_each(|sample| shape.add(sample));
        render(&shape.as_type(), "What comes in.")
    }

    #[test]
    fn each_object_becomes_a_struct() {
        let samples = [
            json!({"orderId": "a", "lines": [{"sku": 1, "type": "x"}], "to": {"town": "Ulm", "extra": null}}),
            json!({"orderId": "b", "lines": [], "to": {"town": "Ulm", "extra": [1]}, "vip": true}),
        ];
        let expected = "\
/// What comes in.
#[derive(Serialize, Deserialize)]
struct Input {
    lines: Vec<Line>,
    #[serde(rename = \"orderId\")]
    order_id: String,
    to: To,
    #[serde(skip_serializing_if = \"Option::is_none\")]
    vip: Option<bool>,
}

/// In [`Input`].
#[derive(Serialize, Deserialize)]
struct Line {
    sku: i64,
    r#type: String,
}

/// In [`Input`].
#[derive(Serialize, Deserialize)]
struct To {
    #[serde(skip_serializing_if = \"Option::is_none\")]
    extra: Option<Vec<i64>>,
    town: String,
}";
        assert_eq!(rendered(&samples), expected);
    }

    #[test]
    fn what_is_no_object_is_an_alias() {
        for (sample, expected) in [
            (json!(1), "type Input = i64;"),
            (json!([1, "a"]), "type Input = Vec<tidemill_sdk::serde_json::Value>;"),
            (json!([{"a": 1}]), "type Input = Vec<Item>;"),
        ] {
            let text = rendered(&[sample]);
            assert!(text.starts_with(&format!("/// What comes in.\n{expected}")), "{text}");
        }
    }

    #[test]
    fn keys_are_quoted_as_rust_quotes() {
        let text = rendered(&[json!({"a \"b\"\n": 1})]);
        assert!(text.contains(r#"#[serde(rename = "a \"b\"\n")]"#), "{text}");
    }
}
