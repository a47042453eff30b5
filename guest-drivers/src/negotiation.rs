//! Which hypercall groups, in which version, with which features: chosen from the boot info, sealed by the host.

use crate::error::{BusError, ConnectError, HostFault};
use crate::platform::{Page, Platform};
use pvkit_abi::discovery::BOOT_MAGIC;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group, GroupChoice, GroupOffer, MAX_GROUPS, Negotiate, NegotiateReply};
use zerocopy::{FromZeros, IntoBytes};

/// Groups that the drivers cannot work without.
const NEEDED: [Group; 4] = [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED];
/// Groups that are used when they are there.
const WANTED: [Group; 2] = [Group::CONSOLE, Group::VCPU];
/// Feature bits known here: no group has any yet.
const KNOWN_FEATURES: u64 = 0;
/// Where in the scratch page the reply goes.
const REPLY_OFFSET: usize = 2048;

/// What was sealed.
#[derive(Clone, Copy, Debug)]
pub struct Negotiated {
    choices: [GroupChoice; MAX_GROUPS],
    count: usize,
}

impl Negotiated {
    /// The sealed groups.
    #[must_use]
    pub fn groups(&self) -> &[GroupChoice] {
        self.choices.get(..self.count).unwrap_or(&[])
    }

    /// Whether a group's calls may be used.
    #[must_use]
    pub fn has(&self, group: Group) -> bool {
        self.groups().iter().any(|choice| choice.group == group)
    }

    /// Chooses from the host's offer: the newest version that both know.
    ///
    /// A boot info that lies about its counts shows at most as many groups as it has room for.
    ///
    /// # Errors
    /// A needed group that is missing, or that demands features unknown here.
    pub(crate) fn choose(offers: &[GroupOffer]) -> Result<Self, ConnectError> {
        let mut chosen = Self { choices: [GroupChoice::new_zeroed(); MAX_GROUPS], count: 0 };
        for group in NEEDED {
            let offer = find(offers, group).ok_or(ConnectError::GroupMissing(group))?;
            let features = offer.required & !KNOWN_FEATURES;
            if features != 0 {
                return Err(ConnectError::FeaturesUnknown { group, features });
            }
            chosen.add(offer);
        }
        for group in WANTED {
            if let Some(offer) = find(offers, group).filter(|offer| offer.required & !KNOWN_FEATURES == 0) {
                chosen.add(offer);
            }
        }
        Ok(chosen)
    }

    fn add(&mut self, offer: &GroupOffer) {
        if let Some(slot) = self.choices.get_mut(self.count) {
            *slot = GroupChoice {
                group: offer.group,
                major: offer.major,
                minor: offer.minor_newest.min(CURRENT.minor),
                reserved: 0,
                features: offer.features & KNOWN_FEATURES,
            };
            self.count += 1;
        }
    }
}

fn find(offers: &[GroupOffer], group: Group) -> Option<&GroupOffer> {
    offers.iter().find(|offer| {
        offer.group == group
            && offer.major == CURRENT.major
            && offer.minor_oldest <= CURRENT.minor
            && offer.minor_oldest <= offer.minor_newest
    })
}

/// Chooses and seals; one hypercall. `scratch` is a page that nobody else uses meanwhile.
///
/// # Errors
/// What is missing, or what the host refused, by name.
pub(crate) fn negotiate<P: Platform>(platform: &P, scratch: &Page) -> Result<Negotiated, ConnectError> {
    let boot = platform.boot_info();
    if boot.magic != BOOT_MAGIC {
        return Err(ConnectError::NotAHost(boot.magic));
    }
    let count = (boot.group_count as usize).min(MAX_GROUPS);
    let chosen = Negotiated::choose(boot.groups.get(..count).unwrap_or(&[]))?;
    let input = Negotiate { size: size_of::<Negotiate>() as u32, count: chosen.count as u32, groups: chosen.choices };
    let outside = |_| BusError::NoMemory;
    scratch.bytes.write(0, input.as_bytes()).map_err(outside)?;
    scratch.bytes.zero(REPLY_OFFSET, size_of::<NegotiateReply>()).map_err(outside)?;
    let out = scratch.address + REPLY_OFFSET as u64;
    let result = platform.hypercall(Call::NEGOTIATE, [scratch.address, out, size_of::<NegotiateReply>() as u64, 0, 0]);
    match CallError::from_result(result) {
        Ok(0) => Ok(chosen),
        Ok(value) => Err(HostFault::Reply { field: "NEGOTIATE result", value }.into()),
        Err(CallError::REFUSED) => {
            let mut reply = NegotiateReply::new_zeroed();
            scratch.bytes.read(REPLY_OFFSET, reply.as_mut_bytes()).map_err(outside)?;
            let NegotiateReply { refused_group: group, reason, refused_features: features, .. } = reply;
            Err(ConnectError::Refused { group, reason, features })
        }
        Err(error) => Err(BusError::Refused(error).into()),
    }
}
