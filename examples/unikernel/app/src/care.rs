//! What the host asks of the guest as a whole, and what the guest does about it.
//!
//! *Purpose.* An application that stays up polls [`Care::attend`] in its loop, sleeps on [`Care::arm`] with its other queues,
//! and ends when told to. A host without services is a host that asks for nothing.

use crate::Failure;
use crate::session::Session;
use crate::terminal::Terminal;
use pvkit_abi::bus::Class;
use pvkit_abi::hypercall::ShutdownReason;
use pvkit_abi::services::{ServiceEvent, ServiceKind, ServiceReport};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Entropy, GrantPolicy, Services};

/// Events looked at in one go.
const BUDGET: usize = 8;

/// The host's services, attended to.
pub(crate) struct Care<'p, P: Platform> {
    platform: &'p P,
    services: Option<Services<'p, P>>,
    entropy: Option<Entropy<'p, P>>,
    /// Until when writes are held back.
    frozen_until: Option<u64>,
    generation: [u8; 16],
}

impl<'p, P: Platform> Care<'p, P> {
    /// Opens what the host offers of services and entropy, and says that the guest is up.
    pub(crate) fn open(session: &mut Session<'p, P>) -> Result<Self, Failure> {
        let deadline = session.deadline();
        let entropy = match session.find(Class::ENTROPY, 0) {
            Some(device) => Some(Entropy::open(&mut session.bus.borrow_mut(), device, GrantPolicy::Extent, deadline)?),
            None => None,
        };
        let mut services = match session.find(Class::SERVICES, 0) {
            Some(device) => Some(Services::open(&mut session.bus.borrow_mut(), device, GrantPolicy::Extent, deadline)?),
            None => None,
        };
        let mut generation = [0; 16];
        if let Some(services) = &mut services {
            services.report(0, ServiceReport::READY)?;
            generation = services.generation();
        }
        Ok(Self { platform: session.platform, services, entropy, frozen_until: None, generation })
    }

    /// Random bytes of the host, mixed with what it said at the start.
    pub(crate) fn seed(&mut self) -> Result<u64, Failure> {
        let [.., a, b, c, d, e, f, g, h] = self.platform.boot_info().seed;
        let mut fresh = [0; 8];
        if let Some(entropy) = &mut self.entropy {
            entropy.read(&mut fresh, crate::session::deadline(self.platform))?;
        }
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(fresh))
    }

    /// Does what the host asked for since the last time; how to end, if that was it.
    pub(crate) fn attend(&mut self, terminal: &mut Terminal<'p, P>) -> Result<Option<ShutdownReason>, Failure> {
        for _ in 0..BUDGET {
            let Some(services) = &mut self.services else { break };
            let Some(event) = services.poll()? else { break };
            let (report, ending) = self.answer(&event, terminal);
            if let Some(services) = &mut self.services {
                services.report(event.sequence, report)?;
            }
            if ending.is_some() {
                return Ok(ending);
            }
        }
        Ok(None)
    }

    fn answer(
        &mut self,
        event: &ServiceEvent,
        terminal: &mut Terminal<'p, P>,
    ) -> (ServiceReport, Option<ShutdownReason>) {
        let now = self.platform.now();
        match event.kind {
            ServiceKind::SHUTDOWN => return (ServiceReport::ACCEPTED, Some(ShutdownReason::POWER_OFF)),
            ServiceKind::REBOOT => return (ServiceReport::ACCEPTED, Some(ShutdownReason::REBOOT)),
            ServiceKind::FREEZE => {
                self.frozen_until = Some(now.saturating_add(event.patience_ns));
                terminal.line(format_args!("services: frozen"));
            }
            ServiceKind::THAW => {
                self.frozen_until = None;
                terminal.line(format_args!("services: thawed"));
            }
            ServiceKind::TIME_SYNC => {
                terminal.line(format_args!("services: the time is {} ns", event.wall_clock_ns));
            }
            ServiceKind::GENERATION => {
                self.generation = event.generation;
                terminal.line(format_args!("services: generation {:02x?}", self.generation));
            }
            ServiceKind::HEARTBEAT => {}
            _ => return (ServiceReport::REFUSED, None),
        }
        // Text that the console does not take is no reason to answer otherwise.
        let _ = terminal.flush();
        (ServiceReport::DONE, None)
    }

    /// Whether writes are held back now. A freeze ends by itself.
    pub(crate) fn is_frozen(&mut self) -> bool {
        let now = self.platform.now();
        self.frozen_until = self.frozen_until.filter(|until| now < *until);
        self.frozen_until.is_some()
    }

    /// When to look again even though nothing comes.
    pub(crate) fn deadline(&self) -> u64 {
        self.frozen_until.unwrap_or(u64::MAX)
    }

    /// About to sleep. True if there is something to attend to.
    pub(crate) fn arm(&mut self) -> bool {
        self.services.as_mut().is_some_and(Services::arm)
    }

    /// Gives the devices back.
    pub(crate) fn close(mut self, session: &mut Session<'p, P>) -> Result<(), Failure> {
        let deadline = session.deadline();
        if let Some(services) = &mut self.services {
            services.close(&mut session.bus.borrow_mut(), deadline)?;
        }
        if let Some(entropy) = &mut self.entropy {
            entropy.close(&mut session.bus.borrow_mut(), deadline)?;
        }
        Ok(())
    }
}
