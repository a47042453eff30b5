//! A TAP interface: the host's own network stack, or whatever it bridges to.
//!
//! *Owners.* Transmit threads write; one thread of the TAP's own reads and hands frames to the port's steering. Dropping
//! the [`Tap`] ends that thread and closes the descriptor.
//!
//! *Invariants.* The host's kernel gives offloads only after the guest agreed to them, and what it says of a frame is
//! judged like what a guest says. Writes never block: a full queue costs the frame. Existing interfaces are left as
//! they were found.

mod error;
mod open;
pub(super) mod vnet;

pub use error::TapError;

use super::offload::{OffloadError, Rules, judge};
use super::{Frame, Network, OFFLOADS, Steering, with_needs};
use crate::sys;
use pvkit_abi::net::{FrameFlags, FrameMeta, MAX_FRAME, NetFeatures};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Longest sleep of the reading thread.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Frames that are read between two looks at the stop request.
const BUDGET: usize = 64;

/// Which TAP.
#[derive(Debug)]
pub struct TapOptions {
    /// An interface that exists; `None` makes one for as long as the TAP is open.
    pub name: Option<String>,
    /// An open descriptor, which wins over the name.
    pub fd: Option<OwnedFd>,
    /// The guest's MTU.
    pub mtu: u16,
}

/// An open TAP.
#[derive(Debug)]
pub struct Tap {
    link: Arc<Link>,
    name: String,
    cuts_udp: bool,
    stop: EventFd,
    reader: Option<JoinHandle<()>>,
}

/// What both directions use.
#[derive(Debug)]
struct Link {
    file: File,
    steering: Arc<Steering>,
    mtu: u16,
    counters: TapCounters,
    is_gone: AtomicBool,
}

#[derive(Debug, Default)]
struct TapCounters {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
}

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapSnapshot {
    /// Frames that the host took.
    pub sent: u64,
    /// Frames that came from the host.
    pub received: u64,
    /// Frames that the host did not take: the interface is down or its queue full.
    pub refused: u64,
    /// Frames from the host that were larger than the MTU or whose header cannot be true.
    pub malformed: u64,
    /// The interface was removed.
    pub is_gone: bool,
}

impl Tap {
    /// Opens a TAP and begins to read. Frames go where `steering` says.
    ///
    /// # Errors
    /// What is wrong with the interface or the options, by name and with a remedy; nothing is left behind.
    pub fn open(options: TapOptions, steering: Arc<Steering>) -> Result<Arc<Self>, TapError> {
        let mtu = options.mtu;
        let open::Opened { file, name, cuts_udp } = open::open(options)?;
        let counters = TapCounters::default();
        let link = Arc::new(Link { file, steering, mtu, counters, is_gone: AtomicBool::new(false) });
        let starting = "starting the TAP's thread";
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(TapError::system(starting))?;
        let stopped = stop.try_clone().map_err(TapError::system(starting))?;
        let reading = Arc::clone(&link);
        let reader = Builder::new()
            .name(format!("tap {name}").chars().take(15).collect())
            .spawn(move || reading.read_until(&stopped))
            .map_err(TapError::system(starting))?;
        Ok(Arc::new(Self { link, name, cuts_udp, stop, reader: Some(reader) }))
    }

    /// A descriptor of a TAP, checked and set up as [`Tap::open`] does, for whoever is to read it: the interface stays for as long
    /// as the descriptor is open somewhere.
    ///
    /// # Errors
    /// As for `open`.
    pub fn descriptor(options: TapOptions) -> Result<OwnedFd, TapError> {
        open::open(options).map(|opened| opened.file.into())
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The numbers now.
    #[must_use]
    pub fn counters(&self) -> TapSnapshot {
        let TapCounters { sent, received, refused, malformed } = &self.link.counters;
        TapSnapshot {
            sent: sent.load(Ordering::Relaxed),
            received: received.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            malformed: malformed.load(Ordering::Relaxed),
            is_gone: self.link.is_gone.load(Ordering::Relaxed),
        }
    }

    /// What the kernel is told that the guest takes.
    fn offloads(&self, features: NetFeatures) -> libc::c_uint {
        let features = with_needs(features);
        let udp = if self.cuts_udp { libc::TUN_F_USO4 | libc::TUN_F_USO6 } else { 0 };
        let meanings = [
            (NetFeatures::RX_CHECKSUM, libc::TUN_F_CSUM),
            (NetFeatures::RX_TSO4, libc::TUN_F_TSO4),
            (NetFeatures::RX_TSO6, libc::TUN_F_TSO6),
            (NetFeatures::RX_USO, udp),
        ];
        meanings.iter().filter(|(feature, _)| features.contains(*feature)).map(|(_, bits)| *bits).sum()
    }
}

impl Network for Tap {
    fn send(&self, frame: Frame) {
        let counters = &self.link.counters;
        let counter = if self.link.write(&frame).is_ok() { &counters.sent } else { &counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn features(&self) -> NetFeatures {
        if self.cuts_udp { OFFLOADS } else { OFFLOADS - NetFeatures::TX_USO - NetFeatures::RX_USO }
    }

    fn agreed(&self, features: NetFeatures) {
        // If the kernel refuses, it goes on without: frames come finished, and every guest takes those.
        let _ = sys::set_tap_offloads(&self.link.file, self.offloads(features));
    }
}

impl Link {
    fn write(&self, frame: &Frame) -> io::Result<()> {
        let header = vnet::emit(frame).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        // One call is one frame; the driver takes all of it or none.
        (&self.file).write_vectored(&[IoSlice::new(&header), IoSlice::new(&frame.bytes)]).map(|_| ())
    }

    /// The reading thread: until the stop request, or the interface is removed.
    fn read_until(&self, stop: &EventFd) {
        let mut buffer = vec![0; vnet::BYTES + MAX_FRAME];
        loop {
            // A signal or an error counts as nothing readable; then the read tells.
            let woken = sys::wait_readable([stop.as_raw_fd(), self.file.as_raw_fd()], DEADLINE).unwrap_or(0);
            if woken & 1 != 0 {
                return;
            }
            if let Err(error) = self.read_some(&mut buffer)
                && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
            {
                self.is_gone.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Reads what is there, at most [`BUDGET`] frames.
    fn read_some(&self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BUDGET {
            let length = (&self.file).read(buffer)?;
            let counters = &self.counters;
            match self.parse(buffer.get(..length).unwrap_or(&[])) {
                Ok(frame) => {
                    counters.received.fetch_add(1, Ordering::Relaxed);
                    // What is dropped is counted by the steering.
                    self.steering.deliver(frame);
                }
                Err(_) => {
                    counters.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// A frame as the kernel gives it, judged as a guest's would be.
    fn parse(&self, bytes: &[u8]) -> Result<Frame, OffloadError> {
        parse(bytes, self.mtu)
    }
}

/// Header, then frame.
pub(in crate::net) fn parse(bytes: &[u8], mtu: u16) -> Result<Frame, OffloadError> {
    let (header, frame) = bytes.split_first_chunk().ok_or(OffloadError::Length)?;
    let meta = vnet::parse(header)?;
    let valid = u64::from(FrameFlags::CHECKSUM_VALID.bits()) << 56;
    judge(frame, FrameMeta(meta.0 & !valid), &Rules { features: OFFLOADS, mtu })?;
    Ok(Frame { bytes: frame.to_vec(), meta })
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Cannot fail: the counter is written once.
        let _ = self.stop.write(1);
        if let Some(reader) = self.reader.take() {
            // A thread that panicked has ended too; the panic hook has told of it.
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests;
