//! The fields of an offer by name, so that an order can set each of them to anything.

use core::mem::offset_of;
use pvkit_abi::block::BlockConfig;
use pvkit_abi::bus::Offer;
use pvkit_abi::net::NetConfig;
use zerocopy::{FromBytes, IntoBytes};

/// Name, first byte, bytes.
type Field = (&'static str, usize, usize);

const CONFIG: usize = offset_of!(Offer, config);

const FIELDS: [Field; 23] = [
    ("class", offset_of!(Offer, class), 2),
    ("instance", offset_of!(Offer, instance), 2),
    ("major", offset_of!(Offer, newest), 2),
    ("minor", offset_of!(Offer, newest) + 2, 2),
    ("oldest", offset_of!(Offer, minor_oldest), 2),
    ("queues", offset_of!(Offer, max_queues), 2),
    ("depth", offset_of!(Offer, max_depth), 4),
    ("features", offset_of!(Offer, features), 8),
    ("required", offset_of!(Offer, required), 8),
    ("segments", offset_of!(Offer, max_segments), 4),
    ("transfer", offset_of!(Offer, max_transfer), 4),
    ("alignment", offset_of!(Offer, alignment), 4),
    ("reserved", offset_of!(Offer, reserved), 4),
    ("capacity", CONFIG + offset_of!(BlockConfig, capacity), 8),
    ("logical", CONFIG + offset_of!(BlockConfig, logical_block), 4),
    ("physical", CONFIG + offset_of!(BlockConfig, physical_block), 4),
    ("flags", CONFIG + offset_of!(BlockConfig, flags), 4),
    ("granularity", CONFIG + offset_of!(BlockConfig, discard_granularity), 4),
    ("discard", CONFIG + offset_of!(BlockConfig, max_discard), 8),
    ("mac", CONFIG + offset_of!(NetConfig, mac), 6),
    ("mtu", CONFIG + offset_of!(NetConfig, mtu), 2),
    ("link", CONFIG + offset_of!(NetConfig, flags), 4),
    ("speed", CONFIG + offset_of!(NetConfig, speed), 4),
];

/// The offer with one field set; the value is cut to the field. `None` if there is no such field.
pub fn with(offer: &Offer, name: &str, value: u64) -> Option<Offer> {
    let (_, from, bytes) = FIELDS.iter().find(|(known, ..)| *known == name)?;
    let mut copy = [0; size_of::<Offer>()];
    copy.copy_from_slice(offer.as_bytes());
    copy.get_mut(*from..from + bytes)?.copy_from_slice(value.to_le_bytes().get(..*bytes)?);
    Offer::read_from_bytes(&copy).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_and_no_two_of_a_class_overlap() {
        let offer = Offer::read_from_bytes(&[0; size_of::<Offer>()]).unwrap();
        for (name, from, bytes) in FIELDS {
            let changed = with(&offer, name, u64::MAX).unwrap();
            let set: Vec<_> = (0..size_of::<Offer>()).filter(|at| changed.as_bytes()[*at] != 0).collect();
            assert_eq!(set, (from..from + bytes).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(with(&offer, "colour", 1), None);
    }
}
