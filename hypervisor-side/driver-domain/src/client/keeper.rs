//! The keeper: tells the owner what happened, and brings a lost backend back.

use super::Owner;
use super::backend::{Backend, Done};
use super::link::{ANSWER, BackendError, Link};
use super::state::{Answerer, Asked, Phase, State};
use super::{covers, reader};
use pvkit_abi::bus::{CONFIG_BYTES, Offer};
use pvkit_abi::status::CallError;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Shortest and longest pause between two attempts to connect anew. In between it is the sixteenth part of the time that the
/// backend is gone already: what waiting adds to a loss is that at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const PART: u32 = 16;
/// A wait that is as good as endless: a day.
const IDLE: Duration = Duration::from_secs(86_400);
/// Of losses that follow a return sooner than this, the 1st, 2nd, 4th, 8th, .. are told.
const STABLE: Duration = Duration::from_secs(5);

/// What the keeper is told.
pub enum Event {
    /// A request was sent: look after its deadline.
    Asked,
    /// An answer came.
    Answer(Done, Result<Vec<u8>, CallError>),
    /// The socket closed.
    Lost,
    /// Nothing of the daemon is attached any more.
    Dead,
    /// What a disk's witness said.
    Witness(u32, io::Result<()>),
    /// The guest ended.
    Stop,
}

/// What the keeper heard while there is no daemon.
enum Heard {
    /// Nothing, for as long as it listened.
    Silence,
    Witness(u32, io::Result<()>),
    /// It has been dealt with.
    Other,
    Stop,
}

struct Keeper<'a> {
    backend: &'a Arc<Backend>,
    owner: &'a Arc<dyn Owner>,
    inbox: &'a Receiver<Event>,
    events: &'a Sender<Event>,
    reader: Option<JoinHandle<()>>,
    lost_at: Instant,
    back_at: Instant,
    /// Losses, each soon after the last return.
    hasty: u32,
}

/// Works until it is told to stop.
pub fn run(backend: &Arc<Backend>, owner: &Arc<dyn Owner>, inbox: &Receiver<Event>, events: &Sender<Event>) {
    let now = Instant::now();
    let mut keeper = Keeper { backend, owner, inbox, events, reader: None, lost_at: now, back_at: now, hasty: 0 };
    keeper.start_reader();
    while keeper.step() {}
    if let Some(reader) = keeper.reader.take() {
        let _ = reader.join();
    }
    // Who still asks is told; the guest is gone.
    let asked = backend.state().take_asked();
    for asked in asked {
        let answer = asked.dead_answer();
        if let Answerer::Direct(who) = asked.answerer {
            let _ = who.try_send(answer);
        }
    }
}

