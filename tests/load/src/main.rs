//! The program: command line, runtime, one JSON document, exit code.

mod cli;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

/// Some participants failed, or too much was lost.
const FAILED: u8 = 1;
/// The options, or the situation, do not allow a run.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(why) => Err(why.into()),
    };
    match result.and_then(|done| print(&done).map(|()| done)) {
        Ok(done) if !done.fine => ExitCode::from(FAILED),
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(USAGE)
        }
    }
}

fn print(done: &cli::Done) -> Result<(), Box<dyn Error + Send + Sync>> {
    match writeln!(io::stdout(), "{}", done.json) {
        // As with `voice-room-load … | head`.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
