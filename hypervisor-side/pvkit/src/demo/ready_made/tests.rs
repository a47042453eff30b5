//! The document disk, read back as the guest reads it: through the ext4 crate.

use super::*;
use ext4_view::Ext4;
use std::collections::BTreeMap;

/// Every file on an image with its hash.
fn read_back(image: Vec<u8>) -> Hashes {
    let disk = Ext4::load(Box::new(image)).unwrap();
    let mut documents = BTreeMap::new();
    let mut folders = vec![String::from("/")];
    while let Some(folder) = folders.pop() {
        for entry in disk.read_dir(folder.as_str()).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().to_str().unwrap().to_owned();
            let name = entry.file_name().as_str().unwrap().to_owned();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && name != "." && name != ".." => folders.push(path),
                kind if kind.is_regular_file() => {
                    documents.insert(path.trim_start_matches('/').to_owned(), disk.read(path.as_str()).unwrap());
                }
                _ => {}
            }
        }
    }
    documents::hashes(&documents)
}

#[test]
fn the_ready_made_disk_holds_what_its_list_says() {
    let listed = listed();
    assert!(listed.len() >= 8, "{listed:?}");
    assert_eq!(read_back(unpacked().unwrap()), listed);
    assert_eq!(LIST.lines().count(), listed.len());
}

#[test]
fn the_ready_made_disk_is_small() {
    assert!(PACKED.len() < 100 << 10, "{} bytes", PACKED.len());
}
