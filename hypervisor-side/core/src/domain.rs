//! One guest: every door by which the guest or the machine reaches the core.

use crate::bus::Bus;
use crate::context::{Context, Lies, over_quota};
use crate::device::Device;
use crate::epoch::Epochs;
use crate::events::Ports;
use crate::inspect::{Inspection, inspect};
use crate::negotiation::Negotiation;
use crate::{Counters, DomainConfig, Effect, EventPath, Finished, GuestMemory, Outcome, Sealed, Token};
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::event::MAX_PORTS;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group, GroupOffer};

/// Calls that mean nothing to a guest without vCPU areas.
const NEED_AREAS: [Call; 5] =
    [Call::EVENT_BIND, Call::EVENT_SET_UPCALL, Call::EVENT_UPCALL_RETURN, Call::SCHED_BLOCK, Call::SCHED_EXCEPTION];

/// One guest's hypervisor.
#[derive(Debug)]
pub struct Domain {
    pub(crate) cpl3_allowed: bool,
    pub(crate) events: EventPath,
    /// By vCPU, whether it was started.
    pub(crate) started: Vec<bool>,
    pub(crate) negotiation: Negotiation,
    pub(crate) ports: Ports,
    pub(crate) bus: Bus,
    pub(crate) counters: Counters,
    pub(crate) lies: Lies,
}

impl Domain {
    /// A guest that has not run yet: vCPU 0 started, nothing negotiated, no bus.
    #[must_use]
    pub fn new(config: DomainConfig) -> Self {
        let devices = config.devices.iter().map(|device| Device::new(device.offer)).collect();
        let epochs = Epochs::after(config.epochs_after);
        Self {
            cpl3_allowed: config.cpl3_allowed,
            events: config.events,
            started: (0..config.vcpus).map(|vcpu| vcpu == 0).collect(),
            negotiation: Negotiation::new(config.groups),
            ports: Ports::default(),
            bus: Bus::new(devices, epochs),
            counters: Counters::default(),
            lies: Lies::default(),
        }
    }

    /// Every group that this crate serves, at the ABI's version.
    #[must_use]
    pub fn default_groups() -> Vec<GroupOffer> {
        let groups = [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED, Group::CONSOLE, Group::TIME, Group::VCPU];
        let offer = |group| GroupOffer {
            group,
            major: CURRENT.major,
            minor_oldest: CURRENT.minor,
            minor_newest: CURRENT.minor,
            features: 0,
            required: 0,
        };
        groups.map(offer).to_vec()
    }

    /// The groups of a guest with interrupt controllers of its own: it starts its vCPUs by itself.
    #[must_use]
    pub fn hvm_groups() -> Vec<GroupOffer> {
        Self::default_groups().into_iter().filter(|offer| offer.group != Group::VCPU).collect()
    }

