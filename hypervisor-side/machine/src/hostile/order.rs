//! The words in which lies are ordered, a line each:
//!
//! ```text
//! queue DEVICE QUEUE LIE [COUNT]      LIE: tag, id=N, twice, status=N, detail=N, more, meta=N, hash=N, reserved=N,
//!                                     rewritten, swallowed, random=SEED: in the next COUNT completions (1)
//!                                     unsolicited=ID, storm=N, stall, resume, event=N, scribble=SEED: now
//!                                     epoch=N: at the next opening
//! reply LIE [COUNT]                   status=N, device=N, epoch=N, epoch-by=N, value0=N, value1=N, tag, id=N, twice, never,
//!                                     truth: in the next COUNT replies on the bus (1)
//! tell KIND DEVICE EPOCH [FIELD=N..]  a message; KIND: offer, rescind, config, state, overflow or a number; EPOCH: N,
//!                                     or +N or -N from the device's own. `like=N` takes another device's offer, `size=N`,
//!                                     `state=N` and `reserved8=N` are the message's own, the others those of an offer
//! pretend DEVICE FIELD=N..            what is offered from the next setup of the bus on: the truth but for these fields
//! honest                              no more lies but those told already
//! ```
//!
//! Numbers are decimal, or hexadecimal with 0x. They are cut to the field that they are for.

use super::fields;
use super::replies::ReplyLie;
use super::state::{lock, state};
use crate::host::Host;
use pvkit_abi::bus::{BODY_BYTES, Kind, Message, Offer};
use pvkit_backends::hostile::Twist;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// From now on queues have relays and the bus is watched. To be called before the guest starts.
pub fn begin() {
    state().active = true;
}

/// Carries out one order. Takes the host's locks: not to be called under one.
///
/// # Errors
/// What is wrong with the order.
pub fn obey(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["queue", device, queue, lie, count @ ..] => on_queue((number(device)?, number(queue)?), lie, times(count)?),
        ["reply", lie, count @ ..] => {
            let lie = in_reply(lie)?;
            state().bus.lies.push_back((lie, times(count)?));
            Ok(())
        }
        ["tell", kind, device, epoch, fields @ ..] => tell(kind, number(device)?, epoch, fields),
        ["pretend", device, fields @ ..] => pretend(number(device)?, fields),
        ["honest"] => {
            let mut state = state();
            state.plans.values().for_each(|plan| lock(plan).clear());
            state.epochs.clear();
            state.bus.lies.clear();
            let relays: Vec<_> = state.relays.values().cloned().collect();
            let (truths, host) = (state.truths.clone(), state.host.upgrade());
            drop(state);
            for (device, offer) in truths {
                let Some(host) = &host else { break };
                host.decide(|domain, ram, effects| domain.pretend(device, offer, ram, effects));
            }
            for relay in relays {
                let mut relay = lock(&relay);
                relay.sleep_at(None);
                relay.withhold(false);
            }
            Ok(())
        }
        _ => Err("no such order".into()),
    }
}

fn on_queue(place: (u32, u16), lie: &str, count: u32) -> Result<(), String> {
    let (name, value) = split(lie)?;
    let twist = match name {
        "tag" => Twist::Tag,
        "id" => Twist::Id(value as u16),
        "twice" => Twist::Twice,
        "status" => Twist::Status(value as u8),
        "detail" => Twist::Detail(value as u32),
        "more" => Twist::More,
        "meta" => Twist::Meta(value),
        "hash" => Twist::Hash(value),
        "reserved" => Twist::Reserved(value),
        "rewritten" => Twist::Rewritten,
        "swallowed" => Twist::Swallowed,
        "random" => Twist::Random(value),
        "epoch" => {
            state().epochs.insert(place, value);
            return Ok(());
        }
        _ => return now(place, name, value),
    };
    let plan = state().plan(place);
    lock(&plan).add(twist, count);
    Ok(())
}

fn now(place: (u32, u16), name: &str, value: u64) -> Result<(), String> {
    let relay = state().relays.get(&place).cloned().ok_or("that queue was never opened")?;
    let mut relay = lock(&relay);
    if relay.is_closed() {
        return Err("that queue is closed".into());
    }
    match name {
        "unsolicited" => relay.unsolicited(value as u16),
        "storm" => relay.storm(value as u32),
        "stall" => relay.withhold(true),
        "resume" => relay.withhold(false),
        "event" => relay.sleep_at(Some(value)),
        "scribble" => relay.scribble(value),
        _ => return Err("no such lie".into()),
    }
    Ok(())
}

