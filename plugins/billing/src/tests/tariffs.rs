//! Time that costs something.

use serde_json::{Value, json};
use voice_room_plugin_sdk::{
    Action, Actions, Denial, Producer, Source, Target, User,
    testing::{Joined, Stage, counter, keys, published, set_timer_limit, timers},
};

use super::{schemas::check_published, stage, topics};
use crate::Billing;

const UNIT: u64 = 60_000;

fn tariff(more: &Value) -> Value {
    let mut tariff = json!({ "currency": "EUR", "unit_price": 25 });
    let fields = tariff.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    json!({ "tariffs": [tariff] })
}

fn credit(stage: &mut Stage<Billing>, room: &str, user: u64, amount: i64) -> Joined {
    let clerk = stage
        .join(room, User::new(99).with_role("billing"))
        .unwrap();
    let credit = json!({ "userId": user, "amount": amount, "currency": "EUR" });
    stage.command(&clerk, "billing:credit", credit).unwrap();
    clerk
}

/// Alice is heard, with this balance.
fn heard(settings: Value, balance: i64) -> (Stage<Billing>, Joined, Producer) {
    let (mut stage, alice) = stage(settings);
    if balance != 0 {
        credit(&mut stage, "lobby", 7, balance);
    }
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    (stage, alice, producer)
}

fn charged(stage: &Stage<Billing>) -> Vec<(Value, Value, Value)> {
    let charged = stage.published("billing.charged").into_iter();
    charged
        .map(|it| (it["unit"].clone(), it["balance"].clone(), it["at"].clone()))
        .collect()
}

fn stopped(stage: &Stage<Billing>) -> Value {
    let [stopped] = stage.published("billing.stopped").try_into().unwrap();
    stopped
}

fn event(actions: &Actions) -> Vec<&str> {
    let events = actions.iter().filter_map(|action| match action {
        Action::EmitToUser { event, .. } => Some(event.as_str()),
        _ => None,
    });
    events.collect()
}

fn nothing_is_left(stage: &mut Stage<Billing>) {
    stage.advance(600_000).unwrap();
    let left: Vec<_> = keys()
        .into_iter()
        .filter(|key| !key.starts_with("balance/"))
        .collect();
    assert!(left.is_empty() && timers().is_empty(), "{left:?}");
}

#[test]
fn each_whole_unit_is_charged_once_and_the_last_one_only_if_it_is_whole() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 1_000);
    let began = stage.now();
    stage.advance(UNIT - 1).unwrap();
    assert_eq!(charged(&stage), []);
    stage.advance(1).unwrap();
    stage.replace_instance().unwrap();
    stage.advance(UNIT + 59_999).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(
        charged(&stage),
        [
            (json!(1), json!(975), json!(began + UNIT)),
            (json!(2), json!(950), json!(began + 2 * UNIT)),
        ]
    );
    let stopped = stopped(&stage);
    assert_eq!(
        (&stopped["units"], &stopped["amount"]),
        (&json!(2), &json!(50))
    );
    assert_eq!(stopped["billedMs"], 3 * UNIT - 1);
    assert_eq!(
        (&stopped["reason"], &stopped["currency"]),
        (&json!("closed"), &json!("EUR"))
    );
    assert_eq!(
        (&stopped["media"]["packets"], counter("units_charged")),
        (&json!(9_000), 2)
    );
    nothing_is_left(&mut stage);
    check_published();
}

#[test]
fn a_unit_that_becomes_whole_with_the_end_is_charged_with_it() {
    let (mut stage, alice, producer) = heard(tariff(&json!({ "prepaid": false })), 0);
    stage.advance(UNIT).unwrap();
    stage.close(&alice, &producer, "left").unwrap();
    let [(unit, balance, _)] = charged(&stage).try_into().unwrap();
    assert_eq!((unit, balance), (json!(1), Value::Null), "nobody's balance");
    check_published();
}

#[test]
fn pauses_are_not_billed_and_told_with_their_causes() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 1_000);
    let began = stage.now();
    stage.advance(40_000).unwrap();
    stage.pause(&alice, &producer, "user").unwrap();
    assert!(timers().is_empty(), "no unit can become whole");
    stage.advance(10 * UNIT).unwrap();
    stage.resume(&alice, &producer).unwrap();
    stage.advance(19_999).unwrap();
    assert_eq!(charged(&stage), []);
    stage.advance(1).unwrap();
    assert_eq!(
        charged(&stage),
        [(json!(1), json!(975), json!(began + 11 * UNIT))]
    );
    stage.pause(&alice, &producer, "plugin").unwrap();
    stage.advance(5_000).unwrap();
    stage.close(&alice, &producer, "left").unwrap();
    let paused = stage.published("billing.paused");
    assert_eq!(
        (
            &paused[0]["segment"],
            &paused[0]["cause"],
            &paused[0]["durationMs"]
        ),
        (&json!(1), &json!("user"), &json!(40_000))
    );
    assert_eq!(
        (
            &paused[1]["segment"],
            &paused[1]["cause"],
            &paused[1]["billedMs"]
        ),
        (&json!(2), &json!("plugin"), &json!(UNIT))
    );
    let [resumed] = stage.published("billing.resumed").try_into().unwrap();
    assert_eq!(
        (&resumed["segment"], &resumed["cause"]),
        (&json!(2), &json!("user"))
    );
    let stopped = stopped(&stage);
    assert_eq!(
        (&stopped["billedMs"], &stopped["segments"]),
        (&json!(UNIT), &json!(2))
    );
    assert_eq!(stopped["durationMs"], 11 * UNIT + 5_000);
    nothing_is_left(&mut stage);
    check_published();
}

