//! `outbox list`, `retry` and `drop`: the delivery of a running server.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Report,
    remote::{RemoteError, Server, columns},
};
use crate::cli::{ListOptions, WhichOptions};

/// How a sink does, as far as it is shown here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sink {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    lag: u64,
    ahead: u64,
    dead_letters: u64,
    #[serde(default)]
    failing: Option<Failing>,
}

#[derive(Deserialize)]
struct Failing {
    failures: u64,
    problem: String,
}

#[derive(Deserialize)]
struct Sinks {
    sinks: Vec<Sink>,
}

#[derive(Deserialize)]
struct Letters {
    letters: Vec<Letter>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Letter {
    seq: u64,
    tries: u64,
    problem: String,
    retry: bool,
    #[serde(default)]
    entry: Value,
}

/// Shows how far sinks are and what they have given up.
pub(super) async fn list(options: &ListOptions) -> Result<Report, RemoteError> {
    let server = Server::new(&options.remote)?;
    let mut body = server.ask(Method::GET, "admin/sinks").await?;
    let Sinks { mut sinks } = server.understood(&body)?;
    if let Some(name) = &options.sink {
        sinks.retain(|sink| sink.name == *name);
        if let Some(Value::Array(all)) = body.get_mut("sinks") {
            all.retain(|sink| sink.get("name").is_some_and(|one| one == name));
        }
    }
    let mut text = table(&sinks);
    let mut letters = serde_json::Map::new();
    // The server knows best what is wrong with a sink that it does not have.
    let asked = options.sink.iter().map(String::as_str);
    let have = sinks.iter().filter(|sink| sink.dead_letters > 0);
    let have = have.map(|sink| sink.name.as_str());
    let names: Vec<&str> = match &options.sink {
        Some(_) => asked.collect(),
        None => have.collect(),
    };
    for name in names {
        let after = options.after.map(|after| format!("?after={after}"));
        let path = letters_path(name, &after.unwrap_or_default());
        let page = server.ask(Method::GET, &path).await?;
        text.push_str(&listing(name, &server.understood(&page)?));
        letters.insert(name.to_owned(), page);
    }
    if !options.remote.json {
        return Ok(Report::fine(text));
    }
    if let Value::Object(members) = &mut body {
        members.insert("deadLetters".to_owned(), letters.into());
    }
    Ok(Report::fine(super::json(&body)))
}

/// Has dead letters delivered again.
pub(super) async fn retry(options: &WhichOptions) -> Result<Report, RemoteError> {
    change(options, "retry", "will be delivered again").await
}

/// Drops dead letters.
pub(super) async fn drop_letters(options: &WhichOptions) -> Result<Report, RemoteError> {
    change(options, "drop", "dropped").await
}

#[derive(Deserialize)]
struct Changed {
    changed: u64,
}

async fn change(options: &WhichOptions, what: &str, said: &str) -> Result<Report, RemoteError> {
    let server = Server::new(&options.remote)?;
    let which = if options.all {
        json!({ "all": true })
    } else {
        json!({ "seqs": options.seqs })
    };
    let path = letters_path(&options.sink, &format!("/{what}"));
    let body = server.tell(&path, &which).await?;
    let Changed { changed } = server.understood(&body)?;
    Ok(Report::fine(if options.remote.json {
        super::json(&body)
    } else {
        let letters = if changed == 1 { "letter" } else { "letters" };
        format!("{}: {changed} dead {letters} {said}\n", options.sink)
    }))
}

/// A name with other characters than a sink's is no sink's: what is left of it will not be
/// found.
fn letters_path(sink: &str, rest: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let sink: String = sink.chars().filter(plain).collect();
    format!("admin/sinks/{sink}/dead-letters{rest}")
}

fn table(sinks: &[Sink]) -> String {
    if sinks.is_empty() {
        return "The server has no such sinks.\n".to_owned();
    }
    let head = ["SINK", "TYPE", "LAG", "AHEAD", "DEAD LETTERS", "STATE"];
    let rows = sinks.iter().map(|sink| {
        let state = match &sink.failing {
            None if sink.kind == "removed" => "is not configured any more".to_owned(),
            None => "works".to_owned(),
            Some(Failing { failures, problem }) => format!("failed {failures} times: {problem}"),
        };
        vec![
            sink.name.clone(),
            sink.kind.clone(),
            sink.lag.to_string(),
            sink.ahead.to_string(),
            sink.dead_letters.to_string(),
            state,
        ]
    });
    columns(&head, rows.collect())
}

fn listing(sink: &str, page: &Letters) -> String {
    if page.letters.is_empty() {
        return format!("\n{sink} has no dead letters there.\n");
    }
    let head = ["SEQ", "TOPIC", "ROOM", "TRIES", "PROBLEM"];
    let rows = page.letters.iter().map(|letter| {
        let text = |member: &str| {
            let text = letter.entry.get(member).and_then(Value::as_str);
            text.unwrap_or("?").to_owned()
        };
        let problem = if letter.retry {
            format!("(being delivered again) {}", letter.problem)
        } else {
            letter.problem.clone()
        };
        vec![
            letter.seq.to_string(),
            text("topic"),
            text("room"),
            letter.tries.to_string(),
            problem,
        ]
    });
    let mut text = format!(
        "\nDead letters of {sink}:\n{}",
        columns(&head, rows.collect())
    );
    if let Some(next) = page.next {
        text.push_str(&format!("There may be more: --after {next}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_and_dead_letters_are_shown_in_columns() {
        let sinks: Sinks = serde_json::from_value(json!({ "sinks": [
            { "name": "published", "type": "file", "lag": 0, "ahead": 0, "deadLetters": 0,
              "failing": null },
            { "name": "hook", "type": "webhook", "lag": 12, "ahead": 3, "deadLetters": 1,
              "failing": { "since": 5, "failures": 7, "problem": "answered 500" } },
            { "name": "old", "type": "removed", "lag": 0, "ahead": 0, "deadLetters": 2,
              "failing": null },
        ] }))
        .unwrap();
        assert_eq!(
            table(&sinks.sinks),
            "SINK       TYPE     LAG  AHEAD  DEAD LETTERS  STATE\n\
             published  file     0    0      0             works\n\
             hook       webhook  12   3      1             failed 7 times: answered 500\n\
             old        removed  0    0      2             is not configured any more\n"
        );
        let page: Letters = serde_json::from_value(json!({ "letters": [
            { "seq": 4, "at": 5, "tries": 1, "problem": "answered 422", "retry": true,
              "entry": { "topic": "a.b", "room": "r" } },
        ], "next": 4 }))
        .unwrap();
        assert_eq!(
            listing("hook", &page),
            "\nDead letters of hook:\n\
             SEQ  TOPIC  ROOM  TRIES  PROBLEM\n\
             4    a.b    r     1      (being delivered again) answered 422\n\
             There may be more: --after 4\n"
        );
    }

    #[test]
    fn a_sinks_name_does_not_leave_its_place_in_the_path() {
        assert_eq!(letters_path("../x?y", ""), "admin/sinks/xy/dead-letters");
    }
}
