//! Everything that touches mediasoup.

pub mod lenient;
