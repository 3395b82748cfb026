//! Knative's Trigger filter cases and the examples of the CloudEvents subscriptions API hold, whichever
//! way an event came in; header and field predicates keep the same shape.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::{Value, json};
use tidemill::codec;
use tidemill::model::{FieldTest, Filter, Format};
use tidemill::pipeline::{Filters, Subject};

use crate::scene::{Stored, source};

const TRIGGERS: &str = include_str!("data/knative/trigger_filter_cases.json");
const DIALECTS: &str = include_str!("data/cloudevents/filter_dialects.json");

/// A filter as the manifest writes it; `None` for a dialect that is not there (CESQL).
fn filter(json: &Value) -> Option<Filter> {
    let (dialect, body) = json.as_object().unwrap().iter().next().unwrap();
    let attributes = || serde_json::from_value(body.clone()).unwrap();
    let list = || body.as_array().unwrap().iter().map(|one| filter(one).unwrap()).collect();
    Some(match dialect.as_str() {
        "exact" => Filter::Exact(attributes()),
        "prefix" => Filter::Prefix(attributes()),
        "suffix" => Filter::Suffix(attributes()),
        "attributes" => Filter::Attributes(attributes()),
        "all" => Filter::All(list()),
        "any" => Filter::Any(list()),
        "not" => Filter::Not(Box::new(filter(body).unwrap())),
        "sql" => return None,
        other => panic!("unknown dialect {other}"),
    })
}

/// The event in both content modes.
fn in_both_modes(event: &Value) -> [Stored; 2] {
    let mut binary = Stored::null();
    for (name, value) in event.as_object().unwrap() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let header = if name == "datacontenttype" { "content-type".to_owned() } else { format!("ce_{name}") };
        binary = binary.header(&header, text);
    }
    [binary, Stored::structured(event.to_string())]
}

fn passes(stored: &Stored, filters: &Filters) -> bool {
    let source = source(Format::CloudEvents);
    filters.pass(&codec::decode(stored.record(), &source).unwrap())
}

#[test]
fn every_trigger_case_of_knative_holds_in_both_content_modes() {
    let cases: Value = serde_json::from_str(TRIGGERS).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 30);
    for case in cases {
        let list = match case.get("filters") {
            Some(list) => list.as_array().unwrap().iter().map(|one| filter(one).unwrap()).collect(),
            None => vec![filter(&case["filter"]).unwrap()],
        };
        let filters = Filters::compile(&list);
        for stored in in_both_modes(&case["event"]) {
            for _ in 0..case["repeat"].as_u64().unwrap_or(1) {
                assert_eq!(
                    passes(&stored, &filters),
                    case["expect"] == "pass",
                    "{} {}",
                    case["id"],
                    case["name"]
                );
            }
        }
    }
}

#[test]
fn every_example_of_the_subscriptions_api_but_sql_holds() {
    let dialects: Value = serde_json::from_str(DIALECTS).unwrap();
    let mut tried = 0;
    for example in dialects["spec_examples"].as_array().unwrap() {
        let Some(filter) = filter(&example["filter"]) else { continue };
        tried += 1;
        for stored in in_both_modes(&dialects["event"]) {
            assert_eq!(
                passes(&stored, &Filters::compile(std::slice::from_ref(&filter))),
                example["pass"] == true,
                "{}",
                example["filter"]
            );
        }
    }
    assert_eq!(tried, 7);
}

#[test]
fn no_filter_lets_everything_pass_and_all_of_a_list_must_hold() {
    let [stored, _] = in_both_modes(&json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}));
    let of =
        |list: &[Value]| Filters::compile(&list.iter().map(|one| filter(one).unwrap()).collect::<Vec<_>>());
    assert!(passes(&stored, &of(&[])));
    assert!(passes(&stored, &of(&[json!({"exact": {"type": "t"}}), json!({"prefix": {"source": "/"}})])));
    assert!(!passes(&stored, &of(&[json!({"exact": {"type": "t"}}), json!({"prefix": {"source": "x"}})])));
    assert!(!passes(&stored, &of(&[json!({"exact": {"type": "T"}})])), "case counts");
    assert!(
        passes(&stored, &of(&[json!({"not": {"exact": {"subject": "x"}}})])),
        "not of a missing attribute"
    );
}

#[test]
fn times_are_compared_as_moments_and_typed_extensions_by_their_canonical_text() {
    let document = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t",
        "time": "2020-03-21T14:34:56.780+02:00", "exbool": true, "exint": 42
    });
    for stored in in_both_modes(&document) {
        for (dialect, expected) in [
            (json!({"exact": {"time": "2020-03-21T12:34:56.78Z"}}), true),
            (json!({"exact": {"time": "2020-03-21T12:34:56.780000Z"}}), true),
            (json!({"exact": {"time": "2020-03-21T12:34:56.781Z"}}), false),
            (json!({"exact": {"time": "tomorrow"}}), false),
            (json!({"prefix": {"time": "2020-03-21T12:"}}), true),
            (json!({"suffix": {"time": ".78Z"}}), true),
            (json!({"attributes": {"time": ""}}), true),
            (json!({"exact": {"exbool": "true", "exint": "42"}}), true),
            (json!({"prefix": {"exint": "4"}}), true),
            (json!({"exact": {"exint": "42.0"}}), false),
        ] {
            assert_eq!(
                passes(&stored, &Filters::compile(&[filter(&dialect).unwrap()])),
                expected,
                "{dialect}"
            );
        }
    }
}