#[test]
fn what_was_charged_for_silence_is_refunded_at_the_end() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 1_000);
    let began = stage.now();
    stage.advance(UNIT + 5_000).unwrap();
    stage.silence(&alice, &producer, began + 50_000).unwrap();
    stage.advance(5_000).unwrap();
    stage.resume(&alice, &producer).unwrap();
    stage.advance(9_999).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    let [refunded] = stage.published("billing.refunded").try_into().unwrap();
    assert_eq!(
        (&refunded["unit"], &refunded["balance"]),
        (&json!(1), &json!(1_000))
    );
    let stopped = stopped(&stage);
    assert_eq!(
        (&stopped["units"], &stopped["amount"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(stopped["billedMs"], 59_999);
    check_published();
}

#[test]
fn a_unit_that_silence_took_back_is_not_charged_again() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 1_000);
    let began = stage.now();
    stage.advance(UNIT + 5_000).unwrap();
    stage.silence(&alice, &producer, began + 50_000).unwrap();
    stage.resume(&alice, &producer).unwrap();
    stage.advance(UNIT + 9_999).unwrap();
    assert_eq!(
        charged(&stage).len(),
        1,
        "the second is whole after 120 s of flow"
    );
    stage.advance(1).unwrap();
    assert_eq!(charged(&stage).len(), 2);
    stage.close(&alice, &producer, "closed").unwrap();
    assert!(stage.published("billing.refunded").is_empty());
    check_published();
}

#[test]
fn a_recovered_session_ends_when_it_was_last_known_to_run_and_exactly_once() {
    let (mut stage, _, producer) = heard(tariff(&json!({})), 1_000);
    stage.advance(UNIT + 30_000).unwrap();
    let killed = stage.now();
    stage.restart_server().unwrap();
    stage.recover().unwrap();
    stage.advance(10 * UNIT).unwrap();
    stage.join("lobby", User::new(8)).unwrap();
    let stopped = stopped(&stage);
    assert_eq!(stopped["sessionId"], json!(producer.id));
    assert_eq!(
        (&stopped["reason"], &stopped["endedAt"]),
        (&json!("recovered"), &json!(killed))
    );
    assert_eq!(
        (&stopped["units"], &stopped["billedMs"]),
        (&json!(1), &json!(90_000))
    );
    nothing_is_left(&mut stage);
    check_published();
}

#[test]
fn who_cannot_pay_a_unit_may_not_send_what_is_billed() {
    let (mut stage, alice) = stage(tariff(&json!({})));
    let Err(Denial::Refused(refusal)) = stage.produce(&alice, Source::Mic) else {
        panic!("a refusal")
    };
    assert_eq!(refusal.code, "BALANCE_SPENT");
    let details = json!({ "currency": "EUR", "balance": 0, "unitPrice": 25, "unitMs": 60_000 });
    assert_eq!(refusal.details, Some(details));
    stage.produce(&alice, Source::Music).unwrap();
    credit(&mut stage, "lobby", 7, 24);
    assert!(stage.produce(&alice, Source::Mic).is_err());
    credit(&mut stage, "lobby", 7, 1);
    stage.produce(&alice, Source::Mic).unwrap();
}

#[test]
fn a_low_balance_is_told_once_and_a_spent_one_ends_the_producer() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 100);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(stage.advance(UNIT).unwrap());
    }
    let low: Vec<_> = told.iter().map(|it| event(&it.actions)).collect();
    assert_eq!(
        low,
        [vec![], vec!["billing:low"], vec![]],
        "2 of 3 units are left"
    );
    let [last] = stage.advance(UNIT).unwrap().try_into().unwrap();
    assert_eq!(event(&last.actions), ["billing:spent"]);
    let close = Action::Close(Target::Producer(producer.id.clone()));
    assert!(last.actions.iter().any(|action| *action == close));
    stage.close(&alice, &producer, "plugin").unwrap();
    let stopped = stopped(&stage);
    assert_eq!(
        (&stopped["reason"], &stopped["closedAs"], &stopped["units"]),
        (&json!("balance_spent"), &json!("plugin"), &json!(4))
    );
    assert_eq!(charged(&stage)[3].1, json!(0));
    check_published();
}