fn in_reply(lie: &str) -> Result<ReplyLie, String> {
    let (name, value) = split(lie)?;
    Ok(match name {
        "status" => ReplyLie::Status(value as i32),
        "device" => ReplyLie::Device(value as u32),
        "epoch" => ReplyLie::Epoch(value),
        "epoch-by" => ReplyLie::EpochBy(value as i64),
        "value0" => ReplyLie::Value(0, value),
        "value1" => ReplyLie::Value(1, value),
        "tag" => ReplyLie::Tag,
        "id" => ReplyLie::Id(value as u16),
        "twice" => ReplyLie::Twice,
        "never" => ReplyLie::Never,
        "truth" => ReplyLie::Truth,
        _ => return Err("no such lie".into()),
    })
}

fn host() -> Result<Arc<Host>, String> {
    state().host.upgrade().ok_or_else(|| "the guest has not called yet".into())
}

fn offered(host: &Host, device: u32) -> Option<(Offer, u64)> {
    host.decide(|domain, ram, effects| domain.offered(device, ram, effects))
}

fn tell(kind: &str, device: u32, epoch: &str, words: &[&str]) -> Result<(), String> {
    let host = host()?;
    let kind = match kind {
        "offer" => Kind::OFFER,
        "rescind" => Kind::RESCIND,
        "config" => Kind::CONFIG_CHANGED,
        "state" => Kind::STATE_CHANGED,
        "overflow" => Kind::OVERFLOW,
        other => Kind(number(other)?),
    };
    let like = words.iter().find_map(|word| word.strip_prefix("like=")).map_or(Ok(device), number)?;
    let (mut offer, own) = offered(&host, like).ok_or("no such device")?;
    let mut message = Message { size: 0, kind, reserved: 0, device, epoch: own, body: [0; BODY_BYTES] };
    message.epoch = match (epoch.strip_prefix('+'), epoch.strip_prefix('-')) {
        (Some(more), _) => own.wrapping_add(value(more)?),
        (_, Some(less)) => own.wrapping_sub(value(less)?),
        _ => value(epoch)?,
    };
    let (mut size, mut state) = (None, 0);
    for word in words {
        match split(word)? {
            ("like", _) => {}
            ("size", value) => size = Some(value as u16),
            ("state", value) => state = value as u16,
            ("reserved8", value) => message.reserved = value as u8,
            (name, value) => offer = fields::with(&offer, name, value).ok_or_else(|| format!("no field {name}"))?,
        }
    }
    let body = match kind {
        Kind::OFFER => offer.as_bytes().to_vec(),
        Kind::CONFIG_CHANGED => offer.config.to_vec(),
        Kind::STATE_CHANGED => [&state.to_le_bytes()[..], &[0; 6]].concat(),
        _ => Vec::new(),
    };
    if let Some(to) = message.body.get_mut(..body.len()) {
        to.copy_from_slice(&body);
    }
    message.size = size.unwrap_or(body.len() as u16);
    host.decide(|domain, ram, effects| domain.lie(message, ram, effects));
    Ok(())
}

fn pretend(device: u32, words: &[&str]) -> Result<(), String> {
    let host = host()?;
    let (known, _) = offered(&host, device).ok_or("no such device")?;
    let mut offer = *state().truths.entry(device).or_insert(known);
    for word in words {
        let (name, value) = split(word)?;
        offer = fields::with(&offer, name, value).ok_or_else(|| format!("no field {name}"))?;
    }
    host.decide(|domain, ram, effects| domain.pretend(device, offer, ram, effects));
    Ok(())
}

fn times(words: &[&str]) -> Result<u32, String> {
    words.first().map_or(Ok(1), |word| number(word))
}

fn split(word: &str) -> Result<(&str, u64), String> {
    match word.split_once('=') {
        Some((name, text)) => Ok((name, value(text)?)),
        None => Ok((word, 0)),
    }
}

fn number<T: TryFrom<u64>>(word: &str) -> Result<T, String> {
    T::try_from(value(word)?).map_err(|_| format!("{word} is out of range"))
}

fn value(word: &str) -> Result<u64, String> {
    let (digits, negative) = word.strip_prefix('-').map_or((word, false), |digits| (digits, true));
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let parsed = parsed.map_err(|_| format!("{word} is no number"))?;
    Ok(if negative { parsed.wrapping_neg() } else { parsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_both_bases_and_with_a_sign() {
        assert_eq!(value("12"), Ok(12));
        assert_eq!(value("0xffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(value("-1"), Ok(u64::MAX));
        assert!(value("many").is_err() && number::<u16>("65536").is_err());
    }

    #[test]
    fn order_that_is_not_known_is_refused() {
        for line in ["", "lie", "queue 1 0 colour", "queue 1 0 tag many", "reply colour", "tell offer 1 +1"] {
            assert!(obey(line).is_err(), "{line}");
        }
    }
}
