//! A running server, asked through its admin face: `plugin list` and `plugin reload`, and what
//! others need for their questions.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, Url, header, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::Report;
use crate::cli::{ReloadOptions, RemoteOptions};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A server may have to compile a component of many megabytes.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// `--url` is not usable.
    #[error("--url {url}: {problem}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// Nobody answers there.
    #[error("no server answers at {url}: {why}. Is it running, and is --url right?")]
    Unreachable {
        /// The server.
        url: Url,
        /// In the words of the operating system.
        why: String,
    },
    /// It took too long.
    #[error("the server at {0} has not answered in time")]
    Late(Url),
    /// It wants to know who asks.
    #[error(
        "the server at {0} wants a token, or another one: give --token or VOICE_ROOM_ADMIN_TOKEN"
    )]
    Unauthorized(Url),
    /// The token's user may not.
    #[error("the token is not of a user with the role `admin`")]
    Forbidden,
    /// It is no voice-room server, or one without an admin face.
    #[error(
        "the server at {url} answers with {status}, and not as a voice-room server of this version does"
    )]
    Stranger {
        /// The server.
        url: Url,
        /// Of its answer.
        status: StatusCode,
    },
    /// It says no.
    #[error("the server says: {0}")]
    Refused(Problem),
    /// The client cannot be set up.
    #[error("no connection can be made on this machine: {0}")]
    Client(String),
}

/// How the server's face tells that something did not work.
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// For programs.
    pub error: String,
    /// A sentence.
    pub message: String,
    /// More for programs.
    #[serde(default)]
    pub details: Option<Value>,
}

impl Problem {
    /// What has worked all the same.
    fn reloaded(&self) -> Vec<Reloaded> {
        let details = self.details.as_ref();
        let reloaded = details.and_then(|details| details.get("reloaded"));
        let reloaded = reloaded.map(Vec::deserialize);
        reloaded.and_then(Result::ok).unwrap_or_default()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.error)?;
        let reloaded = self.reloaded();
        if !reloaded.is_empty() {
            f.write_str("\nthe others are loaded:")?;
        }
        let mut lines = reloaded.iter().map(Reloaded::for_people);
        lines.try_for_each(|line| write!(f, "\n  {}", line.trim_end()))
    }
}

impl RemoteError {
    /// More for programs, where the server says more.
    pub(super) fn details(&self) -> Option<&Value> {
        match self {
            Self::Refused(problem) => problem.details.as_ref(),
            _ => None,
        }
    }
}

/// A plugin that runs, as far as it is shown here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    name: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    component: String,
    #[serde(default)]
    contract: String,
    #[serde(default)]
    isolation: String,
    #[serde(default)]
    instances: u64,
    #[serde(default)]
    breaker: Value,
    #[serde(default)]
    hooks: Vec<String>,
}

#[derive(Deserialize)]
struct Listing {
    plugins: Vec<Running>,
}

/// What a reload came to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reloaded {
    name: String,
    #[serde(default)]
    component: String,
    #[serde(default)]
    previous: Option<String>,
    #[serde(default)]
    took_ms: Option<f64>,
}

/// The answer about one, or about all.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reloads {
    All { reloaded: Vec<Reloaded> },
    One(Reloaded),
}

/// Shows the plugins of a server.
///
/// # Errors
///
/// If the server cannot be reached or does not tell.
pub(super) async fn list(options: &RemoteOptions) -> Result<Report, RemoteError> {
    let server = Server::new(options)?;
    let body = server.ask(Method::GET, "admin/plugins").await?;
    let listing: Listing = server.understood(&body)?;
    Ok(Report::fine(if options.json {
        super::json(&body)
    } else {
        table(&listing.plugins)
    }))
}

