//! A network behind a UNIX socket that carries frames, each behind its length in four bytes, big endian: passt's protocol,
//! and that of QEMU's `-netdev stream`.
//!
//! *Owners.* One thread writes, one reads. Dropping the [`Passt`] closes the socket and ends both.
//!
//! *Invariants.* A frame waits in a queue of bounded length, or is dropped; the guest's queue never waits for the other side.
//! A length that no frame has ends the connection: where the next frame begins is not known any more. A connection that ended
//! is tried again when the guest has something to send, at most once a second.

use super::{Frame, Network, Steering};
use pvkit_abi::net::{ETHERNET_HEADER, MAX_FRAME, NetFeatures};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Frames that wait to be written.
const WAITING: usize = 1024;
/// How long the other side may take for one frame.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an ended connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PasstSnapshot {
    /// Frames written.
    pub sent: u64,
    /// Frames read.
    pub received: u64,
    /// Frames dropped: the other side is slow or gone.
    pub dropped: u64,
    /// Connections that ended by a length that no frame has.
    pub malformed: u64,
    /// Connections made, the first one included.
    pub connections: u64,
}

/// The network.
#[derive(Debug)]
pub struct Passt {
    link: Arc<Link>,
    frames: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Link {
    path: PathBuf,
    steering: Arc<Steering>,
    /// For the end: shut down, whoever uses it. Writer and readers have descriptors of their own.
    open: Mutex<Option<UnixStream>>,
    ended: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    malformed: AtomicU64,
    connections: AtomicU64,
}

impl Passt {
    /// Connects to the socket at `path`. Frames for the guest go where `steering` says.
    ///
    /// # Errors
    /// Nobody listens there, or there is no thread to be had.
    pub fn connect(path: &Path, steering: Arc<Steering>) -> io::Result<Arc<Self>> {
        let link = Arc::new(Link {
            path: path.to_path_buf(),
            steering,
            open: Mutex::default(),
            ended: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let stream = link.connect()?;
        let (frames, waiting) = sync_channel(WAITING);
        let writing = Arc::clone(&link);
        let writer = Builder::new().name("passt".into()).spawn(move || writing.write(stream, &waiting))?;
        Ok(Arc::new(Self { link, frames: Some(frames), writer: Some(writer) }))
    }

    /// The numbers now.
    #[must_use]
    pub fn counters(&self) -> PasstSnapshot {
        let Link { sent, received, dropped, malformed, connections, .. } = &*self.link;
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PasstSnapshot {
            sent: now(sent),
            received: now(received),
            dropped: now(dropped),
            malformed: now(malformed),
            connections: now(connections),
        }
    }
}

impl Network for Passt {
    fn send(&self, frame: Frame) {
        let taken = self.frames.as_ref().is_some_and(|frames| frames.try_send(frame.bytes).is_ok());
        if !taken {
            self.link.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn features(&self) -> NetFeatures {
        // The protocol has no room for metadata.
        NetFeatures::empty()
    }

    fn agreed(&self, _: NetFeatures) {}
}

impl Drop for Passt {
    fn drop(&mut self) {
        self.link.ended.store(true, Ordering::Relaxed);
        self.link.close();
        // The writer ends with the queue.
        self.frames = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Link {
    fn connect(self: &Arc<Self>) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reading = stream.try_clone()?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.try_clone()?);
        if self.ended.load(Ordering::Relaxed) {
            self.close();
        }
        let link = Arc::clone(self);
        Builder::new().name("passt reader".into()).spawn(move || link.read(reading))?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    fn close(&self) {
        if let Some(stream) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn write(self: &Arc<Self>, first: UnixStream, waiting: &Receiver<Vec<u8>>) {
        let (mut stream, mut tried) = (Some(first), Instant::now());
        for frame in waiting {
            if stream.is_none() && tried.elapsed() >= AGAIN && !self.ended.load(Ordering::Relaxed) {
                tried = Instant::now();
                stream = self.connect().ok();
            }
            let written = stream.as_mut().map(|stream| write_frame(stream, &frame));
            match written {
                Some(Ok(())) => {
                    self.sent.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(_)) => {
                    // A part of the frame may have gone out: the connection is of no use any more.
                    self.close();
                    (stream, tried) = (None, Instant::now());
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reads to the end of the connection.
    fn read(&self, mut stream: UnixStream) {
        let ended = loop {
            match read_frame(&mut stream) {
                Ok(bytes) => {
                    self.received.fetch_add(1, Ordering::Relaxed);
                    self.steering.deliver(Frame::finished(bytes));
                }
                Err(error) => break error,
            }
        };
        if ended.kind() == io::ErrorKind::InvalidData {
            self.malformed.fetch_add(1, Ordering::Relaxed);
        }
        // The writer finds out at its next frame.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// One frame behind its length.
///
/// # Errors
/// The end of the stream; [`io::ErrorKind::InvalidData`] for a length that no frame has, before anything is allocated.
fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if !(ETHERNET_HEADER..=MAX_FRAME).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// All frames of a stream, and whether it ended by a length that no frame has.
#[cfg(feature = "fuzzing")]
pub(super) fn read_all(mut stream: &[u8], steering: &Arc<Steering>) -> (u64, bool) {
    let mut count = 0;
    loop {
        match read_frame(&mut stream) {
            Ok(bytes) => {
                count += 1;
                steering.deliver(Frame::finished(bytes));
            }
            Err(error) => return (count, error.kind() == io::ErrorKind::InvalidData),
        }
    }
}

fn write_frame(stream: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + frame.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(frame);
    stream.write_all(&bytes)
}

#[cfg(test)]
mod tests;
