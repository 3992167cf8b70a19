//! `dtlsParameters` of a client.

use mediasoup::types::data_structures::{DtlsFingerprint, DtlsParameters, DtlsRole};

use super::{Invalid, reader::Node};

/// Fingerprints in one object; there are five algorithms.
const MAX_FINGERPRINTS: usize = 16;

/// Reads a client's `dtlsParameters`.
pub(super) fn read(root: &Node<'_>) -> Result<DtlsParameters, Invalid> {
    let role = match root.get("role") {
        None => DtlsRole::Auto,
        Some(role) => match role.text()? {
            "auto" => DtlsRole::Auto,
            "client" => DtlsRole::Client,
            "server" => DtlsRole::Server,
            _ => return Err(role.invalid("must be auto, client or server")),
        },
    };
    let mut fingerprints = Vec::new();
    for item in root.objects("fingerprints", MAX_FINGERPRINTS)? {
        fingerprints.push(fingerprint(&item.node())?);
    }
    if fingerprints.is_empty() {
        return Err(root.invalid_field("fingerprints", "needs a certificate's fingerprint"));
    }
    Ok(DtlsParameters { role, fingerprints })
}

/// Reads a fingerprint. The names of algorithms are compared without case (RFC 8122, section 5).
fn fingerprint(node: &Node<'_>) -> Result<DtlsFingerprint, Invalid> {
    let algorithm = node.require("algorithm")?;
    let value = node.require("value")?;
    Ok(match algorithm.text()?.to_ascii_lowercase().as_str() {
        "sha-1" => DtlsFingerprint::Sha1 {
            value: bytes(&value)?,
        },
        "sha-224" => DtlsFingerprint::Sha224 {
            value: bytes(&value)?,
        },
        "sha-256" => DtlsFingerprint::Sha256 {
            value: bytes(&value)?,
        },
        "sha-384" => DtlsFingerprint::Sha384 {
            value: bytes(&value)?,
        },
        "sha-512" => DtlsFingerprint::Sha512 {
            value: bytes(&value)?,
        },
        _ => {
            return Err(algorithm.invalid("must be sha-1, sha-224, sha-256, sha-384 or sha-512"));
        }
    })
}

/// Reads `N` pairs of hexadecimal digits with colons between them.
fn bytes<const N: usize>(value: &Node<'_>) -> Result<[u8; N], Invalid> {
    parse(value.text()?).ok_or_else(|| {
        value.invalid(format!(
            "must be {N} pairs of hexadecimal digits with colons between them"
        ))
    })
}

/// The bytes; `None` if the text is anything else, be it longer or not ASCII.
fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        let [high, low] = pairs.next()?.as_bytes() else {
            return None;
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    pairs.next().is_none().then_some(bytes)
}

/// The value of a hexadecimal digit.
fn digit(character: u8) -> Option<u8> {
    char::from(character)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}
