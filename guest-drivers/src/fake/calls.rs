//! Hypercalls, doorbells and waits of the fake host.

use super::bus::FakeBus;
use super::{Host, Stored};
use crate::platform::{Calls, Doorbell};
use pvkit_abi::bus::{BusSetup, DoorbellKind};
use pvkit_abi::discovery::BootInfo;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{GroupOffer, Negotiate, NegotiateReply, RefusalReason};
use std::cell::{RefCell, RefMut};
use zerocopy::{FromZeros, IntoBytes};

/// The call half of the test platform.
pub struct FakeCalls {
    /// What the guest finds at start. To be changed before it connects.
    pub boot: BootInfo,
    /// Looks before a sleep.
    pub spin: u32,
    host: RefCell<Host>,
}

impl core::fmt::Debug for FakeCalls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FakeCalls").finish_non_exhaustive()
    }
}

impl FakeCalls {
    pub(super) const fn new(boot: BootInfo, host: Host) -> Self {
        Self { boot, spin: 4, host: RefCell::new(host) }
    }

    /// The host, to look at or to set up. Not to be held while the drivers run.
    pub fn host(&self) -> RefMut<'_, Host> {
        self.host.borrow_mut()
    }
}

impl Calls for FakeCalls {
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        let mut host = self.host();
        host.counts.hypercalls += 1;
        let result = host.hypercall(&self.boot, call, args).unwrap_or_else(CallError::to_result);
        let mut bytes = result.to_le_bytes();
        (host.tamper)(Stored::Result, &mut bytes);
        i64::from_le_bytes(bytes)
    }

    fn doorbell(&self, doorbell: Doorbell) {
        let mut host = self.host();
        host.counts.doorbells += 1;
        if doorbell.kind == DoorbellKind::TOKEN && !host.deaf {
            host.due.push(doorbell.address);
            if !host.lazy {
                host.serve_due();
            }
        }
    }

    fn now(&self) -> u64 {
        let mut host = self.host();
        host.clock += 1_000;
        host.clock
    }

    fn wait(&self, deadline: u64) {
        let mut host = self.host();
        host.counts.waits += 1;
        host.serve_kick();
        host.serve_due();
        if !host.pending
            && let Some(happening) = host.happenings.pop_front()
        {
            happening(&mut host);
        }
        if !core::mem::take(&mut host.pending) {
            host.counts.vain_waits += 1;
            host.clock = host.clock.max(deadline);
        }
    }

    fn boot_info(&self) -> &BootInfo {
        &self.boot
    }

    fn spin_limit(&self) -> u32 {
        self.spin
    }
}

impl Host {
    fn hypercall(&mut self, boot: &BootInfo, call: Call, args: [u64; 5]) -> Result<i64, CallError> {
        let [first, second, room, ..] = args;
        match call {
            Call::NEGOTIATE => self.negotiate(&boot.groups, first, second, room),
            Call::EVENT_ALLOC => {
                self.ports += 1;
                Ok(i64::from(self.ports))
            }
            Call::EVENT_CLOSE => Ok(0),
            Call::BUS_SETUP => {
                let mut setup = BusSetup::new_zeroed();
                self.load(first, setup.as_mut_bytes())?;
                let epoch = self.epoch();
                self.bus = Some(FakeBus::new(&self.memory, &setup).ok_or(CallError::FAULT)?);
                self.offer_all();
                self.serve_bus();
                Ok(epoch as i64)
            }
            Call::BUS_KICK => {
                self.kicked = true;
                if !self.lazy_bus {
                    self.serve_kick();
                }
                Ok(0)
            }
            _ => Err(CallError::UNKNOWN),
        }
    }

    fn serve_kick(&mut self) {
        if core::mem::take(&mut self.kicked) {
            self.serve_bus();
        }
    }

    /// Judges the guest's choice as the ABI says.
    fn negotiate(&mut self, offers: &[GroupOffer], input: u64, output: u64, room: u64) -> Result<i64, CallError> {
        let mut asked = Negotiate::new_zeroed();
        self.load(input, asked.as_mut_bytes())?;
        let chosen = asked.groups.get(..asked.count as usize).ok_or(CallError::INVALID)?;
        let refused = chosen.iter().find_map(|choice| {
            let offer = offers.iter().find(|offer| offer.group == choice.group && offer.major == choice.major);
            let reason = match offer {
                None => RefusalReason::UNKNOWN_GROUP,
                Some(offer) if !(offer.minor_oldest..=offer.minor_newest).contains(&choice.minor) => {
                    RefusalReason::VERSION
                }
                Some(offer) if choice.features & !offer.features != 0 => RefusalReason::UNKNOWN_FEATURE,
                Some(offer) if offer.required & !choice.features != 0 => RefusalReason::REQUIRED_FEATURE,
                Some(_) => return None,
            };
            Some((choice.group, reason))
        });
        let mut reply = NegotiateReply::new_zeroed();
        reply.size = size_of::<NegotiateReply>() as u32;
        if let Some((group, reason)) = refused {
            (reply.refused_group, reply.reason) = (group, reason);
        }
        let bytes = reply.as_bytes().get(..room as usize).ok_or(CallError::INVALID)?;
        let out = self.memory.host(output, bytes.len()).ok_or(CallError::FAULT)?;
        out.write(0, bytes).map_err(|_| CallError::FAULT)?;
        refused.map_or(Ok(0), |_| Err(CallError::REFUSED))
    }

    pub(super) fn load(&self, address: u64, into: &mut [u8]) -> Result<(), CallError> {
        let bytes = self.memory.host(address, into.len()).ok_or(CallError::FAULT)?;
        bytes.read(0, into).map_err(|_| CallError::FAULT)
    }
}
