//! `app=web`: serves the files of disk 0 over HTTP, and appends to the log on disk 1 what clients post.
//!
//! *Purpose.* From the wire inwards: `server` (address, sockets, when to come again), `connection` (requests and answers
//! of one client), `http` (words), `files` and `log` (the disks). One loop on one vCPU serves all of it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the files, one per line: size, path |
//! | `GET /path` | the file |
//! | `POST /log` | `acked n`, after the record of the body (at most 400 bytes) is durable |
//! | `GET /log` | how many records there are |
//!
//! `HEAD` answers like `GET`, without the body. There is no `Date`: a server without a clock must not send one.
//!
//! *Not here.* TCP/IP and DHCP: smoltcp's. TLS, ranges, compression, chunked bodies: refused or not offered.

mod connection;
mod files;
mod http;
mod log;
mod server;

#[cfg(test)]
mod tests;

use crate::ext4::FileSystem;
use crate::session::Session;
use crate::{Failure, Options};
use alloc::vec;
use files::DiskFiles;
use log::{DiskLog, Records};
use pvkit_abi::net::MAX_FRAME;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::net::{Net, NetPhy};
use pvkit_guest_drivers::platform::Platform;
use server::{Event, Server};
use smoltcp::phy::Device;

/// Disk with the files.
const FILES_DISK: u16 = 0;
/// Disk with the log.
const LOG_DISK: u16 = 1;

/// Opens network device 0 and serves on it.
pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut net: Net<'_, P> = session.net(0)?;
    let mac = net.link().mac;
    let pair = net.take_pair(0).ok_or(Failure::Wrong("the network device has no pair of queues"))?;
    let (mut inward, mut outward) = (vec![0; MAX_FRAME], vec![0; MAX_FRAME]);
    let mut device = NetPhy::new(pair, &mut inward, &mut outward);
    serve(session, options, &mut device, mac, |_, device, until| match device.pair.receive.wait(until) {
        Ok(()) | Err(RequestError::TimedOut) => Ok(true),
        Err(error) => Err(error.into()),
    })?;
    let deadline = session.deadline();
    Ok(net.close(&mut session.bus, deadline)?)
}

/// Serves on a card whose address is `mac`, until `wait` says that it is enough. `wait` sleeps until the time it is given
/// or until a frame or a message of the host comes.
pub(crate) fn serve<'p, P: Platform, D: Device>(
    session: &mut Session<'p, P>,
    options: &Options,
    device: &mut D,
    mac: [u8; 6],
    mut wait: impl FnMut(&mut Session<'p, P>, &mut D, u64) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let disk = session.disk(FILES_DISK, options.depth)?;
    let mut files = DiskFiles::open(FileSystem::new(disk, session.platform))?;
    let disk = session.disk(LOG_DISK, options.depth)?;
    let mut records = DiskLog::open(session.platform, disk, options.mode)?;
    let [.., a, b, c, d, e, f, g, h] = session.platform.boot_info().seed;
    let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    session.terminal.flush()?;
    let mut server = Server::new(device, mac, seed, session.platform.now());
    loop {
        let (next, event) = server.poll(device, session.platform.now(), &mut files, &mut records);
        match event {
            Some(Event::Ready(address)) => {
                session.terminal.line(format_args!(
                    "web ready http://{address}:{}/ files {}",
                    connection::PORT,
                    files.count
                ));
                session.terminal.flush()?;
            }
            Some(Event::Lost) => {
                session.terminal.line(format_args!("web lost its address"));
                session.terminal.flush()?;
            }
            None => {}
        }
        if !wait(session, device, next)? {
            break;
        }
    }
    let counters = server.counters;
    session.terminal.line(format_args!(
        "web ends connections={} requests={} refused={} bytes={} slow={} broken={} records={}",
        counters.connections,
        counters.requests,
        counters.refused,
        counters.bytes,
        counters.slow,
        counters.broken,
        records.count()
    ));
    Ok(session.terminal.flush()?)
}
