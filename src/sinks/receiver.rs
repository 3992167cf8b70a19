//! One request to a receiver, and what its answer means.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, Response, StatusCode, header::RETRY_AFTER, redirect};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{SinkError, sign::sign};
use crate::{
    config::{WebhookConfig, is_loopback},
    model::UnixMs,
};

/// What is read of an answer, in bytes: enough to tell what is wrong, and to have the
/// connection free for the next request.
const BODY: usize = 16 * 1024;

/// What is shown of an answer, in characters.
const SHOWN: usize = 200;

pub(super) struct Receiver {
    client: Client,
    config: WebhookConfig,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Taken,
    /// It may take it another time; not before so long, if it says so.
    Later {
        problem: String,
        wait: Option<Duration>,
    },
    /// It will never take it.
    Never { problem: String },
}

impl Receiver {
    pub(super) fn new(sink: &str, config: WebhookConfig) -> Result<Self, SinkError> {
        // The process has no other provider of cryptography; setting it twice is no matter.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = Client::builder()
            .timeout(config.timeout)
            // Whoever is trusted with events is named in the configuration.
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(config.concurrency)
            .user_agent(concat!("voice-room/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&config.url) {
            client = client.no_proxy();
        }
        if let Some(path) = &config.ca_file {
            let authorities = authorities(path).map_err(|problem| SinkError::Authorities {
                sink: sink.to_owned(),
                path: path.clone(),
                problem,
            })?;
            client = client.tls_certs_merge(authorities);
        }
        let client = client.build().map_err(|source| SinkError::Client {
            sink: sink.to_owned(),
            source,
        })?;
        Ok(Self { client, config })
    }

    pub(super) fn config(&self) -> &WebhookConfig {
        &self.config
    }

    /// Posts an entry, given as its line and by its id.
    pub(super) async fn post(&self, id: &str, line: String) -> Outcome {
        let now = UnixMs::now().0 / 1000;
        let signature = sign(&self.config.keys, id, now, &line);
        let request = self
            .client
            .post(self.config.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("idempotency-key", id)
            .header("webhook-timestamp", signature.timestamp)
            .header("webhook-signature", signature.signatures)
            .header("webhook-key-id", signature.key_ids)
            .body(line);
        match request.send().await {
            Ok(answer) => read(answer).await,
            Err(error) => Outcome::Later {
                problem: why(&error),
                wait: None,
            },
        }
    }
}

/// The certificates of a PEM file, or what is wrong with it.
fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        // The client does not say which one it cannot use.
        let checked = RootCertStore::empty().add(certificate.clone());
        let number = found.len() + 1;
        checked.map_err(|error| format!("certificate {number} cannot be used: {error}"))?;
        let certificate = Certificate::from_der(&certificate);
        found.push(certificate.map_err(|error| error.to_string())?);
    }
    if found.is_empty() {
        return Err("there is no certificate".to_owned());
    }
    Ok(found)
}

async fn read(answer: Response) -> Outcome {
    let status = answer.status();
    let wait = answer.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
    let wait = wait.map(Duration::from_secs);
    let body = beginning(answer).await;
    if status.is_success() {
        return Outcome::Taken;
    }
    let mut problem = format!("answered {status}");
    let text = String::from_utf8_lossy(&body);
    let text: String = text.trim().chars().take(SHOWN).collect();
    if !text.is_empty() {
        problem = format!("{problem}: {text:?}");
    }
    if is_final(status) {
        Outcome::Never { problem }
    } else {
        Outcome::Later { problem, wait }
    }
}

/// An answer that ends early is an answer all the same: its status counts.
async fn beginning(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < BODY
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}

/// Whether the answer speaks of the event itself, so that it would be the same for ever.
/// What speaks of the receiver, its address or its keys (401, 403, 404, …) may be put right,
/// and would be the same for every event.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        400 | 405 | 406 | 409..=411 | 413..=418 | 422 | 431 | 451
    )
}

/// In the words of what lies at the bottom, without the address, which may hold secrets.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        format!("cannot be reached: {cause}")
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_about_the_event_are_final_and_answers_about_the_receiver_are_not() {
        for code in [400, 409, 410, 413, 415, 422] {
            assert!(is_final(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [
            301, 302, 307, 401, 403, 404, 407, 408, 421, 425, 429, 500, 502, 503, 599,
        ] {
            assert!(!is_final(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }
}
