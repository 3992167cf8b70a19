//! UDP sockets whose packets are taken many at once, with the kernel's stamps.
//!
//! The only unsafe code of the load generator: the crates that wrap `recvmmsg` turn on
//! features of `libc` that would have half of the workspace built twice.
#![allow(
    unsafe_code,
    reason = "recvmmsg and SO_TIMESTAMPNS have no safe interface here"
)]

use std::{
    io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use libc::{c_int, c_void, cmsghdr, iovec, mmsghdr, timespec};
use socket2::SockRef;

/// Packets that are taken at once.
const BATCH: usize = 32;
/// The largest packet that can arrive.
const PACKET: usize = 1600;
/// Room for one control message with a stamp.
const CONTROL: usize = 64;
/// Asked of the kernel, which may grant less: a socket must hold what arrives between two
/// sweeps, and while its thread is busy with the others.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Opens a socket towards one address.
pub(super) fn open(remote: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    socket.set_nonblocking(true)?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    let on: c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A control message is aligned as the kernel's header of it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Room for a batch of packets, shared by all sockets of a thread.
pub(super) struct Batch {
    packets: Vec<[u8; PACKET]>,
    controls: Vec<Control>,
    /// Length and stamp of each packet that was taken last.
    taken: Vec<(usize, i64)>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            packets: vec![[0; PACKET]; BATCH],
            controls: vec![Control([0; CONTROL]); BATCH],
            taken: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what has arrived, at most a batch; whether there may be more.
    pub(super) fn take(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.taken.clear();
        let mut places: [iovec; BATCH] = std::array::from_fn(|_| iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        });
        // SAFETY: a header of only zeros is one without a name, places and control.
        let mut headers: [mmsghdr; BATCH] = std::array::from_fn(|_| unsafe { zeroed() });
        let room = self.packets.iter_mut().zip(&mut self.controls);
        for ((place, header), (packet, control)) in places.iter_mut().zip(&mut headers).zip(room) {
            place.iov_base = packet.as_mut_ptr().cast();
            place.iov_len = PACKET;
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each header points to one place and one control, each place to one packet;
        // they are of the lengths that the headers say, are not moved, and outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            let why = io::Error::last_os_error();
            return match why.kind() {
                // Refused: the server's port is closed, which the protocols will notice.
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionRefused => Ok(false),
                _ => Err(why),
            };
        };
        for header in headers.iter().take(received) {
            let stamp = stamp(header).unwrap_or_else(crate::voice::now_ns);
            self.taken.push((header.msg_len as usize, stamp));
        }
        Ok(received == BATCH)
    }

    /// The packets that were taken last, each with its stamp.
    pub(super) fn packets(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let packets = self.packets.iter().zip(&self.taken);
        packets.map(|(packet, (length, stamp))| (packet.get(..*length).unwrap_or_default(), *stamp))
    }
}

/// When a packet arrived, in nanoseconds since 1970. It is the only control message that is
/// asked for, so that only the first one is looked at.
fn stamp(header: &mmsghdr) -> Option<i64> {
    // SAFETY: the kernel has filled the header; its control, if any, is in place until the
    // next call, and CMSG_FIRSTHDR checks that a whole control header is there.
    let control: &cmsghdr = unsafe { libc::CMSG_FIRSTHDR(&raw const header.msg_hdr).as_ref() }?;
    let is_stamp =
        control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_TIMESTAMPNS;
    // SAFETY: computes a length.
    let whole = unsafe { libc::CMSG_LEN(size_of::<timespec>() as u32) } as usize;
    if !is_stamp || control.cmsg_len < whole {
        return None;
    }
    // SAFETY: the message is of this kind and carries a whole timespec, not necessarily aligned.
    let at = unsafe { ptr::read_unaligned(libc::CMSG_DATA(control).cast::<timespec>()) };
    Some(at.tv_sec * 1_000_000_000 + at.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel begins to stamp a little after the first socket asks for it; until then it
    /// says when a packet was taken.
    fn stamps_begin(far: &UdpSocket, near: &UdpSocket, batch: &mut Batch) {
        let begun = std::time::Instant::now();
        loop {
            far.send(&[0]).unwrap();
            let sent = crate::voice::now_ns();
            batch.take(near).unwrap();
            if batch.packets().any(|(_, at)| at <= sent) {
                return;
            }
            assert!(begun.elapsed().as_secs() < 20, "never stamped");
        }
    }

    #[test]
    fn packets_come_in_order_and_with_the_time_of_their_arrival() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let near = open(far.local_addr().unwrap()).unwrap();
        far.connect(near.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new();
        stamps_begin(&far, &near, &mut batch);

        let before = crate::voice::now_ns();
        for number in 0..=BATCH as u8 {
            far.send(&[number; 3]).unwrap();
        }
        let after = crate::voice::now_ns();
        let mut seen = Vec::new();
        loop {
            let more = batch.take(&near).unwrap();
            for (packet, at) in batch.packets() {
                assert_eq!(packet.len(), 3);
                assert!(before <= at && at <= after);
                seen.push(packet[0]);
            }
            if !more {
                break;
            }
        }
        assert_eq!(seen, (0..=BATCH as u8).collect::<Vec<_>>());
        assert!(!batch.take(&near).unwrap());
        assert_eq!(batch.packets().count(), 0);
    }
}
