//! Steps that are about event channels.

use super::Walk;
use super::reference::Port;
use crate::Effect;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;

impl Walk<'_> {
    pub(super) fn allocate(&mut self, vcpu: u32) {
        let expected = match (0..).find(|port| !self.reference.ports.contains_key(port)) {
            Some(free) if vcpu < 4 => {
                self.reference.ports.insert(free, Port { vcpu, ..Port::default() });
                i64::from(free)
            }
            _ => CallError::NOT_FOUND.to_result(),
        };
        assert_eq!(self.machine.call(Call::EVENT_ALLOC, [vcpu.into(), 0, 0, 0, 0]), expected);
    }

    pub(super) fn bind(&mut self, port: u32, vcpu: u32) {
        let result = self.machine.call(Call::EVENT_BIND, [port.into(), vcpu.into(), 0, 0, 0]);
        match self.reference.ports.get_mut(&port) {
            Some(bound) if vcpu < 4 => {
                assert_eq!(result, 0);
                bound.vcpu = vcpu;
            }
            _ => assert_eq!(result, CallError::NOT_FOUND.to_result()),
        }
    }

    pub(super) fn close_port(&mut self, port: u32) {
        let result = self.machine.call(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]);
        if !self.reference.ports.contains_key(&port) {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
        } else if self.reference.port_in_use(port) {
            assert_eq!(result, CallError::BUSY.to_result());
        } else {
            assert_eq!(result, 0);
            self.reference.ports.remove(&port);
        }
    }

    pub(super) fn mask(&mut self, port: u32, masked: bool) {
        self.machine.take_effects();
        let result = self.machine.call(Call::EVENT_MASK, [port.into(), masked.into(), 0, 0, 0]);
        let Some(it) = self.reference.ports.get_mut(&port) else {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
            return;
        };
        it.masked = masked;
        let due = !masked && core::mem::take(&mut it.latched);
        let raised = Effect::Raise { vcpu: it.vcpu, port };
        let effects = self.machine.take_effects();
        // The bus may have told of something at its port while that was masked; the reference does not follow that.
        if due || (!masked && it.of_bus && !effects.is_empty()) {
            assert_eq!(effects, [raised]);
        } else {
            assert_eq!(effects, []);
        }
    }

    pub(super) fn signal(&mut self, port: u32) {
        self.machine.take_effects();
        let result = self.machine.call(Call::EVENT_SIGNAL, [port.into(), 0, 0, 0, 0]);
        let Some(it) = self.reference.ports.get_mut(&port) else {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
            return;
        };
        it.latched |= it.masked;
        let raised = Effect::Raise { vcpu: it.vcpu, port };
        assert_eq!(self.machine.take_effects(), if it.masked { vec![] } else { vec![raised] });
    }
}
