//! What is linked, and the handler that must not be.

mod backend;
mod frontend;
mod values;

/// Functions that nobody is known to call, with arguments of which nothing is known.
macro_rules! kept {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $answer:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        fn $name($($argument: $type),*) $(-> $answer)? $body

        const _: () = {
            #[used]
            static KEPT: fn($($type),*) $(-> $answer)? = $name;
        };
    )*};
}
use kept;

/// Called by whatever can panic; never inlined, so that the linker sees the call.
#[panic_handler]
#[inline(never)]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::black_box(info);
    }
}

#[cfg(feature = "mutants")]
kept! {
    fn can_panic(values: &[u64], at: usize) -> u64 {
        values[at]
    }
}
