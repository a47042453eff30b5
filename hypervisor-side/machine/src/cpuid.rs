//! The CPUID block by which a guest that is handed nothing finds its host. KVM's own block stays where it is.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use pvkit_abi::discovery::{CPUID_FIRST, CPUID_SIGNATURE, CPUID_STEP, HYPERCALL_PORT, Transport};
use pvkit_abi::version::CURRENT;
use std::io;

/// Where our block stands: one step behind KVM's.
const BASE: u32 = CPUID_FIRST + CPUID_STEP;

/// `leaves` and ours behind them. `boot_info` is its address, 0 where there is none.
pub fn with_host(leaves: &CpuId, boot_info: u64) -> io::Result<CpuId> {
    let mut all = leaves.as_slice().to_vec();
    all.extend(host(boot_info));
    CpuId::from_entries(&all).map_err(|error| io::Error::other(format!("{error:?}")))
}

fn host(boot_info: u64) -> [kvm_cpuid_entry2; 3] {
    let [a, b, c] = [0, 4, 8]
        .map(|at| CPUID_SIGNATURE.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes));
    let version = u32::from(CURRENT.major) << 16 | u32::from(CURRENT.minor);
    let leaf = |function, [eax, ebx, ecx, edx]: [u32; 4]| kvm_cpuid_entry2 {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    [
        leaf(BASE, [BASE + 2, a, b, c]),
        leaf(BASE + 1, [version, Transport::PORT_REGISTERS.0, u32::from(HYPERCALL_PORT), 0]),
        leaf(BASE + 2, [boot_info as u32, (boot_info >> 32) as u32, 0, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_found_by_its_signature_and_says_where_hypercalls_go() {
        let leaves = with_host(&CpuId::from_entries(&[]).expect("empty"), 0x1234_5678_9abc).expect("few");
        let [first, second, third] = leaves.as_slice() else { panic!("three leaves") };
        let signature: Vec<u8> = [first.ebx, first.ecx, first.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((first.function, first.eax), (0x4000_0100, 0x4000_0102));
        assert_eq!(signature, CPUID_SIGNATURE);
        assert_eq!((second.function, second.ebx, second.ecx), (0x4000_0101, 1, 0x0a50));
        assert_eq!((third.function, third.eax, third.ebx), (0x4000_0102, 0x5678_9abc, 0x1234));
    }
}
