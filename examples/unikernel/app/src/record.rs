//! One record of the log: says by itself whether it is whole.

use sha2::{Digest, Sha256};

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"pvkitlog";
/// Magic, sequence, digest of all the rest.
const DIGEST_AT: usize = 16;
const PAYLOAD_AT: usize = DIGEST_AT + 32;

/// The record with this number.
pub(crate) fn emit(sequence: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    put(&mut record, 0, &MAGIC);
    put(&mut record, MAGIC.len(), &sequence.to_le_bytes());
    // Different in every record and every byte, so that a mixture of two is noticed.
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in record.iter_mut().skip(PAYLOAD_AT) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    let digest = digest(&record);
    put(&mut record, DIGEST_AT, &digest);
    record
}

/// Whether this is the record with this number, whole.
pub(crate) fn check(record: &[u8], sequence: u64) -> bool {
    record == emit(sequence).as_slice()
}

fn digest(record: &[u8; RECORD_BYTES]) -> [u8; 32] {
    let (head, tail) = record.split_at(DIGEST_AT);
    let payload = tail.get(PAYLOAD_AT - DIGEST_AT..).unwrap_or(&[]);
    Sha256::new().chain_update(head).chain_update(payload).finalize().into()
}

fn put(record: &mut [u8; RECORD_BYTES], at: usize, bytes: &[u8]) {
    for (to, from) in record.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_only_under_its_own_number() {
        assert!(check(&emit(7), 7));
        assert!(!check(&emit(7), 8));
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        for byte in 0..RECORD_BYTES {
            let mut record = emit(3);
            record[byte] ^= 0x10;
            assert!(!check(&record, 3), "byte {byte}");
        }
    }

    #[test]
    fn the_digest_covers_number_and_payload() {
        let mut record = emit(3);
        let stored = record[DIGEST_AT..PAYLOAD_AT].to_vec();
        assert_eq!(digest(&record).as_slice(), stored);
        record[9] ^= 1;
        assert_ne!(digest(&record).as_slice(), stored);
        record[9] ^= 1;
        record[RECORD_BYTES - 1] ^= 1;
        assert_ne!(digest(&record).as_slice(), stored);
    }
}
