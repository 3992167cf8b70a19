//! The server and its parts, tested with real workers and real clients.

#[cfg(test)]
mod dtls;
#[cfg(test)]
mod peer;
