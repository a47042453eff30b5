//! Versions and features of the hypercall groups: the host offers, the guest chooses once, the host seals.

use pvkit_abi::status::CallError;
use pvkit_abi::version::{Group, GroupChoice, GroupOffer, Negotiate, NegotiateReply, RefusalReason, Version};

/// What was sealed for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) group: Group,
    pub(crate) version: Version,
    pub(crate) features: u64,
}

/// Not sealed, or sealed for the rest of the guest's run.
#[derive(Debug)]
pub(crate) struct Negotiation {
    offers: Vec<GroupOffer>,
    sealed: Option<Vec<Agreed>>,
}

impl Negotiation {
    pub(crate) const fn new(offers: Vec<GroupOffer>) -> Self {
        Self { offers, sealed: None }
    }

    pub(crate) const fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether calls of `group` are served. Group 0 always is.
    pub(crate) fn allows(&self, group: Group) -> bool {
        group == Group(0) || self.agreed().iter().any(|agreed| agreed.group == group)
    }

    pub(crate) fn agreed(&self) -> &[Agreed] {
        self.sealed.as_deref().unwrap_or(&[])
    }

    /// Judges a guest's choice. Nothing is sealed yet, so the answer can be written first.
    ///
    /// # Errors
    /// `INVALID` for a count beyond the array or a reserved field that is not zero.
    pub(crate) fn judge(&self, request: &Negotiate) -> Result<Result<Vec<Agreed>, NegotiateReply>, CallError> {
        let choices = usize::try_from(request.count).ok().and_then(|count| request.groups.get(..count));
        let choices = choices.ok_or(CallError::INVALID)?;
        if choices.iter().any(|choice| choice.reserved != 0) {
            return Err(CallError::INVALID);
        }
        let mut agreed: Vec<Agreed> = Vec::with_capacity(choices.len());
        for choice in choices {
            if agreed.iter().any(|earlier| earlier.group == choice.group) {
                return Ok(Err(refusal(choice.group, RefusalReason::DUPLICATE, 0)));
            }
            match self.judge_one(choice) {
                Ok(one) => agreed.push(one),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Ok(agreed))
    }

    /// Seals what [`Negotiation::judge`] found good.
    pub(crate) fn seal(&mut self, agreed: Vec<Agreed>) {
        self.sealed = Some(agreed);
    }

    /// Forgets what was agreed: the guest starts anew.
    pub(crate) fn unseal(&mut self) {
        self.sealed = None;
    }

    fn judge_one(&self, choice: &GroupChoice) -> Result<Agreed, NegotiateReply> {
        let group = choice.group;
        let mut of_group = self.offers.iter().filter(|offer| offer.group == group).peekable();
        if of_group.peek().is_none() {
            return Err(refusal(group, RefusalReason::UNKNOWN_GROUP, 0));
        }
        let in_range = |offer: &&GroupOffer| {
            offer.major == choice.major && (offer.minor_oldest..=offer.minor_newest).contains(&choice.minor)
        };
        let offer = of_group.find(in_range).ok_or(refusal(group, RefusalReason::VERSION, 0))?;
        judge_features(choice.features, offer.features, offer.required)
            .map_err(|(reason, bits)| refusal(group, reason, bits))?;
        let version = Version { major: choice.major, minor: choice.minor };
        Ok(Agreed { group, version, features: choice.features })
    }
}

/// Judges a choice of features, of a group or a device alike.
///
/// # Errors
/// Why, and the bits that were chosen and are not offered, or are required and were not chosen.
pub(crate) const fn judge_features(chosen: u64, offered: u64, required: u64) -> Result<(), (RefusalReason, u64)> {
    if chosen & !offered != 0 {
        return Err((RefusalReason::UNKNOWN_FEATURE, chosen & !offered));
    }
    if required & !chosen != 0 {
        return Err((RefusalReason::REQUIRED_FEATURE, required & !chosen));
    }
    Ok(())
}

/// The reply to a guest whose choice was taken.
pub(crate) const fn accepted() -> NegotiateReply {
    refusal(Group(0), RefusalReason::NONE, 0)
}

const fn refusal(group: Group, reason: RefusalReason, features: u64) -> NegotiateReply {
    let size = size_of::<NegotiateReply>() as u32;
    NegotiateReply { size, refused_group: group, reason, refused_features: features }
}
