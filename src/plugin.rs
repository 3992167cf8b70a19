//! stub
use std::{sync::Arc, time::Duration};
use serde_json::Value;
use crate::{config::PluginConfig, model::*, store::Store};
#[derive(Clone)] pub struct PluginHost;
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct LoadError;
#[derive(Clone, Debug, PartialEq)] pub struct RoomView { pub id: RoomId, pub participants: u32 }
#[derive(Clone, Debug, PartialEq)] pub struct ParticipantView { pub id: ParticipantId, pub user: Arc<User>, pub connections: u32 }
#[derive(Clone, Debug, PartialEq)] pub struct JoinCall { pub room: RoomView, pub participant: ParticipantView, pub at: UnixMs }
#[derive(Clone, Debug, PartialEq)] pub struct ProduceCall { pub room: RoomView, pub participant: ParticipantView, pub source: Source, pub codec: Codec, pub at: UnixMs }
#[derive(Clone, Debug, PartialEq)] pub struct CommandCall { pub room: RoomView, pub participant: ParticipantView, pub payload: Value, pub at: UnixMs }
#[derive(Clone, Debug, PartialEq)] pub struct ProducerView { pub id: ProducerId, pub source: Source, pub codec: Codec }
#[derive(Clone, Debug, PartialEq)] pub struct SpeakerView { pub user_id: UserId, pub producer_id: ProducerId, pub volume: i8 }
#[derive(Clone, Debug, PartialEq)] pub enum Fact { Joined(JoinCall), Left{room: RoomView,participant: ParticipantView,reason:String,at: UnixMs}, NewProducer{room: RoomView,participant: ParticipantView,producer: ProducerView,at: UnixMs}, FirstRtp{room: RoomView,participant: ParticipantView,producer: ProducerView,at: UnixMs}, ProducerClosed{room: RoomView,participant: ParticipantView,producer: ProducerView,reason: String,first_rtp_at:Option<UnixMs>,at: UnixMs}, SpeakerChanged{room: RoomView, speakers: Vec<SpeakerView>, at: UnixMs} }
#[derive(Clone, Debug, PartialEq)] pub enum Action { EmitToUser{user:UserId,event:String,payload:Value}, EmitToRoom{event: String,payload: Value,except:Option<UserId>}, Mute(Target), Unmute(Target), Close(Target), Kick{user: UserId,reason: String} }
#[derive(Clone, Copy, Debug, PartialEq)] pub enum Target { User(UserId), Producer(ProducerId) }
impl PluginHost {
 pub async fn load(_: &[PluginConfig], _: &Store) -> Result<Self, LoadError> { Ok(Self) }
 pub fn set_carry_out(&self, _: impl Fn(&RoomId, &Arc<str>, Vec<Action>) + Send + Sync + 'static) {}
 pub async fn before_join(&self, _: JoinCall) -> Result<(), Refusal> { Ok(()) }
 pub async fn before_produce(&self, _: ProduceCall) -> Result<(), Refusal> { Ok(()) }
 pub async fn describe_room(&self, _: JoinCall) -> serde_json::Map<String, Value> { Default::default() }
 pub async fn command(&self, _: &str, _: CommandCall) -> Option<Result<Option<Value>, Refusal>> { None }
 pub fn notify(&self, _: Fact) {}
 pub fn commands(&self) -> Vec<String> { vec![] }
 pub async fn shutdown(&self, _: Duration) {}
}
