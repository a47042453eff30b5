//! The log's image as the host reads it, by itself: nothing here comes from the guest's code.
//!
//! Record n stands at byte 512 n: `pvkitlog`, n as 64-bit little endian, a SHA-256 of all the other bytes of the record,
//! and 464 bytes of payload: the length of a text in two bytes, the text, zeros.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const RECORD_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"pvkitlog";
/// Where magic and number end and the hash begins, and where that ends.
const HASH: std::ops::Range<usize> = 16..48;

/// How many whole records stand at the beginning, without a gap, each with the text of its number.
///
/// # Errors
/// The image cannot be read.
pub fn records(image: &File, text: impl Fn(u64) -> String) -> io::Result<u64> {
    let length = image.metadata()?.len();
    let mut record = [0; RECORD_BYTES];
    let mut number = 0;
    while (number + 1) * RECORD_BYTES as u64 <= length {
        image.read_exact_at(&mut record, number * RECORD_BYTES as u64)?;
        if !is_whole(&record, number) || !says(&record, &text(number)) {
            break;
        }
        number += 1;
    }
    Ok(number)
}

fn is_whole(record: &[u8; RECORD_BYTES], number: u64) -> bool {
    let (head, rest) = record.split_at(HASH.start);
    let (hash, payload) = rest.split_at(HASH.len());
    let expected = [MAGIC, number.to_le_bytes()].concat();
    let found: [u8; 32] = Sha256::new().chain_update(head).chain_update(payload).finalize().into();
    head == expected && hash == found
}

fn says(record: &[u8; RECORD_BYTES], text: &str) -> bool {
    let payload = record.get(HASH.end..).unwrap_or_default();
    let Some((length, rest)) = payload.split_first_chunk::<2>() else { return false };
    let expected = text.as_bytes();
    let (said, zeros) = rest.split_at(expected.len().min(rest.len()));
    usize::from(u16::from_le_bytes(*length)) == expected.len()
        && said == expected
        && zeros.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn record(number: u64) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[48..50].copy_from_slice(&4_u16.to_le_bytes());
        record[50..54].copy_from_slice(b"text");
        record[..8].copy_from_slice(&MAGIC);
        record[8..16].copy_from_slice(&number.to_le_bytes());
        let hash = Sha256::new().chain_update(&record[..16]).chain_update(&record[48..]).finalize();
        record[HASH].copy_from_slice(&hash);
        record
    }

    fn image(records: &[[u8; RECORD_BYTES]]) -> File {
        let path = std::env::temp_dir().join(format!("pvkit-log-{}-{}", std::process::id(), records.len()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(records.as_flattened()).unwrap();
        file
    }

    fn count(image: &File) -> u64 {
        records(image, |_| "text".into()).unwrap()
    }

    #[test]
    fn record_with_another_text_does_not_count() {
        let two = image(&[record(0), record(1)]);
        let text = |number: u64| if number == 0 { "text".to_owned() } else { "texts".to_owned() };
        assert_eq!(records(&two, text).unwrap(), 1);
        assert_eq!(records(&two, |_| "tex".into()).unwrap(), 0);
        assert_eq!(records(&two, |_| "x".repeat(500)).unwrap(), 0);
    }

    #[test]
    fn whole_records_count_up_to_the_first_gap() {
        assert_eq!(count(&image(&[])), 0);
        assert_eq!(count(&image(&[record(0), record(1)])), 2);
        assert_eq!(count(&image(&[record(0), record(1), [0; RECORD_BYTES]])), 2);
        assert_eq!(count(&image(&[record(0), record(2), record(2), record(3)])), 1);
    }

    #[test]
    fn a_torn_record_is_not_whole() {
        for byte in [0, 9, 20, 48, 511] {
            let mut torn = record(0);
            torn[byte] ^= 1;
            assert!(!is_whole(&torn, 0), "byte {byte}");
        }
    }
}
