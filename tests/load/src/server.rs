//! Where the server is, and how participants prove who they are.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http_body_util::BodyExt;
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{EncodingKey, Header};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_tungstenite::tungstenite::http::Uri;

use crate::error::{LoadError, StepError};

/// How long a token that is minted here is valid.
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// How long a server in development mode may take to give one.
const DEVELOPMENT_TOKEN_LIMIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How participants get their tokens.
#[derive(Debug, Clone)]
pub enum Access {
    /// Tokens are signed here, HS256, with the server's secret.
    Secret(String),
    /// The server runs in development mode and gives a token to anybody.
    Development,
}

/// A server of Face 1, over plain HTTP.
#[derive(Debug, Clone)]
pub struct Server {
    authority: String,
    address: SocketAddr,
    access: Access,
}

impl Server {
    /// Resolves a server's URL.
    ///
    /// # Errors
    /// If it is not `http://host:port`, does not resolve, or, unless `allow_remote`, is
    /// not on this machine.
    pub async fn resolve(url: &str, access: Access, allow_remote: bool) -> Result<Self, LoadError> {
        let wrong = |why: &str| LoadError::Usage(format!("--url {url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        if uri.scheme_str() != Some("http") {
            let why = "only http:// is supported; behind a proxy with TLS, name the server itself";
            return Err(wrong(why));
        }
        let host = uri.host().ok_or_else(|| wrong("no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let found = lookup_host((host.trim_matches(['[', ']']), port)).await;
        let mut found = found.map_err(|why| wrong(&why.to_string()))?;
        let address = found.next().ok_or_else(|| wrong("no address"))?;
        if !allow_remote && !address.ip().is_loopback() {
            return Err(wrong(
                "not a loopback address; use --allow-remote if you may load that machine",
            ));
        }
        Ok(Self {
            authority: format!("{host}:{port}"),
            address,
            access,
        })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) async fn connect(&self) -> Result<TcpStream, StepError> {
        let broken = |why: std::io::Error| StepError::Connection(why.to_string());
        let stream = TcpStream::connect(self.address).await.map_err(broken)?;
        // Requests are small and each waits for its answer.
        stream.set_nodelay(true).map_err(broken)?;
        Ok(stream)
    }

    /// A token for a user.
    ///
    /// # Errors
    /// If the server does not give one, or it cannot be signed.
    pub async fn token(&self, user: u64) -> Result<String, StepError> {
        match &self.access {
            Access::Secret(secret) => mint(user, secret),
            Access::Development => self.development_token(user).await,
        }
    }

    async fn development_token(&self, user: u64) -> Result<String, StepError> {
        #[derive(Deserialize)]
        struct Issued {
            token: String,
        }
        let body = json!({ "userId": user }).to_string();
        let answer = timeout(DEVELOPMENT_TOKEN_LIMIT, self.post("/dev/token", body));
        let answer = answer.await.unwrap_or_else(|late| Err(late.into()));
        let issued = answer.and_then(|text| Ok(serde_json::from_slice::<Issued>(&text)?));
        issued.map(|issued| issued.token).map_err(|why| {
            StepError::Token(format!(
                "POST /dev/token: {why}; a server that is not in development mode wants --secret"
            ))
        })
    }

    async fn post(&self, path: &str, body: String) -> Result<Bytes, Failure> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        let request = Request::post(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(status.to_string().into())
            }
        };
        // The connection is driven here, and has ended when this returns.
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => {
                ended?;
                exchange.await
            }
        }
    }
}

fn mint(user: u64, secret: &str) -> Result<String, StepError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let claims = json!({
        "id": user,
        "sub": user.to_string(),
        "iat": now.as_secs(),
        "exp": (now + TOKEN_LIFETIME).as_secs(),
    });
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key)
        .map_err(|why| StepError::Token(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(url: &str) -> String {
        let server = Server::resolve(url, Access::Development, false).await;
        server.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_server_elsewhere_is_loaded_only_when_allowed() {
        assert!(
            refusal("http://192.0.2.1:3000")
                .await
                .contains("--allow-remote")
        );
        let allowed = Server::resolve("http://192.0.2.1:3000", Access::Development, true).await;
        assert_eq!(allowed.unwrap().authority(), "192.0.2.1:3000");
        assert!(
            Server::resolve("http://127.0.0.1:3000", Access::Development, false)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn only_plain_http_is_spoken() {
        assert!(refusal("https://127.0.0.1").await.contains("only http://"));
        assert!(refusal("127.0.0.1:1").await.contains("only http://"));
    }
}
