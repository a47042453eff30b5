//! HTTP/1.1 as words: from the bytes of a request to what it asks for, and the head of an answer.
//!
//! *Purpose.* The parsing of lines and header fields is `httparse`'s; here is what they mean for this server. Whatever
//! the peer sends, the result is a request, the wish for more bytes, or the status that refuses it.
//!
//! *Invariants.* A request that is returned is whole, body included, and no longer than [`MAX_REQUEST`]. No path that is
//! returned has an empty, `.` or `..` segment or a NUL.
//!
//! *Reference.* RFC 9110, RFC 9112.

use alloc::vec::Vec;
use core::fmt;
use httparse::{EMPTY_HEADER, Header};

/// Most bytes of a request's line and header fields.
pub(super) const MAX_HEAD: usize = 4096;
/// Most bytes of a request's body: what a record holds.
pub(super) const MAX_BODY: usize = crate::record::MAX_TEXT;
/// Most bytes of a request.
pub(super) const MAX_REQUEST: usize = MAX_HEAD + MAX_BODY;
/// Longest target of a request.
pub(super) const MAX_TARGET: usize = 1024;
/// Most header fields.
const MAX_FIELDS: usize = 32;
/// Where records are appended and counted. A file of this name is hidden.
const LOG: &[u8] = b"/log";

/// Status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub u16, pub &'static str);

impl Status {
    pub(super) const OK: Self = Self(200, "OK");
    pub(super) const BAD_REQUEST: Self = Self(400, "Bad Request");
    pub(super) const NOT_FOUND: Self = Self(404, "Not Found");
    pub(super) const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    pub(super) const TOO_LARGE: Self = Self(413, "Content Too Large");
    pub(super) const URI_TOO_LONG: Self = Self(414, "URI Too Long");
    pub(super) const FIELDS_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    pub(super) const INTERNAL: Self = Self(500, "Internal Server Error");
    pub(super) const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    pub(super) const VERSION: Self = Self(505, "HTTP Version Not Supported");
    pub(super) const FULL: Self = Self(507, "Insufficient Storage");
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The list of files, for programs.
    Index,
    /// The same as a page, for browsers.
    Page,
    /// The number of records.
    Count,
    /// One more record.
    Append,
    /// A file.
    File(Vec<u8>),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// What for; or the status of a request that is whole but refused.
    pub(super) wish: Result<Wish, Status>,
    /// Only the head of the answer.
    pub(super) head_only: bool,
    /// The connection stays open.
    pub(super) keep_alive: bool,
    /// Bytes of line and fields.
    pub(super) head: usize,
    /// Bytes behind them.
    pub(super) body: usize,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The beginning of a request.
    Partial,
    /// A head whose sender waits for a word before it sends the body.
    Expecting,
    /// A request.
    Whole(Request),
}

/// Judges the bytes at the beginning of `input`.
///
/// # Errors
/// The status that ends the connection: where the next request would begin is not known.
pub(super) fn parse(input: &[u8]) -> Result<Parsed, Status> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(input).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Status::FIELDS_TOO_LARGE,
        httparse::Error::Version => Status::VERSION,
        _ => Status::BAD_REQUEST,
    })?;
    if request.path.is_some_and(|target| target.len() > MAX_TARGET) {
        return Err(Status::URI_TOO_LONG);
    }
    let head = match parsed {
        httparse::Status::Complete(head) if head <= MAX_HEAD => head,
        httparse::Status::Partial if input.len() < MAX_HEAD => return Ok(Parsed::Partial),
        _ if request.path.is_none() => return Err(Status::URI_TOO_LONG),
        _ => return Err(Status::FIELDS_TOO_LARGE),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Status::BAD_REQUEST);
    };
    let meant = Fields::check(request.headers, minor)?;
    if meant.body > MAX_BODY {
        return Err(Status::TOO_LARGE);
    }
    if input.len() < head + meant.body {
        return Ok(if meant.expects { Parsed::Expecting } else { Parsed::Partial });
    }
    let wish = wish(method, target.as_bytes()).map(|wish| if meant.page { wish.for_people() } else { wish });
    let head_only = method == "HEAD";
    Ok(Parsed::Whole(Request { wish, head_only, keep_alive: meant.keep_alive, head, body: meant.body }))
}

