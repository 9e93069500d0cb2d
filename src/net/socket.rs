//! The two kinds of sockets that guests come in by: over the network, and from a program on this
//! machine (`unix:PATH`), such as a proxy.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::{fmt, fs};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::gate::{self, Link};
use super::world::Transport;
use crate::error::Error;

/// A guest's.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// On this machine.
    Unix,
}

impl Address {
    /// A program on this machine counts as one by way of the loopback.
    pub fn ip(self) -> IpAddr {
        match self {
            Address::Tcp(address) => address.ip().to_canonical(),
            Address::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix => f.write_str("unix"),
        }
    }
}

impl Transport for Socket {
    fn write_vectored(&self, slices: &[IoSlice]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => (&mut &*socket).write_vectored(slices),
            Socket::Unix(socket) => (&mut &*socket).write_vectored(slices),
        }
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Tcp(socket) => socket.take_error(),
            Socket::Unix(socket) => socket.take_error(),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown(how),
            Socket::Unix(socket) => socket.shutdown(how),
        }
    }

    fn queued(&self) -> io::Result<u64> {
        gate::queued(self.as_fd())
    }

    fn link(&self) -> io::Result<Link> {
        Link::of(self.as_fd())
    }
}

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.source().deregister(from)
    }
}

/// A door of the house.
#[derive(Debug)]
pub enum Door {
    Tcp(TcpListener),
    Unix(LocalDoor),
}

/// At a path.
#[derive(Debug)]
pub struct LocalDoor {
    pub listener: UnixListener,
    /// The path, if we have made it: it goes with us.
    pub made: Option<PathBuf>,
}

impl Drop for LocalDoor {
    fn drop(&mut self) {
        if let Some(path) = &self.made
            && let Err(source) = fs::remove_file(path)
        {
            log::debug!("{}", Error::new("remove", path.display(), source));
        }
    }
}

impl Door {
    pub fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Door::Tcp(door) => {
                door.accept().map(|(socket, at)| (Socket::Tcp(socket), Address::Tcp(at)))
            }
            Door::Unix(door) => {
                door.listener.accept().map(|(socket, _)| (Socket::Unix(socket), Address::Unix))
            }
        }
    }

    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Door::Tcp(door) => door,
            Door::Unix(door) => &mut door.listener,
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Tcp(door) => door.as_fd(),
            Door::Unix(door) => door.listener.as_fd(),
        }
    }
}

/// As an address that a person can use.
impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Tcp(door) => match door.local_addr() {
                Ok(address) => write!(f, "http://{address}/"),
                Err(error) => write!(f, "an address that is not known: {error}"),
            },
            Door::Unix(door) => match door.listener.local_addr() {
                Ok(address) => match address.as_pathname() {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("a socket without a name"),
                },
                Err(error) => write!(f, "a socket that is not known: {error}"),
            },
        }
    }
}
