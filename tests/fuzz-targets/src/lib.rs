//! A target for each parser of what somebody else wrote: bytes in, and either a panic or nothing.
//!
//! *Purpose.* `cargo fuzz` calls these from `tests/fuzz`, on nightly, guided by coverage; `tests/targets.rs` calls the same
//! functions on stable, with bytes that proptest makes and with the inputs that are kept in `tests/fuzz/corpus`.
//!
//! *What a target holds to* is told at each: what is parsed is what was there, what is refused changes nothing, state has
//! its bounds. A target never waits and allocates in proportion to its input.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target says by a panic what is wrong"
)]

mod domain;
mod frames;
mod grant_use;
mod grants;
mod guest;
mod hypervisor;
mod images;
mod input;
mod networks;
mod options;
mod queues;
mod raw_disk;
mod receive;
mod reference;
mod rings;
mod user_network;

/// A target, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    // What a guest can write: rings, requests, calls, registers.
    ("ring_backend", rings::backend),
    ("ring_frontend", rings::frontend),
    ("hypercalls", hypervisor::hypercalls),
    ("bus_messages", hypervisor::bus_messages),
    ("platform_function", hypervisor::platform_function),
    ("grants", grants::life),
    ("grants_in_flight", grant_use::in_flight),
    ("block_queue", queues::block),
    ("block_ring", queues::block_ring),
    ("console_queue", queues::console),
    ("services_queue", queues::services),
    ("entropy_queue", queues::entropy),
    ("net_transmit", queues::net_transmit),
    ("net_control", queues::net_control),
    ("net_receive", receive::queue),
    // What a guest, or a network, can send.
    ("frame_judge", frames::judge),
    ("frame_layers", frames::layers),
    ("frame_hash", frames::hash),
    ("switch", networks::switch),
    ("user_network", user_network::any),
    ("dhcp", user_network::dhcp),
    ("dns", networks::dns),
    ("resolvers", networks::resolvers),
    ("tap_header", networks::tap),
    ("passt_stream", networks::passt),
    // What a user, or a program, can say.
    ("options", options::words),
    ("api_line", options::api_line),
    ("guest_image", images::guest_image),
    ("stock_kernel", images::stock_kernel),
    ("raw_disk", raw_disk::image),
    // What the two sides of a driver domain can say to each other.
    ("hostile_monitor", domain::hostile_monitor),
    ("hostile_daemon", domain::hostile_daemon),
    ("returned_offer", domain::covers),
    // What a host can write, seen by the guest drivers.
    ("guest_boot_info", guest::boot_info),
    ("guest_bus", guest::bus),
    ("guest_block", guest::block),
    ("guest_console", guest::console),
    ("guest_net", guest::net),
    ("guest_services", guest::services),
    ("guest_cmdline", guest::cmdline),
];

/// Calls the target with this name.
///
/// # Panics
/// If there is none, or if it finds something.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target {name}"));
    target(data);
}
