//! The tests' Kafka keeps Kafka's promises: transactions hide what was aborted, topics that nobody made are
//! missing, a stopped broker comes back with its data, and nothing is left behind.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::harness::{Isolation, PrivateBroker, Supervisor, ToSend, cluster, unique, wait_until};

#[test]
fn what_was_produced_is_read_back_in_order() {
    let topic = unique("round-trip");
    cluster().create_topic(&topic, 3, &[("cleanup.policy", "compact")]);
    let records = (0..100).map(|n| {
        ToSend::new(format!("key-{}", n % 7), format!("{n}"))
            .header("n", n.to_string())
            .at(1_700_000_000_000 + n)
    });
    cluster().produce(&topic, records);

    let read = cluster().read_all(&topic, Isolation::ReadCommitted);
    assert_eq!(read.len(), 100);
    for record in &read {
        let n: i64 = record.text().parse().unwrap();
        assert_eq!(record.key_text(), format!("key-{}", n % 7));
        assert_eq!(record.header("n"), Some(record.text()));
        assert_eq!(record.timestamp_ms, 1_700_000_000_000 + n);
    }
    for pair in read.windows(2).filter(|pair| pair[0].partition == pair[1].partition) {
        assert!(pair[0].text().parse::<i64>().unwrap() < pair[1].text().parse::<i64>().unwrap());
    }
}

#[test]
fn an_aborted_transaction_is_invisible_to_read_committed() {
    let topic = unique("aborted");
    cluster().create_topic(&topic, 1, &[]);
    let producer: BaseProducer =
        cluster().config().set("transactional.id", unique("transactional")).create().unwrap();
    let within = Duration::from_secs(30);
    producer.init_transactions(within).unwrap();
    for (value, committed) in [("kept", true), ("dropped", false), ("kept too", true)] {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<[u8], str>::to(&topic).payload(value)).unwrap();
        producer.flush(within).unwrap();
        if committed {
            producer.commit_transaction(within).unwrap();
        } else {
            producer.abort_transaction(within).unwrap();
        }
    }
    let values = |isolation| {
        cluster().read_all(&topic, isolation).iter().map(|r| r.text().to_owned()).collect::<Vec<_>>()
    };
    wait_until(within, "the marker of the last commit", || values(Isolation::ReadCommitted).len() == 2);
    assert_eq!(values(Isolation::ReadCommitted), ["kept", "kept too"]);
    assert_eq!(values(Isolation::ReadUncommitted), ["kept", "dropped", "kept too"]);
}

#[test]
fn a_topic_that_nobody_made_is_missing() {
    assert_eq!(cluster().partitions(&unique("nobody-made")), None);
}

#[test]
fn a_private_broker_comes_back_with_its_port_and_data() {
    let mut broker = PrivateBroker::start();
    let address = broker.brokers().to_owned();
    broker.kafka().create_topic("kept", 1, &[]);
    broker.kafka().produce("kept", [ToSend::value("before")]);
    broker.stop();
    assert!(std::net::TcpStream::connect(&address).is_err(), "it has stopped");
    broker.start_again();
    broker.kafka().produce("kept", [ToSend::value("between")]);
    broker.kill();
    assert!(std::net::TcpStream::connect(&address).is_err(), "it was killed");
    broker.start_again();
    assert_eq!(broker.brokers(), address);
    let values: Vec<_> = broker.kafka().read_all("kept", Isolation::ReadCommitted);
    assert_eq!(values.iter().map(|record| record.text()).collect::<Vec<_>>(), ["before", "between"]);

    let folder = broker.folder().to_owned();
    drop(broker);
    wait_until(Duration::from_secs(10), "the broker's folder to be removed", || !folder.exists());
}

#[test]
fn a_supervised_process_and_its_folder_go_when_the_pipe_closes() {
    let folder = tempfile::tempdir().unwrap().keep();
    let command = ["sleep", "1000"].map(str::to_owned);
    let mut supervisor = Supervisor::spawn(&folder, "java", &command);
    supervisor.order("start");
    let pid: i32 = std::fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok(), "it runs");
    drop(supervisor);
    assert!(rustix::process::test_kill_process(pid).is_err(), "it has ended");
    assert!(!folder.exists());
}
