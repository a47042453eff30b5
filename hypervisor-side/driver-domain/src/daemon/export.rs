//! What a daemon has to give: devices under names that its operator chose.

use super::Worker;
use crate::protocol::Attach;
use pvkit_abi::bus::{Class, Offer};
use pvkit_abi::net::{LinkFlags, MAX_MTU, MIN_MTU, NetConfig};
use pvkit_abi::ring::MAX_DEPTH;
use pvkit_abi::status::CallError;
use pvkit_backends::net::user::{UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Network, PortControl, Steering, Tap, TapOptions, offer as offer_net};
use pvkit_backends::{Backing, BlockLimits, Disk, NetPort, block};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Queues of a disk.
const BLOCK_QUEUES: u16 = 4;
/// Greatest depth of a network queue.
const NET_DEPTH: u32 = 1024;
/// Most pairs of queues of a network.
const MAX_PAIRS: u16 = 16;
/// Frames that may wait for the guest, by pair of queues.
const INBOX: usize = 1024;

/// One device that monitors may ask for.
pub struct Export {
    kind: ExportKind,
    /// Monitors that have it.
    users: AtomicUsize,
}

/// What an export is.
pub enum ExportKind {
    /// A disk. One that can be written is given to one monitor at a time.
    Disk {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// Another description of its image, by which a monitor hears of errors that were lost with us.
        witness: Option<File>,
        /// Whether several monitors may have it.
        shared: bool,
    },
    /// A network on a TAP, whose descriptor comes from the monitor: the interface stays when we go.
    Tap,
    /// User-mode networking; its connections end with us.
    User(UserOptions),
}

/// A device that a monitor has.
pub struct Given {
    /// As the bus offers it.
    pub offer: Offer,
    /// What it works on.
    pub backing: Backing,
    /// What its queues' threads are there for.
    pub worker: Worker,
    /// For the monitor: of a disk, its witness.
    pub witness: Option<OwnedFd>,
    /// Counted in the export until this is dropped.
    _use: Use,
}

struct Use(Arc<Export>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Export {
    /// An export that nobody has yet.
    #[must_use]
    pub fn new(kind: ExportKind) -> Arc<Self> {
        Arc::new(Self { kind, users: AtomicUsize::new(0) })
    }

    /// Gives it to a monitor.
    ///
    /// # Errors
    /// `BUSY` if another one has it, `INVALID` for a request that does not fit it, `BACKEND` if it cannot be made.
    pub fn give(self: &Arc<Self>, asked: &Attach, descriptor: Option<OwnedFd>) -> Result<Given, CallError> {
        let user = self.enter()?;
        match &self.kind {
            ExportKind::Disk { disk, witness, .. } => {
                if asked.class != Class::BLOCK || descriptor.is_some() {
                    return Err(CallError::INVALID);
                }
                let offer = block::offer(&**disk, asked.instance, BlockLimits::default(), BLOCK_QUEUES, MAX_DEPTH);
                let witness = witness.as_ref().map(File::try_clone).transpose().map_err(|_| CallError::BACKEND)?;
                let backing = Backing::Block(Arc::clone(disk));
                Ok(Given { offer, backing, worker: Worker::Disk, witness: witness.map(OwnedFd::from), _use: user })
            }
            ExportKind::Tap => {
                let descriptor = descriptor.ok_or(CallError::INVALID)?;
                give_net(asked, user, Worker::Tap, |steering| {
                    let options = TapOptions { name: None, fd: Some(descriptor), mtu: asked.mtu };
                    Ok(Tap::open(options, steering).map_err(|_| CallError::BACKEND)?)
                })
            }
            ExportKind::User(options) => give_net(asked, user, Worker::User, |steering| {
                let options = UserOptions { mtu: asked.mtu, ..options.clone() };
                Ok(UserNetwork::start(options, steering).map_err(|_| CallError::BACKEND)?)
            }),
        }
    }

    /// Queues that a monitor would have of it.
    pub(super) fn queues(&self, asked: &Attach) -> usize {
        match self.kind {
            ExportKind::Disk { .. } => BLOCK_QUEUES.into(),
            ExportKind::Tap | ExportKind::User(_) => usize::from(asked.pairs).saturating_mul(2),
        }
    }

    fn enter(self: &Arc<Self>) -> Result<Use, CallError> {
        let before = self.users.fetch_add(1, Ordering::AcqRel);
        let user = Use(Arc::clone(self));
        let alone = match self.kind {
            ExportKind::Disk { shared, .. } => !shared,
            ExportKind::Tap => false,
            ExportKind::User(_) => true,
        };
        if alone && before > 0 { Err(CallError::BUSY) } else { Ok(user) }
    }
}

fn give_net(
    asked: &Attach,
    user: Use,
    worker: Worker,
    open: impl FnOnce(Arc<Steering>) -> Result<Arc<dyn Network>, CallError>,
) -> Result<Given, CallError> {
    let fits = (MIN_MTU..=MAX_MTU).contains(&asked.mtu) && (1..=MAX_PAIRS).contains(&asked.pairs);
    // The least significant bit of the first byte marks a group address.
    let single = asked.mac.first().is_some_and(|first| first & 1 == 0);
    if asked.class != Class::NET || !fits || !single {
        return Err(CallError::INVALID);
    }
    let inboxes = (0..asked.pairs).map(|_| Inbox::new(INBOX)).collect::<Result<_, _>>();
    let steering = Steering::new(asked.mac, inboxes.map_err(|_| CallError::BACKEND)?);
    let network = open(Arc::clone(&steering))?;
    let config = NetConfig { mac: asked.mac, mtu: asked.mtu, flags: LinkFlags::UP.bits(), speed: 0 };
    let offer = offer_net(&*network, asked.instance, config, asked.pairs, NET_DEPTH);
    let control = PortControl::new(Arc::clone(&network), Arc::clone(&steering));
    let backing = Backing::Net(NetPort { network, steering, control, mtu: asked.mtu });
    Ok(Given { offer, backing, worker, witness: None, _use: user })
}
