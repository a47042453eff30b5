//! What a daemon that came back offers.

use crate::input::Input;
use pvkit_abi::bus::{Class, Offer};
use pvkit_driver_domain::fuzzing;
use zerocopy::FromZeros;

/// Fields of an offer.
const FIELDS: u8 = 13;

/// An offer, and another one that differs in a few fields: what comes back after a loss is no less than it was, and what is
/// no less is taken.
pub fn covers(data: &[u8]) {
    let mut input = Input::new(data);
    let mut old = Offer::new_zeroed();
    (0..FIELDS).for_each(|field| change(&mut old, field, &mut input));
    let mut new = old;
    for _ in 0..input.below(4) {
        let field = input.below(FIELDS);
        change(&mut new, field, &mut input);
    }
    let taken = fuzzing::covers(&old, &new);
    let whole = |offer: &Offer| offer.alignment != 0 && offer.minor_oldest <= offer.newest.minor;
    if old == new && whole(&old) {
        assert_eq!(taken, Ok(()), "the same is no less");
    }
    if taken.is_err() {
        return;
    }
    assert_eq!((old.class, old.instance, old.newest.major), (new.class, new.instance, new.newest.major));
    assert!(old.features & !new.features == 0 && new.required & !old.required == 0, "{old:?} {new:?}");
    assert!(new.max_queues >= old.max_queues && new.max_depth >= old.max_depth && new.max_segments >= old.max_segments);
    assert!(new.max_transfer >= old.max_transfer && old.alignment % new.alignment == 0, "{old:?} {new:?}");
    assert!((new.minor_oldest..=new.newest.minor).contains(&old.newest.minor), "{old:?} {new:?}");
    if old.class != Class::BLOCK && old.class != Class::NET {
        return;
    }
    // Whatever else it may be, a disk's block size, or a card's first bytes of address, is what it was.
    let place = if old.class == Class::BLOCK { 8..12 } else { 0..6 };
    assert_eq!(old.config[place.clone()], new.config[place]);
}

fn change(offer: &mut Offer, field: u8, input: &mut Input<'_>) {
    let value = input.byte();
    match field {
        0 => offer.class = [Class::BLOCK, Class::NET, Class::CONSOLE][usize::from(value % 3)],
        1 => offer.instance = u16::from(value % 2),
        2 => offer.newest.major = u16::from(value % 2),
        3 => offer.newest.minor = u16::from(value % 4),
        4 => offer.minor_oldest = u16::from(value % 4),
        5 => offer.max_queues = u16::from(value),
        6 => offer.max_depth = u32::from(value),
        7 => offer.features = u64::from(value),
        8 => offer.required = u64::from(value),
        9 => offer.max_segments = u32::from(value),
        10 => offer.max_transfer = u32::from(value),
        11 => offer.alignment = u32::from(value % 9),
        _ => offer.config[usize::from(value % 64)] ^= input.byte(),
    }
}