/// Has a server load one plugin or all of them anew.
///
/// # Errors
///
/// If the server cannot be reached, or says that it cannot load it.
pub(super) async fn reload(options: &ReloadOptions) -> Result<Report, RemoteError> {
    let server = Server::new(&options.remote)?;
    let path = match &options.name {
        // A plugin's name has no character that would need a disguise.
        Some(name) => format!("admin/plugins/{name}/reload"),
        None => "admin/plugins/reload".to_owned(),
    };
    let body = server.ask(Method::POST, &path).await?;
    let reloads = match server.understood(&body)? {
        Reloads::All { reloaded } => reloaded,
        Reloads::One(one) => vec![one],
    };
    Ok(Report::fine(if options.remote.json {
        super::json(&body)
    } else {
        reloads.iter().map(Reloaded::for_people).collect()
    }))
}

/// A server that runs.
pub(super) struct Server<'a> {
    url: Url,
    token: Option<&'a str>,
    client: Client,
}

impl<'a> Server<'a> {
    pub(super) fn new(options: &'a RemoteOptions) -> Result<Self, RemoteError> {
        let problem = |problem: String| RemoteError::Url {
            url: options.url.clone(),
            problem,
        };
        let mut url: Url = options
            .url
            .parse()
            .map_err(|error| problem(format!("{error}")))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // The process has no other provider of cryptography; setting it twice is no matter.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            // A token goes where it was meant to go.
            .redirect(redirect::Policy::none());
        if is_local(&url) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| RemoteError::Client(innermost(&error)))?;
        let token = options.token.as_deref().filter(|token| !token.is_empty());
        Ok(Self { url, token, client })
    }

    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Value, RemoteError> {
        self.document(self.request(method, path)?).await
    }

    /// A POST with a body.
    pub(super) async fn tell(&self, path: &str, body: &Value) -> Result<Value, RemoteError> {
        self.document(self.request(Method::POST, path)?.json(body))
            .await
    }

    /// A GET that is answered in lines of JSON.
    pub(super) async fn ask_lines(&self, path: &str) -> Result<String, RemoteError> {
        let request = self.request(Method::GET, path)?;
        let request = request.header(header::ACCEPT, "application/x-ndjson");
        let (status, bytes) = self.send(request).await?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes));
        }
        String::from_utf8(bytes).map_err(|_| self.stranger(status))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, RemoteError> {
        let url = self.url.join(path).map_err(|error| RemoteError::Url {
            url: self.url.to_string(),
            problem: error.to_string(),
        })?;
        let request = self.client.request(method, url);
        Ok(match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn document(&self, request: RequestBuilder) -> Result<Value, RemoteError> {
        let (status, bytes) = self.send(request).await?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| self.stranger(status))
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), RemoteError> {
        let answer = request.send().await.map_err(|error| self.lost(&error))?;
        let status = answer.status();
        match status {
            StatusCode::UNAUTHORIZED => return Err(RemoteError::Unauthorized(self.url.clone())),
            StatusCode::FORBIDDEN => return Err(RemoteError::Forbidden),
            _ => {}
        }
        let bytes = answer.bytes().await.map_err(|error| self.lost(&error))?;
        Ok((status, bytes.into()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> RemoteError {
        match serde_json::from_slice(body) {
            Ok(problem) => RemoteError::Refused(problem),
            Err(_) => self.stranger(status),
        }
    }

    fn stranger(&self, status: StatusCode) -> RemoteError {
        RemoteError::Stranger {
            url: self.url.clone(),
            status,
        }
    }

    pub(super) fn understood<T: for<'de> Deserialize<'de>>(
        &self,
        body: &Value,
    ) -> Result<T, RemoteError> {
        T::deserialize(body).map_err(|_| self.stranger(StatusCode::OK))
    }

    fn lost(&self, error: &reqwest::Error) -> RemoteError {
        let url = self.url.clone();
        if error.is_timeout() && !error.is_connect() {
            return RemoteError::Late(url);
        }
        let why = innermost(error);
        RemoteError::Unreachable { url, why }
    }
}

fn is_local(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "[::1]"))
        || url.host_str().is_some_and(|host| host.starts_with("127."))
}

/// What the libraries' sentences are wrapped around.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn table(plugins: &[Running]) -> String {
    if plugins.is_empty() {
        return "The server has no plugins.\n".to_owned();
    }
    let head = [
        "NAME",
        "COMPONENT",
        "CONTRACT",
        "INSTANCES",
        "BREAKER",
        "HOOKS",
    ];
    columns(&head, plugins.iter().map(Running::row).collect())
}

