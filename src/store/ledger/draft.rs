//! An entry before it has its number.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    model::{ProducerId, UnixMs, UserId},
    store::canonical,
};

/// What an entry says. Whatever the server itself notes is told from what plugins publish
/// by `plugin`.
pub(in crate::store) struct Said<'a> {
    pub(in crate::store) at: UnixMs,
    pub(in crate::store) id: Uuid,
    /// `None` for the server itself.
    pub(in crate::store) plugin: Option<&'a str>,
    pub(in crate::store) room: &'a str,
    pub(in crate::store) user: Option<UserId>,
    pub(in crate::store) producer: Option<ProducerId>,
    pub(in crate::store) topic: &'a str,
    pub(in crate::store) payload: &'a Value,
}

/// The canonical text of an entry but for its number, which only the writer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Draft {
    before: Box<str>,
    after: Box<str>,
}

impl Draft {
    pub(in crate::store) fn new(said: &Said<'_>) -> Self {
        // The members are in the order of the scheme: at, id, payload, plugin, producer,
        // room, seq, topic, user.
        let mut before = format!("{{\"at\":{},\"id\":\"{}\",\"payload\":", said.at.0, said.id);
        canonical::write(&mut before, said.payload);
        before.push_str(",\"plugin\":");
        match said.plugin {
            Some(plugin) => canonical::write_text(&mut before, plugin),
            None => before.push_str("null"),
        }
        before.push_str(",\"producer\":");
        match said.producer {
            Some(producer) => canonical::write_text(&mut before, &producer.to_string()),
            None => before.push_str("null"),
        }
        before.push_str(",\"room\":");
        canonical::write_text(&mut before, said.room);
        before.push_str(",\"seq\":");
        let mut after = ",\"topic\":".to_owned();
        canonical::write_text(&mut after, said.topic);
        after.push_str(",\"user\":");
        match said.user {
            Some(user) => after.push_str(&user.to_string()),
            None => after.push_str("null"),
        }
        after.push('}');
        Self {
            before: before.into(),
            after: after.into(),
        }
    }

    /// In bytes, without the number.
    pub(in crate::store) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    pub(in crate::store) fn numbered(&self, seq: u64) -> String {
        format!("{}{seq}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_numbered_draft_is_the_canonical_text_of_what_it_says() {
        let payload = json!({ "b": 1.0, "a": "ä\n" });
        for (plugin, user, producer) in [
            (
                Some("bill\"ing"),
                Some(UserId(u64::MAX)),
                Some(ProducerId(Uuid::nil())),
            ),
            (None, None, None),
        ] {
            let draft = Draft::new(&Said {
                at: UnixMs(5),
                id: Uuid::nil(),
                plugin,
                room: "räum \u{1f600}",
                user,
                producer,
                topic: "a.b",
                payload: &payload,
            });
            let text = draft.numbered(17);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["seq"], 17);
            assert_eq!(value["plugin"], json!(plugin));
            assert_eq!(value["user"], json!(user));
            let mut canonical = String::new();
            canonical::write(&mut canonical, &value);
            assert_eq!(canonical, text);
        }
    }
}
