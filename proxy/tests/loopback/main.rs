//! Proxies of several devices on loopback, with real certificates and sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crowded;
mod datagrams;
mod devices;
mod hostile;
mod http;
mod load;
mod local;
mod relayed;
mod support;
