//! Wire enumerations stay open: a newtype with named constants, so that an unknown value is a value and not undefined.

/// Declares an open enumeration over an unsigned integer.
macro_rules! open_enum {
    ($(#[$meta:meta])* $vis:vis struct $name:ident($raw:ty) { $($(#[$vmeta:meta])* $variant:ident = $value:expr,)* }) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        $vis struct $name(pub $raw);

        impl $name {
            $($(#[$vmeta])* pub const $variant: Self = Self($value);)*

            /// The constant's name, or `None` for a value that this version of the ABI does not know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(value if value == Self::$variant.0 => Some(stringify!($variant)),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }
    };
}

/// Asserts a wire struct's size and that it is plain bytes: no padding, any bit pattern valid.
macro_rules! wire_layout {
    ($name:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($name, $field) == $offset);)*
        static_assertions::assert_impl_all!($name: zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable);
    };
}
