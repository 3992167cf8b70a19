//! Kills a voice-room server at random moments while people talk, and then audits what it
//! has billed.
//!
//! A run is a number of *lives* of the server on one data directory. In each of them real
//! participants (ICE, DTLS, SRTP) enter rooms, speak, mute themselves, close, replace, leave
//! and vanish, and others hear them. Every life but the last one ends with SIGKILL. All the
//! while a guest traps in one call of four, the billing plugin is reloaded, and a webhook
//! receiver fails, times out, takes an event and says that it has not, and is down for
//! a while. The last life ends in order; what is late may come; then the books are
//! audited ([`audit`]).
//!
//! # What must hold
//!
//! What clients have seen is one side ([`witness`]), the ledger and the receiver's book
//! are the other one.
//!
//! A first packet is **observed** at the moment at which the first of these happens: a
//! packet of the producer that authenticates and carries what was sent reaches a listener's
//! socket (the kernel's stamp), or a client is told `audio:firstRtp`. Of a producer that its
//! client has muted before it sent anything, the first of these is its unmuting: a mute
//! reaches the media a moment after its answer, and what slips through is no beginning (it is
//! counted, `heardWhileMuted`).
//!
//! 1. *Heard is billed.* A producer whose first packet was observed has exactly one
//!    `billing.started`. One exception, and it is counted: media is forwarded without
//!    waiting for the disk, so a server that is killed while the journal takes the fact
//!    has let the first packets be heard. It may forget what was heard less than the
//!    *window* ([`Options::window`]) before the kill and announced to nobody, and nothing
//!    else: the report says how often that was, and how long the longest of them was heard.
//! 2. *Billed was sent.* A `billing.started` is of a producer that exists, of its user and room,
//!    and packets of it were sent. There is never more than one of a producer.
//! 3. *One end.* Each `billing.started` has exactly one `billing.stopped`, later in the
//!    ledger. If the server was killed under it, the reason is `recovered`, and its end is no
//!    later than the kill and no earlier than the last heartbeat.
//! 4. *One book.* The ledger has no gap and its chain verifies; what it showed once it shows
//!    for good, whatever was killed since. The receiver has taken exactly its billing events,
//!    each as the ledger has it, signed, and in the order of each room.
//! 5. *Facts are told once.* Each recorded fact is in the ledger once, and the effects of the
//!    guest that traps are there once for each.
//! 6. *Sums agree.* The packets that a closed fact counts are those that the sender sent:
//!    all of them where it was silent before the end, all but those of the last second where it
//!    was not, all but those since the last heartbeat where the server was killed.
//! 7. *Time agrees.* `billedMs` of a session that its client ended is as long as it was between
//!    these by the client's clock, mutes taken off, give or take two seconds of a busy machine. The
//!    report has both sums.

pub mod audit;
mod crowd;
mod error;
mod killing;
mod ledger;
mod random;
mod receiver;
mod report;
mod server;
pub mod witness;

use std::{path::PathBuf, time::Duration};

pub use error::TortureError;
pub use killing::run;
pub use report::Report;

/// What is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's program.
    pub server: PathBuf,
    /// Folder of the standard plugins.
    pub plugins: PathBuf,
    /// The guest that traps; its manifest is beside it.
    pub guest: PathBuf,
    /// How often the server is killed.
    pub kills: u32,
    /// What all that is random is drawn from. Moments depend on the machine all the same.
    pub seed: u64,
    /// How long people talk, all lives together.
    pub duration: Duration,
    /// How long before a kill a first packet may be observed and forgotten.
    pub window: Duration,
    /// How long the end may take until all that is late has come.
    pub drain: Duration,
    /// Rooms; in each three speakers and two listeners.
    pub rooms: usize,
    /// Where the server's data and log are; a temporary folder otherwise, which is kept if
    /// something was wrong.
    pub dir: Option<PathBuf>,
}