impl Keeper<'_> {
    /// A reader for the connection that is there. Without one, it is lost: the reader finds that out.
    fn start_reader(&mut self) {
        let Some(link) = self.backend.state().link.clone() else { return };
        let (backend, owner, events) = (Arc::clone(self.backend), Arc::clone(self.owner), self.events.clone());
        let thread =
            Builder::new().name("backend reader".into()).spawn(move || reader::run(&backend, &link, &*owner, &events));
        match thread {
            Ok(thread) => self.reader = Some(thread),
            Err(error) => self.owner.log(format!("no thread for backend {}: {error}", self.backend.path.display())),
        }
    }

    /// False at the end.
    fn step(&mut self) -> bool {
        let limit = if self.backend.state().asked.is_empty() { IDLE } else { Duration::from_secs(1) };
        match self.inbox.recv_timeout(limit) {
            Ok(event) => self.hear(event),
            Err(RecvTimeoutError::Timeout) => {
                self.cut_off_if_late();
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn hear(&mut self, event: Event) -> bool {
        match event {
            // A witness is asked, and waited for, while there is no daemon.
            Event::Asked | Event::Witness(..) => {}
            Event::Answer(done, answer) => done(answer),
            Event::Lost => self.lost(),
            Event::Dead => return self.restore(),
            Event::Stop => return false,
        }
        true
    }

    fn lost(&mut self) {
        self.lost_at = Instant::now();
        self.hasty = if self.back_at.elapsed() < STABLE { self.hasty.saturating_add(1) } else { 0 };
        if self.hasty.is_power_of_two() || self.hasty == 0 {
            self.owner.log(format!("backend {} is gone; its devices wait for it", self.backend.path.display()));
        }
    }

    /// A daemon that leaves a request unanswered is cut off.
    fn cut_off_if_late(&self) {
        let state = self.backend.state();
        let late = state.asked.values().any(|asked| asked.since.elapsed() > ANSWER);
        if let (true, Phase::Connected, Some(link)) = (late, state.phase, &state.link) {
            link.socket.shut_down();
            drop(state);
            self.owner.log(format!(
                "backend {} does not answer within {} s and is cut off; end its process, and start it again",
                self.backend.path.display(),
                ANSWER.as_secs()
            ));
        }
    }

    /// The daemon is dead. Answers what was asked of it, tells the owner, and gets another one. False if it is told to stop.
    fn restore(&mut self) -> bool {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.answer_all();
        let devices: Vec<u32> = self.backend.state().remotes.keys().copied().collect();
        for device in &devices {
            self.backend.forget_wires(*device);
            self.owner.lost(*device);
        }
        if !(self.ask_witnesses() && self.reconnect()) {
            return false;
        }
        self.start_reader();
        self.back_at = Instant::now();
        let back: Vec<(u32, [u8; CONFIG_BYTES])> = {
            let mut state = self.backend.state();
            state.counters.returns += 1;
            state.counters.last_gap_ns = self.lost_at.elapsed().as_nanos() as u64;
            state.live().map(|(device, remote)| (*device, remote.offer.config)).collect()
        };
        back.into_iter().for_each(|(device, config)| self.owner.back(device, config));
        true
    }

    fn answer_all(&self) {
        let asked = self.backend.state().take_asked();
        answer(asked);
    }

    /// Errors of writes that were acknowledged and then lost are told to nobody once the daemon that made them is dead; but the
    /// kernel tells every description that was open since before them. False if it is told to stop.
    ///
    /// A medium may never answer: each is asked by a thread of its own, and the guest's other requests are answered meanwhile.
    fn ask_witnesses(&self) -> bool {
        let mut silent = BTreeSet::new();
        for (device, witness) in self.witnesses() {
            let (asked, events) = (Arc::clone(&witness), self.events.clone());
            let ask = move || {
                // Nobody hears it after the guest's end.
                let _ = events.send(Event::Witness(device, asked.sync_data()));
            };
            match Builder::new().name("disk witness".into()).spawn(ask) {
                Ok(_) => drop(silent.insert(device)),
                Err(_) => self.testified(device, witness.sync_data()),
            }
        }
        let mut limit = ANSWER;
        while !silent.is_empty() {
            match self.hear_alone(limit) {
                Heard::Witness(device, said) => {
                    silent.remove(&device);
                    self.testified(device, said);
                }
                Heard::Silence => {
                    limit = IDLE;
                    self.owner.log(format!(
                        "devices {silent:?} of backend {} wait for their medium, which does not say whether it kept all that \
                         was written; see to the storage that their images are on",
                        self.backend.path.display()
                    ));
                }
                Heard::Other => {}
                Heard::Stop => return false,
            }
        }
        true
    }

    fn witnesses(&self) -> Vec<(u32, Arc<File>)> {
        let state = self.backend.state();
        state.live().filter_map(|(device, remote)| Some((*device, Arc::clone(remote.witness.as_ref()?)))).collect()
    }

    fn testified(&self, device: u32, said: io::Result<()>) {
        let Err(error) = said else { return };
        self.owner.log(format!(
            "device {device} of backend {} lost acknowledged writes ({error}) and is taken away from the guest",
            self.backend.path.display()
        ));
        if let Some(remote) = self.backend.state().remotes.get_mut(&device) {
            remote.failed = true;
        }
        self.owner.failed(device);
    }

    /// One event while there is no daemon.
    fn hear_alone(&self, limit: Duration) -> Heard {
        match self.inbox.recv_timeout(limit) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => Heard::Stop,
            Ok(Event::Witness(device, said)) => Heard::Witness(device, said),
            Ok(Event::Answer(done, answer)) => {
                done(answer);
                Heard::Other
            }
            Ok(Event::Asked | Event::Lost | Event::Dead) => {
                self.answer_all();
                Heard::Other
            }
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
        }
    }

    /// Tries until a daemon has all devices as they were. False if it is told to stop.
    fn reconnect(&mut self) -> bool {
        let mut last = String::new();
        loop {
            match self.connect() {
                Ok(stale) => {
                    answer(stale);
                    return true;
                }
                // That there is none was told already.
                Err(BackendError::NoDaemon(_)) => {}
                Err(why) => {
                    let why = why.to_string();
                    if why != last {
                        self.owner.log(format!("backend {} is not back: {why}", self.backend.path.display()));
                    }
                    last = why;
                }
            }
            let pause = (self.lost_at.elapsed() / PART).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let until = Instant::now() + pause;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                match self.hear_alone(left) {
                    Heard::Stop => return false,
                    Heard::Silence => break,
                    Heard::Witness(..) | Heard::Other => {}
                }
            }
        }
    }

    /// One attempt; what was asked while there was nobody.
    fn connect(&self) -> Result<Vec<Asked>, BackendError> {
        let mut link = Link::open(&self.backend.path, &self.backend.name)?;
        // Copies, so that nobody waits for the lock while a daemon takes its time.
        let (window, known) = {
            let state = self.backend.state();
            let window = state.window.as_ref().map(|(window, length)| Ok((window.try_clone()?, *length)));
            let known: Vec<_> =
                state.live().map(|(number, remote)| (*number, Arc::clone(&remote.wanted), remote.offer)).collect();
            (window.transpose().map_err(|_: io::Error| BackendError::Lie("no descriptor left for the window"))?, known)
        };
        if let Some((window, length)) = &window {
            link.window(window.as_fd(), *length)?;
        }
        let mut offers: Vec<(u32, Offer)> = Vec::new();
        for (number, wanted, old) in &known {
            let (offer, _) = link.attach(wanted)?;
            covers::check(old, &offer).map_err(BackendError::Lie)?;
            offers.push((*number, offer));
        }
        let state: &mut State = &mut self.backend.state();
        for (number, offer) in offers {
            if let Some(remote) = state.remotes.get_mut(&number) {
                // What was promised stays promised; only the configuration may be another.
                remote.offer.config = offer.config;
            }
        }
        // Whatever was asked meanwhile is of an epoch that has ended.
        let stale = state.take_asked();
        state.sequence = link.sequence;
        state.link = Some(Arc::new(link));
        state.phase = Phase::Connected;
        Ok(stale)
    }
}

/// Answers what a dead backend will not.
fn answer(all: Vec<Asked>) {
    for asked in all {
        let answer = asked.dead_answer();
        match asked.answerer {
            Answerer::Later(done) => done(answer),
            Answerer::Direct(who) => {
                let _ = who.try_send(answer);
            }
        }
    }
}
