//! Many viewers at once ([`Crowd`]): one thread with `poll`, so that a test itself takes little of
//! a small machine. And such as nobody wants.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::client::find;
use super::{PATIENCE, Part, Parts};

pub fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&addr, PATIENCE).expect("connect")
}

/// Connects as over a slow link: a small receive buffer, and segments as on Ethernet, for with
/// those of the loopback interface (64 KiB) the kernel would queue megabytes before it says no.
pub fn connect_slow(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set SO_RCVBUF");
    let (bytes, size) = (1000, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open, and the option's value is the one integer pointed to.
    let set = unsafe {
        let value: *const libc::c_int = &bytes;
        let fd = socket.as_raw_fd();
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, value.cast(), size)
    };
    assert_eq!(set, 0, "set TCP_MAXSEG: {}", std::io::Error::last_os_error());
    socket.connect_timeout(&addr.into(), PATIENCE).expect("connect");
    socket.into()
}

/// A viewer that asks and then never reads.
pub fn stuck(addr: SocketAddr) -> TcpStream {
    let mut socket = connect_slow(addr);
    socket.write_all(b"GET /video_feed HTTP/1.0\r\n\r\n").expect("send");
    socket
}

/// One viewer of a crowd.
pub struct Viewer {
    pub socket: TcpStream,
    pub head: Option<Vec<u8>>,
    pub parts: Parts,
    pub count: u64,
}

/// Viewers served by one thread.
pub struct Crowd(pub Vec<Viewer>);

impl Crowd {
    pub fn new(addr: SocketAddr, size: usize) -> Crowd {
        let viewer = |_| {
            let mut socket = connect(addr);
            socket.write_all(b"GET /video_feed HTTP/1.0\r\n\r\n").expect("send");
            socket.set_nonblocking(true).expect("set O_NONBLOCK");
            Viewer { socket, head: Some(Vec::new()), parts: Parts::default(), count: 0 }
        };
        Crowd((0..size).map(viewer).collect())
    }

    /// Reads for all viewers until `enough` says so; `seen` gets each part with its viewer.
    pub fn watch(
        &mut self,
        mut enough: impl FnMut(&Crowd) -> bool,
        mut seen: impl FnMut(usize, Part),
    ) {
        let end = Instant::now() + PATIENCE;
        while !enough(self) {
            assert!(Instant::now() < end, "the crowd saw too little");
            let tick = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let wanted = |viewer| PollFd::new(viewer, PollFlags::IN);
            let mut fds: Vec<PollFd<'_>> =
                self.0.iter().map(|viewer| wanted(&viewer.socket)).collect();
            poll(&mut fds, Some(&tick)).expect("poll");
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for index in ready.iter().enumerate().filter(|(_, ready)| **ready).map(|(i, _)| i) {
                self.0[index].read(|part| seen(index, part));
            }
        }
    }

    /// Parts a second, each viewer's, over `time`.
    pub fn rates(&mut self, time: Duration) -> Vec<f64> {
        let before: Vec<u64> = self.0.iter().map(|viewer| viewer.count).collect();
        let begin = Instant::now();
        self.watch(|_| begin.elapsed() >= time, |_, _| {});
        let seconds = begin.elapsed().as_secs_f64();
        let rate = |(viewer, before): (&Viewer, &u64)| (viewer.count - before) as f64 / seconds;
        self.0.iter().zip(&before).map(rate).collect()
    }
}

impl Viewer {
    fn read(&mut self, mut seen: impl FnMut(Part)) {
        let mut chunk = [0; 65536];
        match self.socket.read(&mut chunk) {
            Ok(0) => panic!("a stream ended"),
            Ok(count) => self.take(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("a stream broke: {error}"),
        }
        while self.head.is_none() {
            let Some(part) = self.parts.next().expect("a stream as promised") else {
                return;
            };
            self.count += 1;
            seen(part);
        }
    }

    pub fn take(&mut self, bytes: &[u8]) {
        let Some(mut head) = self.head.take() else {
            return self.parts.push(bytes);
        };
        head.extend_from_slice(bytes);
        match find(&head, b"\r\n\r\n") {
            Some(end) => {
                assert!(head.starts_with(b"HTTP/1.0 200 OK\r\n"), "refused");
                self.parts.push(&head[end + 4..]);
            }
            None => self.head = Some(head),
        }
    }
}
