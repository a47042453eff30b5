//! Getting a vCPU thread out of the guest: a signal whose handler sets `immediate_exit`.
//!
//! The signal alone would be lost if it arrived between the thread's last look at its flags and `KVM_RUN`;
//! `immediate_exit` makes that `KVM_RUN` return at once. The thread clears it after an exit and *before* it looks.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use std::cell::Cell;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

thread_local! {
    /// This thread's `kvm_run::immediate_exit`, null outside a vCPU loop. Constant initial value: no allocation in the handler.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: the pointer is set only by `Registration`, to a byte of this thread's mapped `kvm_run`, and is reset
        // before that mapping goes. The kernel reads the byte at any time; a one-byte volatile store does not tear.
        unsafe { flag.write_volatile(1) };
    }
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Installs the handler for the whole process. More than once is harmless.
pub fn install() -> io::Result<()> {
    vmm_sys_util::signal::register_signal_handler(signal(), on_kick).map_err(io::Error::from)
}

/// Reaches a vCPU's thread while it runs.
#[derive(Debug, Default)]
pub struct Kicker {
    thread: Mutex<Option<(ThreadId, libc::pthread_t)>>,
}

impl Kicker {
    /// Signals the thread if it is in its loop. The thread itself needs no kick: it is about to look.
    pub fn kick(&self) {
        let registered = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, thread)) = *registered
            && id != std::thread::current().id()
        {
            // SAFETY: the id is in the table only between `Registration::new` and its drop on that very thread, and the
            // lock is held, so the thread has not ended.
            unsafe { libc::pthread_kill(thread, signal()) };
        }
    }
}

/// A thread that can be kicked, until this is dropped.
pub struct Registration<'a> {
    kicker: &'a Kicker,
}

impl<'a> Registration<'a> {
    /// Registers the calling thread.
    ///
    /// # Safety
    /// `immediate_exit` points to a byte that stays mapped and writable until the registration is dropped, which
    /// happens on the calling thread.
    pub unsafe fn new(kicker: &'a Kicker, immediate_exit: *mut u8) -> Self {
        IMMEDIATE_EXIT.set(immediate_exit);
        // A thread inherits its maker's mask; a program that blocks all signals before it starts threads would never get a
        // vCPU out of the guest.
        // Fails only for a number that is no signal.
        let _ = vmm_sys_util::signal::unblock_signal(signal());
        // SAFETY: `pthread_self` has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        *kicker.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((std::thread::current().id(), thread));
        Self { kicker }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        *self.kicker.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
        IMMEDIATE_EXIT.set(std::ptr::null_mut());
    }
}
