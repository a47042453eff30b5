//! The list of everything in the ABI, read from the compiled crate: values, offsets and sizes are the compiler's own.
//!
//! A thing that is declared in `src` and missing here fails `golden::every_declaration_is_in_the_golden_file`.

use crate::facts::{Facts, Field, Item, Struct, Value};
use crate::sample::{Wire, kind_of, size_of_field};
use bitflags::Flags as _;
use pvkit_abi::{
    block, bus, console, discovery, entropy, entry, event, grant, hypercall, net, pci, ring, services, status, version,
};
use zerocopy::{FromBytes, IntoBytes};

/// Turns bytes into a struct and back; `None` if they are not exactly one struct, or not its sample.
pub type Reemit = fn(&[u8]) -> Option<Vec<u8>>;

/// Everything, and for each struct its way back from bytes.
#[derive(Default)]
pub struct Registry {
    pub facts: Facts,
    pub reemit: Vec<(String, Reemit)>,
}

/// Declares [`Wire`] for structs and how each is entered in the registry. All fields must be named, in order.
macro_rules! wire_structs {
    ($register:ident: $($module:ident::$name:ident { $($field:ident),* $(,)? })*) => {
        $(impl Wire for $module::$name {
            fn kind() -> String {
                concat!(stringify!($module), "::", stringify!($name)).to_owned()
            }
            fn sample(leaf: &mut u64) -> Self {
                Self { $($field: Wire::sample(leaf)),* }
            }
        })*

        fn $register(registry: &mut Registry, module: &str) {
            $(if module == stringify!($module) {
                type S = $module::$name;
                let path = <S as Wire>::kind();
                let fields = vec![$(Field {
                    name: stringify!($field).to_owned(),
                    kind: kind_of(|s: &S| &s.$field),
                    offset: core::mem::offset_of!(S, $field),
                    size: size_of_field(|s: &S| &s.$field),
                }),*];
                let image = S::sample(&mut 0).as_bytes().to_vec();
                registry.facts.0.push(Item::Struct(Struct { path: path.clone(), size: size_of::<S>(), fields, image }));
                registry.reemit.push((path, |bytes| {
                    let parsed = S::read_from_bytes(bytes).ok()?;
                    (parsed == S::sample(&mut 0)).then(|| parsed.as_bytes().to_vec())
                }));
            })*
        }
    };
}

/// Declares [`Wire`] for open enumerations and how each is entered.
macro_rules! open_enums {
    ($register:ident: $($module:ident::$name:ident($raw:ident) { $($value:ident),* $(,)? })*) => {
        $(impl Wire for $module::$name {
            fn kind() -> String {
                concat!(stringify!($module), "::", stringify!($name)).to_owned()
            }
            fn sample(leaf: &mut u64) -> Self {
                Self($raw::sample(leaf))
            }
        })*

        fn $register(registry: &mut Registry, module: &str) {
            $(if module == stringify!($module) {
                registry.facts.0.push(Item::Numbers {
                    path: <$module::$name as Wire>::kind(),
                    raw: stringify!($raw).to_owned(),
                    values: vec![$((stringify!($value).to_owned(), u64::from($module::$name::$value.0))),*],
                });
            })*
        }
    };
}

macro_rules! flag_sets {
    ($register:ident: $($module:ident::$name:ident($raw:ident))*) => {
        fn $register(registry: &mut Registry, module: &str) {
            $(if module == stringify!($module) {
                registry.facts.0.push(Item::Numbers {
                    path: concat!(stringify!($module), "::", stringify!($name)).to_owned(),
                    raw: stringify!($raw).to_owned(),
                    values: $module::$name::FLAGS
                        .iter()
                        .map(|flag| (flag.name().to_owned(), u64::from(flag.value().bits())))
                        .collect(),
                });
            })*
        }
    };
}

macro_rules! numbers {
    ($register:ident: $($module:ident { $($name:ident: $kind:ident),* $(,)? })*) => {
        fn $register(registry: &mut Registry, module: &str) {
            $(if module == stringify!($module) {
                $({
                    let value: $kind = $module::$name;
                    registry.number(concat!(stringify!($module), "::", stringify!($name)), stringify!($kind), value as u64);
                })*
            })*
        }
    };
}

impl Wire for grant::GrantRef {
    fn kind() -> String {
        "u32".to_owned()
    }
    fn sample(leaf: &mut u64) -> Self {
        Self(u32::sample(leaf))
    }
}

