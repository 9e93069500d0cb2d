//! The doors that guests come in by: our own, or those that the service manager has opened.

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::{env, fs, net};

use listenfd::ListenFd;
use mio::net::{TcpListener, UnixListener};
use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::socket::{Door, LocalDoor};
use crate::config::{Listen, PORT};
use crate::error::{Error, Reason, Result};
use crate::holder::Holders;
use crate::limits::{
    BACKLOG, KEEPALIVE_INTERVAL, KEEPALIVE_TIME, LISTENERS_MAX, STALL_TIME_MAX, UNSENT_BYTES_MAX,
};

/// All doors: those of the service manager if it has opened any (socket activation), else those of
/// `--listen`.
pub fn doors(listen: &[Listen]) -> Result<Vec<Door>> {
    let given = given()?;
    if !given.is_empty() {
        return Ok(given);
    }
    listen.iter().map(open).collect()
}

/// What the service manager has left for us, by `LISTEN_FDS` (sd_listen_fds(3)).
fn given() -> Result<Vec<Door>> {
    let failed = |source| Error::new("take over", "the service manager's sockets", source);
    let mut fds = ListenFd::from_env();
    if fds.len() > LISTENERS_MAX {
        let reason = format!("there are {}, {LISTENERS_MAX} at most", fds.len());
        return Err(failed(io::Error::other(reason)));
    }
    let mut doors = Vec::new();
    for n in 0..fds.len() {
        let door = match fds.take_tcp_listener(n) {
            Ok(None) => continue,
            Ok(Some(door)) => {
                door.set_nonblocking(true).map_err(failed)?;
                set(&SockRef::from(&door)).map_err(failed)?;
                Door::Tcp(TcpListener::from_std(door))
            }
            Err(_) => {
                let Some(door) = fds.take_unix_listener(n).map_err(failed)? else { continue };
                door.set_nonblocking(true).map_err(failed)?;
                Door::Unix(LocalDoor { listener: UnixListener::from_std(door), made: None })
            }
        };
        // A camera's program must not keep it.
        fcntl_setfd(&door, FdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        doors.push(door);
    }
    Ok(doors)
}

fn open(listen: &Listen) -> Result<Door> {
    let opened = match listen {
        Listen::Tcp(address) => listen_on(*address).map(Door::Tcp),
        Listen::Unix(path) => listen_at(path).map(Door::Unix),
    };
    opened.map_err(|source| {
        let reason = format!("{}{}", Reason(&source), remedy(listen, &source));
        Error::found("listen on", listen, reason)
    })
}

/// What can be done about an address that we do not get.
fn remedy(listen: &Listen, error: &io::Error) -> String {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    match (listen, error.raw_os_error()) {
        (Listen::Tcp(address), _) if taken => {
            let holders = Holders::of_address(*address);
            if holders.are_us() {
                return "; --listen names it twice ([::] takes IPv4 too)".to_owned();
            }
            let port = address.port().checked_add(1).unwrap_or(PORT);
            let free = SocketAddr::new(address.ip(), port);
            format!("; {holders}; or take another port: --listen '{free}'")
        }
        (Listen::Tcp(address), Some(libc::EACCES)) => {
            let own = env::current_exe().unwrap_or_default();
            let high = SocketAddr::new(address.ip(), PORT);
            format!(
                "; take a port from 1024 on: --listen '{high}'; or allow it: \
                 sudo setcap cap_net_bind_service=+ep {}",
                own.display()
            )
        }
        (Listen::Tcp(address), Some(libc::EADDRNOTAVAIL)) => format!(
            "; no interface of this machine has it, as ip address tells; \
             --listen '[::]:{}' takes all that there are",
            address.port()
        ),
        (Listen::Unix(path), _) if taken => match is_socket(path) {
            true => format!("; {}; or take another path", Holders::of_socket(path)),
            false => "; a file is there: remove it, or take another path".to_owned(),
        },
        (Listen::Unix(_), Some(libc::ENOENT)) => "; make its folder first".to_owned(),
        (Listen::Unix(_), Some(libc::EACCES)) => {
            "; its folder must be one that we may write into".to_owned()
        }
        _ => String::new(),
    }
}

/// Listen on `address`; `[::]` takes IPv4 too, and becomes 0.0.0.0 where there is no IPv6.
fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match bind(address) {
        Err(error) if lacks_ipv6(&error) && address.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    };
    Ok(TcpListener::from_std(net::TcpListener::from(socket?)))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last one's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// What comes in by a listener inherits these.
fn set(socket: &SockRef) -> io::Result<()> {
    // A frame leaves at once; a viewer that is written to rarely, and has gone without a word, is
    // found by the kernel.
    socket.set_tcp_nodelay(true)?;
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&alive)?;
    // What the kernel has taken gets old there; and who acknowledges nothing is gone.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(STALL_TIME_MAX))
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Listen at a path. A socket that somebody left there, and at which nobody listens, is replaced.
fn listen_at(path: &Path) -> io::Result<LocalDoor> {
    let socket = match StdUnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left(path) => {
            fs::remove_file(path)?;
            StdUnixListener::bind(path)
        }
        other => other,
    }?;
    socket.set_nonblocking(true)?;
    // Like a port: whoever reaches it may ask. The folder says who does.
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(LocalDoor { listener: UnixListener::from_std(socket), made: Some(path.to_owned()) })
}

fn is_left(path: &Path) -> bool {
    let answer = StdUnixStream::connect(path).map_err(|error| error.kind());
    is_socket(path) && answer.is_err_and(|kind| kind == io::ErrorKind::ConnectionRefused)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn guests_inherit_what_the_listener_has() {
        let listener = listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
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
        let Ok(listener) = listen_on("[::]:0".parse().unwrap()) else { return };
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}
