//! What JSON values have in common: every value of a sample is added to a [`Shape`], and the shape says which Rust
//! type takes all of them.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// An object with more keys than this is no record with fields, but a map by some id.
const MAX_FIELDS: usize = 100;
/// Deeper than this nobody wants structs.
const MAX_DEPTH: usize = 12;

/// What was seen at one place.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    nulls: bool,
    booleans: bool,
    texts: bool,
    negative: bool,
    /// Whole numbers that fit.
    signed: bool,
    /// Whole numbers beyond `i64`.
    unsigned: bool,
    floats: bool,
    /// The items of all lists.
    list: Option<Box<Shape>>,
    objects: usize,
    fields: BTreeMap<String, Field>,
}

#[derive(Debug, Clone, Default)]
struct Field {
    seen: usize,
    shape: Shape,
}

/// A type that takes all values of a shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// `bool`
    Bool,
    /// `i64`
    Signed,
    /// `u64`
    Unsigned,
    /// `f64`
    Float,
    /// `String`
    Text,
    /// `Vec`
    List(Box<Type>),
    /// A struct: its JSON keys and their types.
    Struct(Vec<(String, Type)>),
    /// `Option`
    Optional(Box<Type>),
    /// `serde_json::Value`
    Any,
}

impl Shape {
    /// Takes a value in.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Null => self.nulls = true,
            Value::Bool(_) => self.booleans = true,
            Value::String(_) => self.texts = true,
            Value::Number(number) => {
                self.negative |= number.as_i64().is_some_and(|number| number < 0);
                self.signed |= number.is_i64();
                self.unsigned |= number.is_u64() && !number.is_i64();
                self.floats |= number.is_f64();
            }
            Value::Array(items) => {
                let list = self.list.get_or_insert_default();
                items.iter().for_each(|item| list.add(item));
            }
            Value::Object(object) => {
                self.objects += 1;
                for (key, value) in object {
                    // What is a map already need not grow with every id.
                    if self.fields.len() <= MAX_FIELDS || self.fields.contains_key(key) {
                        let field = self.fields.entry(key.clone()).or_default();
                        field.seen += 1;
                        field.shape.add(value);
                    }
                }
            }
        }
    }

    /// The type that takes everything that was added.
    pub fn as_type(&self) -> Type {
        self.at_depth(0)
    }

    fn at_depth(&self, depth: usize) -> Type {
        if depth > MAX_DEPTH {
            return Type::Any;
        }
        match self.without_null(depth) {
            // Null is one of its values.
            Type::Any => Type::Any,
            whole if self.nulls => Type::Optional(Box::new(whole)),
            whole => whole,
        }
    }

    fn without_null(&self, depth: usize) -> Type {
        let numbers = self.signed || self.unsigned || self.floats;
        let kinds = [self.booleans, self.texts, numbers, self.list.is_some(), self.objects > 0];
        if kinds.into_iter().filter(|seen| *seen).count() != 1 {
            return Type::Any;
        }
        if self.booleans {
            return Type::Bool;
        }
        if self.texts {
            return Type::Text;
        }
        if let Some(items) = &self.list {
            return Type::List(Box::new(items.at_depth(depth + 1)));
        }
        if self.objects > 0 {
            return self.as_struct(depth);
        }
        match (self.floats, self.unsigned, self.negative) {
            (true, false, _) => Type::Float,
            (false, false, _) => Type::Signed,
            (false, true, false) => Type::Unsigned,
            // No type of Rust holds these without loss.
            _ => Type::Any,
        }
    }

    fn as_struct(&self, depth: usize) -> Type {
        if self.fields.is_empty() || self.fields.len() > MAX_FIELDS {
            return Type::Any;
        }
        let fields = self.fields.iter().map(|(key, field)| {
            let whole = match field.shape.at_depth(depth + 1) {
                whole @ Type::Optional(_) => whole,
                whole if field.seen < self.objects || field.shape.nulls => Type::Optional(Box::new(whole)),
                whole => whole,
            };
            (key.clone(), whole)
        });
        Type::Struct(fields.collect())
    }
}

