//! The JSON Schemas of both kinds of document, made from the YAML types. Editors complete from them,
//! and `strict` checks against them, so that what an editor takes and what is loaded cannot drift.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use super::platform_spec::PlatformManifest;
use super::spec::FunctionManifest;

static FUNCTION: LazyLock<Value> = LazyLock::new(make::<FunctionManifest>);
static PLATFORM: LazyLock<Value> = LazyLock::new(make::<PlatformManifest>);

/// The schema of `kind: Function`.
pub fn function_schema() -> &'static Value {
    &FUNCTION
}

/// The schema of `kind: Platform`.
pub fn platform_schema() -> &'static Value {
    &PLATFORM
}

/// The schema of any type.
pub(super) fn make<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().with_transform(Plain).into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// Takes out what says nothing to a reader: `null` as a second type of optional fields (an empty key
/// is a slip, and refused) and defaults of whole mappings (their fields have their own).
#[derive(Debug, Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        if let Some(object) = schema.as_object_mut() {
            let first = match object.get("type").and_then(Value::as_array).map(Vec::as_slice) {
                Some([first, Value::String(second)]) if second == "null" => Some(first.clone()),
                _ => None,
            };
            if let Some(first) = first {
                object.insert("type".to_owned(), first);
            }
            let inner = match object.get("anyOf") {
                Some(Value::Array(either)) => match either.as_slice() {
                    [inner, null] if null["type"] == "null" => inner.as_object().cloned(),
                    _ => None,
                },
                _ => None,
            };
            if let Some(inner) = inner {
                object.remove("anyOf");
                for (key, value) in inner {
                    object.entry(key).or_insert(value);
                }
            }
            if matches!(object.get("default"), Some(Value::Object(_) | Value::Array(_) | Value::Null)) {
                object.remove("default");
            }
        }
        transform_subschemas(self, schema);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_stored_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for (name, schema) in [("function", function_schema()), ("platform", platform_schema())] {
            let path = folder.join(format!("{name}.v1alpha1.schema.json"));
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            let made = serde_json::to_string_pretty(schema).unwrap() + "\n";
            assert!(stored == made, "{} is stale: see schemas/README.md", path.display());
        }
    }

    #[test]
    fn no_field_of_a_schema_has_two_types() {
        fn walk(value: &Value) {
            assert!(!value["type"].is_array() && value["anyOf"].is_null(), "{value}");
            for child in value.as_object().into_iter().flat_map(|object| object.values()) {
                if child.is_object() {
                    walk(child);
                }
            }
        }
        walk(function_schema());
        walk(platform_schema());
    }
}
