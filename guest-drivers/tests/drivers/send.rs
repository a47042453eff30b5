//! Which handles may go to another vCPU: all, where the platform may be shared.

use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::block::AsyncBlock;
use pvkit_guest_drivers::console::AsyncConsole;
use pvkit_guest_drivers::net::{AsyncRx, AsyncTx, NetRx, NetTx};
use pvkit_guest_drivers::platform::Composed;
use pvkit_guest_drivers::platform::identity::IdentityPages;
use pvkit_guest_drivers::platform::x86::X86Calls;
use pvkit_guest_drivers::services::AsyncServices;
use pvkit_guest_drivers::{Block, Bus, Console, Net, Services};
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Kernel = Composed<IdentityPages<64>, X86Calls>;

assert_impl_all!(Kernel: Send, Sync);
assert_impl_all!(Interrupt: Send, Sync);
assert_impl_all!(Bus<'static, Kernel>: Send);
assert_impl_all!(Block<'static, Kernel>: Send);
assert_impl_all!(Net<'static, Kernel>: Send);
assert_impl_all!(NetTx<'static, Kernel>: Send);
assert_impl_all!(NetRx<'static, Kernel>: Send);
assert_impl_all!(Console<'static, Kernel>: Send);
assert_impl_all!(Services<'static, Kernel>: Send);
assert_impl_all!(AsyncBlock<'static, 'static, Kernel>: Send);
assert_impl_all!(AsyncTx<'static, 'static, Kernel>: Send);
assert_impl_all!(AsyncRx<'static, 'static, Kernel>: Send);
assert_impl_all!(AsyncConsole<'static, 'static, Kernel>: Send);
assert_impl_all!(AsyncServices<'static, 'static, Kernel>: Send);
// Futures share these by reference, without a lock: they stay on one thread.
assert_not_impl_any!(AsyncBlock<'static, 'static, Kernel>: Sync);
assert_not_impl_any!(AsyncConsole<'static, 'static, Kernel>: Sync);

/// The futures of queues with one owner may go as well.
#[test]
fn futures_of_queues_with_one_owner_are_send() {
    fn is_send(_: &impl Send) {}
    fn check(transmit: &mut AsyncTx<'_, '_, Kernel>, receive: &mut AsyncRx<'_, '_, Kernel>, room: &mut [u8]) {
        is_send(&transmit.send(&[], pvkit_abi::net::FrameMeta(0), 0));
        is_send(&receive.receive(room, 0));
    }
    let _: fn(&mut AsyncTx<'_, '_, Kernel>, &mut AsyncRx<'_, '_, Kernel>, &mut [u8]) = check;
}
