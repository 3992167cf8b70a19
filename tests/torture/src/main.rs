//! The program: command line, runtime, one JSON document, exit code.

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use voice_room_torture::{Options, Report};

/// Something was found that must not be.
const FOUND: u8 = 1;
/// The situation does not allow a run, or it did not come to its end.
const FAILED: u8 = 2;

/// Kills a voice-room server again and again while people talk, and audits what it billed.
///
/// Prints one JSON document. Ends with 0 if the books are right; 1 if not, with the entries
/// concerned; 2 if the run did not come to its end. The rules are in the documentation of
/// the crate: cargo doc --open -p voice-room-torture.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// How often the server is killed
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,
    /// Seconds for which people talk, all lives of the server together
    #[arg(long, default_value_t = 600, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    duration: u64,
    /// What all that is random is drawn from [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Milliseconds before a kill in which a first packet may be heard and forgotten
    #[arg(long, default_value_t = 250, value_name = "MS")]
    window: u64,
    /// Seconds that the end may take until all that is late has come
    #[arg(long, default_value_t = 90, value_name = "S")]
    drain: u64,
    /// Rooms, each with three speakers and two listeners
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    rooms: u64,
    /// The server
    #[arg(long, default_value = "target/release/voice-room", value_name = "FILE")]
    server: PathBuf,
    /// The standard plugins
    #[arg(long, default_value = "target/plugins", value_name = "DIR")]
    plugins: PathBuf,
    /// The guest that traps
    #[arg(
        long,
        default_value = "target/plugins-test/fixture-plugin.wasm",
        value_name = "FILE"
    )]
    guest: PathBuf,
    /// Where the server's data and log are left [default: nowhere, unless something is found]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Cli {
    fn options(self) -> Options {
        let time = || {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            since.as_secs()
        };
        Options {
            server: self.server,
            plugins: self.plugins,
            guest: self.guest,
            kills: self.kills,
            seed: self.seed.unwrap_or_else(time),
            duration: Duration::from_secs(self.duration),
            window: Duration::from_millis(self.window),
            drain: Duration::from_secs(self.drain),
            rooms: usize::try_from(self.rooms).unwrap_or(usize::MAX),
            dir: self.dir,
        }
    }
}

fn main() -> ExitCode {
    let options = Cli::parse().options();
    match run(&options) {
        Ok(report) if report.is_fine() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FOUND),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    // One thread, so that nothing happens between a kill and its time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(voice_room_torture::run(options))?;
    match writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?) {
        // As with `voice-room-torture … | head`.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    Ok(report)
}
