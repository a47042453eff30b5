//! Turns the command line's networks into backends: here ports are bound and TAPs attached to.

use crate::backends::{Backends, Port};
use crate::cli::{Mac, NetKind, NetOption, PublishOption};
use crate::failure::Failure;
use pvkit_backends::net::user::{Publish, UserError, UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Network, Passt, Plain, Steering, Tap, TapError, TapOptions};
use pvkit_machine::Device;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Frames that may wait for the guest, by pair of queues.
const INBOX: usize = 1024;

/// The guest's network ports, and what is published.
pub struct Nets {
    /// The ports, in the order of the command line.
    pub devices: Vec<Device>,
    /// Ports of the host that lead into the guest.
    pub published: Vec<Published>,
}

/// A port of the host that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// What was asked for.
    publish: Publish,
    /// Where it really listens.
    host: SocketAddr,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} leads to port {} of the guest", self.publish.protocol, self.host, self.publish.guest_port)
    }
}

/// Opens every network. `extra` is published by the first user network.
///
/// # Errors
/// The first network that cannot be had, by name.
pub fn open(options: &[NetOption], extra: &[PublishOption], backends: &mut Backends) -> Result<Nets, Failure> {
    let options = with_published(options, extra)?;
    check_alone(&options)?;
    let mut nets = Nets { devices: Vec::new(), published: Vec::new() };
    for option in &options {
        nets.add(option, backends)?;
    }
    Ok(nets)
}

/// `--publish` by itself asks for a user network too.
fn with_published(options: &[NetOption], extra: &[PublishOption]) -> Result<Vec<NetOption>, Failure> {
    let mut options = options.to_vec();
    if extra.is_empty() {
        return Ok(options);
    }
    if options.is_empty() {
        options.push("user".parse().map_err(Failure::run)?);
    }
    let first = options.iter_mut().find_map(|option| match &mut option.kind {
        NetKind::User { publish, .. } => Some(publish),
        _ => None,
    });
    let remedy = "--publish needs a user network, and none of the --net is one; add --net user";
    first.ok_or_else(|| Failure::user(remedy))?.extend(extra);
    Ok(options)
}

fn check_alone(options: &[NetOption]) -> Result<(), Failure> {
    if options.len() > 1 && options.iter().any(|option| option.kind == NetKind::None) {
        return Err(Failure::user("--net none says that there is no network; leave it out, or the other --net"));
    }
    for (position, option) in options.iter().enumerate() {
        let taken = options.iter().take(position).any(|other| option.mac.is_some() && other.mac == option.mac);
        if let (true, Some(mac)) = (taken, option.mac) {
            return Err(Failure::user(format!("two --net have mac={mac}; give each its own, or leave them out")));
        }
    }
    Ok(())
}

impl Nets {
    fn add(&mut self, option: &NetOption, backends: &mut Backends) -> Result<(), Failure> {
        if let NetKind::Backend { socket, id, tap } = &option.kind {
            let mac = option.mac.map_or_else(Mac::random, Ok).map_err(Failure::run)?.0;
            let (mtu, pairs) = (option.mtu, option.pairs);
            let lent = |name: &String| {
                let options = TapOptions { name: Some(name.clone()), fd: None, mtu };
                Tap::descriptor(options).map_err(tap_failure)
            };
            let tap = tap.as_ref().map(lent).transpose()?;
            self.devices.push(backends.net(socket, id, Port { mac, mtu, pairs, tap })?);
            return Ok(());
        }
        let steering = steering(option)?;
        let network: Arc<dyn Network> = match &option.kind {
            NetKind::None | NetKind::Backend { .. } => return Ok(()),
            NetKind::User { publish, allow_loopback } => {
                self.user(publish, *allow_loopback, option.mtu, Arc::clone(&steering))?
            }
            NetKind::Tap(name) => tap(Some(name.clone()), None, option.mtu, &steering)?,
            NetKind::Passt(path) => Passt::connect(path, Arc::clone(&steering)).map_err(|error| {
                Failure::user(error).while_doing(format!(
                    "nobody listens at {}; start `passt --socket {0}` first, or use --net user, which needs no other program",
                    path.display()
                ))
            })?,
            NetKind::Descriptor(number) => tap(None, Some(inherited(*number)?), option.mtu, &steering)?,
        };
        let network = if option.offloads { network } else { Arc::new(Plain(network)) };
        let label = format!("net{}", self.devices.len());
        self.devices.push(Device::Net { network, steering, mtu: option.mtu, label });
        Ok(())
    }