    /// Ends everything that the guest has of the host, as if it had never asked for anything: queues, grants, ports, what
    /// was negotiated. Epochs go on growing. Nothing of it is attached any more when the effects are carried out.
    pub fn reset(&mut self, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, Bus::reset);
        self.ports = Ports::default();
        self.negotiation.unseal();
    }

    /// One hypercall of `vcpu` at privilege level `cpl`. Effects are appended in order.
    ///
    /// Number and arguments are the guest's and may be anything: then the outcome returns an error. The work is bounded
    /// by the ring depth of the bus and the number of devices.
    pub fn hypercall(
        &mut self,
        vcpu: u32,
        cpl: u8,
        call: Call,
        args: [u64; 5],
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        self.count(call);
        let outcome = self.judge(vcpu, cpl, call).and_then(|()| {
            if call != Call::BUS_KICK {
                self.with_bus(memory, effects, Bus::catch_up);
            }
            self.dispatch(vcpu, call, args, memory, effects)
        });
        outcome.unwrap_or_else(|error| {
            self.note_error(call, error, effects);
            Outcome::Return(error.to_result())
        })
    }

    /// The machine's answer to an effect with a token; completes the guest's bus request.
    ///
    /// An answer that comes after its epoch ended, or a second one, is ignored.
    pub fn finish(
        &mut self,
        token: Token,
        result: Result<Finished, CallError>,
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
    ) {
        self.with_bus(memory, effects, |bus, cx| bus.finish(token, result, cx));
    }

    /// A backend's interrupt: latched if the port is masked, else [`Effect::Raise`]. Nothing happens if the port was
    /// closed meanwhile.
    pub fn raise(&mut self, port: u32, effects: &mut Vec<Effect>) {
        let _ = crate::context::raise(&mut self.ports, u64::from(port), &mut self.counters, effects);
    }

    /// The device's configuration changed; the guest is told.
    pub fn config_changed(
        &mut self,
        device: u32,
        config: [u8; CONFIG_BYTES],
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
    ) {
        self.with_bus(memory, effects, |bus, cx| bus.config_changed(device, config, cx));
    }

    /// The device's backend is gone, and the machine has seen to it that nothing of it is attached: the device's epoch
    /// ends, and the guest is told.
    pub fn backend_gone(&mut self, device: u32, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, |bus, cx| bus.backend_gone(device, cx));
    }

    /// The backend is there again, with the same offer: the device is offered under a new epoch. A guest that had it
    /// must accept it as before.
    pub fn backend_back(&mut self, device: u32, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, |bus, cx| bus.backend_back(device, cx));
    }

    /// The device goes away for good. If the guest holds it, it is drained first.
    pub fn rescind(&mut self, device: u32, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, |bus, cx| bus.rescind(device, cx));
    }

    /// What was agreed so far: groups, then devices that the guest holds.
    #[must_use]
    pub fn negotiated(&self) -> Vec<Sealed> {
        let groups = self.negotiation.agreed().iter();
        let groups = groups.map(|agreed| Sealed::Group {
            group: agreed.group,
            version: agreed.version,
            features: agreed.features,
        });
        groups.chain((1..).zip(&self.bus.devices).filter_map(|(number, device)| device.sealed(number))).collect()
    }

    /// The bus and the ports as they are now.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        inspect(&self.bus, &self.ports)
    }

    /// The newest epoch so far.
    #[must_use]
    pub const fn last_epoch(&self) -> u64 {
        self.bus.epochs.last()
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the caller may make the call at all.
    fn judge(&self, vcpu: u32, cpl: u8, call: Call) -> Result<(), CallError> {
        if cpl != 0 && !self.cpl3_allowed {
            return Err(CallError::DENIED);
        }
        if usize::try_from(vcpu).map_or(true, |vcpu| vcpu >= self.started.len()) {
            return Err(CallError::NOT_FOUND);
        }
        if call.name().is_none() {
            return Err(CallError::UNKNOWN);
        }
        // A guest may end at any time: it may fail before it can negotiate.
        let ends = matches!(call, Call::SCHED_CRASH | Call::SCHED_SHUTDOWN);
        if !ends && !self.negotiation.allows(call.group()) {
            return Err(CallError::NOT_NEGOTIATED);
        }
        if self.events == EventPath::MsiX && NEED_AREAS.contains(&call) {
            return Err(CallError::UNSUPPORTED);
        }
        Ok(())
    }

    pub(crate) fn with_bus<T>(
        &mut self,
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
        work: impl FnOnce(&mut Bus, &mut Context<'_>) -> T,
    ) -> T {
        let mut cx = Context {
            memory,
            ports: &mut self.ports,
            counters: &mut self.counters,
            effects,
            lies: &mut self.lies,
            grants_negotiated: self.negotiation.allows(Group::GRANT),
        };
        work(&mut self.bus, &mut cx)
    }

    fn count(&mut self, call: Call) {
        let counter = match call.name() {
            Some(_) => self.counters.hypercalls.entry(call.0).or_default(),
            None => &mut self.counters.unknown_hypercalls,
        };
        *counter = counter.saturating_add(1);
    }

    fn note_error(&mut self, call: Call, error: CallError, effects: &mut Vec<Effect>) {
        self.counters.hypercall_errors = self.counters.hypercall_errors.saturating_add(1);
        if error == CallError::FAULT {
            self.counters.faults = self.counters.faults.saturating_add(1);
        }
        if error == CallError::LIMIT && call == Call::EVENT_ALLOC {
            let what = format_args!("event ports of a guest, {MAX_PORTS}; it has to close one");
            over_quota(what, &mut self.counters, effects);
        }
        if matches!(error, CallError::UNKNOWN | CallError::INVALID | CallError::FAULT | CallError::DENIED) {
            self.lies.tell(format_args!("hypercall {call:?} refused: {error:?}"), effects);
        }
    }
}
