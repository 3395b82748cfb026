//! Holds a document against its schema and notes everything that does not fit: unknown keys with the
//! nearest known one, missing keys, wrong types, wrong words. What is refused is taken out, or replaced
//! where something must stand, so that the rest can be looked at too.

use serde_json::{Map, Value};

use super::document::{Document, join};
use super::text::nearest;

/// Keys that have a meaning, but not yet: the type they belong to and their name.
const NOT_YET_KEYS: [(&str, &str); 2] = [("Handler", "url"), ("Filter", "sql")];

/// Words that have a meaning, but not yet.
const NOT_YET_WORDS: [(&str, &str); 2] = [("Format", "avro"), ("Format", "protobuf")];

/// Checks `document` against `schema`. Afterwards its value has the schema's types throughout, be it
/// by stand-ins for what was refused.
pub(super) fn check(document: &mut Document, schema: &Value) {
    let mut value = std::mem::take(&mut document.value);
    let mut checker = Checker { root: schema, document, stand_ins: 0 };
    if !checker.value(&mut value, schema, "", "") && !value.is_object() {
        value = checker.stand_in(schema);
    }
    document.value = value;
}

struct Checker<'a> {
    root: &'a Value,
    document: &'a mut Document,
    stand_ins: usize,
}

impl<'a> Checker<'a> {
    /// Checks one value; `name` is the name of its type in the schema. `false`: it was refused.
    fn value(&mut self, value: &mut Value, schema: &'a Value, name: &str, path: &str) -> bool {
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.rsplit('/').next().unwrap_or_default();
            return self.value(value, &self.root["$defs"][name], name, path);
        }
        if let Some(words) = words(schema) {
            return self.word(value, &words, name, path);
        }
        match (schema["type"].as_str(), &mut *value) {
            (None, _) => true,
            (Some("object"), Value::Object(map)) => self.object(map, schema, name, path),
            (Some("array"), Value::Array(items)) => self.array(items, schema, path),
            (Some("string"), Value::String(text)) => {
                let empty = text.is_empty() && schema["minLength"].as_u64().unwrap_or(0) > 0;
                !empty || self.refuse(path, "must not be empty")
            }
            (Some("boolean"), Value::Bool(_)) => true,
            (Some("number"), Value::Number(_)) => self.bounds(value, schema, path),
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.bounds(value, schema, path)
            }
            (Some(expected), found) => {
                let message = mismatch(expected, found, name);
                self.refuse(path, &message)
            }
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, schema: &'a Value, name: &str, path: &str) -> bool {
        let known = schema["properties"].as_object();
        let good = self.count(map, schema, name, path);
        let mut refused = Vec::new();
        let mut excused = Vec::new();
        for (key, value) in map.iter_mut() {
            let path = join(path, key);
            let fits = match known.and_then(|known| known.get(key)) {
                Some(schema) => self.value(value, schema, "", &path),
                None if schema["additionalProperties"] == false => {
                    excused.extend(excuses(key, name, known));
                    let message = unknown(key, name, known);
                    self.refuse(&path, &message)
                }
                None => self.value(value, &schema["additionalProperties"], "", &path),
            };
            if !fits {
                refused.push(key.clone());
            }
        }
        for key in refused {
            map.remove(&key);
            excused.push(key);
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if map.contains_key(required) {
                continue;
            }
            if !excused.iter().any(|excused| excused == required) {
                self.refuse(&join(path, required), "is missing");
            }
            let stand_in = known.and_then(|known| known.get(required)).map(|schema| self.stand_in(schema));
            map.insert(required.to_owned(), stand_in.unwrap_or_default());
        }
        good
    }

    /// Something of the schema's type to go on with after a refusal; texts are like no other, so that
    /// nothing seems to stand twice.
    fn stand_in(&mut self, schema: &Value) -> Value {
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.rsplit('/').next().unwrap_or_default();
            if name == "Duration" {
                return Value::from("1s");
            }
            return self.stand_in(&self.root["$defs"][name]);
        }
        if let Some(word) = words(schema).and_then(|words| words.first().copied()) {
            return Value::from(word);
        }
        match schema["type"].as_str() {
            Some("object") => {
                let mut map = Map::new();
                for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
                {
                    map.insert(required.to_owned(), self.stand_in(&schema["properties"][required]));
                }
                Value::Object(map)
            }
            Some("array") => Value::Array(Vec::new()),
            Some("boolean") => Value::Bool(false),
            Some("integer" | "number") => Value::from(1),
            Some("string") => {
                self.stand_ins += 1;
                Value::from(format!("refused-{}", self.stand_ins))
            }
            _ => Value::Null,
        }
    }

    fn count(&mut self, map: &Map<String, Value>, schema: &Value, name: &str, path: &str) -> bool {
        let least = schema["minProperties"].as_u64().unwrap_or(0) as usize;
        let most = schema["maxProperties"].as_u64().map_or(usize::MAX, |most| most as usize);
        if (least..=most).contains(&map.len()) {
            return true;
        }
        let required: Vec<_> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if map.len() < least && required.iter().any(|required| !map.contains_key(*required)) {
            return true;
        }
        let known = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
        let choice = list(known.filter(|key| !required.contains(key)));
        let message = match (map.len() < least, choice.is_empty()) {
            (true, true) => "must not be empty".to_owned(),
            (true, false) if most == least => format!("give one of {choice}"),
            (true, false) => format!("give at least one of {choice}"),
            (false, _) if name == "Filter" => format!(
                "a filter has one key, found {}: write several filters",
                list(map.keys().map(String::as_str))
            ),
            (false, _) => format!("give only one of {choice}"),
        };
        self.refuse(path, &message)
    }

    fn array(&mut self, items: &mut [Value], schema: &'a Value, path: &str) -> bool {
        if (items.len() as u64) < schema["minItems"].as_u64().unwrap_or(0) {
            return self.refuse(path, "must not be empty");
        }
        for (index, item) in items.iter_mut().enumerate() {
            if !self.value(item, &schema["items"], "", &format!("{path}[{index}]")) {
                *item = self.stand_in(&schema["items"]);
            }
        }
        true
    }

    fn word(&mut self, value: &Value, words: &[&str], name: &str, path: &str) -> bool {
        let message = match value {
            Value::String(text) if words.contains(&text.as_str()) => return true,
            Value::String(text) if NOT_YET_WORDS.contains(&(name, text)) => {
                format!(
                    "`{text}` is not yet supported in this version; it takes {}",
                    list(words.iter().copied())
                )
            }
            Value::String(text) => match nearest(text, words.iter().copied()) {
                Some(near) => format!("unknown word `{text}`, did you mean `{near}`?"),
                None => format!("unknown word `{text}`, it takes {}", list(words.iter().copied())),
            },
            found => format!("expected {}, found {}", list(words.iter().copied()), describe(found)),
        };
        self.refuse(path, &message)
    }

    fn bounds(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let number = value.as_f64().unwrap_or_default();
        let format_max = match schema["format"].as_str() {
            Some("uint32") => Some(f64::from(u32::MAX)),
            Some("uint16") => Some(f64::from(u16::MAX)),
            _ => None,
        };
        let least = schema["minimum"].as_f64();
        let most = schema["maximum"].as_f64().or(format_max);
        if let Some(least) = least.filter(|least| number < *least) {
            return self.refuse(path, &format!("{value} is too small: at least {least}"));
        }
        if let Some(most) = most.filter(|most| number > *most) {
            return self.refuse(path, &format!("{value} is too large: at most {most}"));
        }
        true
    }

    fn refuse(&mut self, path: &str, message: &str) -> bool {
        self.document.refuse_also(path, message);
        false
    }
}

fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    if let Some(list) = schema["enum"].as_array() {
        return Some(list.iter().filter_map(Value::as_str).collect());
    }
    let either = schema["oneOf"].as_array()?;
    Some(either.iter().flat_map(|one| words(one).unwrap_or_default()).collect())
}

/// The required key that an unknown one probably stands for: its absence needs no second message.
fn excuses(key: &str, name: &str, known: Option<&Map<String, Value>>) -> Option<String> {
    if (name, key) == ("Handler", "url") {
        return Some("plugin".to_owned());
    }
    nearest(key, known.into_iter().flat_map(Map::keys).map(String::as_str)).map(str::to_owned)
}

fn unknown(key: &str, name: &str, known: Option<&Map<String, Value>>) -> String {
    if NOT_YET_KEYS.contains(&(name, key)) {
        return "not yet supported in this version: remove it".to_owned();
    }
    if key == "<<" {
        return "merge keys are not part of YAML 1.2: use an alias for the whole value".to_owned();
    }
    let known = || known.into_iter().flat_map(Map::keys).map(String::as_str);
    match nearest(key, known()) {
        Some(near) => format!("unknown key, did you mean `{near}`?"),
        None => format!("unknown key, known are {}", list(known())),
    }
}

fn mismatch(expected: &str, found: &Value, name: &str) -> String {
    if found.is_null() {
        return "has no value: give it one or remove the key".to_owned();
    }
    let expected = match expected {
        "object" => "a mapping",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    };
    match found {
        Value::Number(number) if name == "Duration" => {
            format!("a bare number has no unit: write `{number}s` or `{number}ms`")
        }
        Value::Number(_) | Value::Bool(_) if expected == "text" => {
            format!("expected text, found {}: write \"{found}\"", describe(found))
        }
        Value::Object(_) | Value::String(_) if expected == "a list" => {
            format!("expected a list, found {}: begin it with `- `", describe(found))
        }
        _ => format!("expected {expected}, found {}", describe(found)),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
