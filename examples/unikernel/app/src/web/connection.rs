//! One connection: requests in, one after the other, answers out, as fast as its client takes them.
//!
//! *Purpose.* [`Connection::serve`] does a bounded piece of work (at most one answer begun, at most one piece of a file
//! read) and says whether it did any. Nothing here waits, so no client holds up another.
//!
//! *Invariants.* `input` is at most [`MAX_REQUEST`] long. A request is answered after the answer before it is with the
//! socket. A body has exactly the length that its head said, or the connection is reset.

use super::files::Files;
use super::http::{self, MAX_REQUEST, Parsed, Request, Status, Wish};
use super::log::{Records, Refused};
use alloc::vec::Vec;
use core::ops::Range;
use smoltcp::socket::tcp;

/// Where the server listens.
pub(super) const PORT: u16 = 80;
/// How long a client may take for a whole request, or before it takes more of an answer, or for its goodbye.
pub(super) const PATIENCE_NS: u64 = 30_000_000_000;
const TEXT: &str = "text/plain; charset=utf-8";

/// What happened on all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Connections that were made.
    pub(super) connections: u64,
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Answers with a status of 400 or more.
    pub(super) refused: u64,
    /// Bytes of answers.
    pub(super) bytes: u64,
    /// Connections that were reset because their client was too slow.
    pub(super) slow: u64,
    /// Connections that were reset because a file could not be read to its end.
    pub(super) broken: u64,
}

/// What the connections share.
pub(super) struct Shared<'a, F, R> {
    pub(super) files: &'a mut F,
    pub(super) records: &'a mut R,
    pub(super) counters: &'a mut Counters,
}