#[test]
fn field_predicates_compare_like_with_like_and_never_fail() {
    let body = json!({
        "n": 1, "f": 1.0, "big": 9_007_199_254_740_993_i64, "s": "b", "null": null, "yes": true,
        "list": [1, 2], "o": {"a/b": 5}
    })
    .to_string();
    use FieldTest::{Eq, Exists, Ge, Gt, In, Le, Lt, Ne};
    for (path, test, expected) in [
        ("/n", Eq(json!(1.0)), true),
        ("/f", Eq(json!(1)), true),
        ("/n", Eq(json!("1")), false),
        ("/n", Ne(json!("1")), true),
        ("/n", Ne(json!(1.0)), false),
        ("/big", Eq(json!(9_007_199_254_740_992_i64)), false),
        ("/big", Gt(json!(9_007_199_254_740_992_i64)), true),
        ("/n", Lt(json!(1.5)), true),
        ("/n", Gt(json!("0")), false),
        ("/n", Lt(json!("2")), false),
        ("/s", Gt(json!("a")), true),
        ("/s", Le(json!("b")), true),
        ("/s", Ge(json!("c")), false),
        ("/yes", Eq(json!(true)), true),
        ("/yes", Gt(json!(false)), false),
        ("/list", Eq(json!([1.0, 2])), true),
        ("/list/1", Eq(json!(2)), true),
        ("/o", Eq(json!({"a/b": 5.0})), true),
        ("/o/a~1b", In(vec![json!(4), json!(5)]), true),
        ("/n", In(vec![]), false),
        ("/null", Exists(true), true),
        ("/null", Exists(false), false),
        ("/null", Eq(json!(null)), true),
        ("/null", Ne(json!(1)), true),
        ("/gone", Exists(false), true),
        ("/gone", Exists(true), false),
        ("/gone", Eq(json!(null)), false),
        ("/gone", Ne(json!(1)), false),
        ("", Exists(true), true),
    ] {
        let filters = Filters::compile(&[Filter::Field { path: path.to_owned(), tests: vec![test.clone()] }]);
        let source = source(Format::Bytes);
        let stored = Stored::new(&body);
        let event = codec::decode(stored.record(), &source).unwrap();
        assert_eq!(filters.pass(&event), expected, "{path} {test:?}");
    }
}

#[test]
fn a_body_that_is_no_json_has_no_fields() {
    let of = |test| Filters::compile(&[Filter::Field { path: "/a".to_owned(), tests: vec![test] }]);
    let source = source(Format::Bytes);
    for stored in [Stored::new("{\"a\":"), Stored::null(), Stored::new("")] {
        let event = codec::decode(stored.record(), &source).unwrap();
        assert!(!of(FieldTest::Ne(json!(1))).pass(&event));
        assert!(!of(FieldTest::Exists(true)).pass(&event));
        assert!(of(FieldTest::Exists(false)).pass(&event));
    }
}

#[test]
fn header_predicates_read_the_last_header_as_the_type_they_compare_with() {
    let stored = Stored::new("")
        .header("size", "first")
        .header("size", "10")
        .header("price", "1e1")
        .header("flag", "true")
        .header("raw", [0xff])
        .null_header("none");
    use FieldTest::{Eq, Exists, Gt, In, Lt, Ne};
    let source = source(Format::Bytes);
    let event = codec::decode(stored.record(), &source).unwrap();
    for (name, test, expected) in [
        ("size", Eq(json!("10")), true),
        ("size", Eq(json!(10)), true),
        ("size", Eq(json!(10.0)), true),
        ("size", Gt(json!(9)), true),
        ("size", Gt(json!("9")), false),
        ("size", Eq(json!("first")), false),
        ("size", In(vec![json!(3), json!(10)]), true),
        ("price", Eq(json!(10)), true),
        ("flag", Eq(json!(true)), true),
        ("flag", Ne(json!(false)), true),
        ("flag", Lt(json!(3)), false),
        ("raw", Exists(true), true),
        ("raw", Eq(json!("\u{fffd}")), false),
        ("none", Exists(true), true),
        ("none", Eq(json!(null)), false),
        ("none", Ne(json!("x")), true),
        ("gone", Exists(false), true),
        ("gone", Ne(json!("x")), false),
        ("Size", Exists(true), false),
    ] {
        let filters =
            Filters::compile(&[Filter::Header { name: name.to_owned(), tests: vec![test.clone()] }]);
        assert_eq!(filters.pass(&event), expected, "{name} {test:?}");
    }
    let range = Filter::Header { name: "size".to_owned(), tests: vec![Gt(json!(5)), Lt(json!(8))] };
    assert!(!Filters::compile(&[range]).pass(&event), "all tests must hold");
}

/// Counts how often its body is asked for.
struct Watched(Cell<u32>);

impl Subject for Watched {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        (name == "type").then_some(Cow::Borrowed("t"))
    }

    fn header(&self, _name: &str) -> Option<Option<&[u8]>> {
        None
    }

    fn json(&self) -> Option<&Value> {
        self.0.set(self.0.get() + 1);
        None
    }
}

#[test]
fn the_body_is_not_parsed_when_something_cheaper_decides() {
    let field = || Filter::Field { path: "/a".to_owned(), tests: vec![FieldTest::Exists(true)] };
    let exact = |text: &str| Filter::Exact([("type".to_owned(), text.to_owned())].into());
    for (list, asked) in [
        (vec![field(), exact("other")], 0),
        (vec![Filter::Any(vec![field(), exact("t")])], 0),
        (vec![Filter::All(vec![Filter::Not(Box::new(field())), exact("other")])], 0),
        (vec![field(), exact("t")], 1),
    ] {
        let subject = Watched(Cell::new(0));
        Filters::compile(&list).pass(&subject);
        assert_eq!(subject.0.get(), asked, "{list:?}");
    }
}
