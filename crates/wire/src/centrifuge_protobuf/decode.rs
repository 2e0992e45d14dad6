//! What a client asks, from messages of the protocol.

use bytes::Bytes;
use fireside_core::command::{Connect, History, Publish, Subscribe};
use fireside_core::limits::{FILTER_DEPTH_MAX, FRAME_COMMANDS_MAX};
use fireside_core::{Claimed, Command, Disconnect, FilterNode, Request};
use serde_json::value::RawValue;

use super::reader::{Malformed, Value, delimited, each};
use crate::body::{self, BodyFault};
use crate::centrifuge;
use crate::fields::claimed;
use crate::rpc;

impl From<Malformed> for Disconnect {
    fn from(_: Malformed) -> Self {
        Disconnect::BAD_REQUEST
    }
}

/// Decodes the commands of a frame, each behind its length.
pub(super) fn frame(frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect> {
    let mut rest = frame;
    for _ in 0..FRAME_COMMANDS_MAX {
        out.push(request(delimited(&mut rest)?)?);
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(Disconnect::BAD_REQUEST)
}

/// What a command asks; the inner error is told to the client, the outer one ends the session.
type Asked = Result<Result<Command, BodyFault>, Malformed>;

/// The numbers of the requests in a command.
const REQUESTS: std::ops::RangeInclusive<u32> = 4..=15;
const SEND: u32 = 12;

fn request(command: &[u8]) -> Result<Request, Disconnect> {
    let (mut id, mut is_send) = (0, false);
    // The first request that is there, in the order of the protocol's field numbers.
    let mut first: Option<(u32, &[u8])> = None;
    each(command, |number, value| {
        match number {
            1 => id = u32::try_from(value.number()?).map_err(|_| Malformed)?,
            number if REQUESTS.contains(&number) => {
                is_send |= number == SEND;
                let bytes = value.bytes()?;
                if first.is_none_or(|(other, _)| number <= other) {
                    first = Some((number, bytes));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let asked = first.map(|(number, bytes)| asked(number, bytes)).transpose()?;
    centrifuge::request(id, is_send, || asked.transpose())
}

fn asked(number: u32, message: &[u8]) -> Asked {
    let of_channel = |command: fn(String) -> Command| Ok(Ok(command(text_of(message, 1)?)));
    match number {
        4 => connect(message),
        5 => subscribe(message).map(|asked| Ok(Command::Subscribe(asked))),
        6 => of_channel(|channel| Command::Unsubscribe { channel }),
        7 => publish(message),
        8 => of_channel(|channel| Command::Presence { channel }),
        9 => of_channel(|channel| Command::PresenceStats { channel }),
        10 => history(message).map(|asked| Ok(Command::History(asked))),
        SEND => {
            let mut data: &[u8] = b"";
            each(message, |number, value| {
                if number == 1 {
                    data = value.bytes()?;
                }
                Ok(())
            })?;
            Ok(optional(data).map(|data| Command::Send { data }))
        }
        13 => called(message),
        14 => Ok(Ok(Command::Refresh { token: text_of(message, 1)? })),
        15 => sub_refresh(message).map(Ok),
        // A ping of the client's: nobody offers it.
        _ => Ok(Ok(Command::Unsupported)),
    }
}

/// The one text of a message that is of interest.
fn text_of(message: &[u8], wanted: u32) -> Result<String, Malformed> {
    let mut text = "";
    each(message, |number, value| {
        if number == wanted {
            text = value.text()?;
        }
        Ok(())
    })?;
    Ok(text.to_owned())
}

/// A body: bytes that must be one JSON value. None at all are nothing, as everywhere in this form.
fn json(data: &[u8]) -> Result<Option<&RawValue>, BodyFault> {
    if data.is_empty() { Ok(None) } else { body::read(data).map(Some) }
}

fn optional(data: &[u8]) -> Result<Bytes, BodyFault> {
    json(data)?.map_or(Ok(Bytes::new()), body::take)
}

fn connect(message: &[u8]) -> Asked {
    let mut data: &[u8] = b"";
    let mut connect = Connect::default();
    each(message, |number, value| {
        match number {
            1 => connect.token = value.text()?.to_owned(),
            2 => data = value.bytes()?,
            3 => connect.subs.extend(position_of(value)?),
            4 => connect.name = centrifuge::name(value.text()?),
            5 => connect.version = centrifuge::version(value.text()?),
            _ => {}
        }
        Ok(())
    })?;
    connect.subs.sort_by(|a, b| a.0.cmp(&b.0));
    if connect.subs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Malformed);
    }
    Ok(optional(data).map(|data| Command::Connect(Connect { data, ..connect })))
}

/// An entry of a map: the channel, and where its server-side subscription goes on.
fn position_of(entry: Value<'_>) -> Result<Option<(String, Claimed)>, Malformed> {
    let (mut channel, mut asked) = ("", Subscribe::default());
    each(entry.bytes()?, |number, value| {
        match number {
            1 => channel = value.text()?,
            2 => asked = subscribe(value.bytes()?)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(asked.recover.map(|at| (channel.to_owned(), at)))
}

fn subscribe(message: &[u8]) -> Result<Subscribe, Malformed> {
    let mut asked = Subscribe::default();
    let (mut recover, mut epoch, mut offset) = (false, "", 0);
    each(message, |number, value| {
        match number {
            1 => asked.channel = value.text()?.to_owned(),
            2 => asked.token = value.text()?.to_owned(),
            3 => recover = value.flag()?,
            6 => epoch = value.text()?,
            7 => offset = value.number()?,
            9 => asked.positioned = value.flag()?,
            10 => asked.recoverable = value.flag()?,
            11 => asked.join_leave = value.flag()?,
            12 => asked.patches = value.text()? == centrifuge::PATCHES,
            13 => asked.filter = Some(Box::new(filter(value.bytes()?, FILTER_NESTING_MAX)?)),
            14 => asked.reject_unrecovered = value.signed()? & centrifuge::REJECT_UNRECOVERED != 0,
            15 => asked.unsupported |= value.number()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    asked.recover = recover.then(|| claimed(epoch, offset));
    Ok(asked)
}

/// Nesting of a filter that is read at all: a bound for the stack. What is good is the gate's to say.
const FILTER_NESTING_MAX: usize = 4 * FILTER_DEPTH_MAX;

fn filter(message: &[u8], depth: usize) -> Result<FilterNode, Malformed> {
    let mut node = FilterNode::default();
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    each(message, |number, value| {
        match number {
            1 => node.op = value.text()?.to_owned(),
            2 => node.key = value.text()?.to_owned(),
            3 => node.cmp = value.text()?.to_owned(),
            4 => node.val = value.text()?.to_owned(),
            5 => node.vals.push(value.text()?.to_owned()),
            6 => node.nodes.push(filter(value.bytes()?, depth)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(node)
}

fn publish(message: &[u8]) -> Asked {
    let (mut channel, mut data, mut kind): (_, &[u8], _) = ("", b"", 0);
    each(message, |number, value| {
        match number {
            1 => channel = value.text()?,
            2 => data = value.bytes()?,
            // Above 0 it is an entry of a map.
            3 => kind = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    if kind != 0 {
        return Ok(Ok(Command::Unsupported));
    }
    let body = json(data).and_then(|data| body::take(data.ok_or(BodyFault("data is missing"))?));
    Ok(body.map(|body| Command::Publish(Publish { channel: channel.to_owned(), body, ..Publish::default() })))
}

fn history(message: &[u8]) -> Result<History, Malformed> {
    let mut asked = History::default();
    each(message, |number, value| {
        match number {
            1 => asked.channel = value.text()?.to_owned(),
            7 => asked.limit = i32::try_from(value.signed()?).map_err(|_| Malformed)?,
            8 => asked.since = Some(position(value.bytes()?)?),
            9 => asked.reverse = value.flag()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(asked)
}

fn position(message: &[u8]) -> Result<Claimed, Malformed> {
    let (mut offset, mut epoch) = (0, "");
    each(message, |number, value| {
        match number {
            1 => offset = value.number()?,
            2 => epoch = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(claimed(epoch, offset))
}

fn called(message: &[u8]) -> Asked {
    let (mut data, mut method): (&[u8], _) = (b"", "");
    each(message, |number, value| {
        match number {
            1 => data = value.bytes()?,
            2 => method = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(json(data).map(|data| rpc::command(method.to_owned(), data)))
}

fn sub_refresh(message: &[u8]) -> Result<Command, Malformed> {
    let (mut channel, mut token, mut kind) = ("", "", 0);
    each(message, |number, value| {
        match number {
            1 => channel = value.text()?,
            2 => token = value.text()?,
            // 0 is a new token; the others move entries of a shared poll.
            3 => kind = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(match kind {
        0 => Command::SubRefresh { channel: channel.to_owned(), token: token.to_owned() },
        _ => Command::Unsupported,
    })
}
