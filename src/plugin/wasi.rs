//! The part of WASI that compilers put into every guest, with nothing behind it: no files,
//! no network, no environment, no clock. Random numbers are real; where calls are recorded,
//! they follow from a seed that is part of the recording.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, async_trait,
    cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2::{self, OutputStream, Pollable, StreamResult, bindings},
};

use super::{host::State, limits};

/// Most random bytes in one call.
const RANDOM: u64 = 64 << 10;

/// Links what a `wasm32-wasip2` guest imports whether it wants to or not. Sockets are not
/// among it, so that a plugin which wants the network does not load at all.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use bindings::{cli, filesystem, random};

    // Input and output streams, poll, clocks, random, standard streams.
    p2::add_to_linker_proxy_interfaces_async(linker)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    random::insecure::add_to_linker::<State, wasmtime_wasi::random::WasiRandom>(linker, random_of)?;
    random::insecure_seed::add_to_linker::<State, wasmtime_wasi::random::WasiRandom>(
        linker, random_of,
    )
}

fn random_of(state: &mut State) -> &mut wasmtime_wasi::random::WasiRandomCtx {
    wasmtime_wasi::WasiView::ctx(state).ctx.random()
}

/// A context with nothing in it but a place for what the guest prints. Its random numbers
/// follow from the seed, where there is one.
pub(super) fn empty(printed: &Printed, seed: Option<u64>) -> WasiCtx {
    let mut context = WasiCtx::builder();
    context
        .stdout(printed.clone())
        .stderr(printed.clone())
        .wall_clock(Stopped)
        .monotonic_clock(Stopped)
        .max_random_size(RANDOM);
    if let Some(seed) = seed {
        context
            .secure_random(StdRng::seed_from_u64(seed))
            .insecure_random(StdRng::seed_from_u64(!seed))
            .insecure_random_seed(u128::from(seed));
    }
    context.build()
}

/// Time is an argument of every hook. A clock would make calls impossible to replay.
struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// The beginning of what a guest has printed since it was last asked, for example the
/// message of a panic.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    /// Takes what there is.
    pub(super) fn take(&self) -> Option<String> {
        let mut bytes = self.0.lock();
        if bytes.is_empty() {
            return None;
        }
        Some(String::from_utf8_lossy(&std::mem::take(&mut *bytes)).into_owned())
    }

    fn print(&self, bytes: &[u8]) {
        let mut printed = self.0.lock();
        let space = limits::STDIO.saturating_sub(printed.len());
        printed.extend(bytes.iter().take(space));
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limits::STDIO)
    }
}

impl AsyncWrite for Printed {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_prints_for_ever_fills_no_memory() {
        let printed = Printed::default();
        for _ in 0..1000 {
            printed.print(&[b'x'; 1000]);
        }
        assert_eq!(printed.take().unwrap().len(), limits::STDIO);
        assert_eq!(printed.take(), None);
    }
}
