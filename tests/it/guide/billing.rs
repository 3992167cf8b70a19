//! The guide of the billing team.

use std::{fs, sync::Arc, time::Duration};

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

/// Posts the first event again, signed and not.
const AGAIN: &str = r"
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
const [body] = readFileSync('received.jsonl', 'utf8').split('\n');
const [id, at] = [JSON.parse(body).id, Math.floor(Date.now() / 1000)];
const key = Buffer.from(process.env.BILLING_KEY.slice(6), 'base64');
const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
const post = async (signature) => {
  const headers = { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': `v1,${signature}` };
  const url = `http://127.0.0.1:${process.env.PORT}/`;
  return (await fetch(url, { method: 'POST', headers, body })).status;
};
console.log(await post(signature), await post('AAAA'));
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
    assert_eq!(reader.output, "204 401\n");
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
