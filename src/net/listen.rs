//! The sockets that guests come in by.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::error::{Error, Result};
use crate::limits::{
    BACKLOG, KEEPALIVE_INTERVAL, KEEPALIVE_TIME, STALL_TIME_MAX, UNSENT_BYTES_MAX,
};

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
    // What comes in by a listener inherits these. A frame leaves at once; a viewer that is
    // written to rarely, and has gone without a word, is found by the kernel.
    socket.set_tcp_nodelay(true)?;
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&alive)?;
    // What the kernel has taken gets old there; and who acknowledges nothing is gone.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(STALL_TIME_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpStream;

    #[test]
    fn guests_inherit_what_the_listener_has() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _guest = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(STALL_TIME_MAX));
    }

    #[test]
    fn one_listener_takes_both_families() {
        let Ok(listener) = listen("[::]:0".parse().unwrap()) else { return };
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}