numbers! { register_numbers:
    event { MAX_PORTS: u32, PENDING_WORDS: usize, NO_PORT: u32 }
    grant { MAX_GRANTS: usize }
    ring {
        HEADER_BYTES: usize, EVENT_WORD: usize, EPOCH_WORD: usize, REQUEST_BYTES: usize, REQUEST_WORDS: usize,
        COMPLETION_BYTES: usize, MIN_DEPTH: u32, MAX_DEPTH: u32, FIRST_TAG: u16, MAX_AREA_PAGES: usize,
    }
    status { MAX_DETAIL: u32 }
    version { MAX_GROUPS: usize }
    hypercall { MAX_BLOCK_NS: u64, MAX_CRASH_MESSAGE: u64, MAX_CONSOLE_WRITE: u64 }
    entry {
        CR0: u64, CR4: u64, EFER: u64, RFLAGS_ENTRY: u64, RFLAGS_IOPL3: u64, RFLAGS_GUEST: u64, IMAGE_BASE_MIN: u64,
        EXCEPTION_STUB_BYTES: u64, BOOT_STACK_BYTES: u32, RED_ZONE_BYTES: u64,
    }
    bus {
        DEPTH: u32, REQUEST_AREA: usize, COMPLETION_AREA: usize, MESSAGE_BYTES: usize, REPLY_BYTES: usize,
        REPLIES_OFFSET: usize, BODY_BYTES: usize, CONFIG_BYTES: usize, CONTROL_BYTES: usize,
    }
    block { MIN_BLOCK: u32, MAX_BLOCK: u32, SERIAL_BYTES: usize }
    console { MAX_TRANSFER: u32 }
    net {
        RECEIVE_COMPLETION_BYTES: usize, ETHERNET_HEADER: usize, MIN_MTU: u16, MAX_MTU: u16, MIN_SEGMENT: u16,
        MAX_FRAME: usize, MAX_MULTICAST: usize, RSS_KEY_BYTES: usize, RSS_TABLE: usize,
    }
    entropy { MAX_REQUEST: u32 }
    discovery {
        BOOT_MAGIC: u64, MAX_REGIONS: usize, CPUID_FIRST: u32, CPUID_STEP: u32, CPUID_LAST: u32, HYPERCALL_PORT: u16,
        DOORBELL_PORT_BASE: u16, MAX_DOORBELLS: u16, NOTE_TYPE: u32, MAX_NOTE_ENTRIES: usize,
    }
    pci {
        VENDOR_ID: u16, DEVICE_ID: u16, CLASS_CODE: u32, BAR: u8, BAR_BYTES: u32, INFO_OFFSET: u32, RESET_OFFSET: u32,
        RESET_ALL: u32, MSIX_TABLE_OFFSET: u32, MSIX_PBA_OFFSET: u32, MSIX_ENTRIES: u16, PLATFORM_MAGIC: u64,
    }
}

flag_sets! { register_flags:
    grant::Access(u32)
    ring::RequestFlags(u8)
    event::PortStatus(u32)
    block::BlockFeatures(u64)
    block::BlockFlags(u32)
    discovery::BootFlags(u32)
    discovery::NoteFlags(u32)
    net::NetFeatures(u64)
    net::FrameFlags(u8)
    net::LinkFlags(u32)
    net::ReceiveMode(u32)
}

