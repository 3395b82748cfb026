//! The reference of both kinds of document as Markdown, made from their schemas.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{function_schema, platform_schema};

/// Every key of functions and platform settings: type, default and meaning.
pub fn reference() -> String {
    let mut text = String::from(
        "# Manifest reference\n\nMade by `tidemill check --reference` from the types that manifests are parsed \
         into. Unknown keys are refused; a key without a default and without “required” may be left out.\n",
    );
    for (kind, schema) in [("Function", function_schema()), ("Platform", platform_schema())] {
        section(&mut text, &format!("## kind: {kind}"), schema);
        let mut seen = vec!["ApiVersion".to_owned(), format!("{kind}Kind"), "Duration".to_owned()];
        follow(&mut text, schema, schema, &mut seen);
    }
    text
}

/// Writes the sections of the mappings that `schema` refers to, in the order of reference.
fn follow(text: &mut String, root: &Value, schema: &Value, seen: &mut Vec<String>) {
    for (_, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(name) = referred(property) else { continue };
        if seen.iter().any(|seen| seen == name) {
            continue;
        }
        seen.push(name.to_owned());
        let target = &root["$defs"][name];
        if target["properties"].is_object() {
            section(text, &format!("### {name}"), target);
            follow(text, root, target, seen);
        } else {
            words(text, name, target);
        }
    }
}

fn section(text: &mut String, heading: &str, schema: &Value) {
    let _ = write!(text, "\n{heading}\n\n{}\n\n", described(schema));
    text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let default = match &property["default"] {
            Value::Null if required.contains(&key.as_str()) => "required".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let _ = writeln!(text, "| `{key}` | {} | {default} | {} |", type_of(property), described(property));
    }
}

fn words(text: &mut String, name: &str, schema: &Value) {
    let _ = write!(text, "\n### {name}\n\n{}\n\n| word | meaning |\n|---|---|\n", described(schema));
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(word) = one["const"].as_str() {
            let _ = writeln!(text, "| `{word}` | {} |", described(one));
        }
    }
}

fn described(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn referred(schema: &Value) -> Option<&str> {
    let each =
        || schema["items"]["$ref"].as_str().or_else(|| schema["additionalProperties"]["$ref"].as_str());
    let target = schema["$ref"].as_str().or_else(each)?;
    target.rsplit('/').next()
}

fn type_of(schema: &Value) -> String {
    let link = |schema: &Value| {
        schema["$ref"].as_str().and_then(|target| target.rsplit('/').next()).map(str::to_owned)
    };
    if let Some(name) = link(schema) {
        return name;
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&schema["items"])),
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(_) => format!("mapping to {}", type_of(&schema["additionalProperties"])),
            _ => "mapping".to_owned(),
        },
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}
