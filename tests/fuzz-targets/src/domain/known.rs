//! What a daemon must know of its monitors, kept once more: which requests can be granted.

use super::descriptors::{WINDOW, What};
use pvkit_abi::bus::Class;
use pvkit_abi::grant::{Access, MAX_GRANTS};
use pvkit_abi::ring::{EPOCH_WORD, MAX_AREA_PAGES, MAX_DEPTH, MIN_DEPTH, area_pages};
use pvkit_driver_domain::daemon::MAX_DEVICES;
use pvkit_driver_domain::protocol::{Attach, MAGIC, Message, OpenQueue, Share, VERSION, WindowBody, text};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Queues of a disk.
const QUEUES: u16 = 4;
const PAGE: u64 = 4096;

/// One device of a monitor.
#[derive(Debug, Default)]
pub struct Device {
    pub id: String,
    /// By index, with the generation.
    grants: BTreeMap<u16, u16>,
    pub queues: BTreeSet<u16>,
}

/// One monitor.
#[derive(Debug, Default)]
pub struct Monitor {
    pub greeted: bool,
    pub last: u64,
    pub window: Option<(OwnedFd, u64)>,
    pub devices: BTreeMap<u32, Device>,
}

/// How a request should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    Refused,
    /// Not foretold: rings that share a page.
    Either,
    /// The connection ends.
    Cut,
}

impl Monitor {
    /// Judges a message of good form. `taken` says whether another monitor has the disk for one.
    pub fn judge(&self, sequence: u64, message: &Message, what: &[What], taken: bool) -> Verdict {
        let fits = match message {
            Message::Window(_) => what.len() == 1,
            Message::Attach(_) => what.len() < 2,
            Message::OpenQueue(_) => what.len() == 2,
            _ => what.is_empty(),
        };
        let is_the_daemons = matches!(message, Message::Reply(..) | Message::Goodbye | Message::Log(_));
        let is_hello = matches!(message, Message::Hello(_));
        if sequence <= self.last || self.greeted == is_hello || !fits || is_the_daemons {
            return Verdict::Cut;
        }
        let granted = match message {
            Message::Hello(hello) => hello.magic == MAGIC && hello.version.major == VERSION.major,
            Message::Window(body) => self.takes_window(body, what),
            Message::Attach(asked) => self.gives(asked, what, taken),
            Message::OpenQueue(asked) => return self.opens(asked, what),
            Message::Close(of) | Message::Refresh(of) | Message::Counters(of) => self.devices.contains_key(&of.device),
            Message::Share(asked) => self.shares(asked),
            Message::Revoke(asked) => self.devices.get(&asked.device).is_some_and(|device| {
                device.grants.get(&asked.grant.index()).is_some_and(|known| *known == asked.grant.generation())
            }),
            // Disks have nothing to set; an inspection is judged by who sees both monitors.
            _ => false,
        };
        if granted { Verdict::Granted } else { Verdict::Refused }
    }

    pub fn is_open(&self) -> bool {
        self.devices.values().any(|device| !device.queues.is_empty())
    }

    fn takes_window(&self, body: &WindowBody, what: &[What]) -> bool {
        !self.is_open()
            && what == [What::Window]
            && (1..=WINDOW).contains(&body.length)
            && body.length.is_multiple_of(PAGE)
    }

    fn gives(&self, asked: &Attach, what: &[What], taken: bool) -> bool {
        let id = text(&asked.id);
        let free = asked.device != 0 && !self.devices.contains_key(&asked.device) && self.devices.len() < MAX_DEVICES;
        // No descriptor here is a TAP.
        let disk = id == "shared" || id == "alone" && !taken;
        free && disk && asked.class == Class::BLOCK && what.is_empty()
    }

    fn shares(&self, asked: &Share) -> bool {
        let Some((_, length)) = &self.window else { return false };
        let Some(device) = self.devices.get(&asked.device) else { return false };
        let inside = asked.offset.checked_add(asked.length).is_some_and(|end| end <= *length);
        let named = asked.grant.generation() != 0 && usize::from(asked.grant.index()) < MAX_GRANTS;
        inside
            && named
            && Access::from_bits(asked.access).is_some()
            && !device.grants.contains_key(&asked.grant.index())
    }

    fn opens(&self, asked: &OpenQueue, what: &[What]) -> Verdict {
        let Some((memory, length)) = &self.window else { return Verdict::Refused };
        let Some(device) = self.devices.get(&asked.device) else { return Verdict::Refused };
        let (requests, completions) = (usize::from(asked.request_pages), usize::from(asked.completion_pages));
        let Some(pages) = asked.pages.get(..requests + completions) else { return Verdict::Refused };
        let inside = pages.iter().all(|page| page % PAGE == 0 && *page < *length);
        let depth = asked.depth.is_power_of_two() && (MIN_DEPTH..=MAX_DEPTH).contains(&asked.depth);
        let free = asked.queue < QUEUES && !device.queues.contains(&asked.queue);
        if what != [What::Bell; 2] || !inside || !depth || !free || asked.completion_bytes != 8 {
            return Verdict::Refused;
        }
        let fits = |pages: usize, slot| (area_pages(asked.depth, slot)..=MAX_AREA_PAGES).contains(&pages);
        if !fits(requests, 32) || !fits(completions, 8) {
            return Verdict::Refused;
        }
        if pages.iter().collect::<BTreeSet<_>>().len() < pages.len() {
            return Verdict::Either;
        }
        let mut epoch = [0; 8];
        rustix::io::pread(memory, &mut epoch, pages[0] + EPOCH_WORD as u64).unwrap();
        if u64::from_le_bytes(epoch) == asked.epoch { Verdict::Granted } else { Verdict::Refused }
    }

    /// What a request that was granted changes.
    pub fn note(&mut self, message: &Message, memory: Option<OwnedFd>) {
        match message {
            Message::Hello(_) => self.greeted = true,
            Message::Window(body) => {
                self.devices.values_mut().for_each(|device| device.grants.clear());
                self.window = memory.map(|memory| (memory, body.length));
            }
            Message::Attach(asked) => {
                self.devices.insert(asked.device, Device { id: text(&asked.id), ..Device::default() });
            }
            Message::OpenQueue(asked) => {
                self.device(asked.device).queues.insert(asked.queue);
            }
            Message::Close(of) => {
                let device = self.device(of.device);
                device.queues.clear();
                device.grants.clear();
            }
            Message::Share(asked) => {
                self.device(asked.device).grants.insert(asked.grant.index(), asked.grant.generation());
            }
            Message::Revoke(asked) => {
                self.device(asked.device).grants.remove(&asked.grant.index());
            }
            _ => {}
        }
    }

    fn device(&mut self, number: u32) -> &mut Device {
        self.devices.get_mut(&number).expect("a device that is not there was granted something")
    }
}