/// The header fields that this server obeys.
struct Fields {
    body: usize,
    keep_alive: bool,
    expects: bool,
    /// The client shows pages.
    page: bool,
}

impl Wish {
    fn for_people(self) -> Self {
        if self == Self::Index { Self::Page } else { self }
    }
}

impl Fields {
    /// Two lengths, or a length that is not one, make it unknown where the next request begins.
    fn check(fields: &[Header<'_>], minor: u8) -> Result<Self, Status> {
        let named = |name: &'static str| {
            fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        if named("transfer-encoding").next().is_some() {
            return Err(Status::NOT_IMPLEMENTED);
        }
        let hosts = named("host").count();
        if hosts > 1 || (hosts == 0 && minor > 0) || named("content-length").count() > 1 {
            return Err(Status::BAD_REQUEST);
        }
        let body = named("content-length").next().map_or(Ok(0), length)?;
        let says = |word: &str| named("connection").any(|value| lists(value, word));
        let keep_alive = if minor == 0 { says("keep-alive") } else { !says("close") };
        let expects = minor > 0 && named("expect").any(|value| lists(value, "100-continue"));
        let page = named("accept").any(|value| value.split(|byte| *byte == b',').any(is_html));
        Ok(Self { body, keep_alive, expects, page })
    }
}

/// A media range is followed by its parameters.
fn is_html(range: &[u8]) -> bool {
    range.split(|byte| *byte == b';').next().is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/html"))
}

/// A number that does not fit is larger than any body that is taken.
fn length(value: &[u8]) -> Result<usize, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    Ok(core::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX))
}

fn lists(value: &[u8], word: &str) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

fn wish(method: &str, target: &[u8]) -> Result<Wish, Status> {
    let path = path(target)?;
    match (method, path.as_slice()) {
        ("GET" | "HEAD", b"/") => Ok(Wish::Index),
        ("GET" | "HEAD", LOG) => Ok(Wish::Count),
        ("POST", LOG) => Ok(Wish::Append),
        ("GET" | "HEAD", _) => Ok(Wish::File(path)),
        _ => Err(Status::METHOD_NOT_ALLOWED),
    }
}

/// The path that a target names, without its query, decoded.
fn path(target: &[u8]) -> Result<Vec<u8>, Status> {
    // A proxy's form is to be understood too; the authority is whatever led here.
    let local = match target.strip_prefix(b"http://") {
        Some(rest) => rest.iter().position(|byte| *byte == b'/').and_then(|at| rest.get(at..)).unwrap_or(b"/"),
        None => target,
    };
    let raw = local.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or(&[]);
    let segments = raw.strip_prefix(b"/").ok_or(Status::BAD_REQUEST)?;
    let mut path = Vec::new();
    for segment in segments.split(|byte| *byte == b'/') {
        let name = decode(segment)?;
        let strange = name.is_empty() || name == b"." || name == b".." || name.contains(&0) || name.contains(&b'/');
        if strange && !segments.is_empty() {
            return Err(Status::BAD_REQUEST);
        }
        path.push(b'/');
        path.extend(name);
    }
    Ok(path)
}

fn decode(segment: &[u8]) -> Result<Vec<u8>, Status> {
    let mut bytes = segment.iter();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(digit), bytes.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Status::BAD_REQUEST),
            },
            other => *other,
        });
    }
    Ok(decoded)
}

fn digit(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The head of an answer with a body of `length` bytes.
pub(super) fn head(status: Status, kind: &str, length: u64, keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let allow = if status == Status::METHOD_NOT_ALLOWED { "Allow: GET, HEAD, POST\r\n" } else { "" };
    alloc::format!(
        "HTTP/1.1 {status}\r\nServer: pvkit\r\nContent-Type: {kind}\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Length: {length}\r\n{allow}Connection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// A page.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// What a file is, by the end of its name.
pub(super) fn kind(path: &[u8]) -> &'static str {
    const TEXT: [&[u8]; 5] = [b".txt", b".md", b".rs", b".toml", b".log"];
    if TEXT.iter().any(|end| path.ends_with(end)) {
        "text/plain; charset=utf-8"
    } else if path.ends_with(b".html") {
        HTML
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests;
