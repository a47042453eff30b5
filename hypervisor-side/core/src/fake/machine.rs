//! A machine without a guest's processor: it gives hypercalls to the core and answers its effects.

use super::FakeMemory;
use crate::{Domain, Effect, Finished, Outcome, Token};
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;

/// The core of one guest, and what it asked for.
#[derive(Debug)]
pub struct FakeMachine<'m> {
    /// The core.
    pub domain: Domain,
    /// Every effect so far, in order. Tests take them out.
    pub effects: Vec<Effect>,
    /// Whether effects with a token are answered at once; if not, by [`FakeMachine::answer_all`].
    pub answers: bool,
    /// Tokens that wait for an answer.
    pub waiting: Vec<Token>,
    /// Hypercalls made.
    pub calls: u64,
    memory: &'m FakeMemory,
}

impl<'m> FakeMachine<'m> {
    /// A machine that answers at once.
    #[must_use]
    pub const fn new(domain: Domain, memory: &'m FakeMemory) -> Self {
        Self { domain, effects: Vec::new(), answers: true, waiting: Vec::new(), calls: 0, memory }
    }

    /// One hypercall of vCPU 0 at level 0, as the guest sees it; what does not return a value gives 0.
    pub fn call(&mut self, call: Call, args: [u64; 5]) -> i64 {
        match self.outcome(0, 0, call, args) {
            Outcome::Return(value) => value,
            _ => 0,
        }
    }

    /// One hypercall, with its effects carried out.
    pub fn outcome(&mut self, vcpu: u32, cpl: u8, call: Call, args: [u64; 5]) -> Outcome {
        self.calls += 1;
        let mut effects = Vec::new();
        let outcome = self.domain.hypercall(vcpu, cpl, call, args, self.memory, &mut effects);
        self.carry_out(effects);
        outcome
    }

    /// A call of the core that is no hypercall, with its effects carried out.
    pub fn host(&mut self, work: impl FnOnce(&mut Domain, &FakeMemory, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        work(&mut self.domain, self.memory, &mut effects);
        self.carry_out(effects);
    }

    /// Answers one effect.
    pub fn answer(&mut self, token: Token, result: Result<Finished, CallError>) {
        self.waiting.retain(|waiting| *waiting != token);
        self.host(|domain, memory, effects| domain.finish(token, result, memory, effects));
    }

    /// Answers everything that waits, well.
    pub fn answer_all(&mut self) {
        while let Some(token) = self.waiting.first().copied() {
            self.answer(token, Ok(self.good_answer(token)));
        }
    }

    /// Takes out the effects so far.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let token = match &effect {
                Effect::OpenQueue { token, .. }
                | Effect::ShareGrant { token, .. }
                | Effect::RevokeGrant { token, .. }
                | Effect::Control { token, .. }
                | Effect::CloseDevice { token: Some(token), .. } => Some(*token),
                _ => None,
            };
            self.effects.push(effect);
            if let Some(token) = token {
                self.waiting.push(token);
                if self.answers {
                    self.answer(token, Ok(self.good_answer(token)));
                }
            }
        }
    }

    /// The answer that the effect with this token wants. A doorbell's address is the queue's number.
    fn good_answer(&self, wanted: Token) -> Finished {
        let queue = self.effects.iter().find_map(|effect| match effect {
            Effect::OpenQueue { token, queue, .. } if *token == wanted => Some(*queue),
            _ => None,
        });
        queue.map_or(Finished::Done, |queue| Finished::Queue { kind: DoorbellKind::TOKEN, address: queue.into() })
    }
}
