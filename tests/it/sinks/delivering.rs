//! What reaches a receiver, in which order, and what a bad one holds up.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use voice_room::{config::SinkConfig, store::ledger::Seal};

use super::{
    House, LIMIT, SECRET, number,
    receiver::{Receiver, Reply, Request},
    webhook, with,
};

fn numbers(requests: &[Request]) -> Vec<u64> {
    requests
        .iter()
        .map(|request| number(&request.entry))
        .collect()
}

/// By room, without those that came again.
fn by_room(requests: &[Request]) -> BTreeMap<String, Vec<u64>> {
    let mut seen = HashSet::new();
    let mut rooms: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in requests {
        if seen.insert(request.header("webhook-id").to_owned()) {
            let room = rooms.entry(request.room().to_owned()).or_default();
            room.push(number(&request.entry));
        }
    }
    rooms
}

fn fine(_: &Request) -> Reply {
    Reply::Status(204)
}

/// As a receiver would verify it.
fn verify(request: &Request, secret: &[u8], signature: &str) {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    let (id, at) = (
        request.header("webhook-id"),
        request.header("webhook-timestamp"),
    );
    mac.update(format!("{id}.{at}.{}", request.body).as_bytes());
    let code = STANDARD
        .decode(signature.strip_prefix("v1,").unwrap())
        .unwrap();
    mac.verify_slice(&code).unwrap();
}

#[tokio::test]
async fn an_event_is_posted_as_the_ledger_has_it_signed_with_each_key() {
    let receiver = Receiver::open(fine).await;
    let old = "the secret of yesterday, long enough";
    let sink = with(webhook("hook", &receiver.url()), |webhook| {
        let key = voice_room::config::SigningKey::new("old", old).unwrap();
        webhook.keys.push(key);
    });
    let house = House::open(&[sink]);
    house.publish("räum", "billing.started", 7);
    let [request] = &receiver.until(|all| all.len() == 1).await[..] else {
        panic!("one request")
    };
    assert!(Seal::START.check(&request.body).is_ok(), "{}", request.body);
    assert_eq!(request.entry["room"], "räum");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(
        request.header("webhook-id"),
        request.entry["id"].as_str().unwrap()
    );
    assert_eq!(
        request.header("idempotency-key"),
        request.header("webhook-id")
    );
    assert_eq!(request.header("webhook-key-id"), "a old");
    let (new, other) = request.header("webhook-signature").split_once(' ').unwrap();
    verify(request, &STANDARD.decode(&SECRET[6..]).unwrap(), new);
    verify(request, old.as_bytes(), other);
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
    assert_eq!(house.status("hook").failing, None);
}

#[tokio::test]
async fn only_the_topics_that_a_sink_wants_are_posted() {
    let receiver = Receiver::open(fine).await;
    let sink = SinkConfig {
        topics: vec!["billing.".to_owned(), "x".to_owned()],
        ..webhook("hook", &receiver.url())
    };
    let house = House::open(&[sink]);
    for (n, topic) in ["bill", "billing.a", "seats.a", "xy", "billing.b"]
        .iter()
        .enumerate()
    {
        house.publish("r", topic, n as u64);
    }
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
    assert_eq!(numbers(&receiver.requests()), [1, 3, 4]);
}

#[tokio::test]
async fn a_receiver_that_fails_times_out_and_redirects_gets_all_in_the_order_of_each_room() {
    let elsewhere = Receiver::open(fine).await;
    let count = AtomicU64::new(0);
    let away = elsewhere.url();
    let receiver = Receiver::open(move |_| match count.fetch_add(1, Ordering::SeqCst) % 8 {
        0 => Reply::Status(500),
        1 => Reply::Told(307, "location", away.clone(), Vec::new()),
        2 => Reply::Told(429, "retry-after", "0".to_owned(), b"slow down".to_vec()),
        3 => Reply::Told(503, "retry-after", "999999".to_owned(), vec![b'x'; 1 << 20]),
        4 => Reply::Told(200, "x", "y".to_owned(), vec![b'x'; 1 << 20]),
        7 => Reply::Silence,
        _ => Reply::Status(200),
    })
    .await;
    let sink = with(webhook("hook", &receiver.url()), |webhook| {
        webhook.timeout = std::time::Duration::from_millis(100);
        webhook.tries = 1000;
    });
    let house = House::open(&[sink]);
    for n in 0..100 {
        house.publish(&format!("room {}", n % 5), "t", n);
    }
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
    let rooms = by_room(&receiver.requests());
    for room in 0..5 {
        let expected: Vec<u64> = (0..20).map(|n| n * 5 + room).collect();
        assert_eq!(rooms[&format!("room {room}")], expected);
    }
    assert_eq!(house.status("hook").dead_letters, 0);
    assert!(
        elsewhere.requests().is_empty(),
        "redirects are not followed"
    );
    let most = receiver.most_at_once();
    assert!((2..=8).contains(&most), "{most} at once");
}

