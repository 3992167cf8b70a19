//! Sessions whose end nobody told: of a server that was killed before it kept a journal, and of
//! facts that an operator gave up. The journal tells all others, with the reason `recovered`.

use std::time::Duration;

use voice_room_plugin_sdk::{Failure, UnixMs, kv, log, timers};

use crate::{
    Billing,
    session::{End, Session, open_key},
};

/// How many such sessions one call stops: with the units of one of them, a part of the events
/// that it may publish.
const LOST_PER_CALL: usize = 30;

/// How soon the next call stops more.
const NEXT_CALL: Duration = Duration::from_millis(100);

/// How many keys one listing gives.
const PAGE: u32 = 256;

/// The timer that earlier versions have set in rooms with open sessions.
pub(crate) const WATCH: &str = "watch";

/// The timer `lost/TIME` of a room that is open again stops what began before that time.
pub(crate) const LOST: &str = "lost/";

impl Billing {
    /// A room is open again. Nobody has been heard in it yet, and what had been told before is
    /// told, so whatever is open began before that time and was lost.
    pub(crate) fn sweep(&self, room_id: &str, opened_at: UnixMs) -> Result<(), Failure> {
        if !self.stop_lost(room_id, opened_at)?
            && let Err(error) = timers::set(&format!("{LOST}{opened_at}"), NEXT_CALL)
        {
            log::warn!("lost sessions are stopped when the room opens again: {error}");
        }
        Ok(())
    }

    /// The timer of an earlier version.
    pub(crate) fn watch(
        &self,
        room_id: &str,
        participants: u32,
        at: UnixMs,
    ) -> Result<(), Failure> {
        let all = participants > 0 || self.stop_lost(room_id, at)?;
        if all && kv::list(&open_key(room_id, ""), None, 1)?.is_empty() {
            timers::cancel(WATCH)?;
        }
        Ok(())
    }

    /// Ends a session of whose end nothing is known.
    pub(crate) fn lose(&self, room_id: &str, session: Session) -> Result<(), Failure> {
        let end = End {
            at: session.known_until(),
            reason: "server_lost".to_owned(),
            media: None,
        };
        self.end(room_id, session, end)
    }

    /// Stops sessions that began before this time, as many as one call can; whether that was
    /// all of them.
    fn stop_lost(&self, room_id: &str, before: UnixMs) -> Result<bool, Failure> {
        let prefix = open_key(room_id, "");
        let (mut stopped, mut after) = (0, None);
        let all = 'all: loop {
            let mut keys = kv::list(&prefix, after.as_deref(), PAGE)?;
            for key in &keys {
                let session = kv::get::<Session>(key)?;
                let Some(session) = session.filter(|session| session.started_at < before) else {
                    continue;
                };
                let settles = session.units != session.whole_units(session.known_until());
                if stopped == LOST_PER_CALL || (stopped > 0 && settles) {
                    break 'all false;
                }
                self.lose(room_id, session)?;
                stopped += 1;
            }
            after = keys.pop();
            if after.is_none() {
                break true;
            }
        };
        if stopped > 0 {
            log::warn!("{stopped} sessions in room {room_id} were lost");
        }
        Ok(all)
    }
}
