//! Readers of one disk: each reads every so-manieth page, in order, and prints the digest of what it read.

use super::executor::Timer;
use crate::Failure;
use crate::session::deadline;
use alloc::format;
use core::fmt::Write;
use pvkit_abi::PAGE_SIZE;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::{AsyncBlock, Request};
use pvkit_guest_drivers::console::AsyncConsole;
use pvkit_guest_drivers::platform::Platform;
use sha2::{Digest, Sha256};

/// Most readers: one request of each is in flight.
pub(super) const MAX_READERS: usize = 128;

/// A disk whose requests have one page each.
pub(super) type Disk<'i, 'p, P> = AsyncBlock<'i, 'p, P, MAX_READERS, 1>;

/// A console that all of them and the echo write to.
pub(super) type Shared<'i, 'p, P> = AsyncConsole<'i, 'p, P, { MAX_READERS + 1 }>;

/// One of `readers`.
pub(super) struct Reader<'t, 'p, P: Platform> {
    pub(super) platform: &'p P,
    pub(super) disk: &'t Disk<'t, 'p, P>,
    pub(super) console: &'t Shared<'t, 'p, P>,
    pub(super) timer: &'t Timer,
    pub(super) number: u64,
    pub(super) readers: u64,
}

impl<'p, P: Platform> Reader<'_, 'p, P> {
    /// Reads its pages `rounds` times; they must be the same each time.
    pub(super) async fn run(self, rounds: u64) -> Result<(), Failure> {
        // Some through pages of their own, some through the driver's.
        let own = if self.number.is_multiple_of(2) {
            Some(Buffer::allocate(self.platform, PAGE_SIZE).map_err(|_| Failure::Wrong("no memory for buffers"))?)
        } else {
            None
        };
        let (first, mut own) = self.round(own).await?;
        for _ in 1..rounds {
            let (again, buffer) = self.round(own).await?;
            if again != first {
                return Err(Failure::Wrong("a page of the disk changed between two reads"));
            }
            own = buffer;
        }
        let mut line = format!("reader {} digest=", self.number);
        for byte in first {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        let deadline = deadline(self.platform);
        Ok(self.timer.by(deadline, self.console.write(line.as_bytes(), deadline)).await?)
    }

    async fn round(&self, mut own: Option<Buffer<'p, P, 1>>) -> Result<([u8; 32], Option<Buffer<'p, P, 1>>), Failure> {
        let pages = self.disk.geometry().capacity / PAGE_SIZE as u64;
        let mut digest = Sha256::new();
        let mut page = [0; PAGE_SIZE];
        let mut at = self.number;
        while at < pages {
            let (position, deadline) = (at * PAGE_SIZE as u64, deadline(self.platform));
            if let Some(buffer) = own.take() {
                let request = Request::read(position, PAGE_SIZE as u32, buffer);
                let ended = self.timer.by(deadline, self.disk.submit(request, deadline)).await;
                ended.result?;
                let buffer = ended.buffer.ok_or(Failure::Wrong("a request ended without its buffer"))?;
                buffer.read(0, &mut page).map_err(pvkit_guest_drivers::error::RequestError::from)?;
                own = Some(buffer);
            } else {
                self.timer.by(deadline, self.disk.read(position, &mut page, deadline)).await?;
            }
            digest.update(page);
            at += self.readers;
        }
        Ok((digest.finalize().into(), own))
    }
}
