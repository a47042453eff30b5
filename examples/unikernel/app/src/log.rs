//! Appends records to a disk, and says that one is there only when the disk vouched for it.
//!
//! *Invariants.* `acked n` is printed after the flush or the FUA write of record n completed. What is printed may be
//! printed late, never early. The mutant `mode=noflush` breaks exactly this.

use crate::cmdline::Durability;
use crate::lasting::Lasting;
use crate::record::{self, RECORD_BYTES};
use crate::session::{Session, deadline};
use crate::{Failure, Options};
use alloc::vec;
use pvkit_guest_drivers::platform::Platform;

/// Bytes looked at at once.
const CHUNK: usize = 64 * 1024;

/// Counts the records that are there, then appends.
pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut disk = session.lasting(options.disk, options.depth)?;
    let found = found(session, &mut disk)?;
    let first = options.start.unwrap_or(found);
    let room = slots(&disk);
    let end = if options.count == 0 { room } else { room.min(first.saturating_add(options.count)) };
    for sequence in first..end {
        append(session.platform, &mut disk, sequence, &record::emit(sequence), options.mode)?;
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
    Ok(session.terminal.flush()?)
}

/// Counts the records that are there.
pub(crate) fn check<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut disk = session.lasting(options.disk, options.depth)?;
    found(session, &mut disk).map(|_| ())
}

fn found<'p, P: Platform>(session: &mut Session<'p, P>, disk: &mut Lasting<'p, P>) -> Result<u64, Failure> {
    let found = count(session.platform, disk)?;
    session.terminal.line(format_args!("found {found}"));
    session.terminal.flush()?;
    Ok(found)
}

/// Length of the run of whole records from the beginning.
pub(crate) fn count<P: Platform>(platform: &P, disk: &mut Lasting<'_, P>) -> Result<u64, Failure> {
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
    disk: &mut Lasting<'_, P>,
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
fn stride<P: Platform>(disk: &Lasting<'_, P>) -> usize {
    RECORD_BYTES.max(disk.geometry().logical_block as usize)
}

/// Records that the disk has room for.
pub(crate) fn slots<P: Platform>(disk: &Lasting<'_, P>) -> u64 {
    disk.geometry().capacity / stride(disk) as u64
}
