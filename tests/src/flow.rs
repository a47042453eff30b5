//! The host's side of the unikernel's `app=flow`: streams whose content is known, and their digests.
//!
//! How much flows: little, or with `PVKIT_LONG=1` 1 GiB each way and 10,000 connections.

use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No step takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes handed over at once.
const CHUNK: usize = 256 * 1024;
/// Connections at a time.
const CLIENTS: u64 = 4;

/// Bytes of a stream and connections of a run.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Bytes each way.
    pub bytes: u64,
    /// Short connections.
    pub connections: u64,
}

impl Volume {
    /// As `PVKIT_LONG` says.
    #[must_use]
    pub fn asked() -> Self {
        match std::env::var_os("PVKIT_LONG") {
            Some(_) => Self { bytes: 1 << 30, connections: 10_000 },
            None => Self { bytes: 16 << 20, connections: 200 },
        }
    }
}

/// The bytes that follow from a seed, as the guest makes them.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    /// From the beginning.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, word: [0; 8], used: 8 }
    }

    /// The next bytes.
    pub fn fill(&mut self, into: &mut [u8]) {
        for byte in into {
            if self.used == 8 {
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                self.word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
    }
}

/// A connection, tried until the guest is there.
///
/// # Panics
/// If it never is.
#[must_use]
pub fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
                stream.set_write_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "no connection to {to}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends `bytes` to the guest; what it received must have our digest.
///
/// # Panics
/// If not.
pub fn send(to: SocketAddr, bytes: u64, seed: u64) {
    let mut stream = connect(to);
    let (mut pattern, mut hash, mut chunk) = (Pattern::new(seed), Sha256::new(), vec![0; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let part = &mut chunk[..left.min(CHUNK as u64) as usize];
        pattern.fill(part);
        hash.update(&*part);
        stream.write_all(part).unwrap_or_else(|error| panic!("{left} of {bytes} bytes left: {error}"));
        left -= part.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("{error}"));
    let mut digest = Vec::new();
    stream.read_to_end(&mut digest).unwrap_or_else(|error| panic!("no digest: {error}"));
    assert_eq!(digest, hash.finalize().as_slice(), "the guest received other bytes");
}

/// Has the guest send `bytes`; they must be those of the seed.
///
/// # Panics
/// If not.
pub fn receive(to: SocketAddr, bytes: u64, seed: u64) {
    let mut stream = connect(to);
    let request = [bytes.to_le_bytes(), seed.to_le_bytes()].concat();
    stream.write_all(&request).unwrap_or_else(|error| panic!("{error}"));
    let (mut pattern, mut expected, mut chunk) = (Pattern::new(seed), vec![0; CHUNK], vec![0; CHUNK]);
    let mut seen = 0;
    loop {
        let count = stream.read(&mut chunk).unwrap_or_else(|error| panic!("after {seen} of {bytes} bytes: {error}"));
        if count == 0 {
            break;
        }
        pattern.fill(&mut expected[..count]);
        assert!(chunk[..count] == expected[..count], "other bytes behind byte {seen}");
        seen += count as u64;
    }
    assert_eq!(seen, bytes, "the stream is shorter or longer");
}

/// Makes short connections, several at a time, each with a few bytes and their digest.
///
/// # Panics
/// If one does not work.
pub fn connections(to: SocketAddr, count: u64) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    send(to, 1 + number % 2000, number);
                }
            });
        }
    });
}

/// All of it, with what it came to on one line.
///
/// # Panics
/// If something is not as it should be.
pub fn all(what: &str, sink: SocketAddr, source: SocketAddr, volume: Volume) {
    let Volume { bytes, connections: count } = volume;
    let rate = |start: Instant, amount: u64| amount as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    send(sink, bytes, 1);
    let to = rate(start, bytes) / 1e6;
    let start = Instant::now();
    receive(source, bytes, 2);
    let from = rate(start, bytes) / 1e6;
    let start = Instant::now();
    connections(sink, count);
    let made = rate(start, count);
    println!(
        "\nfigure: {what}: {bytes} bytes to the guest {to:.0} MB/s, from it {from:.0} MB/s; {count} connections, {made:.0}/s; \
         every digest right"
    );
}
