//! The guide of the billing team.

use std::{fs, io::Write, sync::Arc, time::Duration};

use voice_room_load::{
    Access, Meter, Server, Stage, Target,
    media::{Engine, Options},
    plan::Plan,
    scenario::media,
};

use super::{Block, Reader, blocks};

const GUIDE: &str = include_str!("../../../plugins/billing/GUIDE.md");

const RECEIVER: &str = include_str!("../../../plugins/billing/examples/receiver.mjs");

/// What the guide has the load generator do; it is called as a library here.
const LOAD: &str = "voice-room-load steady --speakers 1 --listeners 1 --duration 2 --take-seats\n";

/// Goes away in the middle of a request, and then posts the first event again: signed with each
/// key, with an empty one, and not at all.
const AGAIN: &str = r"
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
const { PORT, BILLING_KEY, NEW_KEY } = process.env;
const half = connect(PORT, '127.0.0.1');
half.end('POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n{');
half.resume();
await once(half, 'close');
const [body] = readFileSync('received.jsonl', 'utf8').split('\n');
const [id, at] = [JSON.parse(body).id, Math.floor(Date.now() / 1000)];
const sign = (key) => createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
const keys = [BILLING_KEY, NEW_KEY].map((key) => Buffer.from(key.slice(6), 'base64'));
const signatures = [...keys, Buffer.alloc(0)].map(sign);
const post = async (signature) => {
  const headers = { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': `v1,${signature}` };
  return (await fetch(`http://127.0.0.1:${PORT}/`, { method: 'POST', headers, body })).status;
};
console.log(...await Promise.all([...signatures, 'AAAA'].map(post)));
";

/// Somebody speaks, and somebody listens.
async fn load(url: &str) {
    let server = Server::resolve(url, Access::Development, false);
    let stage = Arc::new(Stage {
        target: Target::Server(server.await.unwrap()),
        engine: Engine::start(Options {
            threads: 1,
            verify: 1,
        })
        .unwrap(),
        meter: Meter::default(),
        limit: Duration::from_secs(20),
        media_limit: Duration::from_secs(20),
        allow_remote: false,
        take_seats: true,
    });
    let plan = Plan {
        rooms: 1,
        speakers: 1,
        listeners: 1,
        concurrency: 2,
        join_limit: Duration::from_secs(20),
        steady: Duration::from_secs(2),
        settle: Duration::ZERO,
        server: None,
    };
    let outcome = media::run(&stage, &plan, "steady", url.to_owned()).await;
    let outcome = outcome.unwrap();
    assert!(outcome.is_fine(0.05), "{outcome:?}");
}

#[test]
fn the_guide_of_the_billing_team_does_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    let mut reader = Reader::new(home.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for block in blocks(GUIDE) {
        match block {
            Block::Commands { text, status } if text.starts_with("voice-room-load") => {
                let rest = text.strip_prefix(LOAD).expect("what LOAD does");
                runtime.block_on(load(&format!("http://127.0.0.1:{}", reader.port)));
                reader.run(rest, status);
            }
            block => reader.follow(block),
        }
    }
    assert!(
        reader.output.contains("\"degraded\":false"),
        "{}",
        reader.output
    );

    // Twice the same is taken once, and what is not signed not at all.
    fs::write(reader.dir.join("again.mjs"), AGAIN).unwrap();
    reader.run("PORT=8080 node again.mjs\n", 0);
    assert_eq!(reader.output, "204 401 401 401\n");
    // It dies in the middle of a line, and begins again, with both keys and an empty one.
    let mut receiver = reader.background.remove(0);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let book = reader.dir.join("received.jsonl");
    let mut book = fs::OpenOptions::new().append(true).open(book).unwrap();
    book.write_all(b"{\"id\":\"half").unwrap();
    reader.run("BILLING_KEYS=\"$BILLING_KEYS \"\n", 0);
    reader.start("PORT=8080 node receiver.mjs");
    reader.run("PORT=8080 node again.mjs\n", 0);
    assert_eq!(reader.output, "204 204 401 401\n");
    let received = fs::read_to_string(reader.dir.join("received.jsonl")).unwrap();
    assert_eq!(received.lines().count(), 2, "{received}");
}

#[test]
fn the_guide_shows_the_example_that_comes_with_the_plugin() {
    let shown = blocks(GUIDE).into_iter().find_map(|block| match block {
        Block::File { name, text } if name == "receiver.mjs" => Some(text),
        _ => None,
    });
    assert_eq!(shown.as_deref(), Some(RECEIVER));
    assert!(RECEIVER.lines().count() < 40);
}
