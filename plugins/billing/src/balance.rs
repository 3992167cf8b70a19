//! What users have, and the commands that tell and change it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Answer, Denial, Failure, OnCommand, Refusal, Reply, UnixMs, UserId, events, kv, log,
    metrics,
};

use crate::Billing;

pub(crate) const NAMES: &[&str] = &["billing:credit", "billing:balance"];

/// How long a credit's reference is remembered, lest it is credited twice.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The longest reference, in bytes.
const REFERENCE: usize = 128;

/// What the references of one user may come to, in bytes: what one key holds.
const REFERENCES: usize = 60_000;

/// The most that one command can move.
const MOST: i64 = 1_000_000_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credit {
    user_id: UserId,
    /// To add; below zero to take.
    amount: Option<i64>,
    /// To have.
    balance: Option<i64>,
    currency: Option<String>,
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    user_id: Option<UserId>,
    currency: Option<String>,
}

fn key(currency: &str, user: UserId) -> String {
    format!("balance/{currency}/{user}")
}

/// What a user has.
pub(crate) fn of(currency: &str, user: UserId) -> Result<i64, Failure> {
    Ok(kv::get(&key(currency, user))?.unwrap_or(0))
}

/// Adds to what a user has; the sum.
pub(crate) fn add(currency: &str, user: UserId, amount: i64) -> Result<i64, Failure> {
    Ok(kv::increment(&key(currency, user), amount)?)
}

impl Billing {
    pub(crate) fn answer(&self, call: &OnCommand) -> Answer {
        match call.command.as_str() {
            "billing:credit" => self.credit(call),
            "billing:balance" => self.tell_balance(call),
            _ => Err(Refusal::from_message("Unknown event").into()),
        }
    }

    fn may_manage(&self, call: &OnCommand) -> bool {
        let user = &call.participant.user;
        let mut roles = self.configuration.manager_roles.iter();
        roles.any(|role| user.has_role(role))
    }

    /// The currency that is named, or else that of the room.
    fn currency(&self, call: &OnCommand, named: Option<String>) -> Result<String, Denial> {
        let of_room = || {
            let terms = self.configuration.terms(&call.room.id);
            terms.map(|terms| terms.currency)
        };
        let is_code = |code: &String| {
            let mut letters = code.bytes();
            (1..=16).contains(&code.len())
                && letters.all(|one| one.is_ascii_uppercase() || one.is_ascii_digit())
        };
        match named.or_else(of_room) {
            Some(currency) if is_code(&currency) => Ok(currency),
            Some(_) => {
                let problem = "is not 1 to 16 characters of `A-Z 0-9`";
                Err(Refusal::invalid_payload("currency", problem).into())
            }
            None => {
                let problem = "is missing, and the room has no tariff";
                Err(Refusal::invalid_payload("currency", problem).into())
            }
        }
    }

    fn tell_balance(&self, call: &OnCommand) -> Answer {
        let Asked { user_id, currency } = call.payload()?;
        let asking = call.participant.user.id;
        let user = user_id.unwrap_or(asking);
        if user != asking && !self.may_manage(call) {
            return Err(Refusal::from_message("Not authorized").into());
        }
        let currency = self.currency(call, currency)?;
        let balance = of(&currency, user)?;
        let told = json!({ "userId": user, "currency": currency, "balance": balance });
        Ok(Reply::new().data(told)?)
    }

    fn credit(&self, call: &OnCommand) -> Answer {
        let credit: Credit = call.payload()?;
        if !self.may_manage(call) {
            return Err(Refusal::from_message("Not authorized").into());
        }
        let user = credit.user_id;
        let currency = self.currency(call, credit.currency)?;
        let reference = credit.reference;
        let is_bad = |it: &String| it.is_empty() || it.len() > REFERENCE;
        if reference.as_ref().is_some_and(is_bad) {
            let problem = format!("is not 1 to {REFERENCE} bytes");
            return Err(Refusal::invalid_payload("reference", &problem).into());
        }
        // Adding nothing is a look on which the call depends: no charge comes in between.
        let present = || add(&currency, user, 0);
        let amount = amount_of(credit.amount, credit.balance, present)?;
        // What a refusal has written is kept, so nothing is refused from here on.
        if let Some(reference) = &reference
            && remember(&currency, user, reference, call.at)? == Reference::Repeated
        {
            let balance = of(&currency, user)?;
            let told = json!({
                "userId": user, "currency": currency, "balance": balance, "repeated": true,
            });
            return Ok(Reply::new().data(told)?);
        }
        let balance = add(&currency, user, amount)?;
        metrics::increment("credits", 1);
        let by = call.participant.user.id;
        log::info!("user {by} credited user {user} with {amount} {currency}");
        let credited = json!({
            "userId": user, "currency": currency, "amount": amount, "balance": balance,
            "reference": reference, "by": by, "at": call.at,
        });
        events::publish(&self.topic("credited"), credited)?;
        let told = json!({ "userId": user, "currency": currency, "balance": balance });
        let mut actions = Actions::new();
        if call.target.is_some() {
            actions = actions.emit_to_user(user, "billing:balance", &told);
        }
        Ok(Reply::from(actions).data(told)?)
    }
}

/// What is known of a credit's reference.
#[derive(PartialEq, Eq)]
enum Reference {
    New,
    Repeated,
}

/// Notes a reference, in one key for all of a user's, lest a busy back end fills the storage.
fn remember(
    currency: &str,
    user: UserId,
    reference: &str,
    at: UnixMs,
) -> Result<Reference, Denial> {
    let key = format!("credited/{currency}/{user}");
    // Of two that come at once, one finds the other's: the call depends on what it has read.
    let noted: Option<Vec<(String, UnixMs)>> = kv::update(&key, |noted| noted)?;
    let mut noted = noted.unwrap_or_default();
    let age = |since: UnixMs| Duration::from_millis(at.saturating_sub(since));
    noted.retain(|(_, since)| age(*since) < REMEMBERED);
    let repeated = noted.iter().any(|(one, _)| one == reference);
    if !repeated {
        noted.push((reference.to_owned(), at));
    }
    let fits = serde_json::to_vec(&noted).is_ok_and(|text| text.len() <= REFERENCES);
    if !fits {
        noted.pop();
    }
    // Also where nothing is new: that look has taken the key's end away.
    kv::set_expiring(&key, &noted, REMEMBERED)?;
    if !fits {
        let problem = "is one too many: those of the user's last 30 days come to 60000 bytes; \
                       credit larger amounts, or without one";
        return Err(Refusal::invalid_payload("reference", problem).into());
    }
    Ok(if repeated {
        Reference::Repeated
    } else {
        Reference::New
    })
}

/// What a credit adds.
fn amount_of(
    amount: Option<i64>,
    balance: Option<i64>,
    present: impl FnOnce() -> Result<i64, Failure>,
) -> Result<i64, Denial> {
    let wrong = |field: &str, problem: &str| Err(Refusal::invalid_payload(field, problem).into());
    match (amount, balance) {
        (Some(amount), None) if (-MOST..=MOST).contains(&amount) && amount != 0 => Ok(amount),
        (None, Some(balance)) if (-MOST..=MOST).contains(&balance) => {
            Ok(balance.saturating_sub(present()?))
        }
        (Some(_), None) => wrong("amount", "is 0, or further from 0 than 1000000000000"),
        (None, Some(_)) => wrong("balance", "is further from 0 than 1000000000000"),
        (Some(_), Some(_)) | (None, None) => wrong("amount", "or `balance` is needed, not both"),
    }
}
