//! The hypercalls one by one. What they have in common (level, group, counting) is done by the caller in `domain.rs`.
//!
//! A machine that reports processor exceptions takes `SCHED_EXCEPTION` itself, because only it knows the registers.

use crate::context::{deliver, raise};
use crate::negotiation::accepted;
use crate::{Domain, Effect, GuestAddr, GuestMemory, Outcome, params};
use pvkit_abi::event::UpcallFrame;
use pvkit_abi::hypercall::{Call, MAX_BLOCK_NS, MAX_CONSOLE_WRITE, MAX_CRASH_MESSAGE, ShutdownReason, VcpuStart};
use pvkit_abi::status::CallError;
use pvkit_abi::version::Negotiate;
use zerocopy::FromBytes;

impl Domain {
    pub(crate) fn dispatch(
        &mut self,
        vcpu: u32,
        call: Call,
        args: [u64; 5],
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, CallError> {
        let [a, b, c, _, _] = args;
        let value = match call {
            Call::NEGOTIATE => self.negotiate(a, b, c, memory)?,
            Call::EVENT_ALLOC => self.event_alloc(a)?,
            Call::EVENT_BIND => self.event_bind(a, b, effects)?,
            Call::EVENT_CLOSE => self.ports.close(a).map(|()| 0)?,
            Call::EVENT_MASK => self.event_mask(a, b, effects)?,
            Call::EVENT_SIGNAL => raise(&mut self.ports, a, &mut self.counters, effects).map(|()| 0)?,
            Call::EVENT_STATUS => self.event_status(a)?,
            Call::EVENT_SET_UPCALL => set_upcall(vcpu, a, b, effects)?,
            Call::EVENT_UPCALL_RETURN => return upcall_return(a, memory),
            Call::BUS_SETUP => self.with_bus(memory, effects, |bus, cx| bus.setup(a, cx))?,
            Call::BUS_KICK => self.with_bus(memory, effects, |bus, cx| bus.kick(cx)).map(|()| 0)?,
            Call::SCHED_YIELD => return Ok(Outcome::Yield),
            Call::SCHED_BLOCK => return Ok(Outcome::Block { timeout_ns: a.min(MAX_BLOCK_NS) }),
            Call::SCHED_SHUTDOWN => return shutdown(a, b),
            Call::SCHED_CRASH => return Ok(crash(a, b, memory)),
            Call::CONSOLE_WRITE => console_write(a, b, memory, effects)?,
            Call::TIME_WALL_CLOCK => return Ok(Outcome::WallClock),
            Call::VCPU_START => self.vcpu_start(a, memory, effects)?,
            _ => return Err(CallError::UNSUPPORTED),
        };
        // Ports, epochs and lengths are far below 2^63.
        i64::try_from(value).map(Outcome::Return).map_err(|_| CallError::LIMIT)
    }

    /// The reply is written before anything is sealed, so a guest that cannot be told is not bound either.
    fn negotiate(&mut self, input: u64, output: u64, room: u64, memory: &dyn GuestMemory) -> Result<u64, CallError> {
        if self.negotiation.is_sealed() {
            return Err(CallError::SEALED);
        }
        let request: Negotiate = params::read(memory, input)?;
        match self.negotiation.judge(&request)? {
            Ok(agreed) => {
                params::write(memory, output, room, &accepted())?;
                self.negotiation.seal(agreed);
                Ok(0)
            }
            Err(refusal) => {
                params::write(memory, output, room, &refusal)?;
                Err(CallError::REFUSED)
            }
        }
    }

    fn event_alloc(&mut self, vcpu: u64) -> Result<u64, CallError> {
        let vcpu = self.known_vcpu(vcpu)?;
        self.ports.allocate(vcpu).map(u64::from)
    }

    fn event_bind(&mut self, port: u64, vcpu: u64, effects: &mut Vec<Effect>) -> Result<u64, CallError> {
        let to = self.known_vcpu(vcpu)?;
        let from = self.ports.bind(port, to)?;
        if from != to {
            let port = u32::try_from(port).map_err(|_| CallError::NOT_FOUND)?;
            effects.push(Effect::MovePending { port, from, to });
        }
        Ok(0)
    }

    fn event_mask(&mut self, port: u64, masked: u64, effects: &mut Vec<Effect>) -> Result<u64, CallError> {
        let masked = match masked {
            0 => false,
            1 => true,
            _ => return Err(CallError::INVALID),
        };
        if let Some(vcpu) = self.ports.mask(port, masked)? {
            deliver(vcpu, port, &mut self.counters, effects);
        }
        Ok(0)
    }

    fn event_status(&mut self, port: u64) -> Result<u64, CallError> {
        let (vcpu, status) = self.ports.status(port)?;
        Ok(u64::from(vcpu) | u64::from(status.bits()) << 32)
    }

    fn vcpu_start(&mut self, at: u64, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) -> Result<u64, CallError> {
        let VcpuStart { vcpu, entry, stack_top, argument, .. } = params::read(memory, at)?;
        let vcpu = self.known_vcpu(u64::from(vcpu))?;
        if !is_canonical(entry) {
            return Err(CallError::INVALID);
        }
        let index = usize::try_from(vcpu).map_err(|_| CallError::NOT_FOUND)?;
        let started = self.started.get_mut(index).ok_or(CallError::NOT_FOUND)?;
        if core::mem::replace(started, true) {
            return Err(CallError::BUSY);
        }
        effects.push(Effect::StartVcpu { vcpu, entry, stack_top, argument });
        Ok(0)
    }

    fn known_vcpu(&self, vcpu: u64) -> Result<u32, CallError> {
        let known = u32::try_from(vcpu).ok().filter(|vcpu| (*vcpu as usize) < self.started.len());
        known.ok_or(CallError::NOT_FOUND)
    }
}

/// Whether a guest-virtual address can be one: bits 47 and up all alike. Some processors refuse to enter a guest whose
/// instruction pointer is none, others fault inside it.
const fn is_canonical(address: u64) -> bool {
    matches!(address >> 47, 0 | 0x1_ffff)
}

fn set_upcall(vcpu: u32, entry: u64, stack_top: u64, effects: &mut Vec<Effect>) -> Result<u64, CallError> {
    if (entry == 0) != (stack_top == 0) || !is_canonical(entry) || !is_canonical(stack_top) {
        return Err(CallError::INVALID);
    }
    effects.push(Effect::SetUpcall { vcpu, entry, stack_top });
    Ok(0)
}

fn upcall_return(at: u64, memory: &dyn GuestMemory) -> Result<Outcome, CallError> {
    let mut copy = [0; size_of::<UpcallFrame>()];
    memory.read(GuestAddr(at), &mut copy).map_err(|_| CallError::FAULT)?;
    let frame = UpcallFrame::read_from_bytes(&copy).map_err(|_| CallError::INVALID)?;
    if frame.reserved != [0; 2] {
        return Err(CallError::INVALID);
    }
    Ok(Outcome::UpcallReturn(frame))
}

fn shutdown(reason: u64, code: u64) -> Result<Outcome, CallError> {
    let reason = u32::try_from(reason).map(ShutdownReason).map_err(|_| CallError::INVALID)?;
    let [code, ..] = code.to_le_bytes();
    match reason {
        ShutdownReason::POWER_OFF | ShutdownReason::REBOOT => Ok(Outcome::Shutdown { reason, code }),
        _ => Err(CallError::INVALID),
    }
}

/// A crash ends the guest even if its message cannot be read.
fn crash(at: u64, length: u64, memory: &dyn GuestMemory) -> Outcome {
    let message = text(at, length, MAX_CRASH_MESSAGE, memory);
    Outcome::Crash { message: message.unwrap_or_else(|_| b"(the crash message is not in guest memory)".to_vec()) }
}

fn console_write(at: u64, length: u64, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) -> Result<u64, CallError> {
    let taken = text(at, length, MAX_CONSOLE_WRITE, memory)?;
    let count = taken.len() as u64;
    if count > 0 {
        effects.push(Effect::ConsoleWrite(taken));
    }
    Ok(count)
}

fn text(at: u64, length: u64, limit: u64, memory: &dyn GuestMemory) -> Result<Vec<u8>, CallError> {
    let length = usize::try_from(length.min(limit)).map_err(|_| CallError::INVALID)?;
    let mut copy = vec![0; length];
    if length > 0 {
        memory.read(GuestAddr(at), &mut copy).map_err(|_| CallError::FAULT)?;
    }
    Ok(copy)
}
