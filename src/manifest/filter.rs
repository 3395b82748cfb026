//! Filters: from their YAML form, with every operand checked, to the model's, and back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{Document, join};
use super::spec::{FieldTest, Filter, HeaderTest};
use super::text::{attribute, pointer};
use crate::model;

type Attributes = BTreeMap<String, String>;

/// The filters at `path`; what does not hold is noted in `document`.
pub(super) fn resolve(document: &mut Document, path: &str, filters: Vec<Filter>) -> Vec<model::Filter> {
    filters
        .into_iter()
        .enumerate()
        .filter_map(|(index, filter)| one(document, &format!("{path}[{index}]"), filter))
        .collect()
}

/// The only dialect of a filter; `None` when it has none, which the schema refused before.
fn one(document: &mut Document, path: &str, filter: Filter) -> Option<model::Filter> {
    let Filter { exact, prefix, suffix, attributes, all, any, not, header, field } = filter;
    let texts = |document: &mut Document, dialect, texts: &Attributes| {
        check_attributes(document, &join(path, dialect), texts, dialect == "attributes");
    };
    if let Some(exact) = exact {
        texts(document, "exact", &exact);
        return Some(model::Filter::Exact(exact));
    }
    if let Some(prefix) = prefix {
        texts(document, "prefix", &prefix);
        return Some(model::Filter::Prefix(prefix));
    }
    if let Some(suffix) = suffix {
        texts(document, "suffix", &suffix);
        return Some(model::Filter::Suffix(suffix));
    }
    if let Some(attributes) = attributes {
        texts(document, "attributes", &attributes);
        return Some(model::Filter::Attributes(attributes));
    }
    if let Some(all) = all {
        return Some(model::Filter::All(resolve(document, &join(path, "all"), all)));
    }
    if let Some(any) = any {
        return Some(model::Filter::Any(resolve(document, &join(path, "any"), any)));
    }
    if let Some(not) = not {
        return Some(model::Filter::Not(Box::new(one(document, &join(path, "not"), *not)?)));
    }
    if let Some(header) = header {
        return Some(model::Filter::Header { tests: header_tests(&header), name: header.name });
    }
    field.map(|field| {
        let path = join(path, "field");
        if let Err(message) = pointer(&field.path) {
            document.refuse(&join(&path, "path"), message);
        }
        model::Filter::Field { tests: field_tests(document, &path, &field), path: field.path }
    })
}

fn check_attributes(document: &mut Document, path: &str, texts: &Attributes, may_be_empty: bool) {
    for (name, text) in texts {
        let path = join(path, name);
        if let Err(message) = attribute(name) {
            document.refuse(&path, message);
        } else if text.is_empty() && !may_be_empty {
            document.refuse(&path, "must not be empty");
        }
    }
}

fn header_tests(test: &HeaderTest) -> Vec<model::FieldTest> {
    use model::FieldTest::{Eq, Exists, Ge, Gt, In, Le, Lt, Ne};
    let one = |operand: &Option<String>, test: fn(Value) -> model::FieldTest| {
        operand.as_ref().map(|operand| test(Value::from(operand.as_str())))
    };
    let any =
        test.one_of.as_ref().map(|list| In(list.iter().map(|text| Value::from(text.as_str())).collect()));
    [
        one(&test.eq, Eq),
        one(&test.ne, Ne),
        one(&test.lt, Lt),
        one(&test.le, Le),
        one(&test.gt, Gt),
        one(&test.ge, Ge),
        any,
        test.exists.map(Exists),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn field_tests(document: &mut Document, path: &str, test: &FieldTest) -> Vec<model::FieldTest> {
    use model::FieldTest::{Eq, Exists, Ge, Gt, In, Le, Lt, Ne};
    for (name, operand) in [("eq", &test.eq), ("ne", &test.ne)] {
        if matches!(operand, Some(Value::Array(_) | Value::Object(_))) {
            document.refuse(&join(path, name), "compares with text, a number, true, false or null only");
        }
    }
    for (name, operand) in [("lt", &test.lt), ("le", &test.le), ("gt", &test.gt), ("ge", &test.ge)] {
        if operand.as_ref().is_some_and(|operand| !operand.is_number() && !operand.is_string()) {
            document.refuse(&join(path, name), "compares with a number or text only");
        }
    }
    for (index, operand) in test.one_of.iter().flatten().enumerate() {
        if operand.is_array() || operand.is_object() {
            let path = format!("{}[{index}]", join(path, "in"));
            document.refuse(&path, "compares with text, a number, true, false or null only");
        }
    }
    [
        test.eq.clone().map(Eq),
        test.ne.clone().map(Ne),
        test.lt.clone().map(Lt),
        test.le.clone().map(Le),
        test.gt.clone().map(Gt),
        test.ge.clone().map(Ge),
        test.one_of.clone().map(In),
        test.exists.map(Exists),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The YAML form of a filter.
pub(super) fn written(filter: &model::Filter) -> Filter {
    use model::Filter::{All, Any, Attributes, Exact, Field, Header, Not, Prefix, Suffix};
    let empty = Filter::default();
    match filter {
        Exact(texts) => Filter { exact: Some(texts.clone()), ..empty },
        Prefix(texts) => Filter { prefix: Some(texts.clone()), ..empty },
        Suffix(texts) => Filter { suffix: Some(texts.clone()), ..empty },
        Attributes(texts) => Filter { attributes: Some(texts.clone()), ..empty },
        All(filters) => Filter { all: Some(filters.iter().map(written).collect()), ..empty },
        Any(filters) => Filter { any: Some(filters.iter().map(written).collect()), ..empty },
        Not(filter) => Filter { not: Some(Box::new(written(filter))), ..empty },
        Header { name, tests } => Filter { header: Some(written_header(name, tests)), ..empty },
        Field { path, tests } => Filter { field: Some(written_field(path, tests)), ..empty },
    }
}

fn written_header(name: &str, tests: &[model::FieldTest]) -> HeaderTest {
    use model::FieldTest::{Eq, Exists, Ge, Gt, In, Le, Lt, Ne};
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut header = HeaderTest { name: name.to_owned(), ..HeaderTest::default() };
    for test in tests {
        match test {
            Eq(value) => header.eq = text(value),
            Ne(value) => header.ne = text(value),
            Lt(value) => header.lt = text(value),
            Le(value) => header.le = text(value),
            Gt(value) => header.gt = text(value),
            Ge(value) => header.ge = text(value),
            In(list) => header.one_of = Some(list.iter().filter_map(text).collect()),
            Exists(there) => header.exists = Some(*there),
        }
    }
    header
}

fn written_field(path: &str, tests: &[model::FieldTest]) -> FieldTest {
    use model::FieldTest::{Eq, Exists, Ge, Gt, In, Le, Lt, Ne};
    let mut field = FieldTest { path: path.to_owned(), ..FieldTest::default() };
    for test in tests {
        match test.clone() {
            Eq(value) => field.eq = Some(value),
            Ne(value) => field.ne = Some(value),
            Lt(value) => field.lt = Some(value),
            Le(value) => field.le = Some(value),
            Gt(value) => field.gt = Some(value),
            Ge(value) => field.ge = Some(value),
            In(list) => field.one_of = Some(list),
            Exists(there) => field.exists = Some(there),
        }
    }
    field
}
