//! The reader: answers and interrupts, as they come. Waits for nobody, holds the lock for moments.

use super::Owner;
use super::backend::Backend;
use super::keeper::Event;
use super::link::{Link, is_dead_within};
use super::state::{Answerer, Phase};
use crate::protocol::{Message, text};
use crate::socket::SocketError;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// epoll's number of the socket, and of the request to leave; wires begin at 1.
const SOCKET: u64 = u64::MAX;
const LEAVE: u64 = 0;
/// Interrupts of a backend in one second after which each further look is followed by a pause: a guest that takes an
/// interrupt for each request of a fast disk stays below.
const STORM: u64 = 200_000;
/// That pause.
const PAUSE: Duration = Duration::from_millis(1);
/// How often one looks whether a daemon is dead that closed its socket.
const DEATH_LOOK: Duration = Duration::from_secs(5);
/// Lines that a daemon may log in one connection.
const MAX_LINES: u32 = 64;

struct Reader<'a> {
    backend: &'a Backend,
    link: &'a Link,
    owner: &'a dyn Owner,
    events: &'a Sender<Event>,
    drained: bool,
    lines: u32,
    /// Begin of the current second, and interrupts in it.
    second: (Instant, u64),
}

/// Reads until the connection ends and nothing of the daemon is attached any more, or until it is told to leave.
pub fn run(backend: &Backend, link: &Arc<Link>, owner: &dyn Owner, events: &Sender<Event>) {
    let mut reader = Reader { backend, link, owner, events, drained: false, lines: 0, second: (Instant::now(), 0) };
    let watch = |fd: BorrowedFd<'_>, number| epoll::add(&backend.epoll, fd, EventData::new_u64(number), EventFlags::IN);
    let watched = watch(link.socket.as_fd(), SOCKET).is_ok()
        && backend.leave.as_given().is_some_and(|leave| watch(leave, LEAVE).is_ok());
    let left = watched && reader.read();
    let _ = epoll::delete(&backend.epoll, &link.socket);
    if let Some(leave) = backend.leave.as_given() {
        let _ = epoll::delete(&backend.epoll, leave);
    }
    if !left {
        reader.bury();
    }
}

impl Reader<'_> {
    /// True if it was told to leave, false if the connection ended.
    fn read(&mut self) -> bool {
        loop {
            let mut space = [MaybeUninit::uninit(); 64];
            let Ok((ready, _)) = epoll::wait(&self.backend.epoll, &mut space, None) else { continue };
            let mut rung = 0;
            for event in ready.iter() {
                match event.data.u64() {
                    LEAVE => return true,
                    SOCKET => {
                        if !self.take_packet() {
                            return false;
                        }
                    }
                    wire => rung += u64::from(self.take_interrupt(wire)),
                }
            }
            self.pace(rung);
        }
    }

    /// One packet; false at the end.
    fn take_packet(&mut self) -> bool {
        let packet = match self.link.socket.take() {
            Ok(packet) => packet,
            Err(SocketError::TimedOut) => return true,
            Err(_) => return false,
        };
        match Message::parse(&packet.bytes) {
            Ok((sequence, Message::Reply(to, answer))) => self.take_answer(sequence, to, answer),
            Ok((_, Message::Goodbye)) => {
                self.drained = true;
                true
            }
            Ok((_, Message::Log(log))) => {
                self.lines += 1;
                if self.lines <= MAX_LINES {
                    self.owner.log(format!("backend {}: {}", self.backend.path.display(), text(&log.line)));
                }
                true
            }
            _ => {
                self.owner.log(format!("backend {} sends nonsense and is cut off", self.backend.path.display()));
                self.link.socket.shut_down();
                false
            }
        }
    }

    fn take_answer(
        &self,
        sequence: u64,
        to: crate::protocol::Kind,
        answer: Result<Vec<u8>, pvkit_abi::status::CallError>,
    ) -> bool {
        let asked = self.backend.state().asked.remove(&sequence);
        match asked {
            Some(asked) if asked.kind == to => {
                match asked.answerer {
                    Answerer::Direct(who) => {
                        let _ = who.try_send(answer);
                    }
                    Answerer::Later(done) => {
                        let _ = self.events.send(Event::Answer(done, answer));
                    }
                }
                true
            }
            other => {
                // Put back, so that whoever asked hears of the end.
                if let Some(asked) = other {
                    self.backend.state().asked.insert(sequence, asked);
                }
                self.owner.log(format!("backend {} answers what nobody asked", self.backend.path.display()));
                self.link.socket.shut_down();
                false
            }
        }
    }

    fn take_interrupt(&self, wire: u64) -> bool {
        let mut state = self.backend.state();
        let Some((bell, port)) = state.wires.get(&wire).map(|wire| (Arc::clone(&wire.bell), wire.port)) else {
            return false;
        };
        state.counters.interrupts += 1;
        drop(state);
        // Emptied before the guest is told, so that what comes later tells it again.
        let _ = bell.take();
        if let Some(port) = port {
            self.owner.interrupt(port);
        }
        true
    }

    fn pace(&mut self, rung: u64) {
        let (begin, count) = &mut self.second;
        if begin.elapsed() >= Duration::from_secs(1) {
            (*begin, *count) = (Instant::now(), 0);
        }
        *count += rung;
        if *count > STORM {
            self.backend.state().counters.throttled += 1;
            std::thread::sleep(PAUSE);
        }
    }

    /// The connection ended: waits for the daemon's death, answers who waits, and leaves the rest to the keeper.
    fn bury(&self) {
        {
            let mut state = self.backend.state();
            state.phase = Phase::Lost;
            state.counters.losses += 1;
        }
        let _ = self.events.send(Event::Lost);
        self.link.socket.shut_down();
        let mut looks = 0_u32;
        while !self.drained
            && !is_dead_within(self.link.process.as_ref().map(AsFd::as_fd), &self.backend.leave, DEATH_LOOK)
        {
            if self.backend.leave.is_rung() {
                return;
            }
            looks += 1;
            if looks.is_power_of_two() {
                self.owner.log(format!(
                    "backend {} closed its socket and is not dead; its devices wait until it is: end the process",
                    self.backend.path.display()
                ));
            }
        }
        let mut state = self.backend.state();
        state.phase = Phase::Dead;
        let direct: Vec<u64> = state
            .asked
            .iter()
            .filter(|(_, asked)| matches!(asked.answerer, Answerer::Direct(_)))
            .map(|(n, _)| *n)
            .collect();
        for number in direct {
            if let Some(asked) = state.asked.remove(&number) {
                let answer = asked.dead_answer();
                if let Answerer::Direct(who) = asked.answerer {
                    let _ = who.try_send(answer);
                }
            }
        }
        drop(state);
        let _ = self.events.send(Event::Dead);
    }
}
