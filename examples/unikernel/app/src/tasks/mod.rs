//! `app=async`: many tasks at once on the drivers' futures.
//!
//! `depth=` readers share disk `disk=`, a task prints what is typed, and with `address=` and `other=` one asks on the
//! network who has that address; `count=` times each. The last line has what it cost.

mod executor;
mod questions;
mod readers;

use crate::session::{Session, deadline};
use crate::{Failure, Options};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use executor::{Counts, Executor, Timer};
use pvkit_abi::ring::MIN_DEPTH;
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::block::AsyncBlock;
use pvkit_guest_drivers::console::AsyncConsole;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::net::{AsyncRx, AsyncTx, Net};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Block, Bus, Console};
use questions::{Questions, Wire};
use readers::{Disk, MAX_READERS, Reader, Shared};

/// What the tasks found out.
#[derive(Debug, Default)]
struct Found {
    answers: Cell<u64>,
    /// Completions that no interrupt told of.
    lost: Cell<u64>,
}

type Plain<'p, P> = Block<'p, P, MAX_READERS, 1>;

pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let disk: Plain<'_, P> = session.disk(options.disk, options.depth.max(MIN_DEPTH))?;
    let net = if options.other.is_some() { Some(RefCell::new(session.net(0, false)?)) } else { None };
    session.terminal.flush()?;
    // Not in a static: two guests in one process have each their own.
    let interrupts = [const { Interrupt::new() }; 5];
    let mut wire = net.as_ref().map(|net| connect(net, options, &interrupts)).transpose()?;
    let console = session.terminal.lend().ok_or(Failure::Wrong("the console is lent already"))?;
    let (found, before) = (Found::default(), disk.counters());
    let (mut disk, console, ran) = spread(session, options, disk, console, &interrupts, wire.as_mut(), &found);
    session.terminal.give_back(console);
    let (counts, after) = (ran?, disk.counters());
    session.terminal.line(format_args!(
        "async requests={} doorbells={} waits={} polls={} lost={} answers={}",
        after.requests - before.requests,
        after.doorbells - before.doorbells,
        counts.waits,
        counts.polls,
        found.lost.get(),
        found.answers.get()
    ));
    session.terminal.flush()?;
    let deadline = session.deadline();
    disk.close(&mut session.bus.borrow_mut(), deadline)?;
    if let (Some(net), Some(wire)) = (&net, &mut wire) {
        let net = &mut net.borrow_mut();
        net.close(&mut session.bus.borrow_mut(), deadline)?;
        wire.transmit.queue().follow(net).map_err(RequestError::from)?;
        wire.receive.queue().follow(net).map_err(RequestError::from)?;
    }
    Ok(())
}

/// A pair's queues, for the task that asks.
fn connect<'i, 'p, P: Platform>(
    net: &'i RefCell<Net<'p, P>>,
    options: &Options,
    [_, _, sent, received, _]: &'i [Interrupt; 5],
) -> Result<Wire<'i, 'p, P>, Failure> {
    let own = options.address.ok_or(Failure::Wrong("other= needs address="))?.address();
    let other = options.other.ok_or(Failure::Wrong("address= needs other="))?;
    let pair = net.borrow_mut().take_pair(0).ok_or(Failure::Wrong("the network device has no pair of queues"))?;
    let (transmit, receive) = (AsyncTx::new(pair.transmit, sent), AsyncRx::new(pair.receive, received));
    let mac = net.borrow().link().mac;
    Ok(Wire { net, transmit, receive, mac, own, other })
}

