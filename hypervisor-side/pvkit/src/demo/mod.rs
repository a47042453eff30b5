//! `pvkit demo`: the main job, from the sources to a verdict.
//!
//! It builds the guest image, which is a web server, and a disk of documents, then starts this same program once per life of
//! the guest: one from which every file is fetched, and several to which records are posted and that are killed. Everything
//! a guest answers is compared with what the host knows. The first and the last line say which machine it was.
//!
//! *Not here.* How a guest is run: that is `pvkit run`, started as any user could.

mod counters;
mod disk_image;
mod documents;
mod files;
mod guest_image;
mod leash;
mod log;
mod log_image;
mod random;
mod ready_made;
mod say;
mod session;
mod web;
mod workshop;

pub use guest_image::targets as guest_targets;

use crate::cli::{DemoOptions, DocumentDiskOptions, MachineChoice, Mutant};
use crate::failure::Failure;
use crate::signals;
use leash::Leash;
use say::say;
use session::{Guest, Session};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use workshop::{RunFile, Workshop};

/// Bytes of the log disk.
const LOG_BYTES: u64 = 4 << 20;

/// Runs the demo.
///
/// # Errors
/// Whatever is not as it should be; the last line then says so.
pub fn demo(options: &DemoOptions) -> Result<ExitCode, Failure> {
    let leash = Leash::default();
    let cut = leash.clone();
    let caught = signals::watch(signals::PATIENCE, move || cut.cut()).map_err(Failure::run)?;
    let start = Instant::now();
    let (machine, words) = choose_machine(options)?;
    let mut serving = false;
    let result = main_job(options, machine, &leash, &mut serving);
    let seconds = start.elapsed().as_secs_f64();
    match (result, caught.signal()) {
        // What was to be shown is shown, and there is no other way to end a server that stays.
        (_, Some(_)) if serving => {
            say(format_args!("pvkit demo: the server is ended"));
            Ok(ExitCode::SUCCESS)
        }
        (_, Some(signal)) => Err(Failure::signal(signal)),
        (Ok(verdict), None) => {
            say(format_args!("pvkit demo passed on {words} in {seconds:.1} s: {verdict}"));
            Ok(ExitCode::SUCCESS)
        }
        (Err(failure), None) => {
            // The verdict is the last line, so the reasons come before it.
            eprintln!("pvkit: {failure}");
            say(format_args!("pvkit demo FAILED on {words} in {seconds:.1} s"));
            Ok(failure.exit_code())
        }
    }
}

/// The machine and its name for people; says the first line, with the reason.
fn choose_machine(options: &DemoOptions) -> Result<(MachineChoice, &'static str), Failure> {
    let (machine, words, reason) = match (options.machine, pvkit_machine::probe_kvm()) {
        (Some(MachineChoice::InProcess), _) => (MachineChoice::InProcess, "the in-process machine", "as asked".into()),
        (Some(MachineChoice::Kvm), Err(problem)) => return Err(Failure::user(problem)),
        (_, Ok(())) => (MachineChoice::Kvm, "the KVM machine", "/dev/kvm".into()),
        (None, Err(problem)) => (MachineChoice::InProcess, "the in-process machine, without KVM", problem.to_string()),
    };
    say(format_args!("pvkit demo on {words} ({reason})"));
    Ok((machine, words))
}

fn main_job(
    options: &DemoOptions,
    machine: MachineChoice,
    leash: &Leash,
    serving: &mut bool,
) -> Result<String, Failure> {
    let workshop = open_workshop()?;
    let kernel = kernel(options, machine, &workshop, leash)?;
    let documents = disk_image::make(&workshop, leash, options.ready_made, disk_image::LIMIT).map_err(Failure::run)?;
    say(format_args!("document disk: {} files, {}", documents.hashes.len(), documents.origin));
    let log = log_disk(&workshop, options.keep)?;
    let mut stats = workshop.unnamed(0).map_err(Failure::run)?;
    let published = workshop.unnamed(0).map_err(Failure::run)?;
    let guest = Guest {
        kernel,
        cpl: options.cpl,
        mutant: options.mutant,
        documents: documents.image.path.clone(),
        log: log.path.clone(),
        stats: stats.path.clone(),
        published: published.path.clone(),
        port: 0,
    };
    let files = fetch_files(&guest, leash, &documents.hashes)?;
    say(format_args!("files: {} fetched, {} bytes, every SHA-256 is the original's", files.files, files.bytes));
    counters::show("files", &counters::take(&mut stats).map_err(Failure::run)?);
    let kept = keep_log(options, &guest, leash, &log)?;
    counters::show("log, last life", &counters::take(&mut stats).map_err(Failure::run)?);
    if options.keep {
        say(format_args!("log disk: kept as {}", log.path.display()));
    }
    let (records, kills) = (kept.acknowledged, kept.kills);
    let verdict = format!("{} files verified, {records} log records kept over {kills} kills", files.files);
    if options.stay || options.port.is_some() {
        say(format_args!("so far: {verdict}"));
        stay(Guest { port: options.port.unwrap_or(0), ..guest }, leash, serving)?;
    }
    Ok(verdict)
}

