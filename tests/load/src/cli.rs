//! The command line.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use voice_room_load::{
    Access, Meter, Server, Stage, Target,
    bare::Bare,
    media::{Engine, Options},
    plan::{Outcome, Plan},
    scenario::{media, signalling},
};

/// Loads a voice-room server with real WebRTC participants, and measures it.
///
/// Prints one JSON document. Ends with 0 if all joined, all were heard and no more was
/// lost than --max-loss; 1 if not; 2 if the options or the situation do not allow a run.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Listeners join all at once, while speakers speak: the time until all hear all
    Storm {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        crowd: Crowd,
    },
    /// Speakers and listeners join, then forwarding is measured for --duration
    Steady {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        crowd: Crowd,
        #[command(flatten)]
        time: Time,
    },
    /// Requests without media: join, transports, produce, consume, resume
    Signalling {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        work: Work,
    },
    /// As steady, on mediasoup alone in a process of its own: what a server can reach at most
    Bare {
        #[command(flatten)]
        crowd: Crowd,
        #[command(flatten)]
        time: Time,
        /// The process to load: `cargo build --release --example bare_router` makes it
        #[arg(
            long,
            default_value = "target/release/examples/bare_router",
            value_name = "FILE"
        )]
        router: PathBuf,
        /// Threads of the media core: as many as the server's media.workers
        #[arg(long, default_value_t = 1, value_name = "N")]
        workers: usize,
    },
}

/// Where the server is.
#[derive(Debug, Args)]
struct At {
    /// The server, without TLS
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    url: String,
    /// The server's token secret (auth.secret): tokens are signed with it, HS256. Without it
    /// the server must be in development mode, and is asked for them
    #[arg(long, env = "LOAD_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The server's process, of which processor time and memory are measured, with its
    /// descendants; on this machine
    #[arg(long)]
    pid: Option<u32>,
    /// Allow servers and media addresses that are not loopback. Load only what is yours
    #[arg(long)]
    allow_remote: bool,
    /// Speakers take a seat before they produce (the seats plugin): seat N for speaker N
    #[arg(long)]
    take_seats: bool,
}

/// Who joins.
#[derive(Debug, Args)]
struct Crowd {
    #[arg(long, default_value_t = 1, value_name = "N")]
    rooms: usize,
    /// In each room
    #[arg(long, default_value_t = 2, value_name = "N")]
    speakers: usize,
    /// In each room; each hears all speakers of the room
    #[arg(long, default_value_t = 10, value_name = "N")]
    listeners: usize,
    /// Participants that join at the same time
    #[arg(long, default_value_t = 50, value_name = "N")]
    concurrency: usize,
    #[command(flatten)]
    limits: Limits,
    /// Threads that receive media; one more sends it
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// One packet in N of each stream is authenticated and decrypted, beside its first
    /// three; all are counted. 1: all of them, at three times the cost
    #[arg(long, default_value_t = 50, value_name = "N")]
    verify: u64,
    /// The part of the packets that may be lost: 0.01 is 1 %
    #[arg(long, default_value_t = 0.01, value_name = "PART")]
    max_loss: f64,
}

/// What bounds a run.
#[derive(Debug, Args)]
struct Limits {
    /// Seconds that all may take to join and be heard, in each phase
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    join_limit: u64,
    /// Seconds that one answer may take
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    call_limit: u64,
    /// Seconds that ICE and DTLS may take, whose packets are sent again where they are lost;
    /// browsers give a connection up after 30 without an answer (RFC 7675)
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    media_limit: u64,
    /// Seconds after everybody has left, before the server's memory is read
    #[arg(long, default_value_t = 2, value_name = "S", value_parser = clap::value_parser!(u64).range(0..=600))]
    settle: u64,
}

#[derive(Debug, Args)]
struct Time {
    /// Seconds for which forwarding is measured
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
}

/// Who does what, without media.
#[derive(Debug, Args)]
struct Work {
    /// Rooms, speakers, listeners, concurrency and --consume of one of these; each of them
    /// can still be given
    #[arg(long)]
    preset: Option<Preset>,
    #[arg(long, value_name = "N")]
    rooms: Option<usize>,
    /// In each room
    #[arg(long, value_name = "N")]
    speakers: Option<usize>,
    /// In each room
    #[arg(long, value_name = "N")]
    listeners: Option<usize>,
    /// Participants that are busy at the same time, each with one request
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    #[arg(long)]
    consume: Option<signalling::Consume>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    /// 50 participants produce
    Produce,
    /// 200 listeners consume 4 producers
    FanOut,
    /// 20 rooms of 10 with 2 speakers each, all consume all
    Rooms,
    /// 20 participants, all consume all, one at a time
    Serial,
}

