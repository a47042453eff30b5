//! Appends records to a disk, and says that one is there only when the disk vouched for it.
//!
//! *Invariants.* `acked n` is printed after the flush or the FUA write of record n completed. What is printed may be
//! printed late, never early. The mutant `mode=noflush` breaks exactly this.

use crate::cmdline::Durability;
use crate::lasting::Door;
use crate::record::{self, RECORD_BYTES};
use crate::session::{Session, deadline};
use crate::stubborn::Stubborn;
use crate::{Ending, Failure, Options};
use alloc::vec;
use pvkit_abi::hypercall::ShutdownReason;
use pvkit_guest_drivers::platform::Platform;

/// Bytes looked at at once.
const CHUNK: usize = 64 * 1024;

/// Counts the records that are there, then appends. With `reset=` it ends in the middle of that, to be started again.
pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<Ending, Failure> {
    let mut disk = match session.lasting(options.disk, options.depth) {
        // Its backend may be away just now.
        Err(Failure::NoDisk(_) | Failure::Bus(_)) if options.reset != 0 => {
            return Ok(Some(ShutdownReason::REBOOT));
        }
        disk => disk?,
    };
    let door = &mut Stubborn::new(&mut disk, session.platform, &mut session.terminal, options.retry);
    let found = count(session.platform, door)?;
    settle(session.platform, door, options.mode)?;
    session.terminal.line(format_args!("found {found}"));
    session.terminal.flush()?;
    let first = options.start.unwrap_or(found);
    let room = slots(&disk);
    let end = if options.count == 0 { room } else { room.min(first.saturating_add(options.count)) };
    let reset = Reset::of(options.reset, first);
    for sequence in first..end {
        let mode = match reset {
            Some(reset) if reset.at == sequence => reset.mode,
            _ => Some(options.mode),
        };
        if let Some(mode) = mode {
            let door = &mut Stubborn::new(&mut disk, session.platform, &mut session.terminal, options.retry);
            append(session.platform, door, sequence, &record::emit(sequence), mode)?;
        }
        if reset.is_some_and(|reset| reset.at == sequence) {
            return Ok(Some(ShutdownReason::REBOOT));
        }
        session.terminal.line(format_args!("acked {sequence}"));
        if (sequence + 1).is_multiple_of(options.batch) {
            session.terminal.flush()?;
        }
    }
    session.terminal.line(format_args!("log ends at {end}"));
    let counters = disk.counters();
    if counters.reconnects > 0 {
        let (reconnects, replays) = (counters.reconnects, counters.replays);
        session.terminal.line(format_args!("disk reconnected {reconnects} times, {replays} requests again"));
    }
    session.terminal.flush()?;
    Ok(None)
}

/// Where a life of the log ends too soon.
#[derive(Clone, Copy)]
struct Reset {
    /// At which record.
    at: u64,
    /// What is still done with that one, which is never acknowledged: nothing, or a write of that kind.
    mode: Option<Durability>,
}

impl Reset {
    /// Most records that are acknowledged in a life; there is at least one.
    const MOST: u64 = 24;

    /// None without a seed. Otherwise it follows from that and from where the life begins.
    fn of(seed: u64, first: u64) -> Option<Self> {
        let mixed = (seed ^ first.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd134_2543_de82_ef95) >> 32;
        let mode = match mixed % 4 {
            0 => None,
            1 => Some(Durability::Noflush),
            2 => Some(Durability::Flush),
            _ => Some(Durability::Fua),
        };
        (seed != 0).then(|| Self { at: first + 1 + (mixed >> 2) % Self::MOST, mode })
    }
}

/// Counts the records that are there.
pub(crate) fn check<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut disk = session.lasting(options.disk, options.depth)?;
    let door = &mut Stubborn::new(&mut disk, session.platform, &mut session.terminal, options.retry);
    let found = count(session.platform, door)?;
    session.terminal.line(format_args!("found {found}"));
    Ok(session.terminal.flush()?)
}

/// Makes what was found durable. It may be in the disk's cache alone, from an earlier life of this guest; and a record is
/// acknowledged only if all before it are durable.
pub(crate) fn settle<P: Platform>(platform: &P, disk: &mut impl Door, mode: Durability) -> Result<(), Failure> {
    if mode == Durability::Noflush {
        return Ok(());
    }
    Ok(disk.flush(deadline(platform))?)
}

/// Length of the run of whole records from the beginning.
pub(crate) fn count<P: Platform>(platform: &P, disk: &mut impl Door) -> Result<u64, Failure> {
    let stride = stride(disk);
    let end = slots(disk) * stride as u64;
    let mut chunk = vec![0; CHUNK];
    let mut position = 0;
    let mut sequence = 0;
    while position < end {
        let length = (end - position).min(CHUNK as u64) as usize;
        let part = chunk.get_mut(..length).unwrap_or_default();
        disk.read(position, part, deadline(platform))?;
        for slot in part.chunks(stride) {
            if !record::check(slot.get(..RECORD_BYTES).unwrap_or(&[]), sequence) {
                return Ok(sequence);
            }
            sequence += 1;
        }
        position += length as u64;
    }
    Ok(sequence)
}

/// Writes one record, and returns when it is as durable as `mode` promises.
pub(crate) fn append<P: Platform>(
    platform: &P,
    disk: &mut impl Door,
    sequence: u64,
    record: &[u8; RECORD_BYTES],
    mode: Durability,
) -> Result<(), Failure> {
    let stride = stride(disk);
    let mut slot = vec![0; stride];
    for (to, from) in slot.iter_mut().zip(record) {
        *to = *from;
    }
    let position = sequence * stride as u64;
    let deadline = deadline(platform);
    let fua = mode == Durability::Fua || (mode == Durability::Mix && sequence % 2 == 1);
    if fua {
        return Ok(disk.write_fua(position, &slot, deadline)?);
    }
    disk.write(position, &slot, deadline)?;
    if mode != Durability::Noflush {
        disk.flush(deadline)?;
    }
    Ok(())
}

/// Bytes from one record to the next: one record, or one block of the disk if that is more.
fn stride(disk: &impl Door) -> usize {
    RECORD_BYTES.max(disk.geometry().logical_block as usize)
}

/// Records that the disk has room for.
pub(crate) fn slots(disk: &impl Door) -> u64 {
    disk.geometry().capacity / stride(disk) as u64
}
