//! The addresses of a subnet.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

/// The most addresses of a subnet: a slip in a prefix length must not probe half the Internet.
pub(crate) const MAX_ADDRESSES: usize = 1 << 20;

/// Why a text is no subnet that can be probed.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubnetError {
    /// It is not an address with a prefix length.
    #[error("{text:?} is not a subnet such as 192.0.2.0/24 or 2001:db8::/120")]
    Syntax {
        /// What was given.
        text: String,
    },
    /// It has too many addresses.
    #[error("{subnet} has more than {most} addresses; probe smaller parts of it")]
    TooLarge {
        /// The subnet.
        subnet: String,
        /// The most that a subnet may have.
        most: usize,
    },
}

pe_scrape::debug_with_causes!(SubnetError);

/// The addresses that can be a device's. In IPv4, network and broadcast address are left out where the prefix is shorter
/// than 31 bits (RFC 3021); in IPv6, all addresses are a device's.
pub(crate) fn expand(text: &str) -> Result<Vec<IpAddr>, SubnetError> {
    let subnet: IpNet = text.trim().parse().map_err(|_| SubnetError::Syntax {
        text: text.to_owned(),
    })?;
    let free_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    if free_bits > MAX_ADDRESSES.ilog2() {
        return Err(SubnetError::TooLarge {
            subnet: subnet.to_string(),
            most: MAX_ADDRESSES,
        });
    }
    Ok(subnet.hosts().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(subnet: &str) -> Vec<String> {
        let addresses = expand(subnet).expect(subnet);
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn network_and_broadcast_are_left_out_where_there_are_such() {
        assert_eq!(texts("127.0.0.0/30"), ["127.0.0.1", "127.0.0.2"]);
        // Whatever address of the subnet is given.
        assert_eq!(texts("127.0.0.2/30"), ["127.0.0.1", "127.0.0.2"]);
        assert_eq!(texts("127.0.0.4/31"), ["127.0.0.4", "127.0.0.5"]);
        assert_eq!(texts("127.0.0.4/32"), ["127.0.0.4"]);
        assert_eq!(
            texts("fd00::/126"),
            ["fd00::", "fd00::1", "fd00::2", "fd00::3"]
        );
        assert_eq!(texts("::1/128"), ["::1"]);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        assert_eq!(expand("fd00::/108").map(|all| all.len()), Ok(MAX_ADDRESSES));
        for subnet in ["10.0.0.0/11", "0.0.0.0/0", "fd00::/107", "::/0"] {
            let error = expand(subnet).expect_err(subnet);
            assert!(
                matches!(&error, SubnetError::TooLarge { subnet: told, .. } if told == subnet),
                "{error:?}"
            );
        }
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in ["", "127.0.0.1", "127.0.0.0/33", "localhost/24", "10.0.0/8"] {
            let error = expand(text).expect_err(text);
            assert_eq!(
                error,
                SubnetError::Syntax {
                    text: text.to_owned()
                }
            );
        }
    }
}
