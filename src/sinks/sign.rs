//! Signatures as Standard Webhooks have them, with the ids of the keys beside them.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::config::SigningKey;

/// The values of a request's headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// `webhook-timestamp`: seconds since 1970.
    pub(super) timestamp: String,
    /// `webhook-signature`: one for each key.
    pub(super) signatures: String,
    /// `webhook-key-id`: of each key, in the same order.
    pub(super) key_ids: String,
}

/// Signs id, time and body with every key.
pub(super) fn sign(keys: &[SigningKey], id: &str, seconds: u64, body: &str) -> Signature {
    let timestamp = seconds.to_string();
    let signed = keys.iter().filter_map(|key| {
        // A key of any length will do.
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.bytes()).ok()?;
        for part in [id, ".", &timestamp, ".", body] {
            mac.update(part.as_bytes());
        }
        let code = STANDARD.encode(mac.finalize().into_bytes());
        Some((format!("v1,{code}"), key.id.as_str()))
    });
    let (signatures, key_ids): (Vec<_>, Vec<_>) = signed.unzip();
    Signature {
        timestamp,
        signatures: signatures.join(" "),
        key_ids: key_ids.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_standard_gives_as_its_example() {
        let key = SigningKey::new("a", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = "{\"test\": 2432232314}";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = sign(&[key], id, 1_614_265_330, body);
        assert_eq!(
            signed.signatures,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signed.timestamp, "1614265330");
    }

    #[test]
    fn two_keys_give_two_signatures_in_the_order_of_their_ids() {
        let secret = "0123456789abcdef01234567";
        let keys = [("new", secret), ("old", "another secret of some length")]
            .map(|(id, secret)| SigningKey::new(id, secret).unwrap());
        let both = sign(&keys, "id", 5, "{}");
        assert_eq!(both.key_ids, "new old");
        let alone = keys
            .each_ref()
            .map(|key| sign(std::slice::from_ref(key), "id", 5, "{}"));
        let alone = alone.map(|one| one.signatures);
        assert_eq!(both.signatures, alone.join(" "));
    }
}
