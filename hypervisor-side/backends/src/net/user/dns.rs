//! Relay of names: which resolvers the host has, and which of them answers a conversation.
//!
//! Queries and answers pass unchanged. A query that the guest repeats goes to the next resolver, so that a dead one
//! costs a guest no more than its own patience.

use super::options::Resolvers;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

/// Port of name servers.
pub(super) const PORT: u16 = 53;
/// Most resolvers that are tried; resolv.conf(5) uses three.
const MOST_RESOLVERS: usize = 8;
/// Most of a resolver file that is read.
const MOST_BYTES: u64 = 64 * 1024;
/// Bytes of a message's header.
const HEADER: usize = 12;

impl Resolvers {
    /// The resolvers, best first. A file that cannot be read names none.
    pub(super) fn list(&self) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(list) => list.clone(),
            Self::File(path) => {
                let mut text = Vec::new();
                let read = std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
                if read.is_ok() { parse(&String::from_utf8_lossy(&text)) } else { Vec::new() }
            }
        }
    }
}

/// The addresses of `nameserver` lines. What is no address is passed over, as the C library does.
pub(in crate::net) fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address: IpAddr = words.next().filter(|&word| word == "nameserver").and(words.next())?.parse().ok()?;
            Some(SocketAddr::new(address, PORT))
        })
        .take(MOST_RESOLVERS)
        .collect()
}

/// One conversation with the resolvers: the last query, and who was asked.
#[derive(Debug)]
pub(super) struct Asking {
    resolvers: Vec<SocketAddr>,
    at: usize,
    last: Vec<u8>,
}

impl Asking {
    pub(super) fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self { resolvers, at: 0, last: Vec::new() }
    }

    /// Who is asked now.
    pub(super) fn resolver(&self) -> Option<SocketAddr> {
        self.resolvers.get(self.at).copied()
    }

    /// Notes a query. True if it repeats the last one and another resolver is to be asked.
    pub(super) fn note(&mut self, query: &[u8]) -> bool {
        if self.last == query && self.resolvers.len() > 1 {
            self.at = (self.at + 1) % self.resolvers.len();
            return true;
        }
        self.last.clear();
        self.last.extend_from_slice(query);
        false
    }

    /// The resolver does not listen. The query to repeat, if another one is left.
    pub(super) fn give_up_on_resolver(&mut self) -> Option<&[u8]> {
        self.at = self.at.checked_add(1).filter(|&at| at < self.resolvers.len())?;
        Some(&self.last)
    }

    /// The answer to the last query when nobody is left to ask.
    pub(super) fn failure(&self) -> Option<Vec<u8>> {
        failure(&self.last)
    }
}

/// The answer "server failure" to a query, with its question. `None` if it is no query.
pub(in crate::net) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    const RESPONSE: u8 = 0x80;
    const RECURSION_AVAILABLE: u8 = 0x80;
    const SERVER_FAILURE: u8 = 2;
    if query.len() < HEADER {
        return None;
    }
    let mut answer = query.to_vec();
    let flags = answer.get_mut(2..4)?.first_chunk_mut::<2>()?;
    if flags[0] & RESPONSE != 0 {
        return None;
    }
    *flags = [flags[0] | RESPONSE, RECURSION_AVAILABLE | SERVER_FAILURE];
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_on_nameserver_lines_are_resolvers() {
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 192.0.2.1 # first\n  nameserver ::1\n\
                    nameserver nonsense\nnameserver\nnameservers 192.0.2.7\n";
        assert_eq!(parse(text), ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(parse(&"nameserver 192.0.2.1\n".repeat(100)).len(), MOST_RESOLVERS);
    }

    #[test]
    fn a_repeated_query_goes_to_the_next_resolver() {
        let list: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()];
        let mut asking = Asking::new(list.clone());
        assert!(!asking.note(b"one"));
        assert_eq!(asking.resolver(), Some(list[0]));
        assert!(!asking.note(b"two"), "another query is no repetition");
        assert!(asking.note(b"two"));
        assert_eq!(asking.resolver(), Some(list[1]));
        assert_eq!(asking.give_up_on_resolver(), None, "nobody is left");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>, text: String) {
            let answer = failure(&bytes);
            proptest::prop_assert!(answer.is_none_or(|answer| answer.len() == bytes.len()));
            proptest::prop_assert!(parse(&text).len() <= MOST_RESOLVERS);
        }
    }

    #[test]
    fn failure_answers_queries_and_nothing_else() {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let answer = failure(&query).unwrap();
        assert_eq!(answer[..4], [0x12, 0x34, 0x81, 0x82]);
        assert_eq!(answer[4..], query[4..]);
        query[2] |= 0x80;
        assert_eq!(failure(&query), None, "an answer is not answered");
        assert_eq!(failure(&[0; HEADER - 1]), None);
    }
}
