//! Error codes: of hypercalls, of bus requests, of ring completions. Three name spaces, one type each.

use core::num::NonZeroI64;

open_enum! {
    /// Why a hypercall or a bus request failed. On the wire: the negated number.
    pub struct CallError(u32) {
        /// No such call, message or operation.
        UNKNOWN = 1,
        /// An argument is outside its documented range.
        INVALID = 2,
        /// An address or length does not lie in the guest's memory.
        FAULT = 3,
        /// The group was not negotiated.
        NOT_NEGOTIATED = 4,
        /// Already sealed; cannot be changed any more.
        SEALED = 5,
        /// A limit of the host is reached.
        LIMIT = 6,
        /// No such port, device, queue, grant or vCPU.
        NOT_FOUND = 7,
        /// In use, or in a state that does not allow this.
        BUSY = 8,
        /// The caller may not do this (privilege level).
        DENIED = 9,
        /// Known, and not supported here.
        UNSUPPORTED = 10,
        /// Belongs to an epoch that has ended.
        STALE = 11,
        /// The negotiation was refused; the reply says why.
        REFUSED = 12,
        /// The backend failed or is gone.
        BACKEND = 13,
    }
}

impl CallError {
    /// The value as it stands in a result register.
    #[must_use]
    pub const fn to_result(self) -> i64 {
        -(self.0 as i64)
    }

    /// Splits a result register into success (`>= 0`) and error.
    ///
    /// # Errors
    /// Every negative value is an error; one that is not in the table stays an unknown `CallError`.
    pub const fn from_result(raw: i64) -> Result<u64, Self> {
        if raw >= 0 {
            return Ok(raw as u64);
        }
        match NonZeroI64::new(raw) {
            Some(raw) if raw.get() >= -(u32::MAX as i64) => Err(Self(raw.get().unsigned_abs() as u32)),
            _ => Err(Self(u32::MAX)),
        }
    }
}

open_enum! {
    /// How a ring request ended; the top eight bits of a completion's result.
    pub struct Status(u8) {
        /// Done. The detail is what the operation documents.
        OK = 0,
        /// The medium or the host's file failed; detail = the host's errno, 0 if unknown.
        IO_ERROR = 1,
        /// The request is malformed.
        INVALID = 2,
        /// It reaches beyond the end of the device.
        OUT_OF_RANGE = 3,
        /// A write to a read-only device.
        READ_ONLY = 4,
        /// An operation or flag that was not offered.
        UNSUPPORTED = 5,
        /// Unknown or stale grant, outside the grant's extent, or lacking its access right.
        BAD_GRANT = 6,
        /// The host's file system is full.
        NO_SPACE = 7,
        /// The queue is closing.
        ABORTED = 8,
        /// Not a multiple of the logical block size, or not aligned as the offer demands.
        MISALIGNED = 9,
        /// More bytes or segments than the sealed limits allow.
        TOO_LARGE = 10,
    }
}

/// A completion's 32-bit result: status in the top eight bits, detail in the low 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionResult(pub u32);

/// Largest detail that a [`CompletionResult`] holds.
pub const MAX_DETAIL: u32 = (1 << 24) - 1;

impl CompletionResult {
    /// Packs a status and a detail; a detail above [`MAX_DETAIL`] is cut to it.
    #[must_use]
    pub const fn new(status: Status, detail: u32) -> Self {
        let detail = if detail > MAX_DETAIL { MAX_DETAIL } else { detail };
        Self((status.0 as u32) << 24 | detail)
    }

    /// How the request ended.
    #[must_use]
    pub const fn status(self) -> Status {
        Status((self.0 >> 24) as u8)
    }

    /// What the operation documents, or an errno.
    #[must_use]
    pub const fn detail(self) -> u32 {
        self.0 & MAX_DETAIL
    }
}
