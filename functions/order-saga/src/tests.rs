//! The ways that an order can take.

use tidemill_sdk::serde_json::Value;
use tidemill_sdk::testing::{Given, Harness};

use super::*;

const MINUTE_MS: i64 = 60_000;

fn orders() -> Harness<Orders> {
    Harness::new(()).with_timers().strict()
}

fn of(source: &str, minute: i64) -> Given {
    Given::json("o-1", &json!({ "sku": "kettle", "quantity": 2 })).source(source).at(minute * MINUTE_MS)
}

fn sent(orders: &mut Harness<Orders>) -> Vec<String> {
    let command = |value: Value| value["command"].as_str().unwrap_or_default().to_owned();
    orders.take_emitted().iter().map(|emitted| command(emitted.json())).collect()
}

#[test]
fn an_order_that_is_paid_in_time_is_shipped_and_forgotten() {
    let mut orders = orders();
    orders.expect_ok(of("order", 0));
    orders.restart();
    orders.expect_ok(of("payment", 29));
    assert_eq!(
        (sent(&mut orders), orders.timer("o-1", &PAY_BY)),
        (vec!["reserve".into(), "ship".into()], None)
    );
    orders.expect_skip(of("payment", 29));
    orders.expect_ok(of("shipment", 90));
    assert!(orders.state("o-1", &SAGA).is_none());
    orders.expect_reject(of("shipment", 91));
    orders.expect_nothing_more();
}

#[test]
fn an_order_that_nobody_pays_gives_its_goods_back() {
    let mut orders = orders();
    orders.expect_ok(of("order", 0));
    orders.expect_skip(of("order", 1));
    orders.advance_event_time(30 * MINUTE_MS);
    assert_eq!(sent(&mut orders), ["reserve", "release"]);
    orders.expect_ok(of("payment", 31));
    assert_eq!(sent(&mut orders), ["refund"]);
}

#[test]
fn a_payment_that_is_too_late_is_so_even_if_it_is_read_before_the_timer_fires() {
    for sources in [["order", "payment"], ["payment", "order"]] {
        let mut orders = orders();
        for source in sources {
            orders.expect_ok(of(source, if source == "order" { 0 } else { 30 }));
        }
        assert_eq!(sent(&mut orders), ["reserve", "release", "refund"]);
    }
}

#[test]
fn a_payment_may_come_before_its_order() {
    let mut orders = orders();
    orders.expect_ok(of("payment", 0));
    orders.expect_ok(of("order", 0));
    assert_eq!(
        (sent(&mut orders), orders.timer("o-1", &PAY_BY)),
        (vec!["reserve".into(), "ship".into()], None)
    );
}
