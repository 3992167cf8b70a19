//! Billing survives `kill -9`: the short form of what `make torture` does for long.

use std::{path::Path, time::Duration};

use voice_room_torture::Options;

// One thread, as the program has it: nothing happens between a kill and its time.
#[tokio::test(flavor = "current_thread")]
async fn billing_survives_kills_traps_and_a_receiver_that_cannot_be_relied_on() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let options = Options {
        server: env!("CARGO_BIN_EXE_voice-room").into(),
        plugins: target.join("plugins"),
        guest: target.join("plugins-test/fixture-plugin.wasm"),
        kills: 3,
        seed: 5,
        duration: Duration::from_secs(16),
        // All tests at once, on any machine.
        window: Duration::from_secs(1),
        drain: Duration::from_secs(60),
        rooms: 2,
        dir: None,
    };
    let report = voice_room_torture::run(&options).await.unwrap();
    let json = serde_json::to_string_pretty(&report).unwrap();
    assert!(report.is_fine(), "{json}");
    // That it was worth it.
    assert!(report.counts.recovered > 0, "{json}");
    assert!(report.counts.counted_exactly > 0, "{json}");
    assert!(report.receiver.again > 0, "{json}");
    println!("{json}");
}