/// Boots the web server and fetches everything from it.
fn fetch_files(guest: &Guest, leash: &Leash, originals: &documents::Hashes) -> Result<files::FilesRead, Failure> {
    let (session, client) = Session::serve(guest, leash, "").map_err(Failure::run)?;
    let fetched = files::verify(&client, originals).map_err(Failure::run);
    // An orderly end, so that its counters are written.
    session.stop().map_err(Failure::run)?;
    fetched
}

/// Serves until a signal comes, or the guest ends.
fn stay(guest: Guest, leash: &Leash, serving: &mut bool) -> Result<(), Failure> {
    let (session, client) = Session::serve(&guest, leash, "").map_err(Failure::run)?;
    say(format_args!("serving {} until Ctrl-C", client.url()));
    *serving = true;
    session.stay().map_err(Failure::run)
}

fn open_workshop() -> Result<Workshop, Failure> {
    let remedy = "the target folder cannot be written; name another one with CARGO_TARGET_DIR";
    Workshop::open().map_err(|error| Failure::user(error).while_doing(remedy))
}

/// The guest's image, built if need be; the in-process machine needs none.
fn kernel(
    options: &DemoOptions,
    machine: MachineChoice,
    workshop: &Workshop,
    leash: &Leash,
) -> Result<Option<PathBuf>, Failure> {
    if machine == MachineChoice::InProcess {
        say(format_args!("guest image: not needed, the same application runs as a thread of this program"));
        return Ok(None);
    }
    if let Some(kernel) = &options.kernel {
        say(format_args!("guest image: {}", kernel.display()));
        return Ok(Some(kernel.clone()));
    }
    let built = guest_image::build(workshop, leash, options.cpl, options.offline);
    let image =
        built.map_err(|error| if error.is_user_mistake() { Failure::user(error) } else { Failure::run(error) })?;
    say(format_args!("guest image: {}, for {}", image.path.display(), image.target));
    Ok(Some(image.path))
}

fn log_disk(workshop: &Workshop, keep: bool) -> Result<RunFile, Failure> {
    let made = if keep { workshop.named("log.img", LOG_BYTES) } else { workshop.unnamed(LOG_BYTES) };
    made.map_err(|error| Failure::run(error).while_doing("the log disk cannot be made"))
}

fn keep_log(options: &DemoOptions, guest: &Guest, leash: &Leash, log: &RunFile) -> Result<log::LogKept, Failure> {
    let seed = options.seed.unwrap_or_else(random::fresh_seed);
    say(format_args!("log: moments of the kills chosen by --seed {seed}"));
    let mode = match options.mutant {
        Some(Mutant::GuestNoflush) => " mode=noflush",
        Some(Mutant::BackendNoflush | Mutant::Hostile) | None => "",
    };
    log::verify(guest, leash, log, mode, seed).map_err(Failure::run)
}

/// `pvkit document-disk`: the demo's disk as a file.
///
/// # Errors
/// It cannot be made.
pub fn document_disk(options: &DocumentDiskOptions) -> Result<ExitCode, Failure> {
    let workshop = open_workshop()?;
    let disk = disk_image::make(&workshop, &Leash::default(), false, options.limit.0).map_err(Failure::run)?;
    std::fs::copy(&disk.image.path, &options.out).map_err(Failure::run)?;
    if options.pack {
        ready_made::pack(&disk, &options.out).map_err(Failure::run)?;
    }
    say(format_args!("{}: {} files, {}", options.out.display(), disk.hashes.len(), disk.origin));
    Ok(ExitCode::SUCCESS)
}
