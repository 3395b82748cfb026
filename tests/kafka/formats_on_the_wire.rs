//! What others read and write: CloudEvents in both modes of the Kafka protocol binding, and keys where Java
//! producers put them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Follower, ReadRecord, Stage, ToSend, cluster, unique};

const WITHIN: Duration = Duration::from_secs(60);

/// Keys with their partition of 10, `(murmur2(key) & 0x7fffffff) % 10`. The hashes are those of Apache Kafka's
/// `UtilsTest.testMurmur2` (Apache-2.0) and librdkafka's `unittest_murmur2` (BSD-2-Clause).
const PARTITIONS_OF_TEN: [(&str, i32); 14] = [
    ("21", 0),
    ("foobar", 6),
    ("a-little-bit-long-string", 2),
    ("a-little-bit-longer-string", 9),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 7),
    ("abc", 7),
    ("kafka", 0),
    ("giberish123456789", 0),
    ("1234", 0),
    ("234", 6),
    ("34", 0),
    ("4", 3),
    ("PreAmbleWillBeRemoved,ThePrePartThatIs", 8),
    ("", 1),
];

#[test]
fn keys_land_where_java_producers_put_them() {
    let stage = Stage::without_topics(cluster(), "murmur");
    cluster().create_topic(&stage.source, 1, &[]);
    cluster().create_topic(&stage.sink, 10, &[]);
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&stage.source, PARTITIONS_OF_TEN.map(|(key, _)| ToSend::new(key, "v").to(0)));
    let mut worker = stage.spawn("a");
    let results = follower.wait_for(PARTITIONS_OF_TEN.len(), WITHIN);
    for (key, partition) in PARTITIONS_OF_TEN {
        let result =
            results.iter().find(|result| result.key_text() == key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(result.partition, partition, "{key}");
    }
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_cloud_event_is_the_same_in_both_modes() {
    let structured = unique("structured");
    let stage = Stage::new(cluster(), "cloudevents", 2)
        .with("/spec/sources/0/format", json!("cloudevents"))
        .with("/spec/sinks", json!([]));
    cluster().create_topic(&structured, 2, &[]);
    let binary_sink = json!({ "name": "binary", "topic": stage.sink, "format": "cloudevents" });
    let structured_sink = json!({ "name": "structured", "topic": structured, "format": "cloudevents",
        "cloudevents": { "mode": "structured" } });
    let stage = stage.with("/spec/sinks", json!([binary_sink, structured_sink]));
    let document = json!({
        "specversion": "1.0", "id": "17", "source": "/rides/é", "type": "com.example.ride",
        "subject": "ride 17", "time": "2026-01-31T12:00:00.5Z", "rider": "ada",
        "datacontenttype": "application/json", "data": { "fare": 12.50 },
    });
    let in_headers = ToSend::new("ada", r#"{"fare":12.50}"#)
        .header("content-type", "application/json")
        .header("ce_specversion", "1.0")
        .header("ce_id", "17")
        .header("ce_source", "/rides/é")
        .header("ce_type", "com.example.ride")
        .header("ce_subject", "ride 17")
        .header("ce_time", "2026-01-31T12:00:00.5Z")
        .header("ce_rider", "ada");
    let in_value = ToSend::new("ada", document.to_string())
        .header("content-type", "application/cloudevents+json; charset=UTF-8");
    let followers = [&stage.sink, &structured].map(|topic| Follower::start(cluster(), topic));
    cluster().produce(&stage.source, [in_headers, in_value]);
    let mut worker = stage.spawn("a");
    let [binary, structured] = followers.map(|follower| follower.wait_for(2, WITHIN));

    for record in &structured {
        let content_type = record.header("content-type").unwrap();
        assert!(content_type.starts_with("application/cloudevents+json"), "{content_type}");
        assert_eq!(serde_json::from_str::<Value>(record.text()).unwrap(), document);
        assert_eq!(record.key_text(), "ada");
    }
    for record in &binary {
        assert_eq!(record.header("content-type"), Some("application/json"));
        assert_eq!(serde_json::from_str::<Value>(record.text()).unwrap(), document["data"]);
        for name in ["specversion", "id", "source", "type", "subject", "time", "rider"] {
            assert_eq!(record.header(&format!("ce_{name}")), document[name].as_str(), "{name}");
        }
        assert_eq!(record.key_text(), "ada");
    }
    let place = |record: &ReadRecord| record.partition;
    assert!(binary.iter().chain(&structured).map(place).all(|partition| partition == binary[0].partition));
    assert!(worker.terminate(WITHIN).success());
}
