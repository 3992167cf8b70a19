//! `list` and `reload`, with a real server.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Done, plugin};

/// A server in development mode with `seats` and `billing`, whose files are its own.
struct Server {
    process: Child,
    url: String,
    dir: TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins");
        for name in ["seats.wasm", "seats.toml", "billing.wasm", "billing.toml"] {
            fs::copy(plugins.join(name), dir.path().join(name)).unwrap();
        }
        let config = dir.path().join("voice-room.toml");
        let text = format!(
            "plugins_dir = {:?}\n[[plugins]]\nname = 'seats'\nwatch = false\n\
             [[plugins]]\nname = 'billing'\nwatch = false\n",
            dir.path()
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_voice-room"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        let url = ready.trim().rsplit(' ').next().unwrap().to_owned();
        Self { process, url, dir }
    }

    async fn token(&self, role: &str) -> String {
        // The process has no other provider of cryptography; setting it twice is no matter.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(format!("{}/dev/token", self.url))
            .json(&json!({ "userId": 1, "roles": [role] }));
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        body["token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, arguments: &'static [&'static str], token: Option<&str>) -> Done {
        let (url, token) = (self.url.clone(), token.map(str::to_owned));
        let asking = tokio::task::spawn_blocking(move || {
            let mut all = arguments.to_vec();
            all.extend(["--url", url.as_str()]);
            if let Some(token) = &token {
                all.extend(["--token", token.as_str()]);
            }
            plugin(all)
        });
        asking.await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn plugins_of_a_running_server_are_listed_and_loaded_anew() {
    let server = Server::start();
    let admin = server.token("admin").await;
    let admin = Some(admin.as_str());
    let text = server.ask(&["list"], admin).await.exits_with(0).out();
    assert!(text.contains("seats ") && text.contains("4 live"), "{text}");
    let listed = server.ask(&["list", "--json"], admin).await;
    let listed = listed.exits_with(0).json();
    assert_eq!(listed["plugins"][0]["name"], "seats");
    assert_eq!(listed["plugins"][0]["breaker"], "closed");

    let one = server.ask(&["reload", "seats"], admin).await;
    let said = one.exits_with(0).out();
    assert!(said.starts_with("seats: loaded in "), "{said}");
    assert!(said.contains(", as before"), "{said}");
    let all = server.ask(&["reload"], admin).await.exits_with(0).out();
    assert_eq!(all.lines().count(), 2, "{all}");

    fs::write(server.dir.path().join("seats.wasm"), "no component").unwrap();
    for arguments in [&["reload", "seats"] as &[_], &["reload"]] {
        let done = server.ask(arguments, admin).await.exits_with(1);
        let problem = done.problem();
        assert!(problem.contains("plugin `seats`"), "{problem}");
        assert!(
            problem.contains("is not a WebAssembly component"),
            "{problem}"
        );
    }
    let done = server.ask(&["reload"], admin).await.exits_with(1);
    let problem = done.problem();
    assert!(problem.contains("billing: loaded in "), "{problem}");
    let done = server.ask(&["reload", "--json"], admin).await;
    let told = done.exits_with(1).json();
    assert_eq!(told["details"]["failed"][0]["name"], "seats");
    assert_eq!(told["details"]["reloaded"][0]["name"], "billing");
    let done = server.ask(&["reload", "nobody"], admin).await;
    assert!(done.exits_with(1).problem().contains("`nobody`"));
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing() {
    let server = Server::start();
    let nobody = server.ask(&["list"], None).await.exits_with(1).problem();
    assert!(nobody.contains("VOICE_ROOM_ADMIN_TOKEN"), "{nobody}");
    let token = server.token("member").await;
    let user = server.ask(&["list"], Some(&token)).await;
    let user = user.exits_with(1).problem();
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