impl Type {
    /// `value`, which was added to the shape, as the type writes it again: an optional field that is null is left
    /// out, a whole number that goes into an `f64` has its point.
    pub fn written(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::Struct(fields), Value::Object(object)) => {
                let fields = fields.iter().filter_map(|(key, field)| {
                    let value = object.get(key)?;
                    let is_left_out = value.is_null() && matches!(field, Self::Optional(_));
                    (!is_left_out).then(|| (key.clone(), field.written(value)))
                });
                Value::Object(fields.collect::<Map<_, _>>())
            }
            (Self::List(item), Value::Array(items)) => {
                Value::Array(items.iter().map(|value| item.written(value)).collect())
            }
            (Self::Float, Value::Number(number)) => {
                let float = number.as_f64().and_then(Number::from_f64);
                Value::Number(float.unwrap_or_else(|| number.clone()))
            }
            (Self::Optional(whole), value) if !value.is_null() => whole.written(value),
            _ => value.clone(),
        }
    }

    /// A plain value of this type, with as little in it as can be.
    pub fn plain_value(&self) -> Value {
        match self {
            Self::Bool => Value::from(true),
            Self::Signed | Self::Unsigned => Value::from(1),
            Self::Float => Value::from(1.5),
            Self::Text | Self::Any => Value::from("text"),
            Self::List(_) => Value::Array(Vec::new()),
            Self::Optional(whole) => whole.plain_value(),
            Self::Struct(fields) => {
                let fields = fields.iter().filter(|(_, field)| !matches!(field, Self::Optional(_)));
                Value::Object(fields.map(|(key, field)| (key.clone(), field.plain_value())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inferred(samples: &[Value]) -> Type {
        let mut shape = Shape::default();
        samples.iter().for_each(|sample| shape.add(sample));
        shape.as_type()
    }

    fn optional(whole: Type) -> Type {
        Type::Optional(Box::new(whole))
    }

    fn list(item: Type) -> Type {
        Type::List(Box::new(item))
    }

    fn object<const N: usize>(fields: [(&str, Type); N]) -> Type {
        Type::Struct(fields.map(|(key, field)| (key.to_owned(), field)).into())
    }

    #[test]
    fn a_type_takes_all_samples() {
        for (samples, expected) in [
            (vec![json!(true), json!(false)], Type::Bool),
            (vec![json!(1), json!(-1)], Type::Signed),
            (vec![json!(1), json!(u64::MAX)], Type::Unsigned),
            (vec![json!(-1), json!(u64::MAX)], Type::Any),
            (vec![json!(1.5), json!(u64::MAX)], Type::Any),
            (vec![json!(1), json!(1.5)], Type::Float),
            (vec![json!("a")], Type::Text),
            (vec![json!("a"), json!(1)], Type::Any),
            (vec![], Type::Any),
            (vec![json!({})], Type::Any),
            (vec![json!([]), json!([])], list(Type::Any)),
            (vec![json!([1]), json!([2.5])], list(Type::Float)),
            (vec![json!([1, "x", null])], list(Type::Any)),
            (vec![json!({"a": 1}), json!(null)], optional(object([("a", Type::Signed)]))),
            (vec![json!([1, null])], list(optional(Type::Signed))),
            (vec![json!([1]), json!({"a": 1})], Type::Any),
            (vec![json!({"a": 1}), json!({"a": 2})], object([("a", Type::Signed)])),
            (vec![json!({"a": 1}), json!({"a": null})], object([("a", optional(Type::Signed))])),
            (
                vec![json!({"a": 1, "b": "x"}), json!({"a": 1})],
                object([("a", Type::Signed), ("b", optional(Type::Text))]),
            ),
            (vec![json!({"a": null})], object([("a", optional(Type::Any))])),
            (vec![json!({"a": 1}), json!({"a": "x"}), json!({})], object([("a", optional(Type::Any))])),
            (
                vec![json!({"a": [{"b": true}, {"b": false, "c": 1}]})],
                object([("a", list(object([("b", Type::Bool), ("c", optional(Type::Signed))])))]),
            ),
        ] {
            assert_eq!(inferred(&samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn a_map_by_ids_and_a_bottomless_value_are_no_structs() {
        let ids: Map<_, _> = (0..500).map(|id| (format!("id-{id}"), json!(1))).collect();
        assert_eq!(inferred(&[json!({ "by_id": ids })]), object([("by_id", Type::Any)]));
        let deep = (0..60).fold(json!(1), |inner, _| json!({ "a": inner }));
        let mut whole = inferred(&[deep]);
        let mut depth = 0;
        while let Type::Struct(mut fields) = whole {
            whole = fields.remove(0).1;
            depth += 1;
        }
        assert_eq!((whole, depth), (Type::Any, MAX_DEPTH + 1));
    }

    #[test]
    fn a_sample_is_written_as_the_type_writes_it() {
        let samples =
            [json!({"a": 1, "b": null, "c": [1, null], "d": {"e": null}}), json!({"a": 1.5, "c": []})];
        let whole = inferred(&samples);
        assert_eq!(whole.written(&samples[0]).to_string(), r#"{"a":1.0,"c":[1,null],"d":{}}"#);
        assert_eq!(whole.plain_value().to_string(), r#"{"a":1.5,"c":[]}"#);
    }
}
