//! Administration tells the truth about topics, offsets and groups, and says what to do when it cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemill::kafka::admin::{Isolation, NewTopic, OffsetAt};
use tidemill::kafka::{Admin, AdminError, Commit, Partition};

use crate::harness::{PrivateBroker, ToSend, cluster, try_wait, unique, wait_until};

const WITHIN: Duration = Duration::from_secs(30);

fn admin() -> Admin {
    Admin::new(&cluster().as_cluster()).expect("a client")
}

fn new_topic(name: &str, partitions: Option<u32>, config: &[(&str, &str)]) -> NewTopic {
    let config = config.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    NewTopic { name: name.to_owned(), partitions, replication: None, config }
}

fn commit(topic: &str, partition: i32, offset: i64, metadata: &str) -> Commit {
    let partition = Partition { topic: topic.to_owned(), partition };
    Commit { partition, offset, metadata: metadata.to_owned() }
}

#[test]
fn topics_are_made_once_and_told_from_missing_ones() {
    let (made, missing) = (unique("made"), unique("missing"));
    let admin = admin();
    let topics = [new_topic(&made, Some(3), &[("cleanup.policy", "compact")])];
    admin.create_topics(&topics).unwrap();
    admin.create_topics(&topics).expect("one that is there is fine");
    let found = admin.topics(&[&made, &missing, "no such/name"]).unwrap();
    let expected = [(made.clone(), Some(3)), (missing.clone(), None), ("no such/name".to_owned(), None)];
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(admin.topics(&[&missing]).unwrap()[&missing], None, "asking made no topic");
}

#[test]
fn a_topic_without_a_count_gets_the_brokers_default() {
    let name = unique("default-partitions");
    admin().create_topics(&[new_topic(&name, None, &[])]).unwrap();
    assert!(admin().topics(&[&name]).unwrap()[&name].unwrap() >= 1);
}

#[test]
fn a_topic_that_cannot_be_made_says_which_and_why() {
    let name = unique("wrong");
    let error =
        admin().create_topics(&[new_topic(&name, Some(1), &[("cleanup.policy", "burn")])]).unwrap_err();
    let AdminError::NotCreated { topic, reason } = error else { panic!("{error}") };
    assert_eq!(topic, name);
    assert!(reason.contains("cleanup.policy"), "{reason}");
}

#[test]
fn offsets_are_listed_by_place_time_and_isolation() {
    let topic = unique("offsets");
    cluster().create_topic(&topic, 3, &[]);
    let second = 1_700_000_000_000;
    cluster().produce(&topic, (0..10).map(|n| ToSend::value("x").to(1).at(second + n * 1000)));
    let open: BaseProducer = cluster().config().set("transactional.id", unique("open")).create().unwrap();
    open.init_transactions(WITHIN).unwrap();
    open.begin_transaction().unwrap();
    open.send(BaseRecord::<[u8], str>::to(&topic).partition(1).payload("open")).unwrap();
    open.flush(WITHIN).unwrap();

    let admin = admin();
    let list = |at, isolation| {
        let queries = [(topic.as_str(), 2, at), (topic.as_str(), 1, at)];
        admin.list_offsets(&queries, isolation).unwrap()
    };
    assert_eq!(list(OffsetAt::Earliest, Isolation::ReadCommitted), [Some(0), Some(0)]);
    assert_eq!(list(OffsetAt::Latest, Isolation::ReadCommitted), [Some(0), Some(10)]);
    assert_eq!(list(OffsetAt::Latest, Isolation::ReadUncommitted), [Some(0), Some(11)]);
    let at = OffsetAt::Timestamp(second + 3500);
    assert_eq!(list(at, Isolation::ReadCommitted), [None, Some(4)]);
    open.abort_transaction(WITHIN).unwrap();
    wait_until(WITHIN, "the marker of the abort, which has an offset too", || {
        list(OffsetAt::Latest, Isolation::ReadCommitted) == [Some(0), Some(12)]
    });
}

#[test]
fn a_partition_that_is_not_there_is_named() {
    let topic = unique("small");
    cluster().create_topic(&topic, 1, &[]);
    let admin = admin().within(Duration::from_secs(5));
    let error = admin.list_offsets(&[(&topic, 7, OffsetAt::Latest)], Isolation::ReadCommitted).unwrap_err();
    assert_eq!(error, AdminError::NoPartition { topic: topic.clone(), partition: 7 });
    let queries = [(topic.as_str(), 0, OffsetAt::Latest), (topic.as_str(), 7, OffsetAt::Latest)];
    let error = admin.list_offsets(&queries, Isolation::ReadCommitted).unwrap_err();
    assert_eq!(error, AdminError::NoPartition { topic, partition: 7 });
    let nowhere = unique("nowhere");
    let error = admin.list_offsets(&[(&nowhere, 0, OffsetAt::Latest)], Isolation::ReadCommitted).unwrap_err();
    assert_eq!(error, AdminError::NoPartition { topic: nowhere, partition: 0 });
}

