//! The server and its parts, tested with real workers, real components and real
//! clients: one binary.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod coming_back;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod dtls;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod house;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod load;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod sinks;
#[cfg(test)]
mod speakers;
#[cfg(test)]
mod swapping;
#[cfg(test)]
mod tool;
#[cfg(test)]
mod torture;
