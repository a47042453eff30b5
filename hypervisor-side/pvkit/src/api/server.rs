//! The run's end of the socket.

use super::question::{Question, Verb};
use super::{MAX_LINE, show};
use crate::failure::Failure;
use pvkit_abi::services::{ServiceKind, ServiceReport};
use pvkit_backends::services::{Answer, Services};
use pvkit_machine::Control;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Most clients at a time; one more is told so.
pub const MAX_CLIENTS: usize = 16;
/// How long a client may take for the rest of a question, or to take an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may be idle between two questions.
const IDLE: Duration = Duration::from_secs(600);

/// What is asked about.
pub struct Subject {
    /// The run.
    pub control: Arc<Control>,
    /// Its services.
    pub services: Arc<Services>,
    /// When it began.
    pub start: Instant,
    clients: AtomicUsize,
    /// Questions that were read and whose answer was not sent yet.
    asking: AtomicUsize,
}

/// How long the end of a run waits until clients have the answers to what they asked.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The socket of a run; dropping it takes it away, after the answers that are on their way.
pub struct Socket {
    path: PathBuf,
    inode: u64,
    subject: Arc<Subject>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another run may have taken the place of a socket that somebody removed.
        if inode(&self.path) == Some(self.inode) {
            let _ = fs::remove_file(&self.path);
        }
        self.subject.services.end();
        let deadline = Instant::now() + LAST_ANSWERS;
        while self.subject.asking.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Subject {
    /// A run that begins now.
    #[must_use]
    pub fn new(control: Arc<Control>, services: Arc<Services>) -> Arc<Self> {
        Arc::new(Self {
            control,
            services,
            start: Instant::now(),
            clients: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
        })
    }
}

/// Listens at `path`, on threads that end with the process.
///
/// # Errors
/// The place is taken, or the socket cannot be made there.
pub fn listen(path: &Path, subject: Arc<Subject>) -> Result<Socket, Failure> {
    let cannot = |error: io::Error| {
        let what =
            format!("the API socket {} cannot be made; check that its folder exists and is writable", path.display());
        Failure::user(error).while_doing(what)
    };
    make_room(path)?;
    let listener = UnixListener::bind(path).map_err(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    let socket = Socket { path: path.to_path_buf(), inode: inode(path).unwrap_or(0), subject: Arc::clone(&subject) };
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let subject = Arc::clone(&subject);
            if subject.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
                let _ = answer(
                    &stream,
                    &json!({ "error": format!("{MAX_CLIENTS} clients are connected; try again later") }),
                );
                subject.clients.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let counted = Arc::clone(&subject);
            let serve = move || {
                // A client that misbehaves is left; there is nobody to tell.
                let _ = serve(&stream, &subject);
                subject.clients.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().name("api client".into()).spawn(serve).is_err() {
                counted.clients.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    thread::Builder::new().name("api".into()).spawn(accept).map_err(Failure::run)?;
    Ok(socket)
}

/// Takes away what a killed run left; nothing else.
fn make_room(path: &Path) -> Result<(), Failure> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    if !about.file_type().is_socket() {
        return Err(Failure::user(format!(
            "{} is there and no socket; name another place for the API socket",
            path.display()
        )));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Failure::user(format!(
            "the API socket {} belongs to a run that is alive; name another",
            path.display()
        )));
    }
    fs::remove_file(path).map_err(Failure::user)
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|about| about.ino())
}

fn serve(stream: &UnixStream, subject: &Subject) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        stream.set_read_timeout(Some(IDLE))?;
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(line) = read_line(&mut reader)? else {
            return answer(
                stream,
                &json!({ "error": format!("a line of more than {MAX_LINE} bytes, or without an end") }),
            );
        };
        subject.asking.fetch_add(1, Ordering::AcqRel);
        let said = match Question::parse(&line) {
            Ok(question) => respond(question, subject),
            Err(why) => json!({ "error": why }),
        };
        let sent = answer(stream, &said);
        subject.asking.fetch_sub(1, Ordering::AcqRel);
        sent?;
    }
}

/// A line with its end, if it is not too long.
pub fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

fn answer(mut stream: &UnixStream, value: &Value) -> io::Result<()> {
    stream.write_all(format!("{value}\n").as_bytes())
}

fn respond(question: Question, subject: &Subject) -> Value {
    match question {
        Question::Inspect => match subject.control.inspect() {
            Some(inspection) => json!({ "ok": show::to_json(&inspection, subject) }),
            None => json!({ "error": "there is no guest at the moment: it is being made, or it is gone" }),
        },
        Question::Ask(verb, patience) => match ask(verb, patience, &subject.services) {
            Ok(answer) => json!({ "ok": answer }),
            Err(why) => json!({ "error": why }),
        },
    }
}

/// Asks the guest's kernel; its answer as a word.
pub fn ask(verb: Verb, patience: Duration, services: &Services) -> Result<&'static str, String> {
    if !services.is_ready() {
        return Err("the guest's services do not run: it has none, or it is not up yet".into());
    }
    let number = match verb.kind() {
        ServiceKind::GENERATION => services.set_generation(fresh_generation(), patience),
        kind => services.ask(kind, patience),
    };
    match services.wait(number, patience) {
        Answer::Report(ServiceReport::ACCEPTED) => Ok("accepted"),
        Answer::Report(ServiceReport::DONE) => Ok("done"),
        Answer::Report(ServiceReport::REFUSED) => Err("the guest refuses".into()),
        Answer::Report(other) => Err(format!("the guest answers {other:?}")),
        Answer::None => Err(format!("the guest did not answer within {} s", patience.as_secs_f64())),
        Answer::Gone => Err("the guest will not answer: it went away, or was asked the same again".into()),
    }
}

/// Random: no two machines have the same.
#[must_use]
pub fn fresh_generation() -> [u8; 16] {
    let mut generation = [0; 16];
    // It fails where the host has no random numbers yet; then it differs from the last one all the same.
    if rustix::rand::getrandom(&mut generation, rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        generation = now.as_nanos().to_le_bytes();
    }
    generation
}
