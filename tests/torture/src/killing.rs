//! The run: life after life, and the audit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Options, TortureError,
    audit::{Audit, Evidence, Violation},
    crowd::Crowd,
    ledger::{self, Reader},
    random::Chance,
    receiver::Receiver,
    report::{Report, Spread, sorted},
    server::{self, HEARTBEAT, Home, Server},
    witness::{self, Witness},
};

/// How long an aimed kill waits for somebody to be heard, and how long after it comes.
const AIM: Duration = Duration::from_millis(1_500);
const AFTER: std::ops::Range<u64> = 0..40;

/// Between two looks at whether all that is late has come.
const LOOK: Duration = Duration::from_millis(250);

/// And how long it must stay so: what comes twice may come late.
const SETTLED: Duration = Duration::from_secs(1);

/// The streams of chance that are not people's.
const LIVES: u64 = 1 << 60;
const RECEIVER: u64 = LIVES + 1;

/// All that outlives a server.
struct Run<'a> {
    options: &'a Options,
    home: Home,
    witness: Arc<Witness>,
    receiver: Receiver,
    reader: Reader,
    client: reqwest::Client,
    token: String,
    chance: Chance,
    starts: Vec<Duration>,
}

/// Runs it all and audits.
///
/// # Errors
/// If something that is needed is missing, or a server does not start or ends by itself. Its
/// folder is then kept.
pub async fn run(options: &Options) -> Result<Report, TortureError> {
    let dir = Dir::new(options.dir.as_deref())?;
    let done = async {
        let mut run = Run::prepare(options, dir.path()).await?;
        run.lives().await
    };
    match done.await {
        Ok(mut report) => {
            report.kept = dir.end(report.is_fine());
            Ok(report)
        }
        Err(why) => {
            dir.end(false);
            Err(why)
        }
    }
}

impl<'a> Run<'a> {
    async fn prepare(options: &'a Options, dir: &Path) -> Result<Self, TortureError> {
        server::prepare(dir)?;
        let receiver = Receiver::open(Chance::of(options.seed, RECEIVER)).await?;
        let home = Home::make(options, dir.to_owned(), &receiver.url())?;
        let (client, token) = (ledger::client()?, server::admin_token()?);
        Ok(Self {
            options,
            home,
            witness: Arc::default(),
            receiver,
            reader: Reader::start(client.clone(), token.clone()),
            client,
            token,
            chance: Chance::of(options.seed, LIVES),
            starts: Vec::new(),
        })
    }

    async fn lives(&mut self) -> Result<Report, TortureError> {
        let began = Instant::now();
        for life in 0..self.options.kills {
            let (mut server, crowd) = self.begin(life).await?;
            self.rest().await;
            if self.chance.percent(50) {
                // A kill at the moment at which the most is under way: somebody has just been
                // heard.
                crowd.first_heard(AIM).await;
                self.chance.rest(AFTER).await;
            }
            self.check(&mut server)?;
            // Nobody moves between these: there is one thread.
            let at = witness::now();
            server.kill()?;
            crowd.mourn(at).await;
            server.gone().await?;
        }
        let (mut server, crowd) = self.begin(self.options.kills).await?;
        self.rest().await;
        self.check(&mut server)?;
        crowd.leave().await;
        let ending = Instant::now();
        self.drain().await;
        let drained = ending.elapsed();
        self.reader.follow(None);
        server.stop(&self.home).await?;
        let mut report = self.report(began, drained);
        self.look_at_the_disk(&mut report).await?;
        Ok(report)
    }

    async fn begin(&mut self, life: u32) -> Result<(Server, Crowd), TortureError> {
        let server = self.home.start().await?;
        self.starts.push(server.start);
        self.reader.follow(Some(&server.url));
        let crowd = Crowd::gather(
            &server.url,
            self.options.rooms,
            (self.options.seed, life),
            &self.witness,
            (self.client.clone(), self.token.clone()),
        )
        .await?;
        Ok((server, crowd))
    }

