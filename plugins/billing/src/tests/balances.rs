//! Commands about balances.

use serde_json::{Value, json};
use voice_room_plugin_sdk::{
    Denial, User,
    testing::{Joined, Stage, keys, published},
};

use super::{schemas::check_published, stage, topics};
use crate::Billing;

fn cast() -> (Stage<Billing>, Joined, Joined) {
    let tariff = json!({ "prefix": "lob", "currency": "EUR", "unit_price": 25 });
    let (mut stage, alice) = stage(json!({ "tariffs": [tariff] }));
    let clerk = User::new(99).with_role("billing");
    let clerk = stage.join("lobby", clerk).unwrap();
    (stage, alice, clerk)
}

fn refused(stage: &mut Stage<Billing>, who: &Joined, command: &str, payload: Value) -> Value {
    match stage.command(who, command, payload) {
        Err(Denial::Refused(refusal)) => json!([refusal.code, refusal.details]),
        other => panic!("a refusal: {other:?}"),
    }
}

fn data(stage: &mut Stage<Billing>, who: &Joined, command: &str, payload: Value) -> Value {
    let reply = stage.command(who, command, payload).unwrap();
    reply.data.unwrap()
}

#[test]
fn a_balance_is_credited_set_and_told() {
    let (mut stage, alice, clerk) = cast();
    let credit = json!({ "userId": 7, "amount": 100 });
    let reply = stage.command(&clerk, "billing:credit", credit).unwrap();
    let told = json!({ "userId": 7, "currency": "EUR", "balance": 100 });
    assert_eq!(reply.data, Some(told.clone()));
    let expected = voice_room_plugin_sdk::Actions::new().emit_to_user(7, "billing:balance", &told);
    assert_eq!(reply.actions, expected);
    let own = data(&mut stage, &alice, "billing:balance", json!({}));
    assert_eq!(own, told);
    let set = json!({ "userId": 8, "balance": 70, "currency": "COINS" });
    let reply = stage.command(&clerk, "billing:credit", set).unwrap();
    assert_eq!(
        reply.actions,
        voice_room_plugin_sdk::Actions::new(),
        "not here"
    );
    let set = json!({ "userId": 8, "balance": -5, "currency": "COINS" });
    data(&mut stage, &clerk, "billing:credit", set);
    let asked = json!({ "userId": 8, "currency": "COINS" });
    let other = data(&mut stage, &clerk, "billing:balance", asked);
    assert_eq!(other["balance"], -5);
    let amounts: Vec<_> = published()
        .iter()
        .map(|it| it.payload["amount"].clone())
        .collect();
    assert_eq!(amounts, [json!(100), json!(70), json!(-75)]);
    assert_eq!(topics(), ["billing.credited"; 3]);
    check_published();
}

#[test]
fn a_credit_whose_reference_came_before_changes_nothing() {
    let (mut stage, _, clerk) = cast();
    let wrong = json!({ "userId": 7, "amount": 0, "reference": "order-1" });
    refused(&mut stage, &clerk, "billing:credit", wrong);
    let credit = json!({ "userId": 7, "amount": 100, "reference": "order-1" });
    data(&mut stage, &clerk, "billing:credit", credit.clone());
    let again = data(&mut stage, &clerk, "billing:credit", credit);
    let told = json!({ "userId": 7, "currency": "EUR", "balance": 100, "repeated": true });
    assert_eq!(again, told);
    assert_eq!(published().len(), 1);
    assert_eq!(published()[0].payload["reference"], "order-1");
    check_published();
}

#[test]
fn references_are_forgotten_after_30_days_and_refused_where_there_are_too_many() {
    let (mut stage, _, clerk) = cast();
    let reference =
        |nth: u32| json!({ "userId": 7, "amount": 1, "reference": format!("{nth:0128}") });
    let mut taken = 0;
    let refused = loop {
        match stage.command(&clerk, "billing:credit", reference(taken)) {
            Ok(_) => taken += 1,
            Err(Denial::Refused(refusal)) => break refusal,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(
        taken > 300 && json!(refused.details).to_string().contains("30 days"),
        "{taken}: {refused:?}"
    );
    assert_eq!(stage.kv::<i64>("balance/EUR/7"), Some(i64::from(taken)));
    let again = data(&mut stage, &clerk, "billing:credit", reference(0));
    assert_eq!(again["repeated"], true);
    let other = json!({ "userId": 8, "amount": 1, "reference": "order-1" });
    data(&mut stage, &clerk, "billing:credit", other);
    stage.advance(30 * 24 * 3_600_000).unwrap();
    assert!(!keys().iter().any(|key| key.starts_with("credited/")));
    let later = data(&mut stage, &clerk, "billing:credit", reference(0));
    assert_eq!(later["balance"], taken + 1);
}

#[test]
fn only_who_manages_may_credit_and_ask_about_others() {
    let (mut stage, alice, _) = cast();
    let credit = json!({ "userId": 7, "amount": 1_000 });
    let no = json!(["NOT_AUTHORIZED", null]);
    assert_eq!(refused(&mut stage, &alice, "billing:credit", credit), no);
    let other = json!({ "userId": 8 });
    assert_eq!(refused(&mut stage, &alice, "billing:balance", other), no);
    assert!(published().is_empty());
}

#[test]
fn a_credit_that_cannot_be_is_told_by_its_field() {
    let (mut stage, _, clerk) = cast();
    for (payload, field) in [
        (json!({ "userId": 7 }), "amount"),
        (json!({ "userId": 7, "amount": 1, "balance": 1 }), "amount"),
        (json!({ "userId": 7, "amount": 0 }), "amount"),
        (json!({ "userId": 7, "amount": i64::MIN }), "amount"),
        (json!({ "userId": 7, "balance": i64::MAX }), "balance"),
        (
            json!({ "userId": 7, "amount": 1, "currency": "eur/1" }),
            "currency",
        ),
        (
            json!({ "userId": 7, "amount": 1, "reference": "" }),
            "reference",
        ),
        (json!({ "amount": 1 }), "userId"),
    ] {
        let no = refused(&mut stage, &clerk, "billing:credit", payload.clone());
        assert_eq!(no[0], "INVALID_PAYLOAD", "{payload}");
        assert!(no[1].to_string().contains(field), "{payload}: {no}");
    }
    let clerk = User::new(99).with_role("billing");
    let elsewhere = stage.join("elsewhere", clerk).unwrap();
    let no = refused(&mut stage, &elsewhere, "billing:balance", json!({}));
    assert!(no[1].to_string().contains("currency"), "{no}");
    assert_eq!(stage.kv::<i64>("balance/EUR/7"), None);
}
