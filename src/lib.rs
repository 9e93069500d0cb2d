//! pistream: a camera site in one small program.
//!
//! The house, room by room, in reading order; a file uses its own room and rooms further up.
//! `md/house.md` tells how they work together.
//!
//! | room | thread | owns |
//! |---|---|---|
//! | `limits` | – | every number that is promised |
//! | `error` | – | the world's faults in words |
//! | `thread` | – | what threads beside the loop have in common |
//! | `memory` | – | the program's code in memory |
//! | `holder` | – | who has what we cannot have |
//! | `config` | – | what the operator asked for |
//! | `journal` | one | standard error |
//! | `control` | – | a camera's controls, and what may be set |
//! | `frame` | – | a picture on its way, and the slot where it is handed over |
//! | `jpeg` | – | JPEG's markers and turbojpeg |
//! | `http` | none: pure | requests, responses, one client as a machine |
//! | `disk` | two | all files |
//! | `scale` | one while somebody asks | pictures made smaller, or turned |
//! | `access` | one once a password is sent | who may do what |
//! | `camera` | one a camera | the video device, or the program in its place |
//! | `route` | none: pure | which request asks what |
//! | `net` | the loop | `poll` and all sockets |

pub mod limits;

pub mod error;

pub mod thread;

pub mod memory;

pub mod holder;

pub mod config;

pub mod journal;

pub mod control;

pub mod frame;

pub mod jpeg;

pub mod http;

pub mod disk;

pub mod scale;

pub mod access;

pub mod camera;

pub mod route;

pub mod net;