#[tokio::test]
async fn a_room_whose_events_are_not_taken_holds_up_no_other() {
    let receiver = Receiver::open(|request| match request.room() {
        "bad" => Reply::Status(500),
        _ => Reply::Status(200),
    })
    .await;
    let house = House::open(&[with(webhook("hook", &receiver.url()), |webhook| {
        webhook.tries = 10_000;
    })]);
    for n in 0..200 {
        house.publish(if n % 4 == 0 { "bad" } else { "good" }, "t", n);
    }
    let good: Vec<u64> = (0..200).filter(|n| n % 4 != 0).collect();
    let requests = receiver
        .until(|all| {
            all.iter()
                .filter(|request| request.room() == "good")
                .count()
                == good.len()
        })
        .await;
    assert_eq!(by_room(&requests)["good"], good);
    house
        .until("hook", "known to have been taken", |status| {
            status.ahead == 150
        })
        .await;
    assert_eq!(house.status("hook").lag, 200);

    // What was taken ahead is not delivered again after a restart, and the rest is.
    let sink = webhook("hook", &receiver.url());
    let dir = house.close().await;
    let before = receiver.requests().len();
    receiver.behaves(fine);
    let house = House::open_in(dir, &[sink]);
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
    let after = receiver.requests().split_off(before);
    assert!(after.iter().all(|request| request.room() == "bad"));
    let bad: Vec<u64> = (0..200).filter(|n| n % 4 == 0).collect();
    assert_eq!(numbers(&after), bad);
}

#[tokio::test]
async fn a_receiver_that_is_down_holds_up_no_other_sink_and_gets_all_when_it_is_back() {
    let up = Receiver::open(fine).await;
    let down = Receiver::open(fine).await;
    let (address, url) = (down.address, down.url());
    drop(down);
    let house = House::open(&[
        with(webhook("down", &url), |webhook| webhook.tries = 10_000),
        webhook("up", &up.url()),
        SinkConfig::published(),
    ]);
    for n in 0..50 {
        house.publish(&format!("room {}", n % 7), "t", n);
    }
    house.store.flush(LIMIT).await.unwrap();
    up.until(|all| all.len() == 50).await;
    house
        .until("down", "seen to be down", |status| status.failing.is_some())
        .await;
    let problem = house.status("down").failing.unwrap().problem;
    assert!(problem.contains("cannot be reached"), "{problem}");
    assert_eq!(house.status("down").lag, 50);
    let back = Receiver::open_at(address, fine).await;
    house
        .until("down", "all taken", |status| status.lag == 0)
        .await;
    let rooms = by_room(&back.requests());
    assert_eq!(rooms.values().map(Vec::len).sum::<usize>(), 50);
    assert!(rooms.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test]
async fn whoever_is_stopped_before_an_answer_asks_again_with_the_same_id() {
    let receiver = Receiver::open(|_| Reply::Silence).await;
    let sink = with(webhook("hook", &receiver.url()), |webhook| {
        webhook.timeout = LIMIT;
    });
    let house = House::open(std::slice::from_ref(&sink));
    house.publish("r", "t", 1);
    receiver.until(|all| all.len() == 1).await;
    // The receiver has it, and the server does not know: as after a crash.
    house.sinks.stop(std::time::Duration::ZERO).await;
    house.store.flush(LIMIT).await.unwrap();
    let House { dir, store, sinks } = house;
    drop((store, sinks));
    receiver.behaves(fine);
    let house = House::open_in(dir, &[sink]);
    let requests = receiver.until(|all| all.len() == 2).await;
    assert_eq!(
        requests[0].header("webhook-id"),
        requests[1].header("webhook-id")
    );
    assert_eq!(requests[0].body, requests[1].body);
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
}

#[tokio::test]
async fn many_events_of_many_rooms_are_all_taken_and_in_order() {
    let receiver = Receiver::open(fine).await;
    let house = House::open(&[with(webhook("hook", &receiver.url()), |webhook| {
        webhook.concurrency = 32;
    })]);
    for n in 0..3000 {
        house.publish(&format!("room {}", n % 100), "t", n);
    }
    house
        .until("hook", "all taken", |status| status.lag == 0)
        .await;
    let rooms = by_room(&receiver.requests());
    assert_eq!(rooms.values().map(Vec::len).sum::<usize>(), 3000);
    assert!(rooms.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_so_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("published.jsonl");
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let house = House::open_in(dir, &[SinkConfig::published()]);
    assert_eq!(house.status("published").failing, None);
    house.publish("r", "t", 1);
    let failing = async {
        loop {
            if let Some(failing) = house.status("published").failing {
                return failing;
            }
            tokio::task::yield_now().await;
        }
    };
    let failing = tokio::time::timeout(LIMIT, failing).await.unwrap();
    assert!(failing.problem.contains("published.jsonl"), "{failing:?}");
    assert_eq!(house.status("published").lag, 1);
    std::fs::remove_file(&file).unwrap();
    house
        .until("published", "written", |status| status.failing.is_none())
        .await;
    assert_eq!(house.status("published").lag, 0);
}
