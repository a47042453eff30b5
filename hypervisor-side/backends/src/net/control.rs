//! What a guest sets on its port: receive mode, multicast list, scaling. The port's life over reconnects.

use super::{Network, Steering};
use pvkit_abi::net::{HashKind, MulticastFilter, NetControl, NetFeatures, ReceiveMode, Rss};
use pvkit_abi::status::CallError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zerocopy::FromBytes;

/// One port's control side. The machine calls it for the bus; any thread.
pub struct PortControl {
    network: Arc<dyn Network>,
    steering: Arc<Steering>,
    life: Mutex<Life>,
}

/// What belongs to one epoch.
struct Life {
    epoch: Option<u64>,
    features: NetFeatures,
    announced: u64,
}

impl PortControl {
    /// The control of a port between `network` and `steering`.
    #[must_use]
    pub fn new(network: Arc<dyn Network>, steering: Arc<Steering>) -> Self {
        let life = Life { epoch: None, features: NetFeatures::empty(), announced: 0 };
        Self { network, steering, life: Mutex::new(life) }
    }

    /// To be called before each queue is opened. The first of an epoch forgets what an earlier guest had set and tells
    /// the network what was sealed. Answers the features with those left out whose needs are not sealed.
    pub fn opened(&self, epoch: u64, features: NetFeatures) -> NetFeatures {
        let features = with_needs(features);
        let mut life = self.life();
        if life.epoch != Some(epoch) {
            life.epoch = Some(epoch);
            life.features = features;
            let filters = features.contains(NetFeatures::FILTER);
            self.steering.reset(if filters { ReceiveMode::empty() } else { ReceiveMode::ALL_MULTICAST });
            self.network.agreed(features);
        }
        features
    }

    /// To be called when the device's queues are closed.
    pub fn closed(&self) {
        let mut life = self.life();
        if life.epoch.take().is_some() {
            life.features = NetFeatures::empty();
            self.steering.reset(ReceiveMode::ALL_MULTICAST);
            self.network.agreed(NetFeatures::empty());
        }
    }

    /// One control message. The data is the guest's and of any length.
    ///
    /// # Errors
    /// `UNKNOWN` operation, `UNSUPPORTED` without its feature, `INVALID` data; nothing is changed.
    pub fn control(&self, operation: u16, data: &[u8]) -> Result<(), CallError> {
        let mut life = self.life();
        let operation = NetControl(operation);
        if !life.features.contains(feature_of(operation)?) {
            return Err(CallError::UNSUPPORTED);
        }
        match operation {
            NetControl::SET_MODE => {
                let bits = parse::<u32>(data)?;
                self.steering.set_mode(ReceiveMode::from_bits(bits).ok_or(CallError::INVALID)?);
            }
            NetControl::SET_MULTICAST => {
                let list = parse::<MulticastFilter>(data)?;
                if !self.steering.set_multicast(&list) {
                    return Err(CallError::INVALID);
                }
            }
            NetControl::SET_RSS => self.steering.set_rss(check_rss(parse(data)?, self.steering.pairs())?),
            _ if data.is_empty() => life.announced += 1,
            _ => return Err(CallError::INVALID),
        }
        Ok(())
    }

    /// How often guests have announced themselves on request.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.life().announced
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn feature_of(operation: NetControl) -> Result<NetFeatures, CallError> {
    match operation {
        NetControl::SET_MODE | NetControl::SET_MULTICAST => Ok(NetFeatures::FILTER),
        NetControl::SET_RSS => Ok(NetFeatures::RSS),
        NetControl::ANNOUNCED => Ok(NetFeatures::ANNOUNCE),
        _ => Err(CallError::UNKNOWN),
    }
}

fn parse<T: FromBytes>(data: &[u8]) -> Result<T, CallError> {
    T::read_from_bytes(data).map_err(|_| CallError::INVALID)
}

/// Kinds of hashes that there are.
const KINDS: u32 = (1 << HashKind::IPV4.0)
    | (1 << HashKind::TCP4.0)
    | (1 << HashKind::UDP4.0)
    | (1 << HashKind::IPV6.0)
    | (1 << HashKind::TCP6.0)
    | (1 << HashKind::UDP6.0);

/// `None` turns scaling off.
fn check_rss(rss: Rss, pairs: usize) -> Result<Option<Rss>, CallError> {
    if rss.kinds & !KINDS != 0 {
        return Err(CallError::INVALID);
    }
    if rss.kinds == 0 {
        return Ok(None);
    }
    if rss.table.iter().any(|pair| usize::from(*pair) >= pairs) {
        return Err(CallError::INVALID);
    }
    Ok(Some(rss))
}

/// Leaves out features that need another one which was not sealed.
#[must_use]
pub fn with_needs(features: NetFeatures) -> NetFeatures {
    let transmit = NetFeatures::TX_TSO4 | NetFeatures::TX_TSO6 | NetFeatures::TX_USO;
    let receive = NetFeatures::RX_TSO4 | NetFeatures::RX_TSO6 | NetFeatures::RX_USO;
    let mut kept = features;
    if !features.contains(NetFeatures::TX_CHECKSUM) {
        kept -= transmit;
    }
    if !features.contains(NetFeatures::RX_CHECKSUM | NetFeatures::MERGEABLE) {
        kept -= receive;
    }
    kept
}
