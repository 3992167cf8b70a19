//! How entries are tied together: each has the hash of all before it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// A SHA-256 hash. As text, 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub(in crate::store) [u8; Hash::BYTES]);

impl Hash {
    pub(in crate::store) const BYTES: usize = 32;

    /// What goes before the first entry of all.
    pub const ZERO: Self = Self([0; Self::BYTES]);

    /// The hash of an entry whose predecessor has this one: of the predecessor's 32 bytes
    /// and then the entry's canonical text.
    #[must_use]
    pub fn then(self, text: &str) -> Self {
        let digest = Sha256::new().chain_update(self.0).chain_update(text);
        Self(digest.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not the 64 digits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 digits of 0-9 and a-f")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NotAHash),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(NotAHash);
        };
        let bytes = pairs
            .iter()
            .map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A place in the chain: a sequence number, and the hash up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The entry's sequence number; 0 is before the first of all.
    pub seq: u64,
    /// The entry's hash.
    pub hash: Hash,
}

impl Seal {
    /// Before the first entry of all.
    pub const START: Self = Self {
        seq: 0,
        hash: Hash::ZERO,
    };

    /// The seal of the next entry.
    pub(in crate::store) fn then(self, text: &str) -> Self {
        Self {
            seq: self.seq + 1,
            hash: self.hash.then(text),
        }
    }
}

/// Of an entry as it is given out.
#[derive(Deserialize)]
struct Said {
    seq: u64,
    hash: Hash,
}

/// Where a chain of entries does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Another entry follows than should.
    #[error("entry {expected} is missing: {found} follows")]
    Gap {
        /// The sequence number that should follow.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// The entry or one before it is not as it was written.
    #[error("entry {seq} does not have the hash {hash}: it, or what was before it, was changed")]
    Changed {
        /// Its sequence number.
        seq: u64,
        /// What its hash is said to be.
        hash: Hash,
    },
    /// It is not an entry at all.
    #[error("what should be entry {expected} is not an entry: {problem}")]
    NotAnEntry {
        /// The sequence number that should follow.
        expected: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The chain ends before or after where it should.
    #[error("the ledger should end with entry {expected} and ends with {found}")]
    End {
        /// The last sequence number that was noted.
        expected: u64,
        /// The last one that is there.
        found: u64,
    },
}

impl Seal {
    /// The seal of the entry that follows, if it does follow. The line is the entry as it is
    /// given out.
    ///
    /// # Errors
    ///
    /// If the entry does not belong here or was changed.
    pub fn check(self, line: &str) -> Result<Self, Broken> {
        let problem = |problem: String| Broken::NotAnEntry {
            expected: self.seq + 1,
            problem,
        };
        let said: Said = serde_json::from_str(line).map_err(|error| problem(error.to_string()))?;
        let suffix = format!(",\"hash\":\"{}\"}}", said.hash);
        let open = line.strip_suffix(&suffix);
        let open = open.ok_or_else(|| problem("its hash is not at its end".to_owned()))?;
        self.check_text(said.seq, said.hash, &format!("{open}}}"))
    }

    /// As [`Self::check`], by the entry's canonical text.
    pub(in crate::store) fn check_text(
        self,
        seq: u64,
        hash: Hash,
        text: &str,
    ) -> Result<Self, Broken> {
        let next = self.then(text);
        if seq != next.seq {
            return Err(Broken::Gap {
                expected: next.seq,
                found: seq,
            });
        }
        if hash != next.hash {
            return Err(Broken::Changed { seq, hash });
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program in another language would compute, written down once.
    #[test]
    fn the_hash_is_that_of_the_predecessors_bytes_and_the_canonical_text() {
        let text = "{\"seq\":1}";
        let hash = Hash::ZERO.then(text);
        // (head -c 32 /dev/zero; printf '{"seq":1}') | sha256sum
        assert_eq!(
            hash.to_string(),
            "ff44e121014845ba9f060b9dd529b57e3706d9dcbf47ce18d6a7e50bea6c7e46"
        );
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "0", &"0".repeat(63), &"0".repeat(66), &"G".repeat(64)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }

    fn line(seal: Seal, payload: &str) -> (String, Seal) {
        let seq = seal.seq + 1;
        let text = format!("{{\"payload\":{payload},\"seq\":{seq}}}");
        let next = seal.then(&text);
        let open = text.trim_end_matches('}');
        (format!("{open},\"hash\":\"{}\"}}", next.hash), next)
    }

    #[test]
    fn what_was_changed_left_out_or_put_in_is_found() {
        let (first, seal) = line(Seal::START, "{\"sum\":1.5}");
        let (second, end) = line(seal, "2");
        let both = Seal::START.check(&first);
        assert_eq!(both.and_then(|seal| seal.check(&second)), Ok(end));
        let gap = Broken::Gap {
            expected: 1,
            found: 2,
        };
        assert_eq!(Seal::START.check(&second), Err(gap));
        for (from, to) in [
            ("1.5", "1.6"),
            ("1.5", "1.50"),
            ("\"seq\"", "\"more\":1,\"seq\""),
            (&*seal.hash.to_string(), &*Hash::ZERO.to_string()),
        ] {
            let found = Seal::START.check(&first.replace(from, to));
            assert!(
                matches!(found, Err(Broken::Changed { seq: 1, .. })),
                "{to}: {found:?}"
            );
        }
        let renumbered = second.replace("\"seq\":2", "\"seq\":1");
        let found = Seal::START.check(&renumbered);
        assert!(matches!(found, Err(Broken::Changed { .. })), "{found:?}");
        let early = format!("{{\"hash\":\"{}\",\"seq\":1}}", seal.hash);
        for strange in ["", "[]", "{}", "{\"hash\":\"x\",\"seq\":1}", &early] {
            let found = Seal::START.check(strange);
            assert!(
                matches!(found, Err(Broken::NotAnEntry { expected: 1, .. })),
                "{found:?}"
            );
        }
    }
}
