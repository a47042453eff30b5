//! The ready page allocators.

use pvkit_abi::PAGE_SIZE;
use pvkit_guest_drivers::platform::fixed_offset::FixedOffsetPages;
use pvkit_guest_drivers::platform::identity::IdentityPages;
use pvkit_guest_drivers::platform::static_pool::{StaticMemory, StaticPages};
use pvkit_guest_drivers::platform::test::{TestMemory, TestPages};
use pvkit_guest_drivers::platform::{NoMemory, Page, Pages};
use pvkit_shared_memory::HeapPages;
use std::collections::BTreeSet;

/// What must hold of every allocator, by using it up.
fn check(pages: &impl Pages, most: usize) {
    let extent = pages.shareable();
    let mut taken: Vec<Page> = (0..).map_while(|_| pages.allocate().ok()).collect();
    assert_eq!(taken.len(), most);
    let addresses: BTreeSet<u64> = taken.iter().map(|page| page.address).collect();
    assert_eq!(addresses.len(), most);
    for page in &taken {
        assert!(page.address.is_multiple_of(PAGE_SIZE as u64));
        assert!(page.address >= extent.base && page.address + PAGE_SIZE as u64 <= extent.base + extent.length);
        assert_eq!(page.bytes.len(), PAGE_SIZE);
        page.bytes.write(0, &[7; PAGE_SIZE]).unwrap();
    }
    // What one page's writer stored is nowhere else, and a page comes back zeroed.
    let one = taken.remove(most / 2);
    let address = one.address;
    pages.free(one);
    let again = pages.allocate().unwrap();
    let mut bytes = [1; PAGE_SIZE];
    again.bytes.read(0, &mut bytes).unwrap();
    assert_eq!((again.address, bytes), (address, [0; PAGE_SIZE]));
    assert_eq!(pages.allocate().err(), Some(NoMemory));
    // A page that is not the allocator's changes nothing.
    pages.free(Page { bytes: again.bytes, address: extent.base.wrapping_sub(PAGE_SIZE as u64) });
    pages.free(Page { bytes: again.bytes, address: extent.base + extent.length });
    assert_eq!(pages.allocate().err(), Some(NoMemory));
}

#[test]
fn identity_pages_are_where_they_are_named() {
    let memory = HeapPages::new(10);
    let pages = IdentityPages::<1>::new(memory.bytes());
    assert_eq!(pages.shareable().base, memory.bytes().as_ptr().addr() as u64);
    check(&pages, 10);
}

#[test]
fn a_run_that_does_not_begin_at_a_page_loses_its_ends() {
    let memory = HeapPages::new(4);
    let pages = IdentityPages::<1>::new(memory.bytes().part(8, 4 * PAGE_SIZE - 16).unwrap());
    check(&pages, 2);
}

#[test]
fn the_map_bounds_the_pages_that_are_handed_out() {
    let memory = HeapPages::new(70);
    check(&IdentityPages::<1>::new(memory.bytes()), 64);
}

#[test]
fn pages_at_a_fixed_offset_are_named_below_it() {
    let memory = HeapPages::new(5);
    let offset = 0x1_0000;
    let pages = FixedOffsetPages::<1>::new(memory.bytes(), offset);
    assert_eq!(pages.shareable().base, memory.bytes().as_ptr().addr() as u64 - offset);
    check(&pages, 5);
}

#[test]
fn a_static_is_handed_out_once() {
    static MEMORY: StaticMemory<6> = StaticMemory::new();
    let pages: StaticPages<1> = StaticPages::new(&MEMORY, 0).unwrap();
    check(&pages, 6);
    assert!(StaticPages::<1>::new(&MEMORY, 0).is_none());
}

#[test]
fn pages_taken_by_several_threads_are_distinct() {
    let memory = HeapPages::new(64);
    let pages = IdentityPages::<1>::new(memory.bytes());
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let take = || (0..).map_while(|_| pages.allocate().ok()).map(|page| page.address).collect::<Vec<_>>();
        let threads = [scope.spawn(take), scope.spawn(take)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 64);
    assert_eq!(taken.len(), 64);
}

#[test]
fn a_test_buffer_reaches_the_other_side_only_when_handed_over() {
    let memory = TestMemory::new();
    let pages = TestPages(memory.clone());
    let page = pages.allocate_buffer().unwrap();
    page.bytes.write(0, &[1; 8]).unwrap();
    let host = memory.host(page.address, 8).unwrap();
    let mut seen = [0; 8];
    host.read(0, &mut seen).unwrap();
    assert_eq!(seen, [pvkit_guest_drivers::platform::test::POISON; 8]);
    pages.hand_over(&page);
    host.read(0, &mut seen).unwrap();
    assert_eq!(seen, [1; 8]);
    host.write(0, &[2; 8]).unwrap();
    page.bytes.read(0, &mut seen).unwrap();
    assert_eq!(seen, [1; 8]);
    pages.hand_back(&page);
    page.bytes.read(0, &mut seen).unwrap();
    assert_eq!(seen, [2; 8]);
}
