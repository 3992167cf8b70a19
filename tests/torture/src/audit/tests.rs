use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use crate::witness::{End, How, Nanos};

const MS: Nanos = 1_000_000;

/// Clients, ledger and receiver of a server that was killed at 10 s.
struct Case {
    takes: Vec<Take>,
    pages: Pages,
    book: Book,
}

impl Case {
    fn new(takes: &[Take]) -> Self {
        Self {
            takes: takes.to_vec(),
            pages: Pages::default(),
            book: Book::default(),
        }
    }

    fn entry(&mut self, plugin: Option<&str>, topic: &str, payload: &Value) -> &mut Self {
        let seq = self.pages.lines.len() + 1;
        let line = json!({
            "seq": seq, "at": 0, "id": format!("id-{seq}"), "plugin": plugin, "topic": topic,
            "room": "r", "user": 7, "producer": "p", "payload": payload, "hash": "",
        });
        if topic.starts_with("billing.") {
            let taken = &mut self.book.taken;
            taken.insert(format!("id-{seq}"), line.to_string());
        }
        self.pages.lines.push(line.to_string());
        self
    }

    fn started(&mut self) -> &mut Self {
        let payload = json!({ "producerId": "p", "userId": 7, "roomId": "r", "at": 1_010 });
        self.entry(Some("billing"), "billing.started", &payload)
    }

    fn stopped(&mut self, reason: &str, ended_at: u64) -> &mut Self {
        let payload = json!({
            "producerId": "p", "reason": reason, "startedAt": 1_010, "endedAt": ended_at,
            "billedMs": ended_at - 1_010,
        });
        self.entry(Some("billing"), "billing.stopped", &payload)
    }

    fn fact(&mut self, topic: &str, payload: &Value) -> &mut Self {
        self.entry(None, topic, payload)
    }

    fn told(&mut self, hook: &str) -> &mut Self {
        let said = json!(format!("{hook} 7 p"));
        self.entry(Some("fixture"), "fixture.told", &said)
    }

    fn closed(&mut self, reason: &str, packets: u64) -> &mut Self {
        self.fact("media.first-rtp", &json!({}))
            .told("on-first-rtp");
        let payload = json!({ "reason": reason, "media": { "packets": packets } });
        self.fact("media.closed", &payload)
            .told("on-producer-closed")
    }

    fn audit(&self) -> Audit {
        Audit::of(&Evidence {
            takes: &self.takes,
            pages: &self.pages,
            book: &self.book,
            window: Duration::from_millis(250),
            heartbeat: Duration::from_secs(1),
        })
    }

    /// The rules that are broken.
    fn broken(&self) -> Vec<&'static str> {
        self.audit().broken().into_keys().collect()
    }
}

/// Heard a second after the beginning, and killed at 10 s.
fn killed(heard_ms: i64) -> Take {
    Take {
        sent_at: Some(1_000 * MS),
        heard_at: Some(heard_ms * MS),
        killed_at: Some(10_000 * MS),
        sent: 450,
        ..Take::new("p", 7, "r", 0)
    }
}

/// Closed by its client at 5 s, and no server was killed.
fn ended(how: How) -> Take {
    Take {
        killed_at: None,
        sent: 200,
        end: Some(End {
            how,
            at: 5_000 * MS,
            least: if how == How::Quiet { 200 } else { 150 },
        }),
        ..killed(1_005)
    }
}

#[test]
fn whoever_was_heard_and_ended_is_billed_once() {
    let mut case = Case::new(&[ended(How::Sending)]);
    case.started()
        .stopped("closed", 5_010)
        .closed("closed", 190);
    let audit = case.audit();
    assert_eq!(audit.violations, []);
    assert_eq!(audit.counts.billed_ms, 4_000);
    let [one] = [&audit.counts].map(|one| (one.heard, one.started, one.stopped, one.recovered));
    assert_eq!(one, (1, 1, 1, 0));
    case.stopped("closed", 5_010);
    assert_eq!(case.broken(), ["one end"]);
    case.started();
    assert_eq!(case.broken(), ["billed was sent", "one end"]);
}

#[test]
fn what_was_heard_shortly_before_a_kill_may_be_forgotten_and_is_counted() {
    let case = Case::new(&[killed(9_800)]);
    let audit = case.audit();
    assert_eq!(audit.violations, []);
    assert_eq!(
        (audit.counts.forgotten, audit.counts.forgotten_for_ms),
        (1, 200)
    );
    assert_eq!(Case::new(&[killed(9_700)]).broken(), ["heard is billed"]);
}

