//! The loop thread: the only room that knows `mio::Poll` and sockets. It waits in `poll` and
//! nowhere else.

mod controls;
mod gate;
mod intervalometer;
mod listen;
mod peer;
mod shutter;
mod socket;
mod supervisor;
mod world;
pub mod server;
