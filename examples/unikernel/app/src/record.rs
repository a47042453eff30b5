//! One record of the log: says by itself whether it is whole.

use sha2::{Digest, Sha256};

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"pvkitlog";
/// Magic, sequence, digest of all the rest.
const DIGEST_AT: usize = 16;
const PAYLOAD_AT: usize = DIGEST_AT + 32;
/// A text in the payload: its length in two bytes, then the text, then zeros.
const TEXT_AT: usize = PAYLOAD_AT + 2;
/// Longest text of a record.
pub(crate) const MAX_TEXT: usize = 400;
const _: () = assert!(TEXT_AT + MAX_TEXT <= RECORD_BYTES);

/// The record with this number, filled with what follows from the number.
pub(crate) fn emit(sequence: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    // Different in every record and every byte, so that a mixture of two is noticed.
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in record.iter_mut().skip(PAYLOAD_AT) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    seal(record, sequence)
}

/// The record with this number and a text; what is longer than [`MAX_TEXT`] is cut off.
pub(crate) fn emit_text(sequence: u64, text: &[u8]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    put(&mut record, PAYLOAD_AT, &(text.len() as u16).to_le_bytes());
    put(&mut record, TEXT_AT, text);
    seal(record, sequence)
}

/// Whether this is a record with this number, whole.
pub(crate) fn check(record: &[u8], sequence: u64) -> bool {
    record.try_into().is_ok_and(|record| seal(record, sequence).as_slice() == record)
}

/// Puts magic, number and digest before the payload.
fn seal(mut record: [u8; RECORD_BYTES], sequence: u64) -> [u8; RECORD_BYTES] {
    put(&mut record, 0, &MAGIC);
    put(&mut record, MAGIC.len(), &sequence.to_le_bytes());
    let digest = digest(&record);
    put(&mut record, DIGEST_AT, &digest);
    record
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
        for whole in [emit(3), emit_text(3, b"text")] {
            assert!(check(&whole, 3));
            for byte in 0..RECORD_BYTES {
                let mut record = whole;
                record[byte] ^= 0x10;
                assert!(!check(&record, 3), "byte {byte}");
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(!check(&[0; RECORD_BYTES], 0));
    }

    #[test]
    fn a_text_stands_behind_its_length() {
        let record = emit_text(0, &[b'x'; MAX_TEXT + 9]);
        assert_eq!(record[PAYLOAD_AT..TEXT_AT], [144, 1]);
        assert_eq!(record[TEXT_AT + MAX_TEXT - 1..TEXT_AT + MAX_TEXT + 1], [b'x', 0]);
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