/// What stands behind the text of an answer.
enum Tail<T> {
    Nothing,
    Index(Range<u64>),
    Page(Range<u64>),
    File(T, Range<u64>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No client.
    Idle,
    /// Requests and answers.
    Open,
    /// The last answer is under way; what still comes is thrown away, so that the client gets to read the answer.
    Ending,
}

/// One connection. `T` is an open file.
pub(super) struct Connection<T> {
    state: State,
    input: Vec<u8>,
    text: Vec<u8>,
    tail: Tail<T>,
    keep_alive: bool,
    /// The client was told to send its body.
    invited: bool,
    /// In nanoseconds.
    deadline: u64,
}

impl<T> Connection<T> {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Idle,
            input: Vec::new(),
            text: Vec::new(),
            tail: Tail::Nothing,
            keep_alive: true,
            invited: false,
            deadline: u64::MAX,
        }
    }

    /// When to look at it even though nothing came; `u64::MAX` while there is no client.
    pub(super) const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Does what can be done now. True if that was anything.
    pub(super) fn serve<F: Files<File = T>, R: Records>(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        now: u64,
        shared: &mut Shared<'_, F, R>,
    ) -> bool {
        match socket.state() {
            tcp::State::Closed | tcp::State::TimeWait => {
                *self = Self::new();
                // It fails for an open socket and for port 0.
                return socket.listen(PORT).is_ok();
            }
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => return false,
            _ if self.state == State::Idle => self.begin(now, shared.counters),
            _ => {}
        }
        if now >= self.deadline {
            shared.counters.slow += 1;
            self.reset(socket);
            return true;
        }
        if self.state == State::Ending {
            return discard(socket);
        }
        let received = self.receive(socket);
        if self.is_sending() {
            self.send(socket, now, shared) | received
        } else {
            self.next(socket, now, shared) | received
        }
    }

    fn begin(&mut self, now: u64, counters: &mut Counters) {
        self.state = State::Open;
        self.deadline = now.saturating_add(PATIENCE_NS);
        counters.connections += 1;
    }

    /// The client gets a reset at the next poll; the socket listens again after that.
    fn reset(&mut self, socket: &mut tcp::Socket<'_>) {
        socket.abort();
        *self = Self::new();
        self.state = State::Ending;
    }

    /// Takes what fits; the rest stays with the socket and so, in the end, with the client.
    fn receive(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let room = MAX_REQUEST.saturating_sub(self.input.len());
        if room == 0 || !socket.can_recv() {
            return false;
        }
        let input = &mut self.input;
        let taken = socket.recv(|bytes| {
            let part = bytes.get(..room).unwrap_or(bytes);
            input.extend_from_slice(part);
            (part.len(), part.len())
        });
        taken.is_ok_and(|count| count > 0)
    }

    fn is_sending(&self) -> bool {
        !self.text.is_empty() || !matches!(self.tail, Tail::Nothing)
    }

    /// Begins the next answer, or ends the connection of a client that sends no more.
    fn next<F: Files<File = T>, R: Records>(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        now: u64,
        shared: &mut Shared<'_, F, R>,
    ) -> bool {
        match http::parse(&self.input) {
            // It is looked at again when there is something to do, the end of the hold included.
            Ok(Parsed::Whole(request)) if request.wish == Ok(Wish::Append) && shared.records.is_held() => return false,
            Ok(Parsed::Whole(request)) => {
                self.input.drain(..request.head);
                self.keep_alive = request.keep_alive;
                self.answer(&request, shared);
                self.input.drain(..request.body.min(self.input.len()));
                self.invited = false;
            }
            Ok(Parsed::Expecting) if !self.invited && socket.may_recv() => {
                self.invited = true;
                self.text.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                return true;
            }
            Ok(_) if socket.may_recv() => return false,
            Ok(_) => {
                self.end(socket, now);
                return true;
            }
            Err(status) => {
                self.keep_alive = false;
                self.refuse(status, false, shared.counters);
            }
        }
        shared.counters.requests += 1;
        self.deadline = now.saturating_add(PATIENCE_NS);
        true
    }

    fn end(&mut self, socket: &mut tcp::Socket<'_>, now: u64) {
        socket.close();
        *self = Self::new();
        self.state = State::Ending;
        self.deadline = now.saturating_add(PATIENCE_NS);
    }

    fn answer<F: Files<File = T>, R: Records>(&mut self, request: &Request, shared: &mut Shared<'_, F, R>) {
        let head_only = request.head_only;
        match &request.wish {
            Err(status) => self.refuse(*status, head_only, shared.counters),
            Ok(Wish::Index) => {
                let length = shared.files.index().len() as u64;
                self.text = http::head(Status::OK, TEXT, length, self.keep_alive);
                self.tail = if head_only { Tail::Nothing } else { Tail::Index(0..length) };
            }
            Ok(Wish::Page) => {
                let length = shared.files.page().len() as u64;
                self.text = http::head(Status::OK, http::HTML, length, self.keep_alive);
                self.tail = if head_only { Tail::Nothing } else { Tail::Page(0..length) };
            }
            Ok(Wish::Count) => self.say(Status::OK, &alloc::format!("{}\n", shared.records.count()), head_only),
            Ok(Wish::Append) => match shared.records.append(self.input.get(..request.body).unwrap_or(&[])) {
                Ok(sequence) => self.say(Status::OK, &alloc::format!("acked {sequence}\n"), false),
                Err(Refused::Full) => self.refuse(Status::FULL, false, shared.counters),
                Err(Refused::Failed) => self.refuse(Status::INTERNAL, false, shared.counters),
            },
            Ok(Wish::File(path)) => match shared.files.open(path) {
                Ok(Some((file, length))) => {
                    self.text = http::head(Status::OK, http::kind(path), length, self.keep_alive);
                    self.tail = if head_only || length == 0 { Tail::Nothing } else { Tail::File(file, 0..length) };
                }
                Ok(None) => self.refuse(Status::NOT_FOUND, head_only, shared.counters),
                Err(_) => self.refuse(Status::INTERNAL, head_only, shared.counters),
            },
        }
    }

    fn refuse(&mut self, status: Status, head_only: bool, counters: &mut Counters) {
        counters.refused += 1;
        self.say(status, &alloc::format!("{status}\n"), head_only);
    }

    fn say(&mut self, status: Status, text: &str, head_only: bool) {
        self.text = http::head(status, TEXT, text.len() as u64, self.keep_alive);
        if !head_only {
            self.text.extend_from_slice(text.as_bytes());
        }
    }

    /// Gives the socket what it takes now.
    fn send<F: Files<File = T>, R: Records>(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        now: u64,
        shared: &mut Shared<'_, F, R>,
    ) -> bool {
        let sent = if self.text.is_empty() {
            self.send_tail(socket, shared.files)
        } else {
            let sent = socket.send_slice(&self.text).ok();
            self.text.drain(..sent.unwrap_or(0).min(self.text.len()));
            sent
        };
        let Some(sent) = sent else {
            shared.counters.broken += 1;
            self.reset(socket);
            return true;
        };
        if sent > 0 {
            shared.counters.bytes += sent as u64;
            self.deadline = now.saturating_add(PATIENCE_NS);
        }
        if !self.is_sending() && !self.keep_alive {
            self.end(socket, now);
        }
        sent > 0
    }

    /// `None` if the rest cannot be sent.
    fn send_tail<F: Files<File = T>>(&mut self, socket: &mut tcp::Socket<'_>, files: &mut F) -> Option<usize> {
        let (sent, rest) = match &mut self.tail {
            Tail::Nothing => return Some(0),
            Tail::Index(rest) => (send_from(socket, files.index(), rest)?, rest),
            Tail::Page(rest) => (send_from(socket, files.page(), rest)?, rest),
            Tail::File(file, rest) => (send_file(socket, files, file, rest)?, rest),
        };
        rest.start += sent as u64;
        if rest.is_empty() {
            self.tail = Tail::Nothing;
        }
        Some(sent)
    }
}

fn send_from(socket: &mut tcp::Socket<'_>, text: &[u8], rest: &Range<u64>) -> Option<usize> {
    let part = usize::try_from(rest.start).ok().and_then(|at| text.get(at..))?;
    socket.send_slice(part).ok()
}

/// Reads the next piece straight into the socket's buffer.
fn send_file<F: Files>(
    socket: &mut tcp::Socket<'_>,
    files: &mut F,
    file: &mut F::File,
    rest: &Range<u64>,
) -> Option<usize> {
    let left = usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX);
    let read = socket.send(|space| {
        let count = space.len().min(left);
        let into = space.get_mut(..count).unwrap_or(&mut []);
        if into.is_empty() {
            return (0, Some(0));
        }
        // A file that ends before its length is as bad as one that cannot be read.
        match files.read(file, rest.start, into) {
            Ok(count) if count > 0 && count <= left => (count, Some(count)),
            _ => (0, None),
        }
    });
    read.ok().flatten()
}

fn discard(socket: &mut tcp::Socket<'_>) -> bool {
    socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok()
}
