//! Figures of components that are built.

use std::path::Path;

use serde_json::Value;

use super::{built, plugin};

fn bench(component: &Path, more: &[&str]) -> Value {
    let mut arguments = vec![
        "bench",
        component.to_str().unwrap(),
        "--json",
        "--calls",
        "20",
    ];
    arguments.extend(more);
    plugin(arguments).exits_with(0).json()
}

#[test]
fn every_hook_has_its_figures() {
    let seats = built("plugins/seats.wasm");
    let bench = bench(&seats, &["--settings", "{\"seat_count\":2}"]);
    assert_eq!(bench["plugin"], "seats");
    assert_eq!(bench["component"]["bytes"], seats.metadata().unwrap().len());
    assert_eq!(bench["component"]["sha256"].as_str().unwrap().len(), 64);
    for figure in ["memory_bytes", "load_ms", "load_cached_ms", "init_us"] {
        assert!(bench[figure].as_f64().unwrap() > 0.0, "{figure}: {bench}");
    }
    let hooks = bench["hooks"].as_array().unwrap();
    let produce = hooks
        .iter()
        .find(|hook| hook["hook"] == "before-produce")
        .unwrap();
    assert_eq!(produce["calls"], 20);
    assert_eq!(produce["answers"]["refuse SEAT_REQUIRED"], 20);
    for hook in hooks {
        let figure = |name: &str| hook[name].as_f64().unwrap();
        assert!(figure("instructions") > 100.0, "{hook}");
        assert!(
            figure("p50_us") > 0.0 && figure("p50_us") <= figure("p99_us"),
            "{hook}"
        );
        assert!(figure("p99_us") <= figure("max_us"), "{hook}");
        assert!(figure("fresh_p50_us") <= figure("fresh_p99_us"), "{hook}");
    }
}

#[test]
fn commands_are_sent_by_whom_and_with_what_one_says() {
    let seats = built("plugins/seats.wasm");
    let more = ["--roles", "moderator", "--payload", "{\"seatIndex\":1}"];
    let bench = bench(&seats, &more);
    let hooks = bench["hooks"].as_array().unwrap();
    let lock = hooks.iter().find(|hook| hook["command"] == "seat:lock");
    assert_eq!(lock.unwrap()["answers"]["reply"], 20, "{bench}");
}

#[test]
fn people_get_a_table() {
    let billing = built("plugins/billing.wasm");
    let path = billing.to_str().unwrap();
    let text = plugin(["bench", path, "--calls", "20"]).exits_with(0).out();
    assert!(text.starts_with("billing "), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("on-first-rtp"))
        .unwrap();
    assert!(line.ends_with("  noted"), "{line}");
}

#[test]
fn settings_that_the_plugin_refuses_are_told_in_its_words() {
    let seats = built("plugins/seats.wasm");
    let path = seats.to_str().unwrap();
    let done = plugin(["bench", path, "--settings", "{\"seats\":2}"]).exits_with(1);
    assert!(done.problem().contains("`seats`"), "{}", done.problem());
}
