//! Whether a backend that came back is what the guest knows.

use pvkit_abi::block::BlockConfig;
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::net::NetConfig;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What a new offer lacks of what the guest was offered before; features and limits are sealed for the device's life.
///
/// # Errors
/// The first thing that is missing or different, by name.
pub fn check(old: &Offer, new: &Offer) -> Result<(), &'static str> {
    let same = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
    same(old.class == new.class && old.instance == new.instance, "it is another kind of device")?;
    let speaks = old.newest.major == new.newest.major && new.newest.minor >= old.newest.minor;
    same(speaks && new.minor_oldest <= old.newest.minor, "it speaks another version of the device's protocol")?;
    same(new.features & old.features == old.features, "features are missing")?;
    same(new.required & !old.required == 0, "it requires more features")?;
    same(new.max_queues >= old.max_queues && new.max_depth >= old.max_depth, "queues are fewer or shorter")?;
    same(new.max_segments >= old.max_segments, "requests may have fewer segments")?;
    same(new.max_transfer >= old.max_transfer, "requests must be shorter")?;
    same(new.alignment != 0 && old.alignment.is_multiple_of(new.alignment), "buffers must be aligned more strictly")?;
    match old.class {
        Class::BLOCK => {
            let (old, new) = (config::<BlockConfig>(&old.config)?, config::<BlockConfig>(&new.config)?);
            same(old.logical_block == new.logical_block, "blocks have another size")?;
            same(old.flags == new.flags, "its flags (read-only) are others")?;
            same(old.serial == new.serial, "its serial is another")?;
            same(new.max_discard >= old.max_discard, "discards must be shorter")
        }
        Class::NET => {
            let (old, new) = (config::<NetConfig>(&old.config)?, config::<NetConfig>(&new.config)?);
            same(old.mac == new.mac && old.mtu == new.mtu, "its address or MTU is another")
        }
        _ => Ok(()),
    }
}

fn config<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8; CONFIG_BYTES]) -> Result<T, &'static str> {
    T::read_from_prefix(bytes).map(|(config, _)| config).map_err(|_| "its configuration cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvkit_backends::{BlockLimits, RamDisk, block};

    #[test]
    fn less_than_before_is_refused_and_more_is_not() {
        let old = block::offer(&RamDisk::new(1 << 20).unwrap(), 0, BlockLimits::default(), 4, 256);
        assert_eq!(check(&old, &old), Ok(()));
        let larger = block::offer(&RamDisk::new(2 << 20).unwrap(), 0, BlockLimits::default(), 8, 512);
        assert_eq!(check(&old, &larger), Ok(()));
        type Change = fn(&mut Offer);
        let changes: [(&str, Change); 9] = [
            ("kind", |offer| offer.instance = 1),
            ("kind", |offer| offer.class = Class::NET),
            ("version", |offer| offer.newest.major += 1),
            ("features", |offer| offer.features = 0),
            ("requires", |offer| offer.required = u64::MAX),
            ("queues", |offer| offer.max_depth = 128),
            ("segments", |offer| offer.max_segments -= 1),
            ("shorter", |offer| offer.max_transfer -= 1),
            ("aligned", |offer| offer.alignment *= 2),
        ];
        for (what, change) in changes {
            let mut new = old;
            change(&mut new);
            assert!(check(&old, &new).is_err_and(|why| why.contains(what)), "{what}");
        }
        let coarse = BlockConfig { logical_block: 4096, ..config(&old.config).unwrap() };
        let new = Offer { config: block::config_bytes(&coarse), ..old };
        assert!(check(&old, &new).is_err_and(|why| why.contains("blocks")));
    }
}
