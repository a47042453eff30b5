//! A server, its fake disks, a client's stack, and a clock that only the test moves.

use super::link::{Card, pair};
use crate::web::files::Files;
use crate::web::log::{Records, Refused};
use crate::web::server::{Event, Server};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

pub const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
pub const CLIENT: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
const MS: u64 = 1_000_000;

/// Files in memory.
#[derive(Default)]
pub struct FakeFiles {
    pub files: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Opening or reading it fails.
    pub bad: Vec<u8>,
    /// Longest piece of a read.
    pub largest: usize,
}

impl Files for FakeFiles {
    type File = Vec<u8>;
    type Error = ();

    fn index(&self) -> &[u8] {
        b"    5 /a.txt\n"
    }

    fn page(&self) -> &[u8] {
        b"<a href=/a.txt>"
    }

    fn open(&mut self, path: &[u8]) -> Result<Option<(Vec<u8>, u64)>, ()> {
        Ok(self.files.get(path).map(|bytes| (path.to_vec(), bytes.len() as u64)))
    }

    fn read(&mut self, file: &mut Vec<u8>, position: u64, into: &mut [u8]) -> Result<usize, ()> {
        self.largest = self.largest.max(into.len());
        let bytes = &self.files[file][position as usize..];
        if *file == self.bad && position > 0 {
            return Err(());
        }
        let count = bytes.len().min(into.len()).min(5000);
        into[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }
}

/// Records in memory, with room for a few.
#[derive(Default)]
pub struct FakeRecords {
    pub texts: Vec<Vec<u8>>,
    pub failing: bool,
    pub held: bool,
}

impl Records for FakeRecords {
    fn append(&mut self, text: &[u8]) -> Result<u64, Refused> {
        match (self.failing, self.texts.len()) {
            (true, _) => Err(Refused::Failed),
            (_, 3) => Err(Refused::Full),
            (_, next) => {
                self.texts.push(text.to_vec());
                Ok(next as u64)
            }
        }
    }

    fn count(&self) -> u64 {
        self.texts.len() as u64
    }

    fn is_held(&self) -> bool {
        self.held
    }
}

pub struct World {
    pub now: u64,
    pub server: Server<Vec<u8>>,
    pub server_card: Card,
    pub files: FakeFiles,
    pub records: FakeRecords,
    pub events: Vec<Event>,
    /// Polls in which the server wanted to be called again at once.
    pub busy: u64,
    pub interface: Interface,
    pub card: Card,
    pub sockets: SocketSet<'static>,
    next_port: u16,
}

impl World {
    /// A server with a fixed address.
    pub fn new() -> Self {
        let mut world = Self::without_address();
        // The first thing that DHCP says is that there is no address.
        world.step();
        world.server.set_address(Ipv4Cidr::new(SERVER, 24), None);
        world
    }

    pub fn without_address() -> Self {
        let (mut server_card, mut card) = pair();
        let server = Server::new(&mut server_card, [2, 0, 0, 0, 0, 1], 7, 0);
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(IpAddress::Ipv4(CLIENT), 24)).unwrap());
        let mut files = FakeFiles::default();
        files.files.insert(b"/a.txt".to_vec(), b"hello".to_vec());
        files.files.insert(b"/empty".to_vec(), Vec::new());
        Self {
            now: 0,
            server,
            server_card,
            files,
            records: FakeRecords::default(),
            events: Vec::new(),
            busy: 0,
            interface,
            card,
            sockets: SocketSet::new(Vec::new()),
            next_port: 40_000,
        }
    }

    /// One look at either side; the clock moves by a millisecond. The server's next time.
    pub fn step(&mut self) -> u64 {
        let (next, event) = self.server.poll(&mut self.server_card, self.now, &mut self.files, &mut self.records);
        self.events.extend(event);
        self.busy += u64::from(next <= self.now);
        self.interface.poll(Instant::from_micros((self.now / 1000) as i64), &mut self.card, &mut self.sockets);
        self.now += MS;
        next
    }

    pub fn steps(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }

    /// A client's socket, on its way to be connected, with so large a window.
    pub fn connect(&mut self, window: usize) -> SocketHandle {
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(vec![0; window]), tcp::SocketBuffer::new(vec![0; 16 * 1024]));
        self.next_port += 1;
        socket.connect(self.interface.context(), (SERVER, 80), self.next_port).unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Connects, says it all and ends its side; everything that the server says until it ends.
    pub fn exchange(&mut self, text: &[u8]) -> Vec<u8> {
        let client = self.connect(64 * 1024);
        self.talk(client, text, true)
    }

    pub fn talk(&mut self, client: SocketHandle, text: &[u8], finish: bool) -> Vec<u8> {
        let (mut said, mut heard) = (0, Vec::new());
        for _ in 0..200_000 {
            self.step();
            let socket = self.socket(client);
            if socket.may_send() && said < text.len() {
                said += socket.send_slice(&text[said..]).unwrap();
                if said == text.len() && finish {
                    socket.close();
                }
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), heard.extend_from_slice(bytes))).unwrap();
            }
            if !socket.may_recv() && socket.state() != tcp::State::SynSent {
                return heard;
            }
        }
        panic!("the server did not end; {} bytes said, {} heard", said, heard.len());
    }

    /// The answers to one request on a connection that ends with it.
    pub fn ask(&mut self, line: &str) -> String {
        let text = std::format!("{line} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
        String::from_utf8(self.exchange(text.as_bytes())).unwrap()
    }
}

/// What stands behind the first empty line.
pub fn body(answer: &[u8]) -> &[u8] {
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no head: {}", String::from_utf8_lossy(answer));
    });
    &answer[at + 4..]
}
