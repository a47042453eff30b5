//! Where the guest may go: the one place that decides which address of the host's world an address of the guest's means.
//!
//! The host's loopback is closed unless it was asked for, and then only the gateway's address leads there. Everything
//! else that is no unicast address of a real network is closed too; `0.0.0.0` among it, which Linux takes for loopback.
//! Other addresses of the host itself are like any other machine's.

use super::dns;
use super::options::UserOptions;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// What a destination means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A host.
    Host(SocketAddr),
    /// The resolvers, best first; there may be none.
    Resolvers(Vec<SocketAddr>),
    /// Nothing that a guest may reach.
    Closed,
}

/// What `destination` means to the guest.
pub(super) fn route(options: &UserOptions, destination: SocketAddrV4) -> Route {
    let address = *destination.ip();
    if address == options.dns && destination.port() == dns::PORT {
        return Route::Resolvers(options.resolvers.list());
    }
    if address == options.gateway && options.allow_loopback {
        return Route::Host((Ipv4Addr::LOCALHOST, destination.port()).into());
    }
    if options.contains(address) || !is_unicast(address) || destination.port() == 0 {
        return Route::Closed;
    }
    Route::Host(destination.into())
}

/// Whether an address can be another machine's.
fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    (1..224).contains(&first) && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::options::Resolvers;
    use super::*;

    fn to(options: &UserOptions, text: &str) -> Route {
        route(options, text.parse().unwrap())
    }

    #[test]
    fn loopback_is_closed_by_every_name() {
        let options = UserOptions::default();
        for name in ["127.0.0.1:80", "127.9.9.9:80", "0.0.0.0:80", "0.1.2.3:80", "10.0.2.2:80", "10.0.2.3:80"] {
            assert_eq!(to(&options, name), Route::Closed, "{name}");
        }
    }

    #[test]
    fn loopback_that_was_asked_for_is_behind_the_gateway_alone() {
        let options = UserOptions { allow_loopback: true, ..UserOptions::default() };
        assert_eq!(to(&options, "10.0.2.2:80"), Route::Host("127.0.0.1:80".parse().unwrap()));
        for name in ["127.0.0.1:80", "0.0.0.0:80", "10.0.2.9:80"] {
            assert_eq!(to(&options, name), Route::Closed, "{name}");
        }
    }

    #[test]
    fn groups_and_reserved_addresses_are_closed() {
        for name in ["224.0.0.251:5353", "239.1.1.1:1", "255.255.255.255:9", "240.0.0.1:9", "192.0.2.1:0"] {
            assert_eq!(to(&UserOptions::default(), name), Route::Closed, "{name}");
        }
        assert_eq!(to(&UserOptions::default(), "192.0.2.1:9"), Route::Host("192.0.2.1:9".parse().unwrap()));
    }

    #[test]
    fn only_the_name_port_of_the_name_server_leads_to_the_resolvers() {
        let resolver = "127.0.0.53:53".parse().unwrap();
        let options = UserOptions { resolvers: Resolvers::Fixed(vec![resolver]), ..UserOptions::default() };
        assert_eq!(to(&options, "10.0.2.3:53"), Route::Resolvers(vec![resolver]));
        assert_eq!(to(&options, "10.0.2.3:54"), Route::Closed);
        assert_eq!(to(&options, "10.0.2.2:53"), Route::Closed);
    }
}