#[test]
fn what_a_client_was_told_after_the_kill_was_said_before_it() {
    let told = Take {
        heard_at: None,
        announced_at: Some(10_050 * MS),
        ..killed(0)
    };
    assert_eq!(told.observed_at(), Some(10_000 * MS));
    let broken = Case::new(&[told]).broken();
    assert_eq!(broken, ["heard is billed"], "what was announced is noted");
}

#[test]
fn what_is_billed_is_as_long_as_the_client_saw_it_without_mutes() {
    let muted = Take {
        muted_for: 1_000 * MS,
        muted_since: Some(4_500 * MS),
        ..ended(How::Sending)
    };
    assert_eq!(muted.flowed(), Some(Duration::from_millis(2_495)));
    let mut case = Case::new(&[muted]);
    case.started()
        .stopped("closed", 5_010)
        .closed("closed", 190);
    let audit = case.audit();
    let counts = &audit.counts;
    assert_eq!(
        (counts.timed, counts.timed_ms, counts.timed_billed_ms),
        (1, 2_495, 4_000)
    );
    assert_eq!(audit.violations, []);
    case.takes[0].muted_for = 1_600 * MS;
    assert_eq!(case.broken(), ["time agrees"]);
}

#[test]
fn what_slips_through_a_mute_is_no_beginning_and_is_counted() {
    let muted = Take {
        muted_first: true,
        ..killed(1_005)
    };
    let counts = Case::new(std::slice::from_ref(&muted)).audit().counts;
    assert_eq!((counts.observed, counts.heard_while_muted), (0, 1));
    let unmuted = Take {
        unmuted_at: Some(2_000 * MS),
        ..muted
    };
    assert_eq!(unmuted.observed_at(), Some(2_000 * MS));
    let silent = Take {
        heard_at: None,
        ..unmuted
    };
    assert_eq!(silent.observed_at(), None);
}

#[test]
fn what_was_never_sent_is_not_billed() {
    let silent = Take {
        sent: 0,
        ..ended(How::Sending)
    };
    let mut case = Case::new(&[silent]);
    case.started().stopped("closed", 5_010);
    assert_eq!(case.broken(), ["billed was sent"]);
    let mut unknown = Case::new(&[]);
    unknown.started();
    assert_eq!(unknown.broken(), ["billed was sent"]);
}

#[test]
fn a_kill_ends_what_it_cut_off_at_the_last_heartbeat() {
    for (ended_at, broken) in [
        (9_500, &[][..]),
        (7_100, &[]),
        (6_900, &["one end"]),
        (10_100, &["one end"]),
    ] {
        let mut case = Case::new(&[killed(1_005)]);
        case.started().stopped("recovered", ended_at);
        case.closed("recovered", 440);
        assert_eq!(case.broken(), broken, "{ended_at}");
    }
}

#[test]
fn what_its_client_had_ended_long_before_the_kill_was_not_cut_off() {
    let take = Take {
        killed_at: Some(10_000 * MS),
        ..ended(How::Sending)
    };
    let mut case = Case::new(&[take]);
    case.started().stopped("recovered", 9_500);
    assert_eq!(case.broken(), ["one end"]);
}

#[test]
fn packets_are_counted_as_they_were_sent() {
    for (how, reason, counted, is_right) in [
        (How::Quiet, "closed", 200, true),
        (How::Quiet, "closed", 199, false),
        (How::Sending, "left", 150, true),
        (How::Sending, "left", 149, false),
        (How::Sending, "left", 201, false),
    ] {
        let mut case = Case::new(&[ended(how)]);
        case.started()
            .stopped(reason, 5_010)
            .closed(reason, counted);
        let broken = case.broken();
        assert_eq!(
            broken.is_empty(),
            is_right,
            "{counted} of {how:?}: {broken:?}"
        );
    }
}

#[test]
fn the_guest_that_traps_has_done_everything_once() {
    let mut case = Case::new(&[ended(How::Sending)]);
    case.started()
        .stopped("closed", 5_010)
        .closed("closed", 190);
    case.told("on-first-rtp");
    assert_eq!(case.broken(), ["facts are told once"]);
}

#[test]
fn the_receiver_has_what_the_ledger_has() {
    let mut case = Case::new(&[ended(How::Sending)]);
    case.started()
        .stopped("closed", 5_010)
        .closed("closed", 190);
    let all: HashMap<String, String> = case.book.taken.clone();
    case.book.taken.remove("id-2");
    assert_eq!(case.broken(), ["one book"]);
    case.book.taken = all;
    case.book.taken.insert("id-9".to_owned(), "{}".to_owned());
    assert_eq!(case.broken(), ["one book"]);
}
