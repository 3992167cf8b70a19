//! `list` and `reload`, with something that answers as a server's admin face does.

use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Done, plugin};

const TOKEN: &str = "of-an-admin";

type Answer = (StatusCode, Json<Value>);

fn allowed(headers: &HeaderMap) -> Result<(), Answer> {
    let refused = |status| (status, Json(json!({ "error": "No", "message": "No" })));
    match headers.get("authorization").and_then(|it| it.to_str().ok()) {
        Some("Bearer of-an-admin") => Ok(()),
        Some(_) => Err(refused(StatusCode::FORBIDDEN)),
        None => Err(refused(StatusCode::UNAUTHORIZED)),
    }
}

async fn list(headers: HeaderMap) -> Result<Json<Value>, Answer> {
    allowed(&headers)?;
    Ok(Json(json!({ "plugins": [{
        "name": "seats", "component": "sha256:0123456789abcdef", "contract": "0.2.0",
        "isolation": "live", "instances": 4, "breaker": "closed", "hooks": ["on-join"],
    }] })))
}

async fn reload(headers: HeaderMap, Path(name): Path<String>) -> Result<Json<Value>, Answer> {
    allowed(&headers)?;
    if name == "doors" {
        let problem = json!({ "error": "It does not start", "code": "PLUGIN_UNUSABLE" });
        return Err((StatusCode::CONFLICT, Json(problem)));
    }
    Ok(Json(json!({
        "name": name, "component": "sha256:new", "previous": "sha256:old", "tookMs": 7,
    })))
}

async fn reload_all(headers: HeaderMap) -> Result<Json<Value>, Answer> {
    allowed(&headers)?;
    Ok(Json(json!({ "plugins": [
        { "name": "seats", "component": "sha256:a", "previous": "sha256:a", "tookMs": 7 },
        { "name": "doors", "error": "It does not start", "code": "PLUGIN_UNUSABLE" },
    ] })))
}

/// Asks a server with the token.
async fn ask(arguments: &'static [&'static str], token: Option<&'static str>) -> Done {
    let face = Router::new()
        .route("/base/admin/plugins", get(list))
        .route("/base/admin/plugins/reload", post(reload_all))
        .route("/base/admin/plugins/{name}/reload", post(reload));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, face).await });
    let asking = tokio::task::spawn_blocking(move || {
        let mut all = arguments.to_vec();
        all.extend(["--url", url.as_str()]);
        if let Some(token) = token {
            all.extend(["--token", token]);
        }
        plugin(all)
    });
    let done = asking.await.unwrap();
    server.abort();
    done
}

#[tokio::test]
async fn plugins_of_a_running_server_are_listed() {
    let text = ask(&["list"], Some(TOKEN)).await.exits_with(0).out();
    assert!(
        text.contains("seats  sha256:0123456789ab  0.2.0     4 live"),
        "{text}"
    );
    let listed = ask(&["list", "--json"], Some(TOKEN))
        .await
        .exits_with(0)
        .json();
    assert_eq!(listed["plugins"][0]["breaker"], "closed");
}

#[tokio::test]
async fn a_reload_says_what_runs_now_or_why_not() {
    let done = ask(&["reload", "seats"], Some(TOKEN)).await.exits_with(0);
    assert_eq!(
        done.out(),
        "seats: loaded in 7 ms: sha256:new, before sha256:old\n"
    );

    let done = ask(&["reload", "doors"], Some(TOKEN)).await.exits_with(1);
    let said = "the server says: It does not start (PLUGIN_UNUSABLE)";
    assert!(done.problem().contains(said), "{}", done.problem());

    let done = ask(&["reload"], Some(TOKEN)).await.exits_with(1);
    assert!(
        done.out()
            .contains("seats: loaded in 7 ms: sha256:a, as before"),
        "{}",
        done.out()
    );
    assert!(
        done.out().contains("doors: goes on as it was"),
        "{}",
        done.out()
    );
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing() {
    let nobody = ask(&["list"], None).await.exits_with(1).problem();
    assert!(nobody.contains("VOICE_ROOM_ADMIN_TOKEN"), "{nobody}");
    let user = ask(&["list"], Some("of-a-user"))
        .await
        .exits_with(1)
        .problem();
    assert!(user.contains("role `admin`"), "{user}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_riddle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let asked = tokio::task::spawn_blocking(move || plugin(["list", "--url", url.as_str()]));
    let problem = asked.await.unwrap().exits_with(1).problem();
    assert!(
        problem.contains("no server answers at http://127.0.0.1"),
        "{problem}"
    );
    assert!(problem.contains("Is it running"), "{problem}");
}
