//! `app=flow`: bytes over TCP as fast as they go, both ways, and pings; for tests and measurements of a network.
//!
//! | port | who connects | gets |
//! |---|---|---|
//! | 7000 | sends anything, then ends its side | the SHA-256 of it, 32 bytes |
//! | 7001 | sends how many bytes it wants and a seed, 8 bytes each, little endian | so many bytes of [`Pattern`] |
//!
//! With `other=ADDRESS` it also pings that address `count` times, sends `bytes` to its port 7000 and compares the digest,
//! and ends when the other one has done the same. The address is `address=ADDRESS/BITS`, or asked for.
//!
//! *Not here.* TCP/IP: smoltcp's.

mod client;
mod pattern;
mod server;

use crate::care::Care;
use crate::lasting::{mend, nap};
use crate::session::Session;
use crate::{Ending, Failure, Options};
use alloc::vec;
use client::Client;
use pvkit_abi::net::MAX_FRAME;
use pvkit_guest_drivers::net::{Net, NetPhy};
use pvkit_guest_drivers::platform::Platform;
use server::Server;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

/// How long a last word waits for its acknowledgement.
const LINGER_NS: u64 = 3_000_000_000;
/// How long nothing may happen while there is something to be done.
const PATIENCE_NS: u64 = 60_000_000_000;

/// Opens network device 0 and lets bytes flow.
pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<Ending, Failure> {
    let mut care = Care::open(session)?;
    let mut net: Net<'_, P> = session.net(0, options.offload)?;
    let mac = net.link().mac;
    let pair = net.take_pair(0).ok_or(Failure::Wrong("the network device has no pair of queues"))?;
    let (mut inward, mut outward) = (vec![0; MAX_FRAME], vec![0; MAX_FRAME]);
    let mut device = NetPhy::new(pair, &mut inward, &mut outward);
    let ending = flow(session, options, &mut net, &mut device, mac, &mut care);
    let (sent, received) = (device.pair.transmit.counters(), device.pair.receive.counters());
    session.terminal.line(format_args!(
        "flow ends sent={} lost={} refused={} received={} dropped={} spoilt={}",
        sent.sent,
        sent.lost,
        sent.refused,
        received.received,
        device.dropped(),
        device.spoilt()
    ));
    session.terminal.flush()?;
    let deadline = session.deadline();
    net.close(&mut session.bus.borrow_mut(), deadline)?;
    care.close(session)?;
    ending
}

fn flow<'p, P: Platform>(
    session: &mut Session<'p, P>,
    options: &Options,
    net: &mut Net<'p, P>,
    device: &mut NetPhy<'p, '_, P>,
    mac: [u8; 6],
    care: &mut Care<'p, P>,
) -> Result<Ending, Failure> {
    let (platform, bus) = (session.platform, session.bus.clone());
    let mut config = Config::new(EthernetAddress(mac).into());
    config.random_seed = care.seed()?;
    let mut interface = Interface::new(config, device, instant(platform.now()));
    let mut sockets = SocketSet::new(vec![]);
    let dhcp = match options.address {
        Some(address) => {
            interface.update_ip_addrs(|all| {
                // The list, just made, has room.
                let _ = all.push(IpCidr::Ipv4(address));
            });
            None
        }
        None => Some(sockets.add(dhcpv4::Socket::new())),
    };
    let mut server = Server::new(&mut sockets);
    let mut client = options.other.map(|other| Client::new(&mut sockets, other, options));
    session.terminal.line(format_args!("flow ready"));
    session.terminal.flush()?;
    let mut last = platform.now();
    let mut done_since = None;
    loop {
        if let Some(ending) = care.attend(&mut session.terminal)? {
            return Ok(Some(ending));
        }
        let now = platform.now();
        interface.poll(instant(now), device, &mut sockets);
        if let Some(dhcp) = dhcp {
            configure(&mut interface, sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp), session)?;
        }
        let mut busy = server.serve(&mut sockets);
        if let Some(client) = &mut client {
            busy |= client.work(&mut interface, &mut sockets, now)?;
            let is_done = client.is_done() && server.digests() > 0;
            // Our own last acknowledgement is out by the next round. The other one may be gone before it acknowledges ours.
            if let Some(since) = done_since.filter(|_| is_done)
                && (server.is_idle(&sockets) || now.saturating_sub(since) > LINGER_NS)
            {
                client.report(&mut session.terminal);
                return Ok(None);
            }
            busy |= is_done && done_since.is_none();
            done_since = is_done.then(|| done_since.unwrap_or(now));
        }
        last = if busy { now } else { last };
        if client.is_some() && now.saturating_sub(last) > PATIENCE_NS {
            return Err(Failure::Wrong("nothing flows any more"));
        }
        if busy {
            continue;
        }
        let next = interface.poll_at(instant(now), &sockets);
        let next = next.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        let lingering = done_since.map(|since| since.saturating_add(LINGER_NS));
        let limit = lingering.or(client.as_ref().map(|client| client.deadline(now))).unwrap_or(u64::MAX);
        let bus = &mut bus.borrow_mut();
        mend(net, &mut device.pair, bus, platform)?;
        let until = nap(net, now, next.min(limit));
        if until > now && !(device.pair.receive.arm()? | care.arm() | bus.arm()?) {
            platform.wait(until);
        }
    }
}

fn configure<P: Platform>(
    interface: &mut Interface,
    dhcp: &mut dhcpv4::Socket<'_>,
    session: &mut Session<'_, P>,
) -> Result<(), Failure> {
    if let Some(dhcpv4::Event::Configured(config)) = dhcp.poll() {
        interface.update_ip_addrs(|all| {
            all.clear();
            let _ = all.push(IpCidr::Ipv4(config.address));
        });
        if let Some(router) = config.router {
            let _ = interface.routes_mut().add_default_ipv4_route(router);
        }
        session.terminal.line(format_args!("flow address {}", config.address));
        session.terminal.flush()?;
    }
    Ok(())
}

fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}
