//! The `voice-room` program: command line, configuration, log, listener, server.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    net::SocketAddr,
    process::{self, ExitCode},
    time::Duration,
};

use clap::Parser;
use tikv_jemallocator::Jemalloc;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};
use tracing::{error, info, warn};
use voice_room::{
    cli::{Cli, Command, ToolCommand},
    config::{self, Config, Flags},
    plugin,
    server::{self, Signals},
    telemetry::{self, Metrics},
    tool::{self, Report},
};

/// For the media workers in C++ as well, which call the same `malloc`: what a crowd needed
/// goes back to the machine within seconds of its leaving. glibc keeps it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Ended by a failure.
const FAILURE: u8 = 1;
/// The command line or the configuration is wrong; clap uses the same code.
const USAGE: u8 = 2;

/// Signals this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// A file has reached the size that it may have: one number on all systems that workers run on.
const SIGXFSZ: i32 = 25;

/// What blocking work may take to end after the server has stopped.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (options, is_serve) = match Cli::parse().command {
        Command::Serve(options) => (options, true),
        Command::Config(options) => (options, false),
        Command::Tool(command) => return tool_command(&command),
    };
    let flags = Flags::from(options);
    let loaded = match config::load(flags.clone()) {
        Ok(loaded) => loaded,
        Err(mistakes) => return failed(USAGE, &mistakes),
    };
    let result = if is_serve {
        serve(loaded.config, flags)
    } else {
        print(&loaded.effective)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(FAILURE, &error),
    }
}

fn tool_command(command: &ToolCommand) -> ExitCode {
    match run_tool(command) {
        Ok(fine) => ExitCode::from(if fine { 0 } else { FAILURE }),
        Err(error) => failed(FAILURE, &error),
    }
}

/// Whether all is as it should be.
fn run_tool(command: &ToolCommand) -> Result<bool, Box<dyn Error>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    plugin::prepare_thread();
    match runtime.block_on(tool::run(command)) {
        Ok(Report { text, fine }) => {
            print(&text)?;
            Ok(fine)
        }
        Err(error) => {
            if command.wants_json() {
                print(&error.json())?;
            }
            Err(error.into())
        }
    }
}

fn failed(code: u8, why: &impl fmt::Display) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}

fn print(text: &impl fmt::Display) -> Result<(), Box<dyn Error>> {
    match write!(io::stdout(), "{text}") {
        // As with `voice-room config | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn serve(config: Config, flags: Flags) -> Result<(), Box<dyn Error>> {
    telemetry::start_log(&config.log)?;
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let runtime = runtime::Builder::new_multi_thread()
        .on_thread_start(plugin::prepare_thread)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        let configs = configs_at_hangup(flags)?;
        // Of files that may not grow the store learns, as of a full disk, by the failing write.
        let _kept = signal(SignalKind::from_raw(SIGXFSZ))?;
        let signals = Signals { stop, configs };
        let metrics = Metrics::install()?;
        tokio::spawn(metrics.clone().upkeep());
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr()?;
        let ready = || say_ready(address);
        Ok(server::run(config, listener, metrics, ready, signals).await?)
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
    result
}

/// The one line on standard output: whoever started us may wait for it.
fn say_ready(address: SocketAddr) {
    if let Err(error) = writeln!(io::stdout(), "voice-room is ready: http://{address}") {
        warn!(%error, "standard output is closed");
    }
}

/// Completes at the first SIGTERM or SIGINT. The next one ends the process at
/// once, also while the server is still starting and awaits neither.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        info!("{name}: stopping");
        drop(stop);
        // Some senders signal the process and its group: that is one wish.
        tokio::time::sleep(SAME_SIGNAL).await;
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return;
        };
        let name = either(&mut terminate, &mut interrupt).await;
        error!("{name} again: ending at once");
        process::exit(FAILURE.into());
    });
    Ok(async move { drop(stopped.await) })
}

/// A configuration for each SIGHUP, from the same sources as the first one. One with mistakes
/// is logged and left out. Several signals that come before the first is done with are one.
fn configs_at_hangup(flags: Flags) -> io::Result<mpsc::Receiver<Config>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, configs) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!("SIGHUP: reading the configuration again");
            let flags = flags.clone();
            let loaded = match tokio::task::spawn_blocking(|| config::load(flags)).await {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(mistakes)) => {
                    error!(%mistakes, "the configuration has mistakes: nothing changes");
                    continue;
                }
                Err(error) => {
                    error!(%error, "the configuration cannot be read: nothing changes");
                    continue;
                }
            };
            if sender.send(loaded.config).await.is_err() {
                return;
            }
        }
    });
    Ok(configs)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
