//! `--version`: the program's version, and the ranges of the ABI that it serves.

use pvkit_abi::version::{CURRENT, GroupOffer};
use pvkit_core::Domain;
use std::fmt::Write;

/// The text after the program's name.
#[must_use]
pub fn long_version() -> String {
    let mut text = String::from(env!("CARGO_PKG_VERSION"));
    text.push_str("\nhypercall groups:");
    for offer in Domain::default_groups() {
        let _ = write!(text, "\n  {}", group_line(&offer));
    }
    let _ = write!(text, "\ndevice protocols:\n  block    {CURRENT}\n  console  {CURRENT}\n  net      {CURRENT}");
    text
}

fn group_line(offer: &GroupOffer) -> String {
    let name = offer.group.name().map_or_else(|| format!("{:#x}", offer.group.0), str::to_lowercase);
    let GroupOffer { major, minor_oldest, minor_newest, features, .. } = *offer;
    let range = if minor_oldest == minor_newest {
        format!("{major}.{minor_newest}")
    } else {
        format!("{major}.{minor_oldest} to {major}.{minor_newest}")
    };
    if features == 0 { format!("{name:8} {range}") } else { format!("{name:8} {range}, features {features:#x}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_group_of_the_core_is_listed() {
        let text = super::long_version();
        for word in ["event", "bus", "grant", "sched", "console", "vcpu", "block", "net", "0.1"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}
