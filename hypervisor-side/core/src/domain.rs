//! One guest: every door by which the guest or the machine reaches the core.

use crate::{Counters, DomainConfig, Effect, Finished, GuestMemory, Outcome, Sealed, Token};
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group, GroupOffer};

/// One guest's hypervisor.
#[derive(Debug)]
pub struct Domain {
    counters: Counters,
}

impl Domain {
    /// A guest that has not run yet: vCPU 0 started, nothing negotiated, no bus.
    #[must_use]
    pub fn new(_config: DomainConfig) -> Self {
        Self { counters: Counters::default() }
    }

    /// Every group that this crate serves, at the ABI's version.
    #[must_use]
    pub fn default_groups() -> Vec<GroupOffer> {
        let groups = [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED, Group::CONSOLE, Group::VCPU];
        let minor = CURRENT.minor;
        let offer = |group| GroupOffer {
            group,
            major: CURRENT.major,
            minor_oldest: minor,
            minor_newest: minor,
            features: 0,
            required: 0,
        };
        groups.map(offer).to_vec()
    }

    /// One hypercall of `vcpu` at privilege level `cpl`. Effects are appended in order.
    pub fn hypercall(
        &mut self,
        _vcpu: u32,
        _cpl: u8,
        _call: Call,
        _args: [u64; 5],
        _memory: &dyn GuestMemory,
        _effects: &mut Vec<Effect>,
    ) -> Outcome {
        Outcome::Return(CallError::UNSUPPORTED.to_result())
    }

    /// The machine's answer to an effect with a token; completes the guest's bus request.
    pub fn finish(
        &mut self,
        _token: Token,
        _result: Result<Finished, CallError>,
        _memory: &dyn GuestMemory,
        _effects: &mut Vec<Effect>,
    ) {
    }

    /// A backend's interrupt: latched if the port is masked, else raised.
    pub fn raise(&mut self, _port: u32, _effects: &mut Vec<Effect>) {}

    /// The device's configuration changed; the guest is told.
    pub fn config_changed(
        &mut self,
        _device: u32,
        _config: [u8; 64],
        _memory: &dyn GuestMemory,
        _effects: &mut Vec<Effect>,
    ) {
    }

    /// The device's backend is gone: the device's epoch ends.
    pub fn backend_gone(&mut self, _device: u32, _memory: &dyn GuestMemory, _effects: &mut Vec<Effect>) {}

    /// The backend is there again: the device is offered under a new epoch.
    pub fn backend_back(&mut self, _device: u32, _memory: &dyn GuestMemory, _effects: &mut Vec<Effect>) {}

    /// The device goes away for good.
    pub fn rescind(&mut self, _device: u32, _memory: &dyn GuestMemory, _effects: &mut Vec<Effect>) {}

    /// What was agreed so far.
    #[must_use]
    pub fn negotiated(&self) -> Vec<Sealed> {
        Vec::new()
    }

    /// The bus and the ports, for a human.
    #[must_use]
    pub fn inspect(&self) -> String {
        String::new()
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}