open_enums! { register_enums:
    version::Group(u16) { EVENT, BUS, GRANT, SCHED, CONSOLE, TIME, VCPU }
    version::RefusalReason(u16) { NONE, UNKNOWN_GROUP, VERSION, UNKNOWN_FEATURE, REQUIRED_FEATURE, DUPLICATE }
    status::CallError(u32) {
        UNKNOWN, INVALID, FAULT, NOT_NEGOTIATED, SEALED, LIMIT, NOT_FOUND, BUSY, DENIED, UNSUPPORTED, STALE, REFUSED,
        BACKEND,
    }
    status::Status(u8) {
        OK, IO_ERROR, INVALID, OUT_OF_RANGE, READ_ONLY, UNSUPPORTED, BAD_GRANT, NO_SPACE, ABORTED, MISALIGNED, TOO_LARGE,
    }
    hypercall::Call(u32) {
        NEGOTIATE, EVENT_ALLOC, EVENT_BIND, EVENT_CLOSE, EVENT_MASK, EVENT_SIGNAL, EVENT_STATUS, EVENT_SET_UPCALL,
        EVENT_UPCALL_RETURN, BUS_SETUP, BUS_KICK, SCHED_YIELD, SCHED_BLOCK, SCHED_SHUTDOWN, SCHED_CRASH, SCHED_EXCEPTION,
        CONSOLE_WRITE, TIME_WALL_CLOCK, VCPU_START,
    }
    hypercall::ShutdownReason(u32) { POWER_OFF, REBOOT }
    bus::Kind(u8) {
        OFFER, RESCIND, CONFIG_CHANGED, STATE_CHANGED, OVERFLOW, ACCEPT, OPEN_QUEUE, CLOSE, GRANT_SHARE, GRANT_REVOKE,
        GRANT_QUERY, RESCAN, CONTROL,
    }
    bus::Class(u16) { BLOCK, CONSOLE, NET, SERVICES, ENTROPY }
    bus::DeviceState(u16) { ABSENT, OFFERED, ACCEPTED, CONNECTED, DISCONNECTED, CLOSING }
    bus::DoorbellKind(u32) { NONE, PORT, MEMORY, TOKEN }
    discovery::Transport(u32) { PORT_REGISTERS, ARGUMENT_PAGE, HVC, DIRECT }
    discovery::RegionKind(u32) { RAM, IMAGE, BOOT, WINDOW }
    block::BlockOp(u8) { READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES, GET_ID }
    console::ConsoleOp(u8) { WRITE, READ }
    net::NetOp(u8) { TRANSMIT, RECEIVE }
    net::Segmentation(u8) { NONE, TCP4, TCP6, UDP }
    net::HashKind(u8) { NONE, IPV4, TCP4, UDP4, IPV6, TCP6, UDP6 }
    net::NetControl(u16) { SET_MODE, SET_MULTICAST, SET_RSS, ANNOUNCED }
    services::ServiceOp(u8) { LISTEN, REPORT }
    services::ServiceKind(u32) { SHUTDOWN, REBOOT, FREEZE, THAW, TIME_SYNC, GENERATION, HEARTBEAT }
    services::ServiceReport(u16) { ACCEPTED, DONE, REFUSED, READY }
    entropy::EntropyOp(u8) { READ }
}

wire_structs! { register_structs:
    version::Version { major, minor }
    version::GroupOffer { group, major, minor_oldest, minor_newest, features, required }
    version::GroupChoice { group, major, minor, reserved, features }
    version::Negotiate { size, count, groups }
    version::NegotiateReply { size, refused_group, reason, refused_features }
    grant::Segment { grant, length, offset }
    event::VcpuArea { pending, reserved0, upcall_mask, reserved1 }
    event::UpcallFrame { gpr, rip, rflags, reserved }
    hypercall::VcpuStart { size, vcpu, entry, stack_top, argument }
    bus::BusSetup { size, event_port, guest_pages, host_pages }
    bus::Message { size, kind, reserved, device, epoch, body }
    bus::Reply { status, device, epoch, values }
    bus::Offer {
        class, instance, newest, minor_oldest, max_queues, max_depth, features, required, max_segments, max_transfer,
        alignment, reserved, config,
    }
    bus::Accept { version, queues, reserved, features }
    bus::OpenQueue { queue, completion_bytes, depth, event_port, reserved, page_list }
    bus::ShareGrant { base, length, access, reserved }
    bus::NameGrant { grant, reserved }
    bus::ConfigChanged { config }
    bus::StateChanged { state, reserved }
    bus::Control { operation, size, reserved, data }
    discovery::Region { base, length, kind, reserved }
    discovery::BootInfo {
        magic, size, flags, transport, port, vcpu_count, group_count, region_count, cmdline_length, cmdline, vcpu_areas,
        tsc_khz, wall_clock_ns, tsc_at_start, seed, groups, regions,
    }
    discovery::NoteGroup { group, major, minor, reserved, features }
    discovery::NoteDevice { class, major, minor, required }
    discovery::GuestNote { size, flags, memory, stack, group_count, device_count, exception_entry, groups, devices }
    pci::PlatformInfo { magic, size, version, transport, port, group_count, region_count, reserved, groups, regions }
    block::BlockConfig {
        capacity, logical_block, physical_block, flags, discard_granularity, max_discard, serial,
    }
    console::ConsoleConfig { columns, rows }
    net::NetConfig { mac, mtu, flags, speed }
    net::MulticastFilter { count, addresses }
    net::Rss { kinds, key, table }
    services::ServiceEvent { size, kind, sequence, wall_clock_ns, patience_ns, generation }
    services::ServicesConfig { generation }
}

