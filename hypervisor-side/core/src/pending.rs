//! What the machine was asked to do and has not answered yet.
//!
//! Bounded without a limit of its own: a request of the guest occupies a slot of the bus until it is answered, and a
//! device is rescinded once.

use crate::Token;
use pvkit_abi::grant::GrantRef;
use std::collections::BTreeMap;

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Open {
        queue: u16,
    },
    /// Asked for by the guest, or by the host that takes the device away: then no request waits for it.
    Close,
    Share(GrantRef),
    Revoke(GrantRef),
    Control,
}

/// Who waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) device: u32,
    /// The guest's request.
    pub(crate) request: Option<u16>,
    pub(crate) work: Work,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    last: u64,
    asked: BTreeMap<Token, Asked>,
}

impl Pending {
    pub(crate) fn insert(&mut self, asked: Asked) -> Token {
        self.last = self.last.saturating_add(1);
        let token = Token(self.last);
        self.asked.insert(token, asked);
        token
    }

    /// `None` if it was answered before or its epoch has ended.
    pub(crate) fn remove(&mut self, token: Token) -> Option<Asked> {
        self.asked.remove(&token)
    }

    /// Whether anything of the device is unanswered.
    pub(crate) fn has(&self, device: u32) -> bool {
        self.asked.values().any(|asked| asked.device == device)
    }

    /// Takes out everything of one device.
    pub(crate) fn remove_of(&mut self, device: u32) -> Vec<Asked> {
        let tokens: Vec<Token> =
            self.asked.iter().filter(|(_, asked)| asked.device == device).map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| self.asked.remove(&token)).collect()
    }

    /// Forgets everything: the bus it was asked by is gone.
    pub(crate) fn clear(&mut self) {
        self.asked.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }
}
