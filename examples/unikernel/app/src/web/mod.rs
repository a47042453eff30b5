//! `app=web`: serves the files of disk 0 over HTTP, and appends to the log on disk 1 what clients post.
//!
//! *Purpose.* From the wire inwards: `server` (address, sockets, when to come again), `connection` (requests and answers
//! of one client), `http` (words), `files` and `log` (the disks). One loop on one vCPU serves all of it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the files, one per line: size, path; as a page with links for a client that accepts `text/html` |
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
mod page;
mod server;

#[cfg(test)]
mod tests;

use crate::care::Care;
use crate::ext4::FileSystem;
use crate::lasting::{mend, nap};
use crate::session::Session;
use crate::{Ending, Failure, Options};
use alloc::vec;
use files::DiskFiles;
use log::{DiskLog, Records};
use pvkit_abi::net::MAX_FRAME;
use pvkit_guest_drivers::net::{Net, NetPhy};
use pvkit_guest_drivers::platform::Platform;
use server::{Event, Server};
use smoltcp::phy::Device;

/// Disk with the files.
const FILES_DISK: u16 = 0;
/// Disk with the log.
const LOG_DISK: u16 = 1;

/// Opens network device 0 and serves on it.
pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<Ending, Failure> {
    let mut care = Care::open(session)?;
    let mut net: Net<'_, P> = session.net(0, options.offload)?;
    let mac = net.link().mac;
    let pair = net.take_pair(0).ok_or(Failure::Wrong("the network device has no pair of queues"))?;
    let (mut inward, mut outward) = (vec![0; MAX_FRAME], vec![0; MAX_FRAME]);
    let mut device = NetPhy::new(pair, &mut inward, &mut outward);
    let (platform, bus) = (session.platform, session.bus.clone());
    let ending = serve(session, options, &mut device, mac, &mut care, |care, device, until| {
        let bus = &mut bus.borrow_mut();
        mend(&mut net, &mut device.pair, bus, platform)?;
        let busy = device.pair.receive.arm()? | care.arm() | bus.arm()?;
        if !busy {
            platform.wait(nap(&net, platform.now(), until));
        }
        Ok(true)
    })?;
    let counters = device.pair.transmit.queue_counters();
    if counters.reconnects > 0 {
        let lost = device.pair.transmit.counters().lost;
        session.terminal.line(format_args!("net reconnected {} times, {lost} frames lost", counters.reconnects));
        session.terminal.flush()?;
    }
    let deadline = session.deadline();
    net.close(&mut session.bus.borrow_mut(), deadline)?;
    care.close(session)?;
    Ok(ending)
}

/// Serves on a card whose address is `mac`, until the host asks for an end or `wait` says that it is enough. `wait` sleeps
/// until the time it is given or until a frame or a message of the host comes.
pub(crate) fn serve<'p, P: Platform, D: Device>(
    session: &mut Session<'p, P>,
    options: &Options,
    device: &mut D,
    mac: [u8; 6],
    care: &mut Care<'p, P>,
    mut wait: impl FnMut(&mut Care<'p, P>, &mut D, u64) -> Result<bool, Failure>,
) -> Result<Ending, Failure> {
    let disk = session.lasting(FILES_DISK, options.depth)?;
    let mut files = DiskFiles::open(FileSystem::new(disk, session.platform))?;
    let disk = session.lasting(LOG_DISK, options.depth)?;
    let mut records = DiskLog::open(session.platform, disk, options.mode)?;
    let seed = care.seed()?;
    session.terminal.flush()?;
    let mut server = Server::new(device, mac, seed, session.platform.now());
    let ending = loop {
        if let Some(ending) = care.attend(&mut session.terminal)? {
            break Some(ending);
        }
        records.hold(care.is_frozen());
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
        if !wait(care, device, next.min(care.deadline()))? {
            break None;
        }
    };
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
    session.terminal.flush()?;
    Ok(ending)
}