    fn user(
        &mut self,
        publish: &[PublishOption],
        allow_loopback: bool,
        mtu: u16,
        steering: Arc<Steering>,
    ) -> Result<Arc<UserNetwork>, Failure> {
        let publish: Vec<Publish> = publish.iter().map(|option| option.0).collect();
        let options = UserOptions { mtu, allow_loopback, publish: publish.clone(), ..UserOptions::default() };
        let network = UserNetwork::start(options, steering).map_err(user_failure)?;
        let hosts = network.published();
        self.published.extend(publish.into_iter().zip(hosts).map(|(publish, host)| Published { publish, host }));
        Ok(network)
    }
}

fn steering(option: &NetOption) -> Result<Arc<Steering>, Failure> {
    let mac = option.mac.map_or_else(Mac::random, Ok).map_err(Failure::run)?;
    let inboxes = (0..option.pairs).map(|_| Inbox::new(INBOX)).collect::<Result<_, _>>().map_err(Failure::run)?;
    Ok(Steering::new(mac.0, inboxes))
}

fn tap(name: Option<String>, fd: Option<OwnedFd>, mtu: u16, steering: &Arc<Steering>) -> Result<Arc<Tap>, Failure> {
    Tap::open(TapOptions { name, fd, mtu }, Arc::clone(steering)).map_err(tap_failure)
}

fn tap_failure(error: TapError) -> Failure {
    match error {
        TapError::System { .. } => Failure::run(error),
        _ => Failure::user(error),
    }
}

/// A second descriptor for what whoever started us has opened as `number`; both end with the process.
pub fn inherited(number: i32) -> Result<OwnedFd, Failure> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(Failure::run)?;
    pidfd_getfd(own, number, PidfdGetfdFlags::empty()).map_err(|error| {
        Failure::user(error).while_doing(format!(
            "`fd={number}` is not an open descriptor of this process; open a TAP as descriptor {number} before starting \
             pvkit, or name one with tap=NAME"
        ))
    })
}

fn user_failure(error: UserError) -> Failure {
    match error {
        UserError::Resources(_) => Failure::run(error),
        _ => Failure::user(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn net(text: &str) -> NetOption {
        text.parse().unwrap()
    }

    fn publish(text: &str) -> PublishOption {
        text.parse().unwrap()
    }

    fn refusal(options: &[NetOption], extra: &[PublishOption]) -> String {
        open(options, extra, &mut Backends::new(String::new())).err().expect("refused").to_string()
    }

    #[test]
    fn a_free_port_is_told_and_ends_with_the_network() {
        let nets = open(&[net("user,publish=0:80")], &[], &mut Backends::new(String::new())).unwrap();
        let host = nets.published[0].host;
        assert!(host.ip().is_loopback() && host.port() != 0, "{host}");
        assert_eq!(nets.published[0].to_string(), format!("tcp {host} leads to port 80 of the guest"));
        TcpStream::connect(host).unwrap();
        drop(nets);
        assert!(TcpStream::connect(host).is_err());
    }

    #[test]
    fn publishing_belongs_to_the_first_user_network_or_brings_one() {
        let (options, extra) = ([net("user,publish=0:1"), net("user")], [publish("0:2")]);
        let ports = |nets: &Nets| nets.published.iter().map(|one| one.publish.guest_port).collect::<Vec<_>>();
        let both = open(&options, &extra, &mut Backends::new(String::new())).unwrap();
        assert_eq!((both.devices.len(), ports(&both)), (2, vec![1, 2]));
        let brought = open(&[], &extra, &mut Backends::new(String::new())).unwrap();
        assert_eq!((brought.devices.len(), ports(&brought)), (1, vec![2]));
        assert!(refusal(&[net("none")], &extra).contains("add --net user"));
    }

    #[test]
    fn a_taken_port_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let message = refusal(&[], &[publish(&format!("{port}:80"))]);
        assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("port 0"), "{message}");
    }

    #[test]
    fn every_port_has_its_own_address_and_as_many_pairs_as_asked() {
        let nets = open(&[net("user,queues=3"), net("user")], &[], &mut Backends::new(String::new())).unwrap();
        let of = |device: &Device| match device {
            Device::Net { steering, label, .. } => (steering.mac(), steering.pairs(), label.clone()),
            _ => panic!("not a port"),
        };
        let (one, two) = (of(&nets.devices[0]), of(&nets.devices[1]));
        assert_ne!(one.0, two.0);
        assert_eq!((one.1, one.2.as_str(), two.1, two.2.as_str()), (3, "net0", 1, "net1"));
        let same = net("user,mac=52:54:00:12:34:56");
        assert!(refusal(&[same.clone(), same], &[]).contains("52:54:00:12:34:56"));
    }

    #[test]
    fn descriptors_that_are_no_taps_are_named() {
        assert!(refusal(&[net("fd=4095")], &[]).contains("`fd=4095`"));
        assert!(refusal(&[net("fd=0")], &[]).contains("TAP"));
    }
}