/// Runs all tasks; disk and console come back.
fn spread<'i, 'p, P: Platform>(
    session: &Session<'p, P>,
    options: &Options,
    disk: Plain<'p, P>,
    console: Console<'p, P>,
    interrupts: &'i [Interrupt; 5],
    wire: Option<&mut Wire<'i, 'p, P>>,
    found: &Found,
) -> (Plain<'p, P>, Console<'p, P>, Result<Counts, Failure>) {
    let (platform, [for_disk, for_console, .., for_bus]) = (session.platform, interrupts);
    let disk = AsyncBlock::new(disk, for_disk);
    disk.keep_for_recovery(true);
    let console: Shared<'_, '_, P> = AsyncConsole::new(console, for_console);
    let (timer, rounds) = (Timer::default(), options.count.max(1));
    let mut executor = Executor::new(platform, &timer, interrupts);
    executor.spawn_servant(serve_disk(&disk, &timer, &found.lost));
    let net = wire.as_ref().map(|wire| wire.net);
    executor.spawn_servant(follow_bus(platform, &session.bus, for_bus, &disk, net));
    executor.spawn_servant(async { Err(Failure::Request(console.bottom_half().await)) });
    let readers = u64::from(options.depth.clamp(1, MAX_READERS as u32));
    for number in 0..readers {
        let reader = Reader { platform, disk: &disk, console: &console, timer: &timer, number, readers };
        executor.spawn(reader.run(rounds));
    }
    executor.spawn(echo(platform, &console, &timer));
    if let Some(wire) = wire {
        let questions = Questions { platform, timer: &timer, wire, answers: &found.answers };
        executor.spawn(questions.run(rounds, options.tries));
    }
    let ran = executor.run();
    (disk.into_inner(), console.into_inner(), ran)
}

/// The disk's bottom half; counts what it finds although no event ended the sleep.
async fn serve_disk<P: Platform>(disk: &Disk<'_, '_, P>, timer: &Timer, lost: &Cell<u64>) -> Result<(), Failure> {
    let mut bottom = pin!(disk.bottom_half());
    let ended = poll_fn(|context| {
        let before = disk.counters().completions;
        let polled: Poll<_> = bottom.as_mut().poll(context);
        if timer.is_late() {
            lost.set(lost.get() + disk.counters().completions - before);
        }
        polled
    });
    Err(Failure::Request(ended.await))
}

/// Follows what the host says: what lost its backend is opened anew once that is back.
async fn follow_bus<'p, P: Platform>(
    platform: &P,
    bus: &RefCell<Bus<'p, P>>,
    interrupt: &Interrupt,
    disk: &Disk<'_, 'p, P>,
    net: Option<&RefCell<Net<'p, P>>>,
) -> Result<(), Failure> {
    loop {
        recover(platform, &mut bus.borrow_mut(), disk, net)?;
        poll_fn(|context| bus.borrow_mut().poll_changed(context, interrupt)).await?;
    }
}

fn recover<'p, P: Platform>(
    platform: &P,
    bus: &mut Bus<'p, P>,
    disk: &Disk<'_, 'p, P>,
    net: Option<&RefCell<Net<'p, P>>>,
) -> Result<(), Failure> {
    // A configuration that cannot be is not believed: the old one stays.
    let _ = disk.refresh(bus);
    if disk.is_back(bus) {
        later(disk.recover(bus, deadline(platform)))?;
    }
    let Some(net) = net else { return Ok(()) };
    let mut net = net.borrow_mut();
    let _ = net.refresh(bus);
    if net.is_back(bus) {
        later(net.recover(bus, deadline(platform)))?;
    }
    Ok(())
}

/// A backend that is lost again is waited for again.
fn later<T>(recovered: Result<T, RequestError>) -> Result<(), RequestError> {
    match recovered {
        Ok(_) | Err(RequestError::TimedOut) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Prints what is typed, until the end of input or `q`.
async fn echo<P: Platform>(platform: &P, console: &Shared<'_, '_, P>, timer: &Timer) -> Result<(), Failure> {
    let mut typed = [0; 256];
    loop {
        let count = console.read(&mut typed, u64::MAX).await?;
        let part = typed.get(..count).unwrap_or(&[]);
        let deadline = deadline(platform);
        timer.by(deadline, console.write(part, deadline)).await?;
        if count == 0 || part.contains(&b'q') {
            return Ok(());
        }
    }
}
