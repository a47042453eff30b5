//! The image's ELF note: what it needs of a host.

use pvkit_abi::discovery::{GuestNote, MAX_NOTE_ENTRIES, NOTE_NAME, NOTE_TYPE, NoteDevice, NoteFlags, NoteGroup};
use pvkit_abi::version::{CURRENT, Group};

/// An ELF note with a [`GuestNote`] as its description.
///
/// The exception entry is a symbol, whose address only the linker knows, so the description is spelled out here with a
/// function in that place. Packed to four bytes as ELF notes are: the description follows a name of eight bytes.
#[repr(C, packed(4))]
pub struct Note {
    name_size: u32,
    desc_size: u32,
    kind: u32,
    name: [u8; 8],
    size: u32,
    flags: u32,
    memory: u64,
    stack: u32,
    group_count: u16,
    device_count: u16,
    exception_entry: unsafe extern "C" fn(),
    groups: [NoteGroup; MAX_NOTE_ENTRIES],
    devices: [NoteDevice; MAX_NOTE_ENTRIES],
}

const DESC: usize = core::mem::offset_of!(Note, size);
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Note>() == DESC + size_of::<GuestNote>());
    assert!(offset_of!(Note, memory) - DESC == offset_of!(GuestNote, memory));
    assert!(offset_of!(Note, device_count) - DESC == offset_of!(GuestNote, device_count));
    assert!(offset_of!(Note, exception_entry) - DESC == offset_of!(GuestNote, exception_entry));
    assert!(offset_of!(Note, groups) - DESC == offset_of!(GuestNote, groups));
    assert!(offset_of!(Note, devices) - DESC == offset_of!(GuestNote, devices));
};

impl Note {
    /// A note for an image that needs `groups` at this ABI's version and `devices`.
    pub const fn new<const G: usize, const D: usize>(stack: u32, groups: [Group; G], devices: [NoteDevice; D]) -> Self {
        let no_group = NoteGroup { group: Group(0), major: 0, minor: 0, reserved: 0, features: 0 };
        let no_device = NoteDevice { class: pvkit_abi::bus::Class(0), major: 0, minor: 0, required: 0 };
        let mut all_groups = [no_group; MAX_NOTE_ENTRIES];
        let mut i = 0;
        while i < G {
            all_groups[i] = NoteGroup { group: groups[i], major: CURRENT.major, minor: CURRENT.minor, ..no_group };
            i += 1;
        }
        let mut all_devices = [no_device; MAX_NOTE_ENTRIES];
        i = 0;
        while i < D {
            all_devices[i] = devices[i];
            i += 1;
        }
        let mut name = [0; 8];
        i = 0;
        while i < NOTE_NAME.len() {
            name[i] = NOTE_NAME[i];
            i += 1;
        }
        // Built for the freestanding target: no SSE, no red zone, so fit for CPL 0 too.
        let flags = if cfg!(target_os = "none") { NoteFlags::all() } else { NoteFlags::CPL3 };
        Self {
            name_size: NOTE_NAME.len() as u32,
            desc_size: size_of::<GuestNote>() as u32,
            kind: NOTE_TYPE,
            name,
            size: size_of::<GuestNote>() as u32,
            flags: flags.bits(),
            memory: 32 << 20,
            stack,
            group_count: G as u16,
            device_count: D as u16,
            exception_entry: crate::arch::exception_stubs,
            groups: all_groups,
            devices: all_devices,
        }
    }
}
