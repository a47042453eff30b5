//! Grants: what resolves, what is refused, when removal returns.

use super::*;
use pvkit_shared_memory::HeapPages;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NAME: GrantRef = GrantRef::new(3, 9);

fn table(access: Access) -> (GrantTable, HeapPages) {
    let pages = HeapPages::new(1);
    let table = GrantTable::new();
    table.insert(NAME, pages.bytes(), access).unwrap();
    (table, pages)
}

#[test]
fn resolve_names_exactly_the_run() {
    let (table, pages) = table(Access::all());
    let run = table.resolve(NAME, 4000, 96, Access::READ | Access::WRITE).unwrap();
    assert_eq!(run.len(), 96);
    run.write(0, b"here").unwrap();
    assert_eq!(crate::fake_guest::copy_of(&pages.bytes())[4000..4004], *b"here");
}

#[test]
fn a_run_past_the_end_is_refused_also_where_the_sum_overflows() {
    let (table, _pages) = table(Access::all());
    for (offset, length) in [(4000, 97), (4096, 1), (u64::MAX, 1), (u64::MAX - 10, 4096), (0, 4097), (1 << 63, 1)] {
        let refused = table.resolve(NAME, offset, length, Access::READ);
        assert_eq!(refused.unwrap_err(), Status::BAD_GRANT, "{offset} + {length}");
    }
}

#[test]
fn a_right_that_was_not_granted_is_refused() {
    let (table, _pages) = table(Access::READ);
    assert!(table.resolve(NAME, 0, 8, Access::READ).is_ok());
    assert_eq!(table.resolve(NAME, 0, 8, Access::WRITE).unwrap_err(), Status::BAD_GRANT);
    assert_eq!(table.resolve(NAME, 0, 8, Access::all()).unwrap_err(), Status::BAD_GRANT);
}

#[test]
fn unknown_and_stale_names_are_refused() {
    let (table, _pages) = table(Access::all());
    for name in [GrantRef::NONE, GrantRef::new(3, 8), GrantRef::new(4, 9), GrantRef::new(259, 9), GrantRef(u32::MAX)] {
        assert_eq!(table.resolve(name, 0, 8, Access::READ).unwrap_err(), Status::BAD_GRANT, "{name:?}");
    }
}

#[test]
fn a_removed_grant_is_gone_and_its_slot_free_for_a_new_generation() {
    let (table, pages) = table(Access::all());
    assert_eq!(
        table.insert(GrantRef::new(3, 10), pages.bytes(), Access::READ),
        Err(GrantError::Occupied(GrantRef::new(3, 10)))
    );
    assert_eq!(table.remove(GrantRef::new(3, 8)), Err(GrantError::NotFound(GrantRef::new(3, 8))));
    table.remove(NAME).unwrap();
    assert_eq!(table.remove(NAME), Err(GrantError::NotFound(NAME)));
    table.insert(GrantRef::new(3, 10), pages.bytes(), Access::READ).unwrap();
    assert!(table.resolve(NAME, 0, 8, Access::READ).is_err());
    assert!(table.resolve(GrantRef::new(3, 10), 0, 8, Access::READ).is_ok());
    table.clear();
    assert!(table.resolve(GrantRef::new(3, 10), 0, 8, Access::READ).is_err());
}

#[test]
fn names_that_are_none_cannot_be_inserted() {
    let (table, pages) = table(Access::all());
    for name in [GrantRef::new(4, 0), GrantRef::new(256, 1)] {
        assert_eq!(table.insert(name, pages.bytes(), Access::READ), Err(GrantError::BadName(name)));
    }
}

#[test]
fn removal_returns_only_when_no_request_uses_the_table() {
    let (table, _pages) = table(Access::all());
    let (table, removed) = (Arc::new(table), Arc::new(AtomicBool::new(false)));
    let pinned = table.pin();
    let other = {
        let (table, removed) = (Arc::clone(&table), Arc::clone(&removed));
        std::thread::spawn(move || {
            table.remove(NAME).unwrap();
            removed.store(true, Ordering::SeqCst);
        })
    };
    // Long enough for a removal that does not wait to be caught; one that waits is never too slow for this test.
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(!removed.load(Ordering::SeqCst));
    assert!(pinned.resolve(NAME, 0, 8, Access::READ).is_ok());
    drop(pinned);
    other.join().unwrap();
    assert!(table.resolve(NAME, 0, 8, Access::READ).is_err());
}
