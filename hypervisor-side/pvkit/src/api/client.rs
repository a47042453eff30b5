//! `pvkit inspect` and `pvkit ctl`: the other end of the socket.

use super::question::{MOST_PATIENCE, Question};
use super::server::{PATIENCE, read_line};
use super::{daemon, show};
use crate::cli::{CtlOptions, InspectOptions};
use crate::failure::Failure;
use serde_json::Value;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// `pvkit inspect`.
///
/// # Errors
/// There is no such run or daemon, or it does not answer.
pub fn inspect(options: &InspectOptions) -> Result<ExitCode, Failure> {
    let text = match UnixStream::connect(&options.socket) {
        Err(error) if is_of_packets(&error) => {
            let served = daemon::inspect(&options.socket)?;
            if options.json { format!("{:#}\n", daemon::to_json(&served)) } else { daemon::to_text(&served) }
        }
        connected => {
            let answer = ask(connected, &options.socket, Question::Inspect, PATIENCE)?;
            if options.json { format!("{answer:#}\n") } else { show::to_text(&answer) }
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::run)?;
    Ok(ExitCode::SUCCESS)
}

/// `pvkit ctl`.
///
/// # Errors
/// There is no such run, or the guest does not do it.
pub fn ctl(options: &CtlOptions) -> Result<ExitCode, Failure> {
    let patience = Duration::from_secs(options.patience.into()).min(MOST_PATIENCE);
    let connected = UnixStream::connect(&options.socket);
    let answer = ask(connected, &options.socket, Question::Ask(options.verb, patience), patience + PATIENCE)?;
    println!("{}: {}", options.verb.word(), answer.as_str().unwrap_or("?"));
    Ok(ExitCode::SUCCESS)
}

/// Why a stream cannot be had: the socket is of another type, as a daemon's is.
fn is_of_packets(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error())
}

fn ask(
    connected: io::Result<UnixStream>,
    socket: &Path,
    question: Question,
    patience: Duration,
) -> Result<Value, Failure> {
    let stream = connected.map_err(|error| {
        Failure::user(error).while_doing(format!(
            "no run answers at {}; start it with `pvkit run --api-socket {0}`, and check that you may open the socket",
            socket.display()
        ))
    })?;
    let answer = exchange(&stream, question, patience)
        .map_err(|error| Failure::run(error).while_doing("the run does not answer as it should"))?;
    match answer {
        Value::Object(mut fields) => match (fields.remove("ok"), fields.remove("error")) {
            (Some(answer), None) => Ok(answer),
            (_, Some(why)) => Err(Failure::run(why.as_str().unwrap_or("the run says no").to_owned())),
            _ => Err(Failure::run("the run's answer says neither yes nor no")),
        },
        _ => Err(Failure::run("the run's answer says neither yes nor no")),
    }
}

fn exchange(mut stream: &UnixStream, question: Question, patience: Duration) -> io::Result<Value> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{}\n", question.emit()).as_bytes())?;
    let line = read_line(&mut BufReader::new(stream))?.ok_or(io::ErrorKind::UnexpectedEof)?;
    serde_json::from_slice(&line).map_err(io::Error::from)
}
