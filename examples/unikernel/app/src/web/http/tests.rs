//! What requests mean.

use super::*;
use proptest::prelude::*;

fn whole(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Parsed::Whole(request)) => request,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn wish_of(line: &str) -> Result<Wish, Status> {
    whole(&std::format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")).wish
}

fn file(path: &[u8]) -> Result<Wish, Status> {
    Ok(Wish::File(path.to_vec()))
}

#[test]
fn targets_name_what_is_wished_for() {
    assert_eq!(wish_of("GET /"), Ok(Wish::Index));
    assert_eq!(wish_of("HEAD /log"), Ok(Wish::Count));
    assert_eq!(wish_of("POST /log?x=1"), Ok(Wish::Append));
    assert_eq!(wish_of("GET /a/b%20c%2e?q#f"), file(b"/a/b c."));
    assert_eq!(wish_of("GET http://host/a"), file(b"/a"));
    assert_eq!(wish_of("GET http://host"), Ok(Wish::Index));
}

#[test]
fn other_methods_are_not_allowed() {
    for line in ["POST /", "PUT /a", "DELETE /log", "BREW /pot"] {
        assert_eq!(wish_of(line), Err(Status::METHOD_NOT_ALLOWED), "{line}");
    }
}

#[test]
fn tricks_with_paths_are_refused() {
    for path in
        ["/../a", "/a/../b", "/%2e%2e/a", "/a%2fb", "/a%00", "/a//b", "/./a", "/a/", "/%", "/%2", "/%zz", "a", "*"]
    {
        assert_eq!(wish_of(&std::format!("GET {path}")), Err(Status::BAD_REQUEST), "{path}");
    }
}

#[test]
fn a_connection_stays_open_unless_someone_says_otherwise() {
    assert!(whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keep_alive);
    assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nconnection: x, Close\r\n\r\n").keep_alive);
    assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(whole("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
}

#[test]
fn a_body_is_waited_for_and_bounded() {
    let head = "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(parse(std::format!("{head}ab").as_bytes()), Ok(Parsed::Partial));
    let request = whole(&std::format!("{head}abcGET"));
    assert_eq!((request.head, request.body), (head.len(), 3));
    let asks = head.replace("Host: a", "Host: a\r\nExpect: 100-continue");
    assert_eq!(parse(asks.as_bytes()), Ok(Parsed::Expecting));
    for long in ["401", "18446744073709551616"] {
        assert_eq!(parse(head.replace('3', long).as_bytes()), Err(Status::TOO_LARGE));
    }
}

#[test]
fn what_makes_the_end_of_a_request_unknown_is_refused() {
    for (fields, status) in [
        ("Host: a\r\nContent-Length: 3\r\nContent-Length: 3", Status::BAD_REQUEST),
        ("Host: a\r\nContent-Length: +3", Status::BAD_REQUEST),
        ("Host: a\r\nContent-Length:", Status::BAD_REQUEST),
        ("Host: a\r\nTransfer-Encoding: chunked", Status::NOT_IMPLEMENTED),
        ("Host: a\r\nHost: b", Status::BAD_REQUEST),
        ("Accept: b", Status::BAD_REQUEST),
        ("no colon", Status::BAD_REQUEST),
    ] {
        assert_eq!(parse(std::format!("POST /log HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()), Err(status), "{fields}");
    }
    assert_eq!(parse(b"GET / HTTP/2.0\r\n\r\n"), Err(Status::VERSION));
}

#[test]
fn what_never_ends_is_refused_at_the_bound() {
    let target = std::format!("GET /{}", "a".repeat(MAX_HEAD));
    assert_eq!(parse(&target.as_bytes()[..MAX_HEAD - 1]), Ok(Parsed::Partial));
    assert_eq!(parse(&target.as_bytes()[..MAX_HEAD]), Err(Status::URI_TOO_LONG));
    let long = std::format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_TARGET));
    assert_eq!(parse(long.as_bytes()), Err(Status::URI_TOO_LONG));
    let field = std::format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(MAX_HEAD));
    assert_eq!(parse(&field.as_bytes()[..MAX_HEAD]), Err(Status::FIELDS_TOO_LARGE));
    let many = std::format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS + 1));
    assert_eq!(parse(many.as_bytes()), Err(Status::FIELDS_TOO_LARGE));
}

fn request_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET /".to_vec()),
        Just(b"POST /log".to_vec()),
        Just(b" HTTP/1.1\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"%2e./".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(prop::char::range('!', '~').prop_map(|c| c as u8), 0..600),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_judged_and_what_is_whole_is_within_its_bounds(input in request_like()) {
        if let Ok(Parsed::Whole(request)) = parse(&input) {
            prop_assert!(request.head + request.body <= input.len().min(MAX_REQUEST));
            if let Ok(Wish::File(path)) = request.wish {
                prop_assert!(path.starts_with(b"/"));
                prop_assert!(path[1..].split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b"..")));
            }
        }
        if input.len() >= MAX_REQUEST {
            prop_assert!(!matches!(parse(&input), Ok(Parsed::Partial | Parsed::Expecting)), "it would wait for ever");
        }
    }
}

#[test]
fn a_client_that_shows_pages_gets_one() {
    for (accept, wish) in [
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Wish::Page),
        ("*/*;q=0.5, Text/HTML;level=1", Wish::Page),
        ("*/*", Wish::Index),
        ("text/plain", Wish::Index),
        ("text/html2", Wish::Index),
    ] {
        let request = std::format!("GET / HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n");
        let Ok(Parsed::Whole(whole)) = parse(request.as_bytes()) else { panic!("{accept}") };
        assert_eq!(whole.wish, Ok(wish), "{accept}");
    }
    let request = b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n";
    let Ok(Parsed::Whole(whole)) = parse(request) else { panic!() };
    assert_eq!(whole.wish, Ok(Wish::File(b"/a".to_vec())));
}
