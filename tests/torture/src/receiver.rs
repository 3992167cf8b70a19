//! A receiver of webhooks that cannot be relied on, and that keeps a book of what it took.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{TortureError, random::Chance, server::SIGNING_KEY};

/// How long it is down, and up.
const DOWN: std::ops::Range<u64> = 300..1_500;
const UP: std::ops::Range<u64> = 2_000..8_000;

/// What the receiver has taken.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// What it took, by idempotency key: the entry as it came.
    pub taken: HashMap<String, String>,
    /// What is wrong with what came: signatures, order, another text under the same key.
    pub wrong: Vec<String>,
    /// What it did.
    pub behaved: Behaved,
    /// The number of the last entry taken, by room.
    last: BTreeMap<String, u64>,
}

/// How often a receiver did what.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Behaved {
    /// Requests.
    pub requests: u64,
    /// Took it, and said so.
    pub took: u64,
    /// Took it, and said that it failed: it comes again.
    pub took_and_failed: u64,
    /// Took it, and did not answer: it comes again.
    pub took_and_hung: u64,
    /// Did not take it, and said so.
    pub failed: u64,
    /// Did not take it, and did not answer.
    pub hung: u64,
    /// What came although it had been taken.
    pub again: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Took,
    Failed,
    None,
}

struct Shared {
    book: Mutex<Book>,
    mood: Mutex<Mood>,
}

/// What it will do next.
struct Mood {
    chance: Chance,
    is_down: bool,
    until: Instant,
    is_well: bool,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn open(chance: Chance) -> Result<Self, TortureError> {
        let failed = || TortureError::system("opening the receiver");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let mood = Mood {
            chance,
            is_down: false,
            until: Instant::now(),
            is_well: false,
        };
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            mood: Mutex::new(mood),
        });
        let app = Router::new()
            .route("/events", post(receive))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // Ends with this task.
            drop(axum::serve(listener, app).await);
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub(crate) fn book(&self) -> Book {
        self.shared.book.lock().clone()
    }

    /// From now on it takes what comes.
    pub(crate) fn recovers(&self) {
        self.shared.mood.lock().is_well = true;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Mood {
    /// Whether it takes what came, and what it says.
    fn next(&mut self) -> (bool, Answer) {
        if self.is_well {
            return (true, Answer::Took);
        }
        if Instant::now() >= self.until {
            self.is_down = !self.is_down;
            let time = if self.is_down { DOWN } else { UP };
            self.until = Instant::now() + self.chance.millis(time);
        }
        match self.chance.roll() {
            _ if self.is_down => (false, Answer::Failed),
            0..=9 => (false, Answer::Failed),
            10..=13 => (false, Answer::None),
            14..=21 => (true, Answer::Failed),
            22..=26 => (true, Answer::None),
            _ => (true, Answer::Took),
        }
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let (takes, answer) = shared.mood.lock().next();
    let text = String::from_utf8_lossy(&body).into_owned();
    shared.book.lock().receive(takes, answer, &headers, text);
    match answer {
        Answer::Took => StatusCode::NO_CONTENT,
        Answer::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        // Until the server has waited long enough, or longer.
        Answer::None => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            StatusCode::GATEWAY_TIMEOUT
        }
    }
}

impl Book {
    fn receive(&mut self, takes: bool, answer: Answer, headers: &HeaderMap, text: String) {
        let behaved = &mut self.behaved;
        behaved.requests += 1;
        *match (takes, answer) {
            (true, Answer::Took) => &mut behaved.took,
            (true, Answer::Failed) => &mut behaved.took_and_failed,
            (true, Answer::None) => &mut behaved.took_and_hung,
            (false, Answer::None) => &mut behaved.hung,
            (false, Answer::Failed | Answer::Took) => &mut behaved.failed,
        } += 1;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("webhook-id").unwrap_or_default();
        if !is_signed(header, &text) {
            self.wrong.push(format!("{id}: not signed as it should be"));
        }
        if takes {
            self.take(id, text);
        }
    }

    /// Notes what came, unless it is in the book.
    pub(crate) fn take(&mut self, id: &str, text: String) {
        #[derive(Deserialize)]
        struct Head {
            seq: u64,
            room: String,
        }
        if let Some(before) = self.taken.get(id) {
            self.behaved.again += 1;
            if *before != text {
                self.wrong
                    .push(format!("{id}: came twice, and not the same"));
            }
            return;
        }
        match serde_json::from_str::<Head>(&text) {
            Ok(Head { seq, room }) => {
                let last = self.last.entry(room).or_default();
                if seq <= *last {
                    let why = format!("{id}: entry {seq} came after {last} of its room");
                    self.wrong.push(why);
                }
                *last = seq;
            }
            Err(why) => self.wrong.push(format!("{id}: {why}")),
        }
        self.taken.insert(id.to_owned(), text);
    }
}

fn is_signed<'a>(header: impl Fn(&'static str) -> Option<&'a str>, text: &str) -> bool {
    let check = || {
        let (id, at) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signatures = header("webhook-signature")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_KEY.as_bytes()).ok()?;
        mac.update(format!("{id}.{at}.{text}").as_bytes());
        let expected = STANDARD.encode(mac.finalize().into_bytes());
        let mut all = signatures
            .split(' ')
            .filter_map(|one| one.strip_prefix("v1,"));
        all.find(|one| *one == expected)
    };
    check().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, room: &str) -> String {
        format!("{{\"seq\":{seq},\"room\":\"{room}\"}}")
    }

    #[test]
    fn what_comes_again_is_taken_once_and_must_be_the_same() {
        let mut book = Book::default();
        book.take("a", entry(1, "r"));
        book.take("a", entry(1, "r"));
        assert!(book.wrong.is_empty());
        book.take("a", entry(1, "other"));
        assert_eq!(book.wrong.len(), 1, "{:?}", book.wrong);
        assert_eq!((book.taken.len(), book.behaved.again), (1, 2));
    }

    #[test]
    fn entries_of_a_room_must_come_in_order_and_rooms_need_not() {
        let mut book = Book::default();
        for (id, seq, room) in [("a", 2, "r"), ("b", 1, "s"), ("c", 5, "r")] {
            book.take(id, entry(seq, room));
        }
        assert!(book.wrong.is_empty());
        book.take("d", entry(4, "r"));
        assert_eq!(book.wrong, ["d: entry 4 came after 5 of its room"]);
    }

    #[test]
    fn a_signature_of_another_key_does_not_count() {
        let header = |name| match name {
            "webhook-id" => Some("1"),
            "webhook-timestamp" => Some("2"),
            _ => Some("v1,AAAA"),
        };
        assert!(!is_signed(header, "{}"));
    }
}
