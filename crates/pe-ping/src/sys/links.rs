//! What the kernel knows of links and routes, over a socket of its own.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::proto::rtnetlink::{RouteQuery, Told, links_query, read, route_query};

/// Room for a datagram of an answer: the kernel sends no longer ones to those who read as much at once.
const DATAGRAM: usize = 32 * 1024;

/// A socket to ask the kernel over. Nothing here waits: the kernel answers while it is asked.
#[derive(Debug)]
pub(crate) struct Links {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Links {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// The indices of links that are set up, and have no carrier.
    pub(crate) fn without_carrier(&mut self) -> io::Result<Vec<u32>> {
        self.ask(&links_query())?;
        let mut found = Vec::new();
        loop {
            for told in self.answer()? {
                match told {
                    Told::Link {
                        index,
                        lacks_carrier: true,
                    } => found.push(index),
                    Told::End => return Ok(found),
                    _ => {}
                }
            }
        }
    }

    /// The index of the link through which a packet would leave; `None` where there is no route.
    pub(crate) fn of_route(&mut self, query: &RouteQuery) -> io::Result<Option<u32>> {
        self.ask(&route_query(query))?;
        let told = self.answer()?;
        Ok(told.into_iter().find_map(|told| match told {
            Told::Route(link) => Some(link),
            _ => None,
        }))
    }

    fn ask(&self, message: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, message, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    fn answer(&mut self) -> io::Result<Vec<Told>> {
        let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
        Ok(read(&self.buffer[..length]))
    }
}
