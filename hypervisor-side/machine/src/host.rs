//! The host of one guest: the core under a lock, and the carrying out of what it decides.
//!
//! *Locks.* Effects are carried out in the one order in which the core decided them, whichever vCPU or queue asked. Those
//! that touch gates alone are done under the core's lock; text for the operator behind it, under no lock but the
//! console's own. The others wait in `slow`, which is filled under the core's lock
//! and emptied under `turn`: closing a queue waits for a thread that may itself be raising an interrupt, so neither the
//! core's lock may be held meanwhile, nor may an interrupt need `turn`. Taken in the order turn, domain, slow, gate; the
//! console's lock alone.

mod seen;

use crate::carrier::Carrier;
use crate::devices::Devices;
use crate::gate::{Gate, Upcall};
use crate::lies;
use crate::memory::GuestRam;
use crate::remote::Asker;
use crate::report::{ExitCounts, printable};
use crate::spending::Spending;
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_core::{Domain, Effect, Finished, Outcome, Token};
use pvkit_driver_domain::client::Backend;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// The host of one guest.
pub struct Host {
    pub ram: Arc<GuestRam>,
    pub exits: ExitCounts,
    domain: Mutex<Domain>,
    slow: Mutex<VecDeque<Effect>>,
    spending: Spending,
    /// Events sent as interrupts.
    signals: AtomicU64,
    turn: Mutex<()>,
    gates: Vec<Gate>,
    devices: Devices,
    carrier: Weak<dyn Carrier>,
    console: Mutex<Box<dyn Write + Send>>,
    /// Handed to queues, for interrupts.
    me: Weak<Host>,
}

