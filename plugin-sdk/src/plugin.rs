//! The trait that a plugin implements.

use serde_json::Value;

use crate::{
    action::Actions,
    call::{
        BeforeConsume, BeforeJoin, BeforeProduce, DescribeRoom, OnCommand, OnFirstRtp, OnJoin,
        OnLeave, OnNewProducer, OnProducerClosed, OnProducerPaused, OnProducerResumed,
        OnRoomClosed, OnRoomOpened, OnTimer, SpeakerChanged,
    },
    outcome::{Answer, Decision, Failure, Outcome, Refusal, allow},
    permit::ProduceDecision,
    settings::{InitError, Settings},
};

/// The rules of a room. Only [`init`](Plugin::init) must be written; every hook has a
/// default that does nothing.
///
/// One value lives in each instance of the component, and calls reach it one at a time.
/// It may vanish at any time: keep in its fields what can be lost, and in [`kv`](crate::kv)
/// what cannot. Every implemented hook must also be named in
/// [`register_plugin!`](crate::register_plugin), unless that lists none.
#[allow(
    unused_variables,
    reason = "the names document the hooks; the defaults need nothing"
)]
pub trait Plugin: Sized {
    /// Starts an instance, before its first hook. An earlier instance may have been lost
    /// in the middle of a room: rebuild from [`kv`](crate::kv) what must be there.
    ///
    /// # Errors
    ///
    /// An error keeps the plugin from loading; the sentence is shown in the server's log.
    fn init(settings: Settings) -> Result<Self, InitError>;

    /// The client events that [`on_command`](Plugin::on_command) answers, for example
    /// `["hand:raise"]`. Asked once, after [`init`](Plugin::init).
    fn commands(&self) -> &[&str] {
        &[]
    }

    /// A user asks to enter a room. May refuse.
    ///
    /// # Errors
    ///
    /// With a [`Refusal`] to keep the user out, with a [`Failure`] if it cannot be decided.
    fn before_join(&mut self, call: &BeforeJoin) -> Decision {
        allow()
    }

    /// The first participant has entered a room: the first call about it, after the
    /// [`before_join`](Plugin::before_join) of that participant.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        Ok(Actions::new())
    }

    /// A participant has entered.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_join(&mut self, call: &OnJoin) -> Outcome {
        Ok(Actions::new())
    }

    /// What a newcomer is shown of the room: `plugins.<name>` in the join answer. Called
    /// after [`on_join`](Plugin::on_join) of the same participant.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work; the newcomer is shown nothing.
    fn describe_room(&mut self, call: &DescribeRoom) -> Result<Option<Value>, Failure> {
        Ok(None)
    }

    /// A participant is gone: the last call about it.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_leave(&mut self, call: &OnLeave) -> Outcome {
        Ok(Actions::new())
    }

    /// A participant asks to send audio. May refuse, and may say how the producer begins:
    /// see [`Permit`](crate::Permit).
    ///
    /// # Errors
    ///
    /// With a [`Refusal`] to deny it, with a [`Failure`] if it cannot be decided.
    fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
        allow()
    }

    /// A participant asks to receive a producer. May refuse.
    ///
    /// # Errors
    ///
    /// With a [`Refusal`] to deny it, with a [`Failure`] if it cannot be decided.
    fn before_consume(&mut self, call: &BeforeConsume) -> Decision {
        allow()
    }

    /// A producer exists and the room has been told of it.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_new_producer(&mut self, call: &OnNewProducer) -> Outcome {
        Ok(Actions::new())
    }

    /// The first RTP packet of a producer has arrived: it can be heard from now on. Once
    /// per producer.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_first_rtp(&mut self, call: &OnFirstRtp) -> Outcome {
        Ok(Actions::new())
    }

    /// A producer whose first RTP was told has stopped to flow: its user or a plugin pauses
    /// it, or no packet comes.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_producer_paused(&mut self, call: &OnProducerPaused) -> Outcome {
        Ok(Actions::new())
    }

    /// A producer flows again; in turn with [`on_producer_paused`](Plugin::on_producer_paused).
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_producer_resumed(&mut self, call: &OnProducerResumed) -> Outcome {
        Ok(Actions::new())
    }

    /// A producer has ended, whatever the cause. Once per producer.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_producer_closed(&mut self, call: &OnProducerClosed) -> Outcome {
        Ok(Actions::new())
    }

    /// The dominant speaker or the set of speakers has changed. While anybody speaks it is
    /// repeated at least once a second.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn speaker_changed(&mut self, call: &SpeakerChanged) -> Outcome {
        Ok(Actions::new())
    }

    /// A timer that the plugin has set with [`timers`](crate::timers) is due. It is gone (a
    /// repeating one: moved on) once this has returned.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work; by default the timer then comes
    /// again.
    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        Ok(Actions::new())
    }

    /// A room has ended: the last call about it, except for timers. There is nobody left
    /// for actions to be about.
    ///
    /// # Errors
    ///
    /// With a [`Failure`] if the plugin cannot do its work.
    fn on_room_closed(&mut self, call: &OnRoomClosed) -> Result<(), Failure> {
        Ok(())
    }

    /// A client event named in [`commands`](Plugin::commands).
    ///
    /// # Errors
    ///
    /// With a [`Refusal`] to say no, with a [`Failure`] if it cannot be answered.
    fn on_command(&mut self, call: &OnCommand) -> Answer {
        Err(Refusal::from_message("Unknown event").into())
    }
}
