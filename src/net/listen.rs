//! The sockets that guests come in by.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::limits::BACKLOG;

/// Listen on `address`; `[::]` takes IPv4 too, and becomes 0.0.0.0 where there is no IPv6.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let failed = |source| Error::new("listen on", address, source);
    let socket = match bind(address) {
        Err(error) if lacks_ipv6(&error) && address.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    };
    Ok(TcpListener::from_std(socket.map_err(failed)?.into()))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last one's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