impl Host {
    pub fn new(
        ram: Arc<GuestRam>,
        domain: Domain,
        gates: Vec<Gate>,
        devices: Devices,
        carrier: Weak<dyn Carrier>,
        console: Box<dyn Write + Send>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            ram,
            exits: ExitCounts::default(),
            domain: Mutex::new(domain),
            slow: Mutex::default(),
            spending: Spending::default(),
            signals: AtomicU64::new(0),
            turn: Mutex::default(),
            gates,
            devices,
            carrier,
            console: Mutex::new(console),
            me: me.clone(),
        })
    }

    pub(crate) fn domain(&self) -> MutexGuard<'_, Domain> {
        lock(&self.domain)
    }

    /// The gate of a vCPU; numbers come from this program, never from the guest.
    pub fn gate(&self, vcpu: u32) -> &Gate {
        &self.gates[vcpu as usize % self.gates.len()]
    }

    /// Itself, for who outlives it.
    #[cfg(feature = "mutants")]
    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// One hypercall, with everything that follows from it.
    pub fn hypercall(&self, vcpu: u32, cpl: u8, call: Call, args: [u64; 5]) -> Outcome {
        let (outcome, messages) = self.decide(|domain, ram, effects| {
            let before = domain.counters().messages();
            let outcome = domain.hypercall(vcpu, cpl, call, args, ram, effects);
            (outcome, domain.counters().messages().saturating_sub(before))
        });
        lies::answered(self, call, &args);
        // Who floods the bus waits, on its own vCPU and behind no lock.
        if messages > 0 {
            std::thread::sleep(self.spending.messages(messages, Instant::now()));
        }
        outcome
    }

    /// Ends everything that the guest has of the host. When this returns nothing of it is attached.
    pub fn reset(&self) {
        self.decide(|domain, ram, effects| domain.reset(ram, effects));
    }

    /// The newest epoch so far.
    pub fn last_epoch(&self) -> u64 {
        self.domain().last_epoch()
    }

    /// How many devices the bus offers.
    pub fn devices_offered(&self) -> usize {
        self.devices.configs().len()
    }

    /// Whether the guest ever agreed to anything.
    pub fn is_negotiated(&self) -> bool {
        !self.domain().negotiated().is_empty()
    }

    /// A backend's interrupt. Never waits for a queue.
    pub fn raise(&self, port: u32) {
        // Nothing slow comes of it, and a queue's thread must not wait for its turn anyway.
        self.note(|domain, _, effects| domain.raise(port, effects));
    }

    /// Looks again how large the disks are and tells the guest of those that changed.
    pub fn refresh_disks(&self) {
        for refreshed in self.devices.refresh() {
            match refreshed {
                Ok((device, config)) => {
                    self.decide(|domain, ram, effects| domain.config_changed(device, config, ram, effects));
                }
                Err(why) => self.log(why),
            }
        }
    }

    fn asker(&self, token: Token) -> Asker {
        Asker { host: self.me.clone(), token }
    }

    /// A backend in another process answered, or never will.
    pub fn finish(&self, token: Token, result: Result<Finished, CallError>) {
        self.decide(|domain, ram, effects| domain.finish(token, result, ram, effects));
    }

    /// Backends in other processes, with their devices.
    pub fn remotes(&self) -> Vec<(Arc<Backend>, BTreeMap<u32, u32>)> {
        self.devices.remotes()
    }

    /// The device's backend is gone, and nothing of it is attached but doorbells.
    pub fn backend_lost(&self, device: u32) {
        if let (Some(remote), Some(carrier)) = (self.devices.remote(device), self.carrier.upgrade()) {
            remote.detach(&*carrier);
        }
        self.decide(|domain, ram, effects| domain.backend_gone(device, ram, effects));
    }

    /// It is there again.
    pub fn backend_back(&self, device: u32, config: [u8; CONFIG_BYTES]) {
        if self.devices.is_new_config(device, config) {
            self.decide(|domain, ram, effects| domain.config_changed(device, config, ram, effects));
        }
        self.decide(|domain, ram, effects| domain.backend_back(device, ram, effects));
    }

    /// It is lost for good.
    pub fn backend_failed(&self, device: u32) {
        self.decide(|domain, ram, effects| domain.rescind(device, ram, effects));
    }

    /// Has the core decide, and sees to it that all effects of the decision are carried out before this returns.
    pub(crate) fn decide<T>(&self, decision: impl FnOnce(&mut Domain, &GuestRam, &mut Vec<Effect>) -> T) -> T {
        let (result, is_slow) = self.note(decision);
        if is_slow {
            self.carry_out();
        }
        result
    }

    /// Has the core decide. Does what is quick; the rest waits in `slow`. True if there is any.
    fn note<T>(&self, decision: impl FnOnce(&mut Domain, &GuestRam, &mut Vec<Effect>) -> T) -> (T, bool) {
        let mut effects = Vec::new();
        let mut domain = self.domain();
        let result = decision(&mut domain, &self.ram, &mut effects);
        let rest = effects.into_iter().filter_map(|effect| self.quick(effect));
        let (texts, slow): (Vec<_>, Vec<_>) =
            rest.partition(|effect| matches!(effect, Effect::ConsoleWrite(_) | Effect::Log(_)));
        let is_slow = !slow.is_empty();
        if is_slow {
            lock(&self.slow).extend(slow);
        }
        drop(domain);
        // An operator's terminal may be stopped: nobody but the writer waits for it.
        texts.into_iter().for_each(|text| self.tell(text));
        (result, is_slow)
    }

    /// Carries out what waits, and what follows from the answers. Each answer frees a token, of which the core hands out
    /// a bounded number, so this ends. Another thread may have done the work by the time this one has its turn.
    fn carry_out(&self) {
        let _turn = lock(&self.turn);
        loop {
            let next = lock(&self.slow).pop_front();
            let Some(effect) = next else { break };
            if let Some((token, result)) = self.one(effect) {
                self.note(|domain, ram, effects| domain.finish(token, result, ram, effects));
            }
        }
    }

    fn tell(&self, text: Effect) {
        match text {
            Effect::ConsoleWrite(bytes) => self.early_write(&bytes),
            Effect::Log(line) => self.log(line),
            _ => {}
        }
    }

    /// Carries an effect out if it touches gates alone; gives it back otherwise.
    fn quick(&self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Raise { vcpu, port } => self.deliver(vcpu, port),
            Effect::MovePending { port, from, to } => {
                if self.gate(from).withdraw(port) {
                    self.deliver(to, port);
                }
            }
            Effect::SetUpcall { vcpu, entry, stack_top } => {
                let upcall = (entry != 0).then_some(Upcall { entry, stack_top });
                self.gate(vcpu).set_upcall(upcall);
            }
            slow => return Some(slow),
        }
        None
    }

    fn one(&self, effect: Effect) -> Option<(Token, Result<Finished, CallError>)> {
        match effect {
            Effect::StartVcpu { vcpu, entry, stack_top, argument } => {
                if let Some(carrier) = self.carrier.upgrade() {
                    carrier.start_vcpu(vcpu, entry, stack_top, argument);
                }
            }
            Effect::CloseDevice { token: Some(token), device } if self.devices.remote(device).is_some() => {
                if let (Some(carrier), Some(remote)) = (self.carrier.upgrade(), self.devices.remote(device)) {
                    remote.close(&*carrier, self.asker(token));
                }
            }
            Effect::CloseDevice { token, device } => {
                if let Some(carrier) = self.carrier.upgrade() {
                    self.devices.close(device, &*carrier);
                }
                return token.map(|token| (token, Ok(Finished::Done)));
            }
            Effect::ShareGrant { token, device, grant, base, length, access }
                if self.devices.remote(device).is_some() =>
            {
                let remote = self.devices.remote(device)?;
                let extent = (base, length, access);
                let asked = remote.share(grant, &self.ram, extent, self.asker(token));
                return asked.err().map(|error| (token, Err(error)));
            }
            Effect::ShareGrant { token, device, grant, base, length, access } => {
                let result = self.devices.share(device, grant, &self.ram, base, length, access);
                return Some((token, result.map(|()| Finished::Done)));
            }
            Effect::RevokeGrant { token, device, grant } if self.devices.remote(device).is_some() => {
                self.devices.remote(device)?.revoke(grant, self.asker(token));
            }
            Effect::RevokeGrant { token, device, grant } => {
                return Some((token, self.devices.revoke(device, grant).map(|()| Finished::Done)));
            }
            Effect::OpenQueue {
                token,
                device,
                queue,
                depth,
                completion_bytes,
                epoch,
                features,
                request_pages,
                completion_pages,
                port,
            } => {
                let order = crate::slot::Order {
                    queue,
                    depth,
                    completion_bytes,
                    epoch,
                    features,
                    request_pages,
                    completion_pages,
                    port,
                };
                let carrier = self.carrier.upgrade();
                if let (Some(remote), Some(carrier)) = (self.devices.remote(device), &carrier) {
                    let asked = remote.open(&order, &self.ram, carrier, self.asker(token));
                    return asked.err().map(|error| {
                        self.refused_queue(device, queue, error);
                        (token, Err(error))
                    });
                }
                let result = carrier.ok_or(CallError::BACKEND).and_then(|carrier| {
                    let opened = self.devices.open(device, order, &self.ram, &*carrier, &self.me);
                    opened.inspect_err(|error| self.refused_queue(device, queue, *error))
                });
                let finished = result.map(|at| Finished::Queue { kind: at.kind, address: at.address });
                return Some((token, finished));
            }
            Effect::Control { token, device, operation, data } if self.devices.remote(device).is_some() => {
                let asked = self.devices.remote(device)?.control(operation, &data, self.asker(token));
                return asked.err().map(|error| (token, Err(error)));
            }
            Effect::Control { token, device, operation, data } => {
                return Some((token, self.devices.control(device, operation, &data).map(|()| Finished::Done)));
            }
            // Done already, under the core's lock or behind it.
            _ => {}
        }
        None
    }

    /// To the vCPU's gate; in a machine without gates, to the port's interrupt.
    fn deliver(&self, vcpu: u32, port: u32) {
        let Some(carrier) = self.carrier.upgrade() else { return };
        if self.gates.is_empty() {
            self.signals.fetch_add(1, Ordering::Relaxed);
            carrier.signal(port);
        } else if self.gate(vcpu).raise(port) {
            carrier.kick(vcpu);
        }
    }

    /// Output that a guest writes without a device.
    fn early_write(&self, bytes: &[u8]) {
        let text = printable(bytes);
        let mut console = lock(&self.console);
        let _ = console.write_all(text.as_bytes()).and_then(|()| console.flush());
    }

    fn refused_queue(&self, device: u32, queue: u16, error: CallError) {
        if let Some(line) = self.spending.refused_queue(device, queue, error) {
            self.log(line);
        }
    }

    /// A line for the operator, if there were not too many.
    pub fn log(&self, line: String) {
        let Some(line) = self.spending.line(line, Instant::now()) else { return };
        let mut console = lock(&self.console);
        let _ = writeln!(console, "pvkit: {}", line.escape_debug());
    }

    /// An access to a port or address where nothing is: counted, told at powers of two.
    pub fn log_stray(&self) {
        let count = self.exits.stray.load(Ordering::Relaxed);
        if count.is_power_of_two() {
            self.log(format!("the guest accessed a port or address where nothing is ({count} so far)"));
        }
    }

    /// What was agreed, a line each.
    pub fn negotiated(&self) -> Vec<String> {
        self.domain().negotiated().iter().map(ToString::to_string).collect()
    }

    /// Stops every wait of every vCPU.
    pub fn stop_gates(&self) {
        self.gates.iter().for_each(Gate::stop);
    }

    /// Drains and ends every queue.
    pub fn close_all(&self) {
        if let Some(carrier) = self.carrier.upgrade() {
            self.devices.close_all(&*carrier);
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