    /// Lets people talk, for a random part of the time that there is.
    async fn rest(&mut self) {
        let mean = self.options.duration / (self.options.kills + 1);
        let mean = u64::try_from(mean.as_millis()).unwrap_or(u64::MAX).max(10);
        self.chance.rest(mean * 2 / 5..mean * 8 / 5).await;
    }

    fn check(&self, server: &mut Server) -> Result<(), TortureError> {
        if server.has_ended() {
            return Err(TortureError::Server {
                what: "ended by itself".to_owned(),
                log: self.home.log(),
            });
        }
        Ok(())
    }

    fn audit(&self) -> Audit {
        let (takes, pages, book) = (
            self.witness.takes(),
            self.reader.pages(),
            self.receiver.book(),
        );
        Audit::of(&Evidence {
            takes: &takes,
            pages: &pages,
            book: &book,
            window: self.options.window,
            heartbeat: HEARTBEAT,
        })
    }

    /// Waits until nothing is missing and stays so, or there is no more time.
    async fn drain(&self) {
        self.receiver.recovers();
        let until = Instant::now() + self.options.drain;
        let mut fine_since = None;
        while Instant::now() < until {
            let is_fine = self.audit().violations.is_empty();
            let since = *fine_since.get_or_insert_with(Instant::now);
            if !is_fine {
                fine_since = None;
            } else if since.elapsed() >= SETTLED {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn report(&self, began: Instant, drained: Duration) -> Report {
        let audit = self.audit();
        let pages = self.reader.pages();
        let starts = self.starts.get(1..).unwrap_or_default();
        let mut report = Report {
            seed: self.options.seed,
            kills: self.options.kills,
            seconds: began.elapsed().as_secs_f64(),
            restart_ms: Spread::of(starts),
            drained_ms: u64::try_from(drained.as_millis()).unwrap_or(u64::MAX),
            broken: audit.broken(),
            counts: audit.counts,
            receiver: self.receiver.book().behaved,
            head: (pages.lines.len() as u64, pages.hash()),
            violations: audit.violations,
            failed_steps: sorted(self.witness.failures()),
            kept: None,
        };
        if report.counts.started == 0 || report.counts.heard == 0 {
            let why = "nobody was heard, or nothing was billed: this has shown nothing";
            report.found("heard is billed", why.to_owned());
        }
        report
    }

    /// What only the stopped server's folder tells.
    async fn look_at_the_disk(&self, report: &mut Report) -> Result<(), TortureError> {
        let (holds, said) = self.home.verify().await?;
        if !holds || !said.contains(&report.head.1) {
            let why = format!("ledger verify (the end was {:?}): {said}", report.head);
            report.found("one book", why);
        }
        for letter in self.home.dead_letters() {
            let why = format!("a plugin was never told: {letter}");
            report.found("facts are told once", why);
        }
        for line in self.home.panics() {
            report.found("no panic", line);
        }
        Ok(())
    }
}

impl Report {
    fn found(&mut self, rule: &'static str, why: String) {
        *self.broken.entry(rule).or_default() += 1;
        self.violations.push(Violation {
            rule,
            why,
            entries: Vec::new(),
        });
    }
}

/// Where the server lives.
enum Dir {
    Given(PathBuf),
    Own(TempDir),
}

impl Dir {
    fn new(given: Option<&Path>) -> Result<Self, TortureError> {
        if let Some(given) = given {
            return Ok(Self::Given(given.to_owned()));
        }
        let own = tempfile::Builder::new()
            .prefix("voice-room-torture-")
            .tempdir();
        own.map(Self::Own)
            .map_err(TortureError::system("making a temporary folder"))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Own(dir) => dir.path(),
        }
    }

    /// Removes it, if it is temporary and nobody needs it; where it is otherwise.
    fn end(self, is_fine: bool) -> Option<String> {
        let kept = match self {
            Self::Given(path) => path,
            Self::Own(_) if is_fine => return None,
            Self::Own(dir) => dir.keep(),
        };
        Some(kept.display().to_string())
    }
}