/// Modules in an order in which each only names what stands before it.
pub const MODULES: [&str; 15] = [
    "version",
    "status",
    "ring",
    "grant",
    "event",
    "entry",
    "hypercall",
    "bus",
    "discovery",
    "pci",
    "block",
    "console",
    "net",
    "services",
    "entropy",
];

impl Registry {
    /// Everything in the compiled crate.
    pub fn of_the_crate() -> Self {
        let mut registry = Self::default();
        registry.number("PAGE_SIZE", "usize", pvkit_abi::PAGE_SIZE as u64);
        for module in MODULES {
            register_numbers(&mut registry, module);
            registry.odd_constants(module);
            register_enums(&mut registry, module);
            register_flags(&mut registry, module);
            register_structs(&mut registry, module);
        }
        registry.packings();
        registry
    }

    fn number(&mut self, path: &str, kind: &str, value: u64) {
        self.facts.0.push(Item::Const { path: path.to_owned(), kind: kind.to_owned(), value: Value::Number(value) });
    }

    fn bytes(&mut self, path: &str, value: &[u8]) {
        let kind = format!("[u8; {}]", value.len());
        self.facts.0.push(Item::Const { path: path.to_owned(), kind, value: Value::Bytes(value.to_vec()) });
    }

    /// Constants that are not plain integers.
    fn odd_constants(&mut self, module: &str) {
        match module {
            "version" => {
                self.number("version::CURRENT.major", "u16", version::CURRENT.major.into());
                self.number("version::CURRENT.minor", "u16", version::CURRENT.minor.into());
            }
            "grant" => self.number("grant::GrantRef::NONE", "u32", grant::GrantRef::NONE.0.into()),
            "discovery" => {
                self.bytes("discovery::CPUID_SIGNATURE", &discovery::CPUID_SIGNATURE);
                self.bytes("discovery::NOTE_NAME", &discovery::NOTE_NAME);
            }
            _ => {}
        }
    }

    /// Words made by the crate's packing functions.
    fn packings(&mut self) {
        use net::{FrameFlags, FrameHash, FrameMeta, HashKind, Segmentation};
        use ring::{CompletionWord, RequestFlags, RequestWord};
        use status::{CallError, CompletionResult, Status};
        let mut packing = |call: &str, arguments: &[u64], word: u64| {
            self.facts.0.push(Item::Packing { call: call.to_owned(), arguments: arguments.to_vec(), word });
        };
        let request = RequestWord::new(0xa1, RequestFlags::all(), 0xa3a4, 0xa5a6).with_tag(0xa7a8);
        packing("request_word", &[0xa1, RequestFlags::all().bits().into(), 0xa3a4, 0xa5a6, 0xa7a8], request.0);
        let result = CompletionResult::new(Status(0xb1), 0xb2_b3b4);
        packing("completion_result", &[0xb1, 0xb2_b3b4], result.0.into());
        let cut = CompletionResult::new(Status(0xb1), 0xffff_ffff);
        packing("completion_result", &[0xb1, 0xffff_ffff], cut.0.into());
        let completion = CompletionWord::new(0xb5b6, result).with_tag(0xb7b8);
        packing("completion_word", &[0xb5b6, result.0.into(), 0xb7b8], completion.0);
        packing("grant_ref", &[0xc1c2, 0xc3c4], grant::GrantRef::new(0xc1c2, 0xc3c4).0.into());
        for tag in [1, 2, 0x7fff, 0xfffe, 0xffff] {
            packing("next_tag", &[tag.into()], ring::next_tag(tag).into());
        }
        for (depth, bytes) in [(2, 8), (64, 32), (128, 32), (4096, 8), (4096, 32)] {
            packing("area_pages", &[depth.into(), bytes as u64], ring::area_pages(depth, bytes) as u64);
        }
        let meta = FrameMeta::new(FrameFlags::all(), 0xd1d2, 0xd3d4, Segmentation(0xd7), 0xd5d6);
        packing("frame_meta", &[FrameFlags::all().bits().into(), 0xd1d2, 0xd3d4, 0xd7, 0xd5d6], meta.0);
        let hash = FrameHash::new(0xe1e2_e3e4, HashKind(0xe5));
        packing("frame_hash", &[0xe1e2_e3e4, 0xe5], hash.0);
        packing("call_result", &[CallError::BACKEND.0.into()], CallError::BACKEND.to_result() as u64);
    }
}
