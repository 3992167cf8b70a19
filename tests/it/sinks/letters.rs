//! What a receiver never takes.

use voice_room::{
    config::SinkConfig,
    sinks::{OutboxError, Which},
};

use super::{
    House, LIMIT, number,
    receiver::{Receiver, Reply, Request},
    webhook, with,
};

fn odd_is_wrong(request: &Request) -> Reply {
    if number(&request.entry) % 2 == 1 {
        Reply::Told(
            422,
            "x",
            "y".to_owned(),
            b"odd numbers are not understood".to_vec(),
        )
    } else {
        Reply::Status(200)
    }
}

async fn seqs(house: &House) -> Vec<u64> {
    let page = house.sinks.letters("hook", None, 100).await.unwrap();
    page.letters.iter().map(|(seq, _)| *seq).collect()
}

#[tokio::test]
async fn what_is_refused_for_good_becomes_a_dead_letter_at_once_and_the_rest_goes_on() {
    let receiver = Receiver::open(odd_is_wrong).await;
    let house = House::open(&[webhook("hook", &receiver.url())]);
    for n in 1..=6 {
        house.publish("r", "t", n);
    }
    house
        .until("hook", "three dead letters", |s| {
            s.lag == 0 && s.dead_letters == 3
        })
        .await;
    assert_eq!(receiver.requests().len(), 6);
    let page = house.sinks.letters("hook", None, 100).await.unwrap();
    let (seq, letter) = &page.letters[0];
    assert_eq!((*seq, letter.tries, letter.retry), (1, 1, false));
    assert!(
        letter.problem.starts_with("answered 422"),
        "{}",
        letter.problem
    );
    assert!(
        letter.problem.contains("odd numbers are not"),
        "{}",
        letter.problem
    );
    assert_eq!(letter.entry, receiver.requests()[0].body);
    assert_eq!(seqs(&house).await, [1, 3, 5]);
}

#[tokio::test]
async fn what_has_failed_too_often_becomes_a_dead_letter_and_its_room_goes_on() {
    let receiver = Receiver::open(|request| match number(&request.entry) {
        1 => Reply::Status(500),
        _ => Reply::Status(200),
    })
    .await;
    let house = House::open(&[with(webhook("hook", &receiver.url()), |webhook| {
        webhook.tries = 3;
    })]);
    for n in 1..=3 {
        house.publish("r", "t", n);
    }
    house
        .until("hook", "a dead letter", |s| {
            s.lag == 0 && s.dead_letters == 1
        })
        .await;
    let numbers: Vec<_> = receiver
        .requests()
        .iter()
        .map(|r| number(&r.entry))
        .collect();
    assert_eq!(numbers, [1, 1, 1, 2, 3]);
    let page = house.sinks.letters("hook", None, 100).await.unwrap();
    assert_eq!(page.letters[0].1.tries, 3);
}

#[tokio::test]
async fn dead_letters_outlive_a_restart_are_delivered_again_or_dropped() {
    let receiver = Receiver::open(odd_is_wrong).await;
    let sink = webhook("hook", &receiver.url());
    let house = House::open(std::slice::from_ref(&sink));
    for n in 1..=8 {
        house.publish("r", "t", n);
    }
    house
        .until("hook", "four dead letters", |s| s.dead_letters == 4)
        .await;
    let house = House::open_in(house.close().await, &[sink]);
    assert_eq!(seqs(&house).await, [1, 3, 5, 7]);

    // Still wrong: it is tried, and as dead as before.
    let before = receiver.requests().len();
    assert_eq!(
        house
            .sinks
            .retry("hook", &Which::These(vec![3]))
            .await
            .unwrap(),
        1
    );
    receiver.until(|all| all.len() == before + 1).await;
    let tried = async {
        loop {
            let page = house.sinks.letters("hook", Some(2), 1).await.unwrap();
            let (seq, letter) = &page.letters[0];
            if (*seq, letter.tries, letter.retry) == (3, 2, false) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, tried).await.unwrap();

    assert_eq!(
        house
            .sinks
            .drop_letters("hook", &Which::These(vec![5]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(seqs(&house).await, [1, 3, 7]);
    receiver.behaves(|_| Reply::Status(200));
    let before = receiver.requests().len();
    assert_eq!(house.sinks.retry("hook", &Which::All).await.unwrap(), 3);
    house
        .until("hook", "no dead letters", |s| s.dead_letters == 0)
        .await;
    let again = receiver.requests().split_off(before);
    let numbers: Vec<_> = again.iter().map(|r| number(&r.entry)).collect();
    assert_eq!(numbers, [1, 3, 7]);
    assert_eq!(seqs(&house).await, [0; 0]);
}

#[tokio::test]
async fn what_is_not_there_is_named_and_nothing_changes() {
    let receiver = Receiver::open(odd_is_wrong).await;
    let house = House::open(&[webhook("hook", &receiver.url())]);
    house.publish("r", "t", 1);
    house
        .until("hook", "a dead letter", |s| s.dead_letters == 1)
        .await;
    let error = house.sinks.retry("other", &Which::All).await.unwrap_err();
    assert!(matches!(error, OutboxError::UnknownSink(_)), "{error}");
    let these = Which::These(vec![1, 2]);
    let error = house.sinks.drop_letters("hook", &these).await.unwrap_err();
    assert!(
        matches!(error, OutboxError::UnknownLetter { seq: 2, .. }),
        "{error}"
    );
    assert_eq!(seqs(&house).await, [1]);
}

#[tokio::test]
async fn what_is_dropped_while_it_is_tried_again_stays_dropped() {
    let receiver = Receiver::open(|_| Reply::Status(422)).await;
    let house = House::open(&[webhook("hook", &receiver.url())]);
    for n in 1..=2 {
        house.publish("r", "t", n);
    }
    house
        .until("hook", "two dead letters", |s| s.dead_letters == 2)
        .await;
    receiver.behaves(|request| match number(&request.entry) {
        1 => Reply::Silence,
        _ => Reply::Status(200),
    });
    house.sinks.retry("hook", &Which::All).await.unwrap();
    receiver.until(|all| all.len() == 3).await;
    let first = Which::These(vec![1]);
    let dropped = house.sinks.drop_letters("hook", &first).await.unwrap();
    assert_eq!(dropped, 1);
    // The tries at the first are over when it is the second one's turn.
    house
        .until("hook", "no dead letters", |s| s.dead_letters == 0)
        .await;
    let last = receiver.requests().pop().unwrap();
    assert_eq!(number(&last.entry), 2);
    assert_eq!(seqs(&house).await, [0; 0]);
}

#[tokio::test]
async fn what_a_sink_has_left_behind_is_listed_and_dropped_and_not_delivered() {
    let receiver = Receiver::open(odd_is_wrong).await;
    let house = House::open(&[webhook("hook", &receiver.url())]);
    for n in 1..=3 {
        house.publish("r", "t", n);
    }
    house
        .until("hook", "two dead letters", |s| s.dead_letters == 2)
        .await;
    let house = House::open_in(house.close().await, &[SinkConfig::published()]);
    let status = house.status("hook");
    assert_eq!(
        (status.kind, status.lag, status.dead_letters),
        ("removed", 0, 2)
    );
    assert_eq!(seqs(&house).await, [1, 3]);
    let error = house.sinks.retry("hook", &Which::All).await.unwrap_err();
    assert!(matches!(error, OutboxError::NoWebhook(_)), "{error}");
    let dropped = house.sinks.drop_letters("hook", &Which::All).await;
    assert_eq!(dropped.unwrap(), 2);
    let names: Vec<_> = house.sinks.status().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["published"]);
}