#[test]
fn who_is_to_be_kicked_is_and_a_credit_in_time_goes_on() {
    let (mut stage, alice, _) = heard(tariff(&json!({ "when_spent": "kick" })), 25);
    credit(&mut stage, "lobby", 7, 25);
    let [first] = stage.advance(UNIT).unwrap().try_into().unwrap();
    assert!(!event(&first.actions).contains(&"billing:spent"));
    let [second] = stage.advance(UNIT).unwrap().try_into().unwrap();
    let kick = Action::Kick {
        user_id: 7,
        reason: "balance_spent".to_owned(),
    };
    assert!(second.actions.iter().any(|action| *action == kick));
    stage.leave(&alice, "balance_spent").unwrap();
    assert_eq!(stopped(&stage)["reason"], "balance_spent");
    assert_eq!(stopped(&stage)["closedAs"], "kicked");
}

#[test]
fn a_user_who_leaves_with_a_spent_balance_has_left() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 25);
    stage.advance(UNIT).unwrap();
    stage.close(&alice, &producer, "disconnected").unwrap();
    assert_eq!(stopped(&stage)["reason"], "disconnected");
}

#[test]
fn what_one_call_cannot_charge_the_next_ones_do_before_the_end_is_told() {
    let (mut stage, alice, producer) = heard(tariff(&json!({ "unit_seconds": 1 })), 10_000);
    // As where the plugin was left alone for a while: the session is older than its meter knows.
    let key = crate::open_key("lobby", &producer.id);
    let mut session: Value = stage.kv(&key).unwrap();
    session["started_at"] = (stage.now() - 100_000).into();
    voice_room_plugin_sdk::kv::set(&key, &session).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(
        (
            charged(&stage).len(),
            stage.published("billing.stopped").len()
        ),
        (32, 0)
    );
    stage.advance(1_000).unwrap();
    assert_eq!(charged(&stage).len(), 100);
    let units: Vec<u64> = charged(&stage)
        .iter()
        .map(|(unit, ..)| unit.as_u64().unwrap())
        .collect();
    assert_eq!(units, (1..=100).collect::<Vec<_>>());
    assert_eq!(stopped(&stage)["units"], 100);
    assert_eq!(topics().last().unwrap(), "billing.stopped");
    nothing_is_left(&mut stage);
    check_published();
}

#[test]
fn a_session_keeps_the_terms_with_which_it_began() {
    let (mut stage, alice, producer) = heard(tariff(&json!({})), 1_000);
    voice_room_plugin_sdk::testing::set_settings(&tariff(&json!({ "unit_price": 500 })));
    stage.replace_instance().unwrap();
    stage.advance(UNIT).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(stopped(&stage)["amount"], 25);
    assert_eq!(
        published()
            .iter()
            .filter(|it| it.topic == "billing.charged")
            .count(),
        1
    );
}

#[test]
fn a_session_whose_end_nobody_tells_costs_nothing_once_its_room_is_empty() {
    let (mut stage, ..) = heard(tariff(&json!({})), 1_000);
    let began = stage.now();
    stage.advance(2 * UNIT + 1_000).unwrap();
    // The server is back without the plugin, which so is told of no end; then with it.
    stage.restart_server().unwrap();
    stage.advance(240 * UNIT).unwrap();
    assert_eq!(charged(&stage).len(), 2);
    let stopped = stopped(&stage);
    assert_eq!(
        (&stopped["reason"], &stopped["endedAt"], &stopped["units"]),
        (&json!("server_lost"), &json!(began + 2 * UNIT), &json!(2))
    );
    nothing_is_left(&mut stage);
}

#[test]
fn who_pays_in_advance_and_cannot_be_metered_is_ended_and_others_are_charged_at_the_end() {
    let (mut stage, alice) = stage(tariff(&json!({})));
    credit(&mut stage, "lobby", 7, 1_000);
    set_timer_limit(0);
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    let fired = stage.first_rtp(&alice, &producer).unwrap();
    let close = Action::Close(Target::Producer(producer.id.clone()));
    assert!(fired.iter().any(|action| *action == close), "{fired:?}");
    stage.close(&alice, &producer, "plugin").unwrap();
    assert_eq!(stopped(&stage)["units"], 0);

    let (mut stage, alice) = self::stage(tariff(&json!({ "prepaid": false })));
    set_timer_limit(0);
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    assert!(stage.first_rtp(&alice, &producer).unwrap().is_empty());
    stage.advance(2 * UNIT).unwrap();
    assert_eq!(charged(&stage), []);
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(stopped(&stage)["units"], 2);
}

#[test]
fn a_running_session_is_charged_with_the_next_unit_where_no_timer_can_be_had() {
    let (mut stage, _, producer) = heard(tariff(&json!({ "unit_seconds": 1 })), 10_000);
    let key = crate::open_key("lobby", &producer.id);
    let mut session: Value = stage.kv(&key).unwrap();
    session["started_at"] = (stage.now() - 60_000).into();
    voice_room_plugin_sdk::kv::set(&key, &session).unwrap();
    set_timer_limit(1);
    stage.advance(1_000).unwrap();
    assert_eq!(charged(&stage).len(), 32);
    stage.advance(1_000).unwrap();
    assert_eq!(charged(&stage).len(), 62, "all that is whole by then");
}
