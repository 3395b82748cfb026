//! The comparisons of `header` and `field` predicates. They never fail: a value of another type is not
//! equal, not less, not greater. What is missing meets nothing but `exists: false`, so `ne` asks for a
//! value that is there and differs, be it of another type.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::model::FieldTest;

/// One compiled comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Test(FieldTest);

/// What stands left of the comparison.
#[derive(Clone, Copy)]
enum Actual<'a> {
    Json(&'a Value),
    /// A header's text; `None` for null and for what is not UTF-8, which compare with nothing.
    Text(Option<&'a str>),
}

impl Test {
    /// Takes a comparison from the manifest.
    pub fn compile(test: &FieldTest) -> Self {
        Self(test.clone())
    }

    /// Whether it holds for a field of a JSON body.
    pub fn holds_for_field(&self, field: Option<&Value>) -> bool {
        self.holds(field.map(Actual::Json))
    }

    /// Whether it holds for a header's value. Headers have no types: the text is read as the type of
    /// what it is compared with, a number if that is one.
    pub fn holds_for_header(&self, header: Option<Option<&[u8]>>) -> bool {
        self.holds(header.map(|value| Actual::Text(value.and_then(|value| std::str::from_utf8(value).ok()))))
    }

    fn holds(&self, actual: Option<Actual<'_>>) -> bool {
        let Some(actual) = actual else { return self.0 == FieldTest::Exists(false) };
        let order = |operand| compare(actual, operand);
        match &self.0 {
            FieldTest::Eq(operand) => is_equal(actual, operand),
            FieldTest::Ne(operand) => !is_equal(actual, operand),
            FieldTest::Lt(operand) => order(operand).is_some_and(Ordering::is_lt),
            FieldTest::Le(operand) => order(operand).is_some_and(Ordering::is_le),
            FieldTest::Gt(operand) => order(operand).is_some_and(Ordering::is_gt),
            FieldTest::Ge(operand) => order(operand).is_some_and(Ordering::is_ge),
            FieldTest::In(operands) => operands.iter().any(|operand| is_equal(actual, operand)),
            FieldTest::Exists(expected) => *expected,
        }
    }
}

fn is_equal(actual: Actual<'_>, operand: &Value) -> bool {
    match (actual, operand) {
        (Actual::Json(actual), operand) => is_equal_json(actual, operand),
        (Actual::Text(text), Value::Bool(operand)) => text == Some(if *operand { "true" } else { "false" }),
        (actual, operand) => compare(actual, operand) == Some(Ordering::Equal),
    }
}

fn is_equal_json(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| is_equal_json(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, left)| right.get(name).is_some_and(|right| is_equal_json(left, right)))
        }
        (left, right) => left == right,
    }
}

/// Numbers with numbers, text with text (by code point).
fn compare(actual: Actual<'_>, operand: &Value) -> Option<Ordering> {
    match (actual, operand) {
        (Actual::Json(Value::Number(left)), Value::Number(right)) => compare_numbers(left, right),
        (Actual::Json(Value::String(left)), Value::String(right)) => Some(left.as_str().cmp(right)),
        (Actual::Text(Some(left)), Value::Number(right)) => compare_numbers(&number(left)?, right),
        (Actual::Text(Some(left)), Value::String(right)) => Some(left.cmp(right.as_str())),
        _ => None,
    }
}

fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    match text.parse::<u64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => Number::from_f64(text.parse().ok()?),
    }
}

/// Whole numbers exactly, anything else as doubles.
fn compare_numbers(left: &Number, right: &Number) -> Option<Ordering> {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}