/// Rows in columns of equal width, each as wide as what is in it.
pub(super) fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut all = vec![head];
    all.extend(rows);
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..all.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

impl Running {
    fn row(&self) -> Vec<String> {
        let name = match &self.version {
            Some(version) => format!("{} {version}", self.name),
            None => self.name.clone(),
        };
        let breaker = match &self.breaker {
            Value::String(state) => state.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        vec![
            name,
            short(&self.component),
            self.contract.clone(),
            format!("{} {}", self.instances, self.isolation),
            breaker,
            self.hooks.join(" "),
        ]
    }
}

impl Reloaded {
    fn for_people(&self) -> String {
        let component = short(&self.component);
        let change = match &self.previous {
            Some(previous) if *previous == self.component => format!("{component}, as before"),
            Some(previous) => format!("{component}, before {}", short(previous)),
            None => component,
        };
        let took = self
            .took_ms
            .map_or(String::new(), |ms| format!(" in {ms} ms"));
        format!("{}: loaded{took}: {change}\n", self.name)
    }
}

/// Enough of a hash to tell two versions apart.
fn short(component: &str) -> String {
    component.chars().take("sha256:".len() + 12).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plugins_are_shown_in_aligned_columns() {
        let listing: Listing = serde_json::from_value(json!({ "plugins": [
            { "name": "seats", "component": "sha256:0123456789abcdef", "contract": "0.3.0",
              "isolation": "live", "instances": 4, "breaker": "closed",
              "hooks": ["init", "on-join"], "loadedAt": 5 },
            { "name": "moderation", "component": "sha256:fedcba9876543210",
              "contract": "0.1.0", "isolation": "fresh", "instances": 16,
              "breaker": "open", "hooks": [] },
        ] }))
        .unwrap();
        let text = table(&listing.plugins);
        assert_eq!(
            text,
            "NAME        COMPONENT            CONTRACT  INSTANCES  BREAKER  HOOKS\n\
             seats       sha256:0123456789ab  0.3.0     4 live     closed   init on-join\n\
             moderation  sha256:fedcba987654  0.1.0     16 fresh   open\n"
        );
        assert_eq!(table(&[]), "The server has no plugins.\n");
    }

    #[test]
    fn a_reload_says_what_runs_now() {
        let told = |value: Value| match serde_json::from_value(value).unwrap() {
            Reloads::All { reloaded } => reloaded.iter().map(Reloaded::for_people).collect(),
            Reloads::One(one) => one.for_people(),
        };
        let one = json!({ "name": "seats", "component": "sha256:b", "previous": "sha256:a", "tookMs": 12 });
        assert_eq!(
            told(one.clone()),
            "seats: loaded in 12 ms: sha256:b, before sha256:a\n"
        );
        let all: String = told(json!({ "reloaded": [one, one] }));
        assert_eq!(all.lines().count(), 2, "{all}");
    }

    #[test]
    fn a_problem_says_what_has_worked_all_the_same() {
        let told = |value: Value| {
            serde_json::from_value::<Problem>(value)
                .unwrap()
                .to_string()
        };
        let problem = json!({ "error": "PLUGIN_UNUSABLE", "message": "plugin `a`: broken" });
        assert_eq!(
            told(problem.clone()),
            "plugin `a`: broken (PLUGIN_UNUSABLE)"
        );
        let mut some = problem;
        some["details"] = json!({ "failed": [], "reloaded": [
            { "name": "b", "component": "sha256:b", "previous": "sha256:a", "tookMs": 12 },
        ] });
        assert_eq!(
            told(some),
            "plugin `a`: broken (PLUGIN_UNUSABLE)\nthe others are loaded:\n  \
             b: loaded in 12 ms: sha256:b, before sha256:a"
        );
    }
}
