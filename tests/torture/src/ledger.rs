//! The ledger as an auditor reads it: all the time, from the server that happens to run.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};
use tokio::{sync::watch, task::JoinHandle};

use crate::TortureError;

/// How long a request may take: it waits for entries for a second.
const LIMIT: Duration = Duration::from_secs(5);

/// Between two tries at a server that is not there.
const PAUSE: Duration = Duration::from_millis(50);

/// What has been read.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// The entries' lines; the first one has number 1.
    pub lines: Vec<String>,
    /// The hash of the last one.
    pub head: [u8; 32],
    /// What is wrong with them: a gap, a broken chain, entries that are gone.
    pub wrong: Vec<String>,
}

impl Pages {
    /// Adds a line, if it follows the one before.
    pub fn add(&mut self, line: &str) {
        let number = self.lines.len() + 1;
        match link(self.head, line) {
            Some((seq, hash)) if seq == number as u64 => {
                self.head = hash;
                self.lines.push(line.to_owned());
            }
            Some((seq, _)) => self.wrong(format!("entry {seq} came where {number} should be")),
            None => self.wrong(format!(
                "entry {number} does not follow the one before: {line}"
            )),
        }
    }

    fn wrong(&mut self, why: String) {
        // One of a kind is enough: an entry that cannot be read is asked for again.
        if self.wrong.last() != Some(&why) {
            self.wrong.push(why);
        }
    }

    /// The last hash, as the server writes it.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&self.head)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The number and the hash of an entry, if its hash is that of its text and the hash before.
fn link(before: [u8; 32], line: &str) -> Option<(u64, [u8; 32])> {
    const HASH: &str = ",\"hash\":\"";
    let (text, rest) = line.rsplit_once(HASH)?;
    let hash = rest.strip_suffix("\"}")?;
    let digest = Sha256::new().chain_update(before).chain_update(text);
    let digest: [u8; 32] = digest.chain_update("}").finalize().into();
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    (hex(&digest) == hash).then_some((entry.get("seq")?.as_u64()?, digest))
}

/// Reads on its own; dropping it ends that.
pub(crate) struct Reader {
    pages: Arc<Mutex<Pages>>,
    server: watch::Sender<Option<String>>,
    reading: JoinHandle<()>,
}

impl Reader {
    pub(crate) fn start(client: Client, token: String) -> Self {
        let pages = Arc::new(Mutex::new(Pages::default()));
        let (server, mut url) = watch::channel(None::<String>);
        let book = Arc::clone(&pages);
        let reading = tokio::spawn(async move {
            loop {
                let server = match url.wait_for(Option::is_some).await {
                    Ok(server) => server.clone().unwrap_or_default(),
                    Err(_) => return,
                };
                if let Err(Unreachable) = read(&client, &token, &server, &book).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self {
            pages,
            server,
            reading,
        }
    }

    /// Where the server is from now on.
    pub(crate) fn follow(&self, url: Option<&str>) {
        self.server.send_replace(url.map(ToOwned::to_owned));
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pages.lock().clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Nothing was read, and nothing can be said about it: servers are killed here.
struct Unreachable;

async fn read(
    client: &Client,
    token: &str,
    server: &str,
    pages: &Mutex<Pages>,
) -> Result<(), Unreachable> {
    let after = pages.lock().lines.len();
    let answer = client
        .get(format!("{server}/ledger?after={after}&limit=1000&wait=1"))
        .header("accept", "application/x-ndjson")
        .bearer_auth(token)
        .timeout(LIMIT)
        .send()
        .await
        .map_err(|_| Unreachable)?;
    let status = answer.status();
    let text = answer.text().await.map_err(|_| Unreachable)?;
    let mut pages = pages.lock();
    if status == StatusCode::OK {
        text.lines().for_each(|line| pages.add(line));
        return Ok(());
    }
    // Unavailable is for now; gone, or never there, is for good.
    if status != StatusCode::SERVICE_UNAVAILABLE {
        pages.wrong(format!("what follows entry {after}: {status}: {text}"));
    }
    Err(Unreachable)
}

/// A client for the servers of a run.
pub(crate) fn client() -> Result<Client, TortureError> {
    // There can be only one, and it may be there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::builder().no_proxy().build();
    client.map_err(|why| TortureError::make("a client", &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as a server would write it.
    fn entry(before: [u8; 32], seq: u64) -> String {
        let text = format!("{{\"seq\":{seq}");
        let digest = Sha256::new().chain_update(before).chain_update(&text);
        let digest = digest.chain_update("}").finalize();
        format!("{text},\"hash\":\"{}\"}}", hex(&digest))
    }

    #[test]
    fn entries_that_follow_each_other_are_taken() {
        let mut pages = Pages::default();
        pages.add(&entry(pages.head, 1));
        pages.add(&entry(pages.head, 2));
        assert_eq!((pages.lines.len(), pages.wrong.len()), (2, 0));
        assert!(pages.lines[1].contains(&pages.hash()));
    }

    #[test]
    fn a_gap_a_change_and_another_past_are_found() {
        let mut pages = Pages::default();
        pages.add(&entry(pages.head, 1));
        pages.add(&entry(pages.head, 3));
        pages.add(&entry([7; 32], 2));
        pages.add(&entry(pages.head, 2).replace("\"seq\":2", "\"seq\": 2"));
        assert_eq!((pages.lines.len(), pages.wrong.len()), (1, 3));
    }
}
