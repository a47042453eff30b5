//! What a list of system calls says of one call.

pub(crate) mod table;

/// A call's number and what is said of it.
pub(crate) type Row = (libc::c_long, Rule);

/// What is said of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// It is allowed.
    Always,
    /// It is allowed if all tests of one of these groups hold.
    When(&'static [&'static [Test]]),
    /// It fails with this error: a library tries it, and has another way if it fails. In [`crate::Mode::Log`] it is done and
    /// logged, unless the number is `ENOSYS`: then the library's other way is the one that can be judged.
    Fails(libc::c_int),
}

/// A look at one argument, counted from 0. The kernel takes all of these arguments as 32 bits or looks at no bit above, so the
/// upper half is not looked at; but for [`Test::Null`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    /// It is this value.
    Is(u8, u32),
    /// Of these bits (second), exactly those (third) are set.
    Bits(u8, u32, u32),
    /// It is zero in all of its 64 bits.
    Null(u8),
    /// It is this process's number.
    OwnProcess(u8),
}
