//! What programs that are not ours make of the ledger, by what is told of it: the verifier of
//! the README, and the description of the routes.

use std::{io::Write, process::Stdio};

use voice_room::store::Note;

use super::*;

const README: &str = include_str!("../../../README.md");

/// The program that the README shows.
fn verifier() -> String {
    let after = README.split_once("```python\n").unwrap().1;
    after.split_once("```").unwrap().0.to_owned()
}

/// Whether Python's interpreter takes the lines for a ledger, and what it says if not.
fn verify(program: &str, lines: &str) -> Result<(), String> {
    let mut python = Command::new("python3")
        .args(["-c", program])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has seen enough reads no further.
    drop(python.stdin.take().unwrap().write_all(lines.as_bytes()));
    let done = python.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    if done.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

/// What plugins publish, what the server notes, and texts that are awkward for JSON.
async fn filled() -> Api {
    let api = Api::standard().await;
    api.publish(0..3).await;
    let note = Note {
        id: uuid::Uuid::now_v7(),
        at: voice_room::model::UnixMs(5),
        topic: "media.closed",
        room: "räum \u{1f600} \"\\\u{7}\u{2028}",
        user: Some(UserId(u64::MAX)),
        producer: None,
        payload: &json!({ "bytes": u64::MAX, "level": -0.5, "tiny": 1e-7, "ä": "\n", "a": null }),
        owed: &[],
        open: &[],
    };
    let noted = api.store.note(&note).unwrap();
    noted.wait(LIMIT).await.unwrap();
    api.publish(3..5).await;
    api
}

#[tokio::test]
async fn the_readmes_verifier_takes_what_the_server_gives_out_and_nothing_else() {
    let api = filled().await;
    let lines = async |after: u64| {
        let request = api.get(&format!("/ledger?after={after}"));
        let request = request.header("accept", "application/x-ndjson");
        request.send().await.unwrap().text().await.unwrap()
    };
    let program = verifier();
    let all = lines(0).await;
    assert_eq!(all.lines().count(), 6);
    assert_eq!(verify(&program, &all), Ok(()));
    // The file among the sinks has the same lines, as far as plugins have published them.
    let file = std::fs::read_to_string(api.dir.path().join("published.jsonl")).unwrap();
    let published = all.lines().filter(|line| !line.contains("\"plugin\":null"));
    assert_eq!(
        file.lines().collect::<Vec<_>>(),
        published.collect::<Vec<_>>()
    );

    let (_, page) = api.ask("/ledger?after=2").await;
    let anchor = page["anchor"]["hash"].as_str().unwrap();
    let from_anchor = program.replace("bytes(32)", &format!("bytes.fromhex(\"{anchor}\")"));
    assert_ne!(from_anchor, program);
    let rest = lines(2).await;
    assert_eq!(verify(&from_anchor, &rest), Ok(()));

    let refused = |lines: &str| {
        let said = verify(&program, lines).unwrap_err();
        assert!(said.contains("AssertionError"), "{said}");
    };
    refused(&rest);
    refused(&all.replace("\"n\":1", "\"n\":7"));
    refused(&all.replace("media.closed", "media.paused"));
    let without_second = all.lines().enumerate().filter(|(index, _)| *index != 1);
    let without_second: String = without_second
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    refused(&without_second);
}

#[tokio::test]
async fn the_routes_of_the_ledger_and_its_delivery_are_described() {
    let api = Api::standard().await;
    let (_, described) = api.ask("/openapi.json").await;
    let letters = "/admin/sinks/{sink}/dead-letters";
    let routes = [
        ("/ledger".to_owned(), "get", "after limit wait"),
        ("/admin/sinks".to_owned(), "get", ""),
        (letters.to_owned(), "get", "sink after limit"),
        (format!("{letters}/retry"), "post", "sink"),
        (format!("{letters}/drop"), "post", "sink"),
    ];
    for (path, method, parameters) in routes {
        let route = &described["paths"][&path][method];
        let names = route["parameters"].as_array().into_iter().flatten();
        let names: Vec<_> = names.map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), parameters, "{path}");
        assert_eq!(route["security"], json!([{ "token": [] }]), "{path}");
        assert_eq!(route["requestBody"].is_object(), method == "post", "{path}");
        // What is answered to those who may not ask is described too.
        let url = format!("{}{}", api.url, path.replace("{sink}", "x"));
        let asked = if method == "get" {
            api.client.get(url)
        } else {
            api.client.post(url)
        };
        let status = asked.send().await.unwrap().status();
        let told = &route["responses"][status.as_str()]["description"];
        assert!(told.as_str().unwrap().contains("AUTH_REQUIRED"), "{path}");
    }
    let answers = &described["paths"]["/ledger"]["get"]["responses"];
    let codes: Vec<_> = answers.as_object().unwrap().keys().cloned().collect();
    assert_eq!(codes.join(" "), "200 400 401 403 409 410 503");
    let kinds = answers["200"]["content"].as_object().unwrap();
    let kinds: Vec<_> = kinds.keys().cloned().collect();
    assert_eq!(kinds.join(" "), "application/json application/x-ndjson");
}