#[test]
fn offsets_committed_for_an_empty_group_come_back_with_their_metadata() {
    let (topic, group) = (unique("committed"), unique("group"));
    cluster().create_topic(&topic, 3, &[]);
    let admin = admin();
    let asked = [0, 2].map(|partition| Partition { topic: topic.clone(), partition });
    let before = admin.committed(&group, Some(&asked), true).unwrap();
    assert_eq!(before.iter().map(|c| c.offset).collect::<Vec<_>>(), [None, None]);
    assert_eq!(admin.committed(&group, None, true).unwrap(), []);

    let long = "m".repeat(4000);
    admin.commit_for_empty_group(&group, &[commit(&topic, 2, 5, &long), commit(&topic, 1, 0, "")]).unwrap();
    let all = admin.committed(&group, None, true).unwrap();
    let all: Vec<_> = all.iter().map(|c| (c.partition.partition, c.offset, c.metadata.as_str())).collect();
    assert_eq!(all, [(1, Some(0), ""), (2, Some(5), long.as_str())]);
    let asked = admin.committed(&group, Some(&asked), false).unwrap();
    assert_eq!(asked.iter().map(|c| c.offset).collect::<Vec<_>>(), [None, Some(5)]);
}

#[test]
fn an_offset_inside_an_open_transaction_is_waited_for_when_asked_stable() {
    let (topic, group) = (unique("unstable"), unique("group"));
    cluster().create_topic(&topic, 1, &[]);
    let admin = admin().within(Duration::from_secs(3));
    admin.commit_for_empty_group(&group, &[commit(&topic, 0, 1, "one")]).unwrap();
    let producer: BaseProducer = cluster().config().set("transactional.id", unique("tx")).create().unwrap();
    producer.init_transactions(WITHIN).unwrap();
    producer.begin_transaction().unwrap();
    let consumer: BaseConsumer = cluster().config().set("group.id", &group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(2)).unwrap();
    producer.send_offsets_to_transaction(&offsets, &consumer.group_metadata().unwrap(), WITHIN).unwrap();

    assert_eq!(admin.committed(&group, None, false).unwrap()[0].offset, Some(1));
    let error = admin.committed(&group, None, true).unwrap_err();
    assert!(error.is_transient(), "{error}");
    producer.commit_transaction(WITHIN).unwrap();
    assert_eq!(admin.committed(&group, None, true).unwrap()[0].offset, Some(2));
}

#[test]
fn members_of_a_group_are_seen_and_guard_its_offsets() {
    for protocol in ["classic", "consumer"] {
        let (topic, group) = (unique("members"), unique("group"));
        cluster().create_topic(&topic, 1, &[]);
        let admin = admin();
        let nobody = admin.group(&group).unwrap();
        assert_eq!((nobody.state.as_str(), nobody.members.len()), ("Dead", 0), "{protocol}");

        let mut config = cluster().config();
        config.set("group.id", &group).set("client.id", "somebody-else").set("group.protocol", protocol);
        let member: BaseConsumer = config.create().unwrap();
        member.subscribe(&[&topic]).unwrap();
        wait_until(WITHIN, "the member to get its partition", || {
            member.poll(Duration::from_millis(50));
            member.assignment().unwrap().count() == 1
        });
        let group_now = admin.group(&group).unwrap();
        assert_eq!(group_now.state, "Stable", "{protocol}");
        let ids: Vec<_> = group_now.members.iter().map(|member| member.client_id.as_str()).collect();
        assert_eq!(ids, ["somebody-else"], "{protocol}");
        let nobody = unique("nobody");
        let both = admin.groups(&[&nobody, &group]).unwrap();
        let counts = both.iter().map(|group| group.as_ref().unwrap().members.len());
        assert_eq!(counts.collect::<Vec<_>>(), [0, 1], "{protocol}");
        let refused = admin.commit_for_empty_group(&group, &[commit(&topic, 0, 3, "")]);
        assert_eq!(refused, Err(AdminError::GroupInUse { group: group.clone() }), "{protocol}");

        member.unsubscribe();
        drop(member);
        try_wait(WITHIN, "the emptied group to take offsets", || {
            admin.commit_for_empty_group(&group, &[commit(&topic, 0, 3, "left")]).map_err(|e| e.to_string())
        });
        assert_eq!(admin.committed(&group, None, true).unwrap()[0].metadata, "left", "{protocol}");
        assert_eq!(admin.group(&group).unwrap().members, [], "{protocol}");
    }
}

#[test]
fn a_call_survives_a_broker_that_comes_back_before_the_deadline() {
    let mut broker = PrivateBroker::start();
    broker.kafka().create_topic("there", 2, &[]);
    let admin = Admin::new(&broker.kafka().as_cluster()).unwrap().within(Duration::from_secs(60));
    admin.commit_for_empty_group("sleeper", &[commit("there", 0, 0, "slept")]).unwrap();
    broker.kill();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| admin.committed("sleeper", None, true));
        broker.start_again();
        assert_eq!(asked.join().unwrap().unwrap()[0].metadata, "slept");
    });
    broker.stop();
    let hasty = Admin::new(&broker.kafka().as_cluster()).unwrap().within(Duration::from_secs(1));
    let error = hasty.topics(&["there"]).unwrap_err();
    assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");
}