/// A run that came to its end.
pub(crate) struct Done {
    pub(crate) json: String,
    /// What exit code 0 means.
    pub(crate) fine: bool,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Cli {
    /// Runs the scenario.
    pub(crate) async fn run(self) -> Result<Done, Failure> {
        match self.scenario {
            Scenario::Storm { at, crowd } => {
                let plan = crowd.plan(0, at.pid);
                let stage = at.stage(&crowd.limits, crowd.options()).await?;
                let outcome = media::run(&stage, &plan, "storm", at.url).await?;
                done(&outcome, crowd.max_loss)
            }
            Scenario::Steady { at, crowd, time } => {
                let plan = crowd.plan(time.duration, at.pid);
                let stage = at.stage(&crowd.limits, crowd.options()).await?;
                let outcome = media::run(&stage, &plan, "steady", at.url).await?;
                done(&outcome, crowd.max_loss)
            }
            Scenario::Signalling { at, work } => {
                let (plan, consume) = work.plan(at.pid);
                let options = Options {
                    threads: 1,
                    verify: 1,
                };
                let stage = at.stage(&work.limits, options).await?;
                let outcome = signalling::run(&stage, &plan, consume, at.url).await?;
                done(&outcome, 0.0)
            }
            Scenario::Bare {
                crowd,
                time,
                router,
                workers,
            } => bare(&crowd, &time, &router, workers).await,
        }
    }
}

fn done(outcome: &Outcome, max_loss: f64) -> Result<Done, Failure> {
    Ok(Done {
        json: serde_json::to_string_pretty(outcome)?,
        fine: outcome.is_fine(max_loss),
    })
}

async fn bare(crowd: &Crowd, time: &Time, router: &Path, workers: usize) -> Result<Done, Failure> {
    let bare = Bare::start(router, workers).await?;
    let plan = crowd.plan(time.duration, Some(bare.pid()));
    let stage = Arc::new(Stage {
        target: Target::Bare(bare),
        engine: Engine::start(crowd.options())?,
        meter: Meter::default(),
        limit: Duration::from_secs(crowd.limits.call_limit),
        media_limit: Duration::from_secs(crowd.limits.media_limit),
        allow_remote: false,
        take_seats: false,
    });
    let target = format!("mediasoup, {workers} workers");
    let outcome = media::run(&stage, &plan, "bare", target).await?;
    done(&outcome, crowd.max_loss)
}

impl At {
    async fn stage(&self, limits: &Limits, options: Options) -> Result<Arc<Stage>, Failure> {
        let access = match &self.secret {
            Some(secret) => Access::Secret(secret.clone()),
            None => Access::Development,
        };
        let server = Server::resolve(&self.url, access, self.allow_remote).await?;
        Ok(Arc::new(Stage {
            target: Target::Server(server),
            engine: Engine::start(options)?,
            meter: Meter::default(),
            limit: Duration::from_secs(limits.call_limit),
            media_limit: Duration::from_secs(limits.media_limit),
            allow_remote: self.allow_remote,
            take_seats: self.take_seats,
        }))
    }
}

impl Crowd {
    fn options(&self) -> Options {
        Options {
            threads: self.threads,
            verify: self.verify,
        }
    }

    fn plan(&self, steady: u64, server: Option<u32>) -> Plan {
        Plan {
            rooms: self.rooms,
            speakers: self.speakers,
            listeners: self.listeners,
            concurrency: self.concurrency,
            join_limit: Duration::from_secs(self.limits.join_limit),
            steady: Duration::from_secs(steady),
            settle: Duration::from_secs(self.limits.settle),
            server,
        }
    }
}

impl Work {
    fn plan(&self, server: Option<u32>) -> (Plan, signalling::Consume) {
        use signalling::Consume;
        let (rooms, speakers, listeners, concurrency, consume) = match self.preset {
            Some(Preset::Produce) => (1, 50, 0, 10, Consume::None),
            Some(Preset::FanOut) => (1, 4, 200, 10, Consume::Listeners),
            Some(Preset::Rooms) => (20, 2, 8, 10, Consume::All),
            Some(Preset::Serial) => (1, 20, 0, 1, Consume::All),
            None => (1, 2, 10, 10, Consume::All),
        };
        let plan = Plan {
            rooms: self.rooms.unwrap_or(rooms),
            speakers: self.speakers.unwrap_or(speakers),
            listeners: self.listeners.unwrap_or(listeners),
            concurrency: self.concurrency.unwrap_or(concurrency),
            join_limit: Duration::from_secs(self.limits.join_limit),
            steady: Duration::ZERO,
            settle: Duration::from_secs(self.limits.settle),
            server,
        };
        (plan, self.consume.unwrap_or(consume))
    }
}
