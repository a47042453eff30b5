//! Samples: every leaf of a struct (array elements too) holds the pattern of its width plus its own number, so that a
//! field that moved, grew or changed places with another shows in the bytes.

/// A type that may stand in a wire struct.
pub trait Wire: Sized {
    /// As the golden file spells it.
    fn kind() -> String;
    /// The next sample. `leaf` counts the leaves of one struct, from 1.
    fn sample(leaf: &mut u64) -> Self;
}

/// The sample of leaf number `leaf` in `bytes` bytes: 0x7766554433221100 cut to the width, plus the number.
pub const fn leaf_value(leaf: u64, bytes: usize) -> u64 {
    let pattern = if bytes == 1 { 0 } else { 0x7766_5544_3322_1100 & (u64::MAX >> (64 - 8 * bytes as u32)) };
    pattern + leaf
}

macro_rules! wire_integer {
    ($($int:ident)*) => { $(
        impl Wire for $int {
            fn kind() -> String {
                stringify!($int).to_owned()
            }
            fn sample(leaf: &mut u64) -> Self {
                *leaf += 1;
                assert!(*leaf < 256, "more leaves than one byte can number");
                leaf_value(*leaf, size_of::<$int>()) as $int
            }
        }
    )* };
}
wire_integer!(u8 u16 u32 u64 i32);

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn kind() -> String {
        format!("[{}; {N}]", T::kind())
    }
    fn sample(leaf: &mut u64) -> Self {
        std::array::from_fn(|_| T::sample(leaf))
    }
}

/// The kind of the field that `_get` reads.
pub fn kind_of<S, T: Wire>(_get: impl Fn(&S) -> &T) -> String {
    T::kind()
}

/// The size of the field that `_get` reads.
pub fn size_of_field<S, T>(_get: impl Fn(&S) -> &T) -> usize {
    size_of::<T>()
}
